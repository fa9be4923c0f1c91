package explain

// The four certificate faults are a word of cert_trust and a finding alike.

func certExpired(name string) topic {
	return topic{name: name,
		means: []string{"The server's certificate is past its end date. Senders that insist on valid certificates (MTA-STS, mail programs) refuse; most servers on port 25 deliver all the same."},
		cause: []string{"the renewal failed", "it was renewed and the mail server was not reloaded"},
		do:    []string{"See whether the file on disk is newer than what is served: then reload the server (postfix reload). Otherwise renew.", "Put the reload into the renewal's hook."},
		see:   []string{"openssl s_client -starttls smtp -connect {host}:25 -servername {host} </dev/null | openssl x509 -noout -dates", "certbot renew --dry-run"},
		who:   whoReceiver, source: "RFC 5280, section 4.1.2.5"}
}

func certNotYetValid(name string) topic {
	return topic{name: name,
		means: []string{"The certificate's begin date is in the future, as this machine's clock sees it."},
		cause: []string{"the clock here or of the issuer is wrong", "the certificate was put in place too early"},
		do:    []string{"Check the clock here first, then the dates of the certificate."},
		see:   []string{"date -u", "openssl s_client -starttls smtp -connect {host}:25 </dev/null | openssl x509 -noout -dates"},
		who:   whoReceiver, source: "RFC 5280, section 4.1.2.5"}
}

func certSelfSigned(name string) topic {
	return topic{name: name,
		means: []string{"The certificate is signed by itself: it encrypts and proves nothing. On 25 most servers accept it; mail programs on 465 and 587 warn or refuse."},
		cause: []string{"the certificate that the installation made is still in use"},
		do:    []string{"Get a certificate from a public authority (Let's Encrypt) for the server's name and set it up with its chain."},
		see:   []string{"openssl s_client -starttls smtp -connect {host}:25 -servername {host} -showcerts"},
		who:   whoReceiver, source: "RFC 5280, section 6"}
}

func certUnknownIssuer(name string) topic {
	return topic{name: name,
		means: []string{"The chain of the certificate does not lead to a root that this machine knows."},
		cause: []string{"the server does not send the intermediate certificate (the commonest)", "a company's own authority: give it with --ca", "a device on the way inspects TLS and signs itself"},
		do:    []string{"Configure the full chain (fullchain.pem), not only the server's certificate, and reload.", "Look at the issuer: if it is a firewall's or an antivirus's name, TLS is inspected."},
		see:   []string{"openssl s_client -starttls smtp -connect {host}:25 -servername {host} -showcerts", "postconf smtpd_tls_chain_files smtpd_tls_cert_file"},
		who:   whoReceiver, source: "RFC 5280, section 6; RFC 8446, section 4.4.2"}
}

