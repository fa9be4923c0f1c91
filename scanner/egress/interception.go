package egress

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// agreement is how many operators must show the same before it is believed: one
// of them may be broken, or have a device of its own before it.
const agreement = 2

// downgrades are the findings that mean that encryption is taken away.
var downgrades = []string{
	StartTLSMasked, StartTLSRemoved, StartTLSRefused, TLSCut,
	reflectStartTLSMasked, reflectStartTLSRemoved, reflectStartTLSRefused, reflectTLSCut,
}

// interception returns what was done to the conversations on a port, and sentences
// about signs that too few destinations show.
func (e *Evidence) interception(v *view) (found []Finding, remarks []string) {
	found = append(found, answersForAll(v)...)
	if v.control {
		return found, nil
	}
	talks := v.conversations()
	for _, sign := range []func(*view, []*Seen) signs{
		e.foreignBanners, sameGreetings, sameEHLO, canned, antivirus, e.foreignCertificates, sameCertificates, e.nearer,
		e.withoutStartTLS, masked, startTLSRefused, tlsCut,
		coded(BannerMasked, "its greeting is overwritten with asterisks"),
		coded(CommandMasked, "its reply quotes our command as XXXX"),
		coded(PlaintextAfter220, "text was put in before the TLS handshake"),
	} {
		s := sign(v, talks)
		switch operators := s.operators(); {
		case operators == 0:
		case operators >= agreement && 2*operators > s.of:
			found = append(found, Finding{s.code, s.evidence()})
		default:
			for _, said := range s.evidence() {
				remarks = append(remarks, fmt.Sprintf("%s (%s); the others do not show it, so it may be its own doing", said, s.code))
			}
		}
	}
	return merge(found), remarks
}

// merge puts findings of one code together.
func merge(all []Finding) (out []Finding) {
	for _, f := range all {
		if i := slices.IndexFunc(out, func(o Finding) bool { return o.Code == f.Code }); i >= 0 {
			out[i].Evidence = slices.Compact(append(out[i].Evidence, f.Evidence...))
			continue
		}
		out = append(out, f)
	}
	return out
}

// signs are what some destinations show of those that could.
type signs struct {
	code string
	of   int               // operators that could show it
	seen map[string]string // operator → sentence
}

func (s *signs) operators() int { return len(s.seen) }

func (s *signs) evidence() (out []string) {
	for _, name := range slices.Sorted(maps.Keys(s.seen)) {
		out = append(out, name+": "+s.seen[name])
	}
	return out
}

// add notes what an operator shows.
func (s *signs) add(seen *Seen, format string, args ...any) {
	if s.seen == nil {
		s.seen = map[string]string{}
	}
	s.seen[seen.Operator] = fmt.Sprintf(format, args...)
}

// answersForAll looks at the addresses that nobody has. One that refuses is
// no sign: a filter may send resets in any address's name.
func answersForAll(v *view) []Finding {
	var said []string
	for _, s := range v.silent {
		if s.Result.State != scanner.Open {
			continue
		}
		text := fmt.Sprintf("%s, an address that nobody has, answers on port %d", s.Target.Addr, v.port)
		if b := firstLine(s.Result.Service); b != "" {
			text += fmt.Sprintf(": %q", b)
		}
		said = append(said, text)
	}
	if said == nil {
		return nil
	}
	return []Finding{{AnswersForAll, said}}
}

// foreignBanners: a known operator greets with a name that is not its own. One whose
// certificate is its own may have a name that the list does not know: its greeting
// was only changed if another operator's was changed to a name of the same domain.
func (e *Evidence) foreignBanners(_ *view, talks []*Seen) signs {
	s := signs{code: BannerForeign}
	domains := map[string]int{} // of greetings, by how many operators
	for _, t := range talks {
		domains[domainOf(greetingHost(t.Result.Service))]++
	}
	for _, t := range talks {
		name, own := greetingHost(t.Result.Service), e.Plan.operator(t.Operator).Domains
		if len(own) == 0 || name == "" {
			continue
		}
		s.of++
		if !within(name, own) && !(verified(t) && domains[domainOf(name)] < agreement) {
			s.add(t, "greets as %s", name)
		}
	}
	return s
}

