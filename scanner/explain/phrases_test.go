package explain

import (
	"fmt"
	"strings"
	"testing"
)

func TestWordsOfTheTableAreExplained(t *testing.T) {
	for text, want := range map[string][]string{
		"STARTTLS masked":            {"finding starttls-masked"},
		"STARTTLS refused":           {"finding starttls-refused"},
		"STARTTLS fails":             {"finding tls-failed"},
		"TLS fails":                  {"service tls-failed"},
		"EXPIRED since 2026-08-23":   {"finding cert-expired"},
		"NOT YET VALID":              {"finding cert-not-yet-valid"},
		"BAD CERTIFICATE":            {"finding cert-bad"},
		"unknown issuer":             {"certificate trust unknown-issuer"},
		"HTTP instead of SMTP":       {"service other"},
		"none offered":               {"starttls absent"},
		"no greeting in 65 s":        {"service mute"},
		"no greeting in 2 min 5 s":   {"service mute"},
		"35 MB = 25 MB of files":     {"the largest mail, and what fits into it"},
		"1,024 MB = 748 MB of files": {"the largest mail, and what fits into it"},
		"refusing (554)":             {"service refusing", "SMTP reply 554"},
		"undecided":                  {"undecided"},
		"nobody answers ARP":         {"reason no-neighbor"},
		"a certificate's RSA key has more than 8192 bits, which this program does not take": {"an RSA key that is too large for this program"},
		"not probed":                             {"not probed"},
		"icmp_from":                              {"column icmp_from"},
		"rtt_ms=12":                              {"column rtt_ms"},
		"port":                                   {"column port"},
		"column port":                            {"column port"},
		"columns":                                {"the columns of a scan"},
		"STARTTLS 1.3, EXPIRED since 2026-08-23": {"STARTTLS with a TLS version, in the column ENCRYPTION", "finding cert-expired"},
		`"cert_trust":"expired"`:                 {"column cert_trust", "certificate trust expired"},
		"what is icmp_from":                      {"column icmp_from"},
		"192.0.2.1 25 open syn-ack Postfix STARTTLS masked": {"reason syn-ack", "finding starttls-masked"},
	} {
		if got := recognised(Explain(text)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestEveryPhraseLeadsToAnEntry(t *testing.T) {
	for _, p := range phrases {
		text := strings.NewReplacer("#", "10", "*", "other.example").Replace(p.words)
		if got := Explain(text); len(got) != 1 || len(got[0].Means) == 0 || len(got[0].Do) == 0 || got[0].Who == "" {
			t.Errorf("%q: got %q, want one explanation", text, recognised(got))
		}
	}
	for _, e := range tableTopics {
		e.id = e.name
		checkTopic(t, e)
	}
	for _, c := range scanColumns {
		checkTopic(t, c.topic())
	}
}

func TestICMPTypeAndCodeSayReasonAndSender(t *testing.T) {
	for text, want := range map[string]string{
		"ICMP 3/13":                  "[admin-prohibited]",
		"3/13":                       "[admin-prohibited]",
		"icmp 1/1":                   "[admin-prohibited]",
		"icmp=3/10":                  "[host-prohibited]",
		"3/9":                        "[net-prohibited]",
		"3/3":                        "[port-unreach]",
		"ICMPv6 1/4":                 "[port-unreach]",
		"11/0":                       "[time-exceeded]",
		"12/0":                       "[proto-unreach]",
		"icmp 3/4":                   "[none]",
		"3/1":                        "[host-unreach time-exceeded]",
		"ICMP 3/1 from 192.0.2.1":    "[host-unreach]",
		"ICMP 3/1 from 2001:db8::1":  "[time-exceeded]",
		"ICMP 1/3 from 2001:db8::1":  "[host-unreach]",
		"ICMP 1/1 from 192.0.2.1":    "[]",
		"9/9":                        "[]",
		"3/300":                      "[]",
		"10.0.0.0/8":                 "[]",
		"at 3/13 we had a breakdown": "[]",
	} {
		reasons := []string{}
		for _, e := range Explain(text) {
			_, after, ok := strings.Cut(strings.Join(e.Means, " "), "reason ")
			word, _, _ := strings.Cut(after, ".")
			if !ok {
				word = "none"
			}
			reasons = append(reasons, word)
		}
		if got := fmt.Sprint(reasons); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	got := Explain("filtered admin-prohibited ICMP 3/13 from 192.0.2.1")
	if len(got) != 3 || !strings.Contains(strings.Join(got[2].Means, " "), "sent by 192.0.2.1") {
		t.Errorf("got %+v, want state, reason and the sender of the message", got)
	}
}

func TestICMPTablesLeadToKnownReasons(t *testing.T) {
	for typ := range 256 {
		for code := range 256 {
			k4, _ := icmp4(uint8(typ), uint8(code))
			k6, _ := icmp6(uint8(typ), uint8(code))
			for _, k := range []icmpKind{k4, k6} {
				if _, ok := ownTopics[k.reason]; k.reason != "" && !ok {
					t.Errorf("%d/%d: %s is not explained", typ, code, k.reason)
				}
			}
		}
	}
}

func TestOneEventIsExplainedOnce(t *testing.T) {
	bounce := "Final-Recipient: rfc822; user@example.net\nAction: failed\nStatus: 5.7.1\nDiagnostic-Code: smtp; 550 5.7.1 Rejected"
	got := recognised(Explain(bounce))
	want := []string{"SMTP reply 550, enhanced status 5.7.1", "a bounce (delivery status notification)"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPhrasesOfOtherProgramsKeepTheirMeaning(t *testing.T) {
	for text, want := range map[string]string{
		"remote error: tls: bad certificate":                           "client certificate demanded",
		"verify error:num=9:certificate is not yet valid":              "certificate not yet valid",
		"smtp: no greeting in time, no greeting in 30 s from a server": "no greeting in time",
	} {
		if got := recognised(Explain(text)); len(got) != 1 || got[0] != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