// findingTopics are the codes of the column finding and of notes.
var findingTopics = map[string]topic{
	"starttls-masked":      {name: aFinding, means: []string{"The keyword STARTTLS in the EHLO reply was overwritten with X: a device on the way inspects SMTP and prevents encryption."}, cause: []string{"Cisco ASA or PIX with ESMTP inspection", "another firewall with an SMTP proxy"}, do: []string{"On the ASA: no inspect esmtp in the policy map, or allow-tls in its parameters.", "Compare from a network without that device; ports 465 and 587 are often left alone."}, see: []string{"swaks --server {host} --quit-after EHLO", "openssl s_client -connect {host}:465"}, who: whoNetwork, source: "RFC 3207, section 6"},
	"starttls-refused":     {name: aFinding, means: []string{"The server offers STARTTLS and answers 4xx or 5xx when asked for it. Senders fall back to plain text, or do not deliver."}, cause: []string{"certificate or key missing or unreadable", "a device on the way answers in the server's name", "too little entropy or memory on the server"}, do: []string{"Read the server's log at that moment; check paths and rights of certificate and key."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25", "postconf -n | grep smtpd_tls"}, who: whoReceiver, source: "RFC 3207, section 4"},
	"plaintext-after-220":  {name: aFinding, means: []string{"Plain text came between the 220 to STARTTLS and the TLS handshake. An attacker could slip replies into the encrypted conversation in this way."}, cause: []string{"a server or proxy that does not empty its buffer at STARTTLS", "somebody on the way injects"}, do: []string{"Update the mail server or the TLS proxy in front of it.", "If it is up to date: test from its own network, to exclude an interceptor."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -msg"}, who: whoReceiver, source: "RFC 3207, sections 4.2 and 6; CVE-2011-0411"},
	"ehlo-refused":         {name: aFinding, means: []string{"The server refused EHLO. Without it there is no STARTTLS, no login and no size limit to be known."}, cause: []string{"a very old server, or a device that only allows HELO (Cisco \"fixup\")", "the name we gave was not acceptable to it"}, do: []string{"Give a real name with --helo.", "Switch off SMTP inspection on the firewall."}, see: []string{"swaks --server {host} --helo mail.{domain} --quit-after EHLO"}, who: whoReceiver + " or " + whoNetwork, source: "RFC 5321, sections 2.2.1 and 3.2"},
	"auth-without-tls":     {name: aFinding, means: []string{"The server offers login before encryption: passwords can be read on the way."}, do: []string{"Allow login only inside TLS (Postfix: smtpd_tls_auth_only = yes; Exim: auth_advertise_hosts = ${if eq{$tls_in_cipher}{}{}{*}})."}, see: []string{"swaks --server {host}:587 --quit-after EHLO | grep AUTH", "postconf smtpd_tls_auth_only"}, who: whoReceiver, source: "RFC 4954, section 4; RFC 8314, section 4.1"},
	"cert-expired":         certExpired(aFinding),
	"cert-not-yet-valid":   certNotYetValid(aFinding),
	"cert-self-signed":     certSelfSigned(aFinding),
	"cert-unknown-issuer":  certUnknownIssuer(aFinding),
	"cert-name-mismatch":   {name: aFinding, means: []string{"The certificate is not for the name that was asked for. Mail programs refuse; senders with MTA-STS do not deliver; others on 25 do."}, cause: []string{"the MX or the program uses another name than the certificate", "shared hosting: the hoster's certificate is served", "a wrong default certificate, chosen without SNI"}, do: []string{"Get a certificate with this name (SAN), or use the name that is in the certificate, in MX and mail programs."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -servername {host} -verify_hostname {host} </dev/null", "dig +short MX {domain}"}, who: whoReceiver, source: "RFC 9525, section 6; RFC 7817; RFC 8461, section 4.2"},
	"cert-bad":             {name: aFinding, means: []string{"The certificate cannot be parsed, or breaks a rule so that nobody should accept it (a weak key or signature, not for servers)."}, do: []string{"Issue a new certificate: RSA 2048 or ECDSA P-256, SHA-256, with the name as SAN."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -showcerts </dev/null | openssl x509 -noout -text"}, who: whoReceiver, source: "RFC 5280"},
	"tls-old":              {name: aFinding, means: []string{"The best TLS version of this server is 1.0 or 1.1, which are deprecated. More and more senders and mail programs refuse them."}, do: []string{"Update the server or its TLS library; allow 1.2 and 1.3 (Postfix: smtpd_tls_protocols = >=TLSv1.2)."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -tls1_2", "postconf smtpd_tls_protocols"}, who: whoReceiver, source: "RFC 8996, sections 4 and 5; RFC 9325, section 3.1.1"},
	"tls-stalled":          {name: aFinding, means: []string{"The TLS handshake began and did not end in time: the connection is open and nothing more comes."}, cause: []string{"large packets are lost (path MTU): the certificate does not pass", "a device on the way holds the handshake", "an overloaded server"}, do: []string{"Test with small packets; lower the MTU or clamp the MSS on the tunnel or firewall between the two."}, see: []string{"ping -M do -s 1472 {ip}", "openssl s_client -starttls smtp -connect {host}:25 -msg"}, who: whoNetwork, source: "RFC 8899; RFC 2923, section 2.1"},
	"tls-failed":           {name: aFinding, means: []string{"STARTTLS was accepted, or a TLS port was open, and the handshake failed, or TLS broke after it; the column error says with which message."}, cause: []string{"no common version or cipher", "certificate or key do not fit together", "the port speaks plain SMTP"}, do: []string{"Explain the message: smtpsweep explain \"MESSAGE\".", "Check the TLS settings and log of the server."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -servername {host}", "openssl s_client -connect {host}:465 -servername {host}"}, who: whoReceiver, source: "RFC 3207, section 4; RFC 8446, section 6.2"},
	"client-cert-required": {name: aFinding, means: []string{"The server wants a certificate from its clients and ends the handshake without one."}, cause: []string{"a port for partners only", "smtpd_tls_req_ccert or the like was switched on for all"}, do: []string{"A public MX must not demand it: ask only (Postfix: smtpd_tls_ask_ccert), or demand it on a port of its own."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -state", "postconf smtpd_tls_req_ccert"}, who: whoReceiver, source: "RFC 8446, section 4.3.2"},
	"sni-required":         {name: aFinding, means: []string{"The server does TLS only with clients that say which name they want (SNI), and it was scanned by its address, so no name was said. It is not a fault: mail programs and most senders say the name."}, cause: []string{"it serves several names and has no certificate for clients that ask for none"}, do: []string{"Scan it by its name.", "Senders that deliver without SNI exist: give the server a default certificate."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -noservername", "openssl s_client -starttls smtp -connect {host}:25 -servername {host}"}, who: whoNobody, source: "RFC 6066, section 3; RFC 8461, section 7.1"},
	"banner-masked":        {name: aFinding, means: []string{"The greeting was overwritten with asterisks by a device on the way, mostly a Cisco ASA or PIX. The same device often removes STARTTLS."}, do: []string{"Switch off ESMTP inspection (no inspect esmtp), or at least mask-banner."}, see: []string{"nc {host} 25"}, who: whoNetwork, source: "RFC 5321, section 3.1"},
	"banner-too-long":      {name: aFinding, means: []string{"The greeting did not end within 64 KiB or 512 lines. The beginning was kept."}, cause: []string{"a tarpit", "not a mail server"}, do: []string{"Look at the first lines; if it is your server, shorten its banner."}, see: []string{"nc {host} 25 | head"}, who: whoReceiver, source: "RFC 5321, section 4.5.3.1.5"},
	"reply-malformed":      {name: aFinding, means: []string{"A reply does not follow the grammar: no three digits, or other codes in the further lines."}, cause: []string{"a device on the way changes replies", "a faulty server or script"}, do: []string{"Look at the transcript in the JSON journal; compare from another network."}, see: []string{"nc {host} 25"}, who: whoReceiver, source: "RFC 5321, section 4.2"},
	"command-masked":       {name: aFinding, means: []string{"The server's error quotes our command as XXXX: a device on the way overwrote what we sent."}, do: []string{"Switch off ESMTP inspection on the firewall on our side or theirs (Cisco: no inspect esmtp)."}, see: []string{"swaks --server {host} --quit-after EHLO"}, who: whoNetwork, source: "RFC 5321, section 4.1.1"},
	"greeting-pause":       {name: aFinding, means: []string{"The server waits some seconds before its greeting, deliberately: spam programs speak too early and are caught. It is not a fault."}, do: []string{"Nothing. Give monitoring a greeting time-out of more than 30 s."}, see: []string{"time nc {host} 25"}, who: whoNobody, source: "RFC 5321, section 4.5.3.2.1"},
	"starttls-inside-tls":  {name: aFinding, means: []string{"The server offers STARTTLS again inside TLS, which it must not."}, cause: []string{"a TLS proxy in front of a server that does not know of it"}, do: []string{"Switch STARTTLS off in the server behind the proxy. Little harm: clients ignore it."}, see: []string{"openssl s_client -connect {host}:465 -quiet"}, who: whoReceiver, source: "RFC 3207, section 4.2"},
	"descriptors-short":    {name: "note", means: []string{"This machine ran short of file descriptors, so fewer connections were open at a time than planned. Slower, not wrong."}, do: []string{"Raise the limit of open files and scan again, if speed matters."}, see: []string{"ulimit -n", "cat /proc/sys/fs/file-nr"}, who: whoYou},
	"parked-limit":         {name: "note", means: []string{"More connections were open and mute than may be kept waiting; the oldest were given up before --patience ended and reported as mute."}, do: []string{"Raise the limit of file descriptors, or scan those hosts again by themselves."}, see: []string{"ulimit -n"}, who: whoYou},
	"source-ports-short":   {name: "note", means: []string{"This machine ran out of local ports towards a target, so fewer connections were open at a time than planned. Slower, not wrong."}, do: []string{"Nothing, or widen the range of local ports and scan again, if speed matters."}, see: []string{"sysctl net.ipv4.ip_local_port_range", "ss -s"}, who: whoYou, source: "errno EADDRNOTAVAIL"},
	"memory-short":         {name: "note", means: []string{"This machine ran short of memory for network connections, so fewer were open at a time than planned. Slower, not wrong."}, do: []string{"Scan with a lower --rate, or with more memory."}, see: []string{"ss -s", "free -m", "dmesg | tail"}, who: whoYou, source: "errno ENOBUFS, ENOMEM"},
	"locally-intercepted":  {name: "note", means: []string{"An address that nobody has answered on this port: something on this side accepts or refuses connections in the name of others. Do not believe what the run says about that port."}, cause: []string{"an antivirus or firewall on this machine that inspects mail", "a router, hotel network or provider that redirects port 25 to a proxy of its own", "a VPN or a container network that answers for everything"}, do: []string{"Switch off the mail inspection on this machine or router, or scan from another network; then scan again.", "Compare the greetings of several destinations: the same text from all of them is the interceptor's."}, see: []string{"nc 192.0.2.1 25", "nc {host} 25", "sudo traceroute -T -p 25 198.51.100.25"}, who: whoYou + ", or " + whoProvider},
	"inside-view":          {name: "note", means: []string{"One of the targets is an address of this machine itself. A connection to it does not leave the machine, and does not pass the firewall that others meet: open here does not mean open for others."}, do: []string{"Scan that address from another machine, best from outside your network."}, see: []string{"ip addr show", "ss -ltnp 'sport = :25'"}, who: whoYou},
	"egress-25-suspect":    {name: "note", means: []string{"Public addresses answered on other ports, and none on 25: likely your own network or provider blocks outgoing port 25, so silence on 25 says nothing about the targets."}, do: []string{"Make sure with nc and traceroute -T -p 25 to several destinations: silence on 25 from all of them, and answers on 587, mean a block on your side. (It will be the work of smtpsweep egress.)", "If it is so: ask the provider to open port 25, or send through a relay on 587 or 465."}, see: []string{"sudo traceroute -T -p 25 198.51.100.25", "sudo traceroute -T -p 587 198.51.100.25"}, who: whoProvider + " or your firewall team", source: "RFC 5068"},
}

// lookupOwn finds one of our words in either table. "tls-failed" is a service
// and a finding that say the same; the service's entry is used unless the
// column is named.
func lookupOwn(word string) (topic, bool) {
	if t, ok := ownTopics[word]; ok {
		return t, true
	}
	t, ok := findingTopics[word]
	return t, ok
}
