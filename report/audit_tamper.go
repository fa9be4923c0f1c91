package report

import (
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
)

// tamperSays are the findings of interference, the strongest first: the rest of a
// sentence that begins "Port 25 out of this network is", and a sentence for one that
// comes with a stronger one.
var tamperSays = []struct{ code, says, also string }{
	{egress.AnswersForAll, "answered by something near: it takes every connection, even to addresses that nobody has", ""},
	{egress.AntivirusProxy, "answered by an antivirus program or gateway in the place of the servers", "It looks like an antivirus program or gateway."},
	{egress.BannerForeign, "answered, or changed on the way, by somebody else: the greeting is not that of who was called", "The greeting is not that of who was called."},
	{egress.SameGreeting, "answered by one and the same server, whoever is called", ""},
	{egress.CertificateForeign, "opened on the way: the certificates are not those of the servers, so somebody can read along", "The certificates are not those of the servers: somebody can read along."},
	{egress.CannedEHLO, "answered by a known kind of interceptor", "It answers like a known kind of interceptor."},
	{egress.SameEHLO, "changed on the way: unrelated servers offer the very same", ""},
	{egress.BannerMasked, "changed on the way: greetings are overwritten (Cisco firewalls do that)", "Greetings are overwritten (Cisco firewalls do that)."},
	{egress.CommandMasked, "changed on the way: commands are overwritten", "Commands are overwritten."},
	{egress.PlaintextAfter220, "changed on the way: text is put in before encryption begins", "Text is put in before encryption begins."},
	{egress.StartTLSMasked, "stripped of encryption on the way: the offer of it (STARTTLS) is overwritten with X", "Encryption is taken out: the offer of it is overwritten with X."},
	{egress.StartTLSRemoved, "stripped of encryption on the way: the offer of it (STARTTLS) is taken out", "Encryption is taken out: it is not offered."},
	{egress.StartTLSRefused, "stripped of encryption on the way: asking for it (STARTTLS) is answered with an error", "Encryption is taken out: asking for it is answered with an error."},
	{"reflect-impostor", "answered by somebody else than the reflector", "It is somebody else than the reflector who answers."},
	{"reflect-tls-opened", "opened on the way, as the reflector proves: somebody can read along", "The reflector proves that TLS is opened on the way."},
	{"reflect-proxied", "carried by a proxy, as the reflector proves", "The reflector proves that a proxy carries it."},
	{"reflect-rewritten", "rewritten on the way, as the reflector proves", "The reflector proves that it is rewritten."},
	{"reflect-starttls-masked", "stripped of encryption on the way, as the reflector proves: the offer of it (STARTTLS) is overwritten", "The reflector proves that the offer of encryption is overwritten."},
	{"reflect-starttls-removed", "stripped of encryption on the way, as the reflector proves: the offer of it (STARTTLS) is taken out", "The reflector proves that the offer of encryption is taken out."},
	{"reflect-starttls-refused", "stripped of encryption on the way, as the reflector proves: asking for it (STARTTLS) is refused by somebody else", "The reflector proves that encryption is refused by somebody else."},
	{"reflect-tls-cut", "kept from encryption on the way, as the reflector proves", "The reflector proves that encryption does not pass."},
	{egress.TLSCut, "kept from encryption on the way: the connection is cut when it begins", "Encryption is kept out: the connection is cut when it begins."},
}

// tamperShort are the findings of interference in a few words.
var tamperShort = map[string]string{
	egress.AnswersForAll: "so do addresses that nobody has", egress.AntivirusProxy: "it is an antivirus program or gateway",
	egress.BannerForeign: "another's greeting", egress.SameGreeting: "one greeting for all", egress.CertificateForeign: "certificates of another",
	egress.CannedEHLO: "a known interceptor's words", egress.SameEHLO: "one offer for all", egress.BannerMasked: "greeting overwritten",
	egress.CommandMasked: "commands overwritten", egress.PlaintextAfter220: "text put in", egress.StartTLSMasked: "encryption overwritten",
	egress.StartTLSRemoved: "encryption taken out", egress.StartTLSRefused: "encryption refused", egress.TLSCut: "cut when encryption begins",
	"reflect-impostor": "not the reflector", "reflect-tls-opened": "TLS opened (proven)", "reflect-proxied": "a proxy (proven)",
	"reflect-rewritten": "rewritten (proven)", "reflect-starttls-masked": "encryption overwritten (proven)",
	"reflect-starttls-removed": "encryption taken out (proven)", "reflect-starttls-refused": "encryption refused (proven)", "reflect-tls-cut": "cut when encryption begins (proven)",
}

// tamperedWords says in a few words what is done to a port.
func tamperedWords(v *egress.Verdict) string {
	var said []string
	for _, f := range v.Findings {
		if words := tamperShort[f.Code]; words != "" {
			said = appendNew(said, words)
		} else if !egress.Harmless(f.Code) {
			said = appendNew(said, f.Code)
		}
	}
	return strings.Join(said, ", ")
}

// tamperWords says what is done to a port.
func tamperWords(v *egress.Verdict, is string) string {
	text, more := "", 0
	for _, t := range tamperSays {
		switch {
		case !v.Has(t.code):
		case text == "":
			text = is + " " + t.says + "."
		case t.also != "" && more < 2:
			text += " " + t.also
			more++
		}
	}
	if text == "" {
		return is + " changed on the way."
	}
	return text
}
