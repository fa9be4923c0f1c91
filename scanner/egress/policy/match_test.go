package policy

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// addr reads an address, or returns the zero Addr of an empty text.
func addr(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}

func TestTheMoreSpecificRuleCounts(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `segments:
  servers: [10.1.0.0/16]
  relays: [10.1.2.0/28, "fd20:1::/64"]
  far: [172.16.0.0/12]
deny:
- {from: all, to: any, ports: [1-1024]}
- {from: relays, to: 203.0.113.0/24, ports: [25]}
- {from: servers, to: mx.example.org, ports: [25]}
allow:
- {from: relays, to: any, ports: [25]}
- {from: relays, to: 203.0.113.9, ports: [20-30]}
- {from: servers, to: [198.51.100.7, 198.51.100.0/24], ports: [25]}
- {from: 10.1.9.9, to: any, ports: [1-1024]}
- {from: all, to: any, ports: [587]}
exceptions:
- {from: servers, to: 198.51.100.0/24, ports: [465], owner: x, until: 2026-11-24}
- {from: all, to: any, ports: [1-1024], owner: x, until: 2026-11-25}
`)
	for _, c := range []struct {
		vantage, source, host, dest string
		port                        uint16
		want                        string
	}{
		{"v", "192.0.2.1", "", "192.0.2.2", 26, "exception all to any 1-1024"},        // beats the deny that is as specific
		{"v", "192.0.2.1", "", "192.0.2.2", 587, "allow all to any 587"},              // fewer ports
		{"v", "192.0.2.1", "", "192.0.2.2", 2525, ""},                                 // nothing is said of it
		{"v", "10.1.2.3", "", "192.0.2.2", 25, "allow relays to any 25"},              // from before to
		{"v", "10.1.2.3", "", "203.0.113.8", 25, "deny relays to 203.0.113.0/24 25"},  // to before any
		{"v", "10.1.2.3", "", "203.0.113.9", 25, "allow relays to 203.0.113.9 20-30"}, // to before ports
		{"v", "10.1.3.3", "", "192.0.2.2", 25, "exception all to any 1-1024"},         // beside the relays
		{"v", "10.1.2.3", "", "198.51.100.9", 25, "allow relays to any 25"},           // the longer from beats the longer to
		{"v", "10.1.3.3", "", "198.51.100.7", 25, "allow servers to 198.51.100.7,198.51.100.0/24 25"},
		{"v", "10.1.3.3", "MX.example.org.", "192.0.2.2", 25, "deny servers to mx.example.org 25"},
		{"v", "10.1.3.3", "mx.example.org", "198.51.100.9", 25, "deny servers to mx.example.org 25"},                // a name beats a prefix
		{"v", "10.1.3.3", "mx.example.org", "198.51.100.7", 25, "allow servers to 198.51.100.7,198.51.100.0/24 25"}, // an address a name
		{"v", "10.1.3.3", "mx.example.org", "", 25, "deny servers to mx.example.org 25"},
		{"v", "10.1.9.9", "", "198.51.100.7", 25, "allow 10.1.9.9 to any 1-1024"},
		{"v", "fd20:1::9", "", "2001:db8::1", 25, "allow relays to any 25"},
		{"relays", "", "", "192.0.2.2", 25, "allow relays to any 25"},              // by name
		{"relays", "192.0.2.1", "", "192.0.2.2", 25, "allow relays to any 25"},     // an address in no segment
		{"relays", "10.1.3.3", "", "192.0.2.2", 25, "exception all to any 1-1024"}, // the address says more than the name
		{"v", "10.1.3.3", "", "198.51.100.9", 465, "exception all to any 1-1024"},  // of two exceptions one is over
		{"v", "::ffff:10.1.2.3", "", "::ffff:192.0.2.2", 25, "allow relays to any 25"},
	} {
		got := ""
		if r := p.Governs(c.vantage, addr(c.source), c.host, addr(c.dest), c.port, noon); r != nil {
			got = r.String()
		}
		if got != c.want {
			t.Errorf("from %s %s to %s %s port %d: %q, want %q", c.vantage, c.source, c.host, c.dest, c.port, got, c.want)
		}
	}
}

func TestAnExpiredExceptionGivesWayToWhatAllows(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `allow: [{from: all, to: any, ports: [25]}]
deny: [{from: all, to: 198.51.100.0/24, ports: [25]}]
exceptions:
- {from: all, to: 198.51.100.7, ports: [25], owner: x, until: 2026-11-24}
- {from: all, to: 203.0.113.7, ports: [25], owner: x, until: 2026-11-24}
`)
	at := func(dest string, when time.Time) string {
		return p.Governs("", netip.Addr{}, "", addr(dest), 25, when).String()
	}
	if got := at("203.0.113.7", noon); got != "allow all to any 25" {
		t.Errorf("beside what an allow covers: %s", got)
	}
	if got := at("203.0.113.7", noon.AddDate(0, 0, -1)); got != "exception all to 203.0.113.7 25" {
		t.Errorf("on its last day: %s", got)
	}
	if got := at("198.51.100.7", noon); got != "exception all to 198.51.100.7 25" {
		t.Errorf("where a deny is next: %s", got)
	}
}

func TestEndpointsAreWhatThePolicyNames(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `segments: {relays: [10.1.2.0/28], users: [10.20.0.0/16, "fd20::/64"]}
deny: [{from: all, to: any, ports: [25]}, {from: users, to: [198.51.100.0/24, mx.example.org], ports: [1-1000]}]
allow: [{from: relays, to: [198.51.100.7, "2001:db8::7", mx.example.org], ports: [465, 587-588]}]
exceptions: [{from: users, to: [198.51.100.8, "2001:db8::8"], ports: [25], owner: x, until: 2026-12-31}]
`)
	say := func(vantage, source string) (out []string) {
		for _, e := range p.Endpoints(vantage, addr(source)) {
			name := e.Host
			if e.Addr.IsValid() {
				name = e.Addr.String()
			}
			out = append(out, name+" "+Ports{e.Port, e.Port}.String())
		}
		return out
	}
	for _, c := range []struct {
		vantage, source string
		want            []string
		ports           []uint16
	}{
		{"x", "10.1.2.3", []string{"198.51.100.7 465", "198.51.100.7 587", "198.51.100.7 588", "mx.example.org 465", "mx.example.org 587", "mx.example.org 588"}, []uint16{25, 465, 587, 588}},
		{"x", "fd20::9", []string{"mx.example.org 1", "mx.example.org 25", "mx.example.org 465", "mx.example.org 587", "mx.example.org 1000", "2001:db8::8 25"}, []uint16{1, 25, 465, 587, 1000}},
		{"users", "", []string{"mx.example.org 1", "mx.example.org 25", "mx.example.org 465", "mx.example.org 587", "mx.example.org 1000", "198.51.100.8 25", "2001:db8::8 25"}, []uint16{1, 25, 465, 587, 1000}},
		{"x", "192.0.2.1", nil, []uint16{25}},
	} {
		if diff := cmp.Diff(c.want, say(c.vantage, c.source)); diff != "" {
			t.Errorf("endpoints for %s %s: %s", c.vantage, c.source, diff)
		}
		if got := p.Ports(c.vantage, addr(c.source)); !slices.Equal(got, c.ports) {
			t.Errorf("ports for %s %s: %v, want %v", c.vantage, c.source, got, c.ports)
		}
	}
}
