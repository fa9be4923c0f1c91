package policy

// A claim is what a rule says of ports, for one element of from and one of to.
type claim struct {
	rule  *Rule
	ports Ports
}

// maxCompared bounds the claims that are compared.
const maxCompared = 20_000_000

// contradictions finds an allow and a deny of which neither is the more specific
// somewhere: they have an element of from and one of to in common, and ranges of
// one size that overlap.
func (b *builder) contradictions() {
	type pair struct{ from, to string }
	claims := map[pair][]claim{}
	said := map[[2]*Rule]bool{}
	compared := 0
	for _, r := range b.policy.Rules {
		if r.Action == Exception {
			continue
		}
		for _, from := range fromKeys(r) {
			for _, to := range toKeys(r) {
				others := claims[pair{from, to}]
				if compared += len(others) * len(r.Ports); compared > maxCompared {
					b.wrong(at{r.Line, r.Column}, "too large: too many rules and ranges of ports for %s to %s", from, to)
					return
				}
				for _, ports := range r.Ports {
					for _, c := range others {
						if both := [2]*Rule{c.rule, r}; c.contradicts(r, ports) && !said[both] {
							said[both] = true
							b.wrong(at{r.Line, r.Column}, "%q contradicts %q of line %d: both are as specific for %s to %s port %d; make one of them narrower",
								r, c.rule, c.rule.Line, from, to, max(c.ports.First, ports.First))
						}
					}
					claims[pair{from, to}] = append(claims[pair{from, to}], claim{r, ports})
				}
			}
		}
	}
}

func (c *claim) contradicts(r *Rule, ports Ports) bool {
	return c.rule.Action != r.Action && c.ports.size() == ports.size() && meetPorts(&c.ports, &ports)
}

// fromKeys names the elements of a rule's from such that equal ones are as specific.
func fromKeys(r *Rule) (out []string) {
	for _, f := range r.From {
		if f.All {
			out = append(out, "all")
		}
		for _, p := range f.Prefixes {
			out = append(out, p.String())
		}
	}
	return out
}

// toKeys does so for its to.
func toKeys(r *Rule) (out []string) {
	for _, t := range r.To {
		if t.Any {
			out = append(out, "any")
		}
		if t.Name != "" {
			out = append(out, t.Name)
		}
		for _, p := range t.Prefixes {
			out = append(out, p.String())
		}
	}
	return out
}