// sameGreetings: unrelated operators greet with one and the same name. If their
// certificates are their own and they call themselves so inside TLS as well, they
// are not unrelated.
func sameGreetings(_ *view, talks []*Seen) signs {
	s := signs{code: SameGreeting}
	groups := map[string][]*Seen{}
	for _, t := range talks {
		key := greetingHost(t.Result.Service)
		if key == "" && t.Listed { // known operators do not have the same words
			key = firstLine(t.Result.Service)
		}
		if key != "" {
			s.of++
			groups[key] = append(groups[key], t)
		}
	}
	for name, group := range groups {
		if len(group) < agreement || !slices.ContainsFunc(group, func(t *Seen) bool { return !isReally(t, name) }) {
			continue
		}
		for _, t := range group {
			s.add(t, "greets as %s, like %d others", name, len(group)-1)
		}
	}
	return s
}

// isReally reports whether what greeted as name proved by a certificate to be who
// was asked for, and says the same inside TLS.
func isReally(t *Seen, name string) bool {
	if !verified(t) {
		return false
	}
	return t.Target.Role == targets.SMTPS || insideName(t.Result.Service) == name
}

// sameEHLO: known operators, whose software differs, offer the same extensions.
func sameEHLO(_ *view, talks []*Seen) signs {
	s := signs{code: SameEHLO}
	groups := map[string][]*Seen{}
	for _, t := range talks {
		if svc := t.Result.Service; t.Listed && len(svc.EHLO) > 0 && !verified(t) {
			s.of++
			key := strings.ToUpper(strings.Join(svc.EHLO, ", "))
			groups[key] = append(groups[key], t)
		}
	}
	for keywords, group := range groups {
		for _, t := range group {
			if len(group) >= agreement {
				s.add(t, "offers %s, like %d others", clipped(keywords, 60), len(group)-1)
			}
		}
	}
	return s
}

// canned: the replies of an interceptor that is met at several providers.
func canned(_ *view, talks []*Seen) signs {
	s := signs{code: CannedEHLO}
	for _, t := range talks {
		svc := t.Result.Service
		if len(svc.EHLO) == 0 {
			continue
		}
		s.of++
		said := slices.ContainsFunc(svc.Transcript, func(l scanner.Line) bool {
			return l.From == 'S' && bytes.Contains(l.Text, []byte("Requested mail action okay, completed"))
		})
		if size := slices.Contains(svc.EHLO, "SIZE 20000000"); said || size && len(svc.EHLO) <= 3 && svc.StartTLS == scanner.StartTLSAbsent {
			s.add(t, "answers EHLO with a canned set (%s)", clipped(strings.Join(svc.EHLO, ", "), 60))
		}
	}
	return s
}

// antivirusWords are what mail scanners put into greetings, in lower case.
var antivirusWords = []string{"avast! ", "anti-virus smtp proxy", "bitdefender", "symantec email proxy", "mcafee", "kaspersky", "eset mail", "proxy+", "smtp proxy"}

// antivirus: the greeting is of a scanner on this machine or its gateway.
func antivirus(_ *view, talks []*Seen) signs {
	s := signs{code: AntivirusProxy}
	for _, t := range talks {
		line := firstLine(t.Result.Service)
		if line == "" {
			continue
		}
		s.of++
		for _, word := range antivirusWords {
			if strings.Contains(strings.ToLower(line), word) {
				s.add(t, "greets %q", clipped(line, 70))
			}
		}
	}
	return s
}

// foreignCertificates: a known operator's certificate is not its own.
func (e *Evidence) foreignCertificates(_ *view, talks []*Seen) signs {
	s := signs{code: CertificateForeign}
	for _, t := range talks {
		tls := t.Result.Service.TLS
		if tls == nil || len(tls.Chain) == 0 || !t.Listed {
			continue
		}
		s.of++
		own := tls.NameOK == nil || *tls.NameOK || slices.ContainsFunc(tls.Names, func(n string) bool {
			op := e.Plan.operator(t.Operator)
			return within(strings.TrimPrefix(strings.ToLower(n), "*."), op.Domains)
		})
		switch {
		case !own:
			s.add(t, "its certificate is for %s, not for %s", clipped(cmp.Or(strings.Join(tls.Names, ", "), tls.Subject), 60), t.Target.Host())
		case tls.Trust == scanner.TrustSelfSigned, tls.Trust == scanner.TrustUnknownIssuer, tls.Trust == scanner.TrustBad:
			s.add(t, "its certificate is issued by %s, which nobody trusts", clipped(cmp.Or(tls.Issuer, "itself"), 60))
		}
	}
	return s
}

