package egress

import "slices"

// A Reflection is what a session with the reflector showed of one port: proof, where
// its key signed what arrived.
type Reflection struct {
	FarEnd
	Proven   bool      // the far end itself answered, and signed
	Stopped  bool      // no connection, or no conversation, came about
	Public   string    // our address as the far end sees it
	Findings []Finding // what was done to the session, codes of package reflect
	Facts    []string  // sentences that are no fault: "a NAT changes the source address", "60 s of silence pass"
}

// Codes of package reflect that are told apart here.
const (
	reflectBlocked         = "reflect-blocked"
	reflectNAT             = "reflect-nat"
	reflectIntact          = "reflect-intact"
	reflectIdleCut         = "reflect-idle-cut"
	reflectLargeLost       = "reflect-large-lost"
	reflectStartTLSRemoved = "reflect-starttls-removed"
	reflectStartTLSMasked  = "reflect-starttls-masked"
	reflectStartTLSRefused = "reflect-starttls-refused"
	reflectTLSCut          = "reflect-tls-cut"
)

// harmless are findings that decide nothing about a port.
var harmless = []string{TooNear, reflectNAT, reflectIntact, reflectIdleCut, reflectLargeLost, reflectBlocked}

// Harmless reports whether a finding is no interference, or none that is proven.
func Harmless(code string) bool { return slices.Contains(harmless, code) }

// reflections returns what the reflector showed of a port.
func (e *Evidence) reflections(family Family, port uint16) (out []Reflection) {
	for _, r := range e.Reflections {
		if FamilyOf(r.Addr) == family && r.Port == port {
			out = append(out, r)
		}
	}
	return out
}

// reflectorAnswers reports whether the reflector was reached on any port of a family.
func (e *Evidence) reflectorAnswers(family Family) bool {
	return slices.ContainsFunc(e.Reflections, func(r Reflection) bool { return FamilyOf(r.Addr) == family && r.Proven })
}

// reflect puts what the reflector proves into a verdict. What it shows is proof by
// itself: nobody else could have signed it. It returns how many stopped destinations
// it counts for.
func (e *Evidence) reflect(d *Verdict) (stopped int) {
	for _, r := range e.reflections(d.Family, d.Port) {
		d.Reflected = r.Proven
		d.Public = r.Public
		d.Findings = append(d.Findings, r.Findings...)
		d.Evidence = append(d.Evidence, r.Facts...)
		if r.Stopped && !r.Proven && len(r.Findings) == 0 && e.reflectorAnswers(d.Family) {
			stopped += agreement
			d.Evidence = append(d.Evidence, "reflector: no session on this port, and it answers on others")
		}
	}
	return stopped
}
