package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// FuzzParse feeds the parser anything. A mistake has its place in the file; and
// what is a policy decides everywhere, whatever it decides: no allow and no deny
// are as specific at any source, destination and port that it names.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"segments: {relays: [10.1.2.0/28], users: [10.20.0.0/16, fd20::/64]}\ndeny: [{from: all, to: any, ports: [25]}]\nallow: [{from: relays, to: any, ports: [smtp, 20-30]}]\nexceptions: [{from: users, to: 198.51.100.7, ports: [25], owner: network team, until: 2026-12-31}]\n",
		"deny:\n  - from: [10.0.0.0/8, 10.1.0.0/16]\n    to: [mx.example.org, 198.51.100.0/24]\n    ports: submission\nallow:\n- {from: 10.0.0.0/9, to: any, ports: [1-65535]}\n",
		"deny: [{from: all, to: any, ports: [25]}]\nallow: [{from: all, to: any, ports: [25]}]\n",
		"a: &a [*a]\n", "{", "- - -", "deny: [{from: fd20::, to: \"::\", ports: ~}]", "? x\n: y\n", "a: |\n b\n", "\xef\xbb\xbfdeny: []", "a:\n\tb: c\n", "deny: [{from: [2001:db8::/32], to: [::1], ports: [25]}]\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p", strings.NewReader(text))
		var file *FileError
		switch {
		case errors.As(err, &file):
			for _, m := range file.Mistakes {
				if m.Line < 1 || m.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+1 || m.Column < 1 || m.Why == "" || strings.Contains(m.Why, "\n") {
					t.Errorf("mistake at %d:%d: %q", m.Line, m.Column, m.Why)
				}
			}
			return
		case err != nil:
			t.Fatalf("error %v has no place", err)
		}
		checkDecides(t, p)
		p.Warnings(noon)
		p.Endpoints("users", netip.Addr{})
		for _, row := range p.Judge(someSeen(p), noon).Rows {
			if row.Rule == nil || !slices.Contains(Results(), row.Result) {
				t.Fatalf("row %+v", row)
			}
		}
	})
}

// checkDecides asks for every combination of elements (of a small policy).
func checkDecides(t *testing.T, p *Policy) {
	var cells []cell
	for _, r := range p.Rules {
		for _, from := range r.From {
			for _, to := range r.To {
				for _, ports := range r.Ports {
					c := cell{name: to.Name, ports: Ports{ports.First, ports.First}}
					if len(from.Prefixes) > 0 {
						c.from = single(from.Prefixes[0].Addr())
					}
					if len(to.Prefixes) > 0 {
						c.to = single(to.Prefixes[0].Addr())
					}
					cells = append(cells, c)
				}
			}
		}
		if len(cells) > 1000 {
			break
		}
	}
	for _, c := range cells {
		best := p.governs(&c, noon)
		if best == nil {
			t.Fatalf("no rule governs %+v", c)
		}
		most, _ := best.match(&c)
		for _, r := range p.Rules {
			got, ok := r.match(&c)
			if ok && got == most && r.Action != best.Action && r.Action != Exception && best.Action != Exception {
				t.Fatalf("%s and %s are as specific at %+v", r, best, c)
			}
		}
	}
}

// someSeen are observations of what a policy names.
func someSeen(p *Policy) (out []Observation) {
	for i, e := range p.Endpoints("", netip.Addr{}) {
		if i > 100 {
			break
		}
		out = append(out, Observation{Vantage: "users", Host: e.Host, Address: e.Addr, Port: e.Port, State: scanner.State(i % 4), Time: noon})
	}
	return out
}
