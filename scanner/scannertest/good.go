package scannertest

import (
	"crypto/tls"
	"slices"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// The keywords of a server like Postfix: in plain text, and inside TLS.
var (
	plainKeywords = []string{"PIPELINING", "SIZE 36700160", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING"}
	tlsKeywords   = []string{"PIPELINING", "SIZE 36700160", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING"}
	authKeywords  = append(slices.Clone(tlsKeywords), "AUTH PLAIN LOGIN")
)

// size is what they all announce, 35 MiB.
const size = 36700160

// postfix returns a server like Postfix with nothing wrong; its callers change a thing or two.
func postfix() server {
	return server{
		greeting: []string{"220 " + Host + " ESMTP Postfix"},
		ehlo:     plainKeywords,
		ehloTLS:  tlsKeywords,
	}
}

// trusted returns the truth about such a server.
func trusted(software string) Want {
	return Want{
		Service: scanner.KindSMTP, Code: 220, Software: software, StartTLS: scanner.StartTLSOffered,
		Version: tls.VersionTLS13, Trust: scanner.TrustTrusted, Size: size,
	}
}

// good returns the servers with nothing wrong.
func good() []Behaviour {
	mx, submission, smtps := postfix(), postfix(), postfix()
	submission.ehloTLS = authKeywords
	smtps.implicit, smtps.ehlo, smtps.ehloTLS = true, nil, authKeywords
	inTLS := trusted("Postfix")
	inTLS.StartTLS = scanner.StartTLSAbsent
	all := slices.Concat([]Behaviour{
		{Name: "good", Help: "A well-run mail server: STARTTLS with TLS 1.3 and a certificate that is trusted.",
			Want: trusted("Postfix"), Serve: mx.serve},
		{Name: "good-submission", Help: "A well-run server for mail programs: login only after STARTTLS.",
			Role: targets.Submission, Want: trusted("Postfix"), Serve: submission.serve},
		{Name: "good-smtps", Help: "A well-run server for mail programs: TLS from the first byte.",
			Role: targets.SMTPS, Want: inTLS, Serve: smtps.serve},
	}, products())
	for i := range all {
		all[i].Good = true
	}
	return all
}

// products returns good servers that look like well-known products.
func products() []Behaviour {
	exchange := server{
		greeting: []string{"220 " + Host + " Microsoft ESMTP MAIL Service ready at {date}"},
		hello:    Host + " Hello [{client}]",
		ehlo: []string{"SIZE 36700160", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS", "X-ANONYMOUSTLS",
			"AUTH NTLM", "X-EXPS GSSAPI NTLM", "8BITMIME", "BINARYMIME", "CHUNKING", "XRDST"},
		ehloTLS: []string{"SIZE 36700160", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES",
			"AUTH NTLM LOGIN", "X-EXPS GSSAPI NTLM", "8BITMIME", "BINARYMIME", "CHUNKING", "XRDST"},
		unknown: "500 5.3.3 Unrecognized command",
		bye:     "221 2.0.0 Service closing transmission channel",
	}
	gmail := server{
		greeting: []string{"220 mx.google.com ESMTP 5b1f17b1804b1-47780e0 si2123.38 - gsmtp"},
		hello:    "mx.google.com at your service, [{client}]",
		ehlo:     []string{"SIZE 157286400", "8BITMIME", "STARTTLS", "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING", "SMTPUTF8"},
		ehloTLS:  []string{"SIZE 157286400", "8BITMIME", "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING", "SMTPUTF8"},
		unknown:  "502-5.5.1 Unrecognized command. For more information, go to\r\n502 5.5.1  https://support.google.com/a/answer/3221692 5b1f17b1804b1-47780e0 si2123.38 - gsmtp",
		bye:      "221 2.0.0 closing connection 5b1f17b1804b1-47780e0 si2123.38 - gsmtp",
	}
	opensmtpd := server{
		greeting: []string{"220 " + Host + " ESMTP OpenSMTPD"},
		hello:    Host + " Hello client.example.org [{client}], pleased to meet you",
		ehlo:     []string{"8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 36700160", "DSN", "STARTTLS", "HELP"},
		ehloTLS:  []string{"8BITMIME", "ENHANCEDSTATUSCODES", "SIZE 36700160", "DSN", "HELP"},
		unknown:  "500 5.5.1 Invalid command: Command unrecognized",
		bye:      "221 2.0.0 Bye",
	}
	big := trusted("Gmail")
	big.Size = 157286400
	return []Behaviour{
		{Name: "exchange", Help: "A server like Microsoft Exchange, well run.", Want: trusted("Microsoft Exchange"), Serve: exchange.serve},
		{Name: "gmail", Help: "A server like Gmail's.", Want: big, Serve: gmail.serve},
		{Name: "opensmtpd", Help: "A server like OpenSMTPD, well run.", Want: trusted("OpenSMTPD"), Serve: opensmtpd.serve},
	}
}

// exim returns a server like Exim.
func exim() server {
	return server{
		greeting: []string{"220 " + Host + " ESMTP Exim 4.96 {date}"},
		hello:    Host + " Hello client.example.org [{client}]",
		ehlo:     []string{"SIZE 36700160", "8BITMIME", "PIPELINING", "CHUNKING", "STARTTLS", "PRDR", "HELP"},
		ehloTLS:  []string{"SIZE 36700160", "8BITMIME", "PIPELINING", "CHUNKING", "PRDR", "HELP"},
		unknown:  "500 unrecognized command",
		bye:      "221 " + Host + " closing connection",
	}
}
