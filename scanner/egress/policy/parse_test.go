package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mustParse reads a policy that has no mistake.
func mustParse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("policy.yaml", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseReadsEveryForm(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `# what our firewalls must do
allow:
  - from: [relays, 192.0.2.7, "2001:db8:1::/48"]
    to: [Mail.Example.org., 198.51.100.0/24, users]
    ports: [465, 20-30, smtp]
exceptions: [{from: users, to: fd30::7, ports: submission, owner: network team, until: 2026-12-31}]
deny:
- {from: all, to: any, ports: [25]}
segments:
  relays: [10.1.2.0/28]
  users: [10.20.0.0/16, fd20::/64, 2001:db8::1]
  lab:
    - fd21::/64
    - fd22::
`)
	var got []string
	for _, s := range p.Segments {
		got = append(got, fmt.Sprint(s.Name, s.Prefixes))
	}
	for _, r := range p.Rules {
		got = append(got, fmt.Sprintf("%d:%d %s", r.Line, r.Column, r))
		for _, f := range r.From {
			got = append(got, fmt.Sprint("  from ", f.All, f.Prefixes))
		}
		for _, to := range r.To {
			got = append(got, fmt.Sprint("  to ", to.Any, to.Name, to.Prefixes))
		}
	}
	got = append(got, p.Rules[2].Owner+" "+p.Rules[2].Until.Format(time.RFC3339))
	want := []string{
		"relays[10.1.2.0/28]", "users[10.20.0.0/16 fd20::/64 2001:db8::1/128]", "lab[fd21::/64 fd22::/128]",
		"8:3 deny all to any 25", "  from true []", "  to true[]",
		"3:5 allow relays,192.0.2.7,2001:db8:1::/48 to Mail.Example.org.,198.51.100.0/24,users 465,20-30,25",
		"  from false [10.1.2.0/28]", "  from false [192.0.2.7/32]", "  from false [2001:db8:1::/48]",
		"  to falsemail.example.org[]", "  to false[198.51.100.0/24]", "  to false[10.20.0.0/16 fd20::/64 2001:db8::1/128]",
		"6:14 exception users to fd30::7 587", "  from false [10.20.0.0/16 fd20::/64 2001:db8::1/128]", "  to false[fd30::7/128]",
		"network team 2026-12-31T00:00:00Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMistakesAreSaidWithTheirPlace(t *testing.T) {
	t.Parallel()
	const deny = "deny: [{from: all, to: any, ports: [25]}]\n"
	for _, c := range []struct{ text, want string }{
		{"", "1:1: the file is empty: "},
		{"# nothing\n", "1:1: the file is empty: "},
		{"- a\n", "1:1: lines of key: value are wanted"},
		{"deny\n", "1:1: lines of key: value are wanted"},
		{"\xff", "1:1: it is not a text file"},
		{"segments: {a: [10.0.0.0/8]}\n", "1:1: there is no rule"},
		{deny + "alow: [{from: all, to: any, ports: [465]}]\n", `2:1: unknown key "alow"`},
		{deny + "deny: [{from: all, to: any, ports: [465]}]\n", `2:1: mapping key "deny" already defined`},
		{"deny: [{from: all, to: any, port: [25]}]\n", `1:29: unknown key "port": a rule of this list has from, to, ports`},
		{"deny: [{from: all, to: any}]\n", "1:8: ports is missing"},
		{"deny: []\n", "1:1: deny is an empty list"},
		{"deny: [{from: [], to: any, ports: [25]}]\n", "1:9: from is an empty list"},
		{"deny: [{from: all, to: any, ports: []}]\n", "1:29: ports is an empty list"},
		{"deny: {from: all}\n", "1:1: deny: a list of rules is wanted"},
		{"deny: [all]\n", "1:8: a rule is wanted"},
		{"deny: [{from: {a: b}, to: any, ports: [25]}]\n", "1:9: from: a list of segments"},
		{"deny: [{from: [[a]], to: any, ports: [25]}]\n", "1:16: from: a list of segments"},
		{"deny: [{from: , to: any, ports: [25]}]\n", "1:9: from: a list of segments"},
		{"segments: {}\n" + deny, "1:1: segments is empty"},
		{"segments: {a: []}\n" + deny, "1:12: a is an empty list"},
		{"segments: {all: [10.0.0.0/8]}\n" + deny, `1:12: "all" is no name for a segment`},
		{"segments: {10.0: [10.0.0.0/8]}\n" + deny, `1:12: "10.0" is no name for a segment: it looks like an address`},
		{"segments: {a: [10.0.0.0/33]}\n" + deny, `1:16: segment a: "10.0.0.0/33" is no prefix`},
		{"segments: {a: [10.0.0.1/8]}\n" + deny, `1:16: segment a: "10.0.0.1/8" has bits set behind the prefix: is 10.0.0.0/8 meant?`},
		{"segments: {a: [fe80::1%eth0]}\n" + deny, `1:16: segment a: "fe80::1%eth0" has a zone`},
		{"segments: {a: [\"::ffff:10.0.0.0/104\"]}\n" + deny, `1:16: segment a: "::ffff:10.0.0.0/104" is a prefix of IPv4`},
		{"segments: {a: [10.0.0.0/8], b: [10.0.0.0/8]}\n" + deny, "1:33: segment b: 10.0.0.0/8 is segment a already"},
		{"segments: {a: [10.0.0.0/8, 10.0.0.0/8]}\n" + deny, "1:28: segment a has 10.0.0.0/8 twice"},
		{"deny: [{from: users, to: any, ports: [25]}]\n", `1:15: from: unknown segment "users": none is defined`},
		{"segments: {a: [10.0.0.0/8]}\ndeny: [{from: users, to: any, ports: [25]}]\n", `2:15: from: unknown segment "users"; there are a`},
		{"deny: [{from: any, to: any, ports: [25]}]\n", "1:15: from: any is for to"},
		{"deny: [{from: all, to: all, ports: [25]}]\n", "1:24: to: all is for from"},
		{"deny: [{from: all, to: 010.0.0.1, ports: [25]}]\n", `1:24: to: "010.0.0.1" is no address`},
		{"deny: [{from: all, to: -bad.example, ports: [25]}]\n", `1:24: to: "-bad.example" is no name`},
		{"deny: [{from: all, to: relay, ports: [25]}]\n", `1:24: to: "relay" is neither a segment nor`},
		{"deny: [{from: all, to: any, ports: [0]}]\n", `1:37: ports: port "0" is not between 1 and 65535`},
		{"deny: [{from: all, to: any, ports: [30-20]}]\n", `1:37: ports: range "30-20" runs backwards`},
		{"deny: [{from: all, to: any, ports: [0x19]}]\n", `1:37: ports: unknown port "0x19"`},
		{"deny: [{from: all, to: any, ports: [25/smtp]}]\n", `1:37: ports: "25/smtp" is no port`},
		{"deny: [{from: all, to: any, ports: [25], owner: me}]\n", "1:42: owner belongs to an exception"},
		{"exceptions: [{from: all, to: any, ports: [25], owner: me}]\n", "1:14: until is missing: an exception says"},
		{"exceptions: [{from: all, to: any, ports: [25], until: 2026-12-31}]\n", "1:14: owner is missing: an exception says"},
		{"exceptions: [{from: all, to: any, ports: [25], owner: ' ', until: 2026-12-31}]\n", "1:48: owner: the name of who answers"},
		{"exceptions: [{from: all, to: any, ports: [25], owner: me, until: 2026-02-30}]\n", `1:59: until: "2026-02-30" is no date`},
		{"exceptions: [{from: all, to: any, ports: [25], owner: me, until: next week}]\n", `1:59: until: "next week" is no date`},
		{deny + "allow: [{from: all, to: any, ports: [smtp]}]\n", `2:9: "allow all to any 25" contradicts "deny all to any 25" of line 1: both are as specific for all to any port 25`},
		{"deny: [{from: all, to: any, ports: [20-30]}]\nallow: [{from: all, to: any, ports: [24-34]}]\n", "2:9: \"allow all to any 24-34\" contradicts"},
		{"segments: {a: [10.0.0.0/8]}\ndeny: [{from: a, to: any, ports: [25]}]\nallow: [{from: [192.0.2.1, 10.0.0.0/8], to: [192.0.2.9, any], ports: [25]}]\n", "3:9: \"allow 192.0.2.1,10.0.0.0/8 to 192.0.2.9,any 25\" contradicts"},
		{"a: &x [1]\nb: *x\n", `1:4: "&" is not understood here`},
		{"a: !!str b\n", `1:4: "!!str" is not understood here`},
		{"a: |\n  b\n", `1:4: "|" is not understood here`},
		{"a: b: c\n", "1:5: a second colon"},
		{"- - a\n", "1:3: a list within a list"},
		{deny + "---\n" + deny, "2:1: a second document"},
		{"a: ]\n", "1:4: a closing bracket"},
		{"a: [1,\n", "1:4: sequence end token"},
		{strings.Repeat("[", 100_000), "1:5: nested too deeply"},
		{strings.Repeat("{a: ", 100_000), "1:17: nested too deeply"},
		{nested(100), "9:9: nested too deeply"},
		{"a: [" + strings.Repeat("1, ", 60_000) + "]\n", "1:150006: more than 50000 elements"},
		{strings.Repeat("#", maxBytes+1), "1:1: larger than 1 MiB"},
	} {
		p, err := Parse("policy.yaml", strings.NewReader(c.text))
		if err == nil {
			t.Errorf("%.80q gives %d rules, want an error", c.text, len(p.Rules))
			continue
		}
		if !strings.Contains("\n"+err.Error(), "\npolicy.yaml:"+c.want) {
			t.Errorf("%.80q:\ngot  %s\nwant policy.yaml:%s...", c.text, err, c.want)
		}
	}
}

// nested returns keys that stand each further in than the one before.
func nested(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestMistakesAreSaidTogether(t *testing.T) {
	t.Parallel()
	_, err := Parse("p", strings.NewReader("deny:\n"+strings.Repeat("- {from: x, to: any, ports: [99999]}\n", 8)+"allow: []\n"))
	var file *FileError
	if !errors.As(err, &file) {
		t.Fatalf("error %v is no *FileError", err)
	}
	lines := file.Lines()
	if len(file.Mistakes) != maxMistakes || file.More != 7 || len(lines) != maxMistakes+1 || lines[maxMistakes] != "and 7 more" {
		t.Errorf("17 mistakes are told as:\n%s", err)
	}
	for i := 1; i < len(file.Mistakes); i++ {
		if a, b := file.Mistakes[i-1], file.Mistakes[i]; a.Line > b.Line || a.Line == b.Line && a.Column > b.Column {
			t.Errorf("%s is told before %s", a, b)
		}
	}
}

func TestLargePoliciesAreRefusedInTime(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, "- {from: 10.0.%d.%d, to: any, ports: [25]}\n", i>>8, i&255)
	}
	addresses := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	ports := "[" + strings.Repeat("25, ", 7000) + "26]"
	for text, want := range map[string]string{
		"deny:\n" + many.String(): "more than 1000 rules",
		"deny: [{from: " + addresses(1000) + ", to: " + addresses(1000) + ", ports: [25]}]\n":                                               "too large: the lists of from and to",
		"deny: [{from: all, to: any, ports: " + ports + "}]\nallow: [{from: all, to: any, ports: " + ports[:3] + "5, " + ports[5:] + "}]\n": "too large: too many rules and ranges",
	} {
		if _, err := Parse("p", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q...: %.200v, want %q", text, err, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `segments: {users: [10.20.0.0/16], guests: [10.30.0.0/16]}
deny: [{from: users, to: any, ports: [20-30]}]
exceptions:
- {from: users, to: 198.51.100.7, ports: [25], owner: network team, until: 2026-09-30}
- {from: guests, to: 198.51.100.7, ports: [25], owner: network team, until: 2026-12-31}
- {from: 10.20.0.9, to: 198.51.100.7, ports: [31], owner: network team, until: 2026-12-31}
`)
	end := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	want := []string{
		"policy.yaml:4:3: the exception users to 198.51.100.7 25 expired on 2026-09-30: renew it with its owner (network team), or take it out",
		"policy.yaml:5:3: the exception guests to 198.51.100.7 25 is one from nothing: no deny covers any of it",
		"policy.yaml:6:3: the exception 10.20.0.9 to 198.51.100.7 31 is one from nothing: no deny covers any of it",
	}
	if diff := cmp.Diff(want, p.Warnings(end)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[1:], p.Warnings(end.Add(-time.Second))); diff != "" {
		t.Errorf("a second before the day is over: %s", diff)
	}
}