// sameCertificates: unrelated operators show one certificate that is not for all of
// them, or certificates of one issuer that nobody trusts.
func sameCertificates(_ *view, talks []*Seen) signs {
	s := signs{code: CertificateForeign}
	groups := map[string][]*Seen{}
	for _, t := range talks {
		tls := t.Result.Service.TLS
		if tls == nil || len(tls.Chain) == 0 {
			continue
		}
		s.of++
		switch {
		case verified(t):
		case tls.NameOK != nil && !*tls.NameOK:
			key := fmt.Sprintf("the certificate %x", tls.SHA256[:4])
			groups[key] = append(groups[key], t)
		case tls.Trust == scanner.TrustUnknownIssuer && tls.Issuer != "":
			groups["a certificate by "+tls.Issuer] = append(groups["a certificate by "+tls.Issuer], t)
		}
	}
	for what, group := range groups {
		for _, t := range group {
			if len(group) >= agreement {
				s.add(t, "shows %s, like %d others", clipped(what, 70), len(group)-1)
			}
		}
	}
	return s
}

// Bounds of what counts as nearer than the same host on another port. A process that
// is held up for some milliseconds sees all ports but one late.
const (
	nearFactor = 5
	nearLeast  = 50 * time.Millisecond
)

// nearer: connections on this port are made much faster than the same hosts answer on
// any other, at every operator: perhaps somebody nearer makes them. Times are no
// proof, so it decides nothing: a reflector does.
func (e *Evidence) nearer(v *view, talks []*Seen) signs {
	s := signs{code: TooNear}
	for _, t := range talks {
		port, there := e.quickest(t)
		if port == 0 || t.Result.RTT <= 0 || t.Result.Attempts != 1 {
			continue
		}
		s.of++
		if here := t.Result.RTT; here*nearFactor < there && there-here > nearLeast {
			s.add(t, "connects in %s on port %d and in %s on port %d", millis(here), v.port, millis(there), port)
		}
	}
	if len(s.seen) < s.of {
		s.seen = nil
	}
	return s
}

// quickest returns the shortest time in which an address took a connection on another
// port than a contact's; port 0 if it took none.
func (e *Evidence) quickest(s *Seen) (port uint16, rtt time.Duration) {
	for i := range e.Seen {
		o := &e.Seen[i]
		r := &o.Result
		if o.Target.Addr == s.Target.Addr && o.Target.Port != s.Target.Port && r.State == scanner.Open && r.Attempts == 1 && r.RTT > 0 && (port == 0 || r.RTT < rtt) {
			port, rtt = o.Target.Port, r.RTT
		}
	}
	return port, rtt
}

// sameAddress returns a contact of the same address on another port that is as wanted.
func (e *Evidence) sameAddress(s *Seen, want func(*Seen) bool) *Seen {
	for i := range e.Seen {
		o := &e.Seen[i]
		if o.Target.Addr == s.Target.Addr && o.Target.Port != s.Target.Port && o.Kind != Negative && want(o) {
			return o
		}
	}
	return nil
}

// withoutStartTLS: operators that are known to offer encryption do not. What
// others have is not known: a reflector tells.
func (e *Evidence) withoutStartTLS(_ *view, talks []*Seen) signs {
	s := signs{code: StartTLSRemoved}
	for _, t := range talks {
		svc := t.Result.Service
		if !t.Listed || t.Target.Role == targets.SMTPS || svc.Kind != scanner.KindSMTP {
			continue
		}
		switch svc.StartTLS {
		case scanner.StartTLSOffered, scanner.StartTLSRefused:
			s.of++
		case scanner.StartTLSAbsent:
			s.of++
			s.add(t, "does not offer STARTTLS, which it is known to have")
		}
	}
	return s
}

// masked: STARTTLS is overwritten in the reply to EHLO.
func masked(_ *view, talks []*Seen) signs {
	s := signs{code: StartTLSMasked}
	for _, t := range talks {
		svc := t.Result.Service
		if t.Target.Role == targets.SMTPS || len(svc.EHLO) == 0 {
			continue
		}
		s.of++
		if svc.StartTLS == scanner.StartTLSMasked {
			s.add(t, "STARTTLS is overwritten (%s)", clipped(maskOf(svc.EHLO), 30))
		}
	}
	return s
}

// maskOf returns the keyword that was overwritten.
func maskOf(ehlo []string) string {
	for _, k := range ehlo {
		if len(k) >= 4 && strings.Trim(k, "XA") == "" {
			return k
		}
	}
	return "XXXX"
}

// startTLSRefused: STARTTLS is offered, and refused when it is asked for.
func startTLSRefused(_ *view, talks []*Seen) signs {
	s := signs{code: StartTLSRefused}
	for _, t := range talks {
		svc := t.Result.Service
		switch svc.StartTLS {
		case scanner.StartTLSOffered:
			s.of++
		case scanner.StartTLSRefused:
			s.of++
			s.add(t, "offers STARTTLS and refuses it: %s", clipped(cmp.Or(svc.Err, "an error"), 70))
		}
	}
	return s
}

// tlsCut: the connection is cut when TLS begins.
func tlsCut(_ *view, talks []*Seen) signs {
	s := signs{code: TLSCut}
	for _, t := range talks {
		tls := t.Result.Service.TLS
		if tls == nil {
			continue
		}
		s.of++
		if tls.Version == 0 && len(tls.Chain) == 0 && tls.Err != "" {
			s.add(t, "TLS fails at its first message: %s", clipped(tls.Err, 70))
		}
	}
	return s
}

// coded makes a sign of a finding of the conversation itself.
func coded(code, words string) func(*view, []*Seen) signs {
	return func(_ *view, talks []*Seen) signs {
		s := signs{code: code, of: len(talks)}
		for _, t := range talks {
			if slices.Contains(t.Result.Service.Findings, code) {
				s.add(t, "%s", words)
			}
		}
		return s
	}
}

// verified reports whether a conversation was inside TLS with a certificate that is
// trusted and for the name that was asked for.
func verified(s *Seen) bool {
	svc := s.Result.Service
	return svc != nil && svc.TLS != nil && svc.TLS.Version != 0 && svc.TLS.Trust == scanner.TrustTrusted && svc.TLS.NameOK != nil && *svc.TLS.NameOK
}

// firstLine returns the first line of a greeting.
func firstLine(svc *scanner.Service) string {
	if svc == nil {
		return ""
	}
	line, _, _ := bytes.Cut(svc.Banner, []byte("\n"))
	return strings.TrimSpace(string(line))
}

// greetingHost returns the name that a greeting begins with, or "" (RFC 5321, 4.2:
// the domain is its first word).
func greetingHost(svc *scanner.Service) string {
	line := firstLine(svc)
	if len(line) < 5 {
		return ""
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(line[4:]), " ")
	if strings.Trim(word, "0123456789.") == "" { // an enhanced status code stands before it (RFC 2034, 4)
		word, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
	}
	return hostWord(word)
}

// hostWord returns a word in lower case if it may be a full host name.
func hostWord(word string) string {
	word = strings.ToLower(strings.Trim(word, "."))
	if strings.Trim(word, "0123456789.") == "" || !strings.Contains(word, ".") || len(word) > 253 {
		return ""
	}
	for _, r := range word {
		if r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') {
			return ""
		}
	}
	return word
}

// insideName returns the name in the EHLO reply that came inside TLS.
func insideName(svc *scanner.Service) string {
	hellos := 0
	for i, l := range svc.Transcript {
		if l.From == 'C' && bytes.HasPrefix(l.Text, []byte("EHLO ")) {
			if hellos++; hellos == 2 && i+1 < len(svc.Transcript) {
				reply := svc.Transcript[i+1].Text
				if len(reply) > 4 {
					word, _, _ := strings.Cut(string(reply[4:]), " ")
					return hostWord(word)
				}
			}
		}
	}
	return ""
}

// within reports whether a name is one of some domains or below one.
func within(name string, domains []string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return name == d || strings.HasSuffix(name, "."+d) })
}

// clipped shortens what a stranger said.
func clipped(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// millis writes a time in milliseconds for people.
func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
