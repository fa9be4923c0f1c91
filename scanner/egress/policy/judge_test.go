package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// Sources of the vantages in these tests.
var sources = map[string]string{"relays": "10.1.2.3", "users": "10.20.0.7", "lab": "192.0.2.9"}

// seen makes observations of lines such as "users 198.51.100.7 25 filtered
// no-response", where more words may follow: icmp=ADDRESS, at=DURATION after noon,
// reflector, stopped=TEXT, host=NAME, source=ADDRESS.
func seen(t *testing.T, lines string) (out []Observation) {
	t.Helper()
	states := map[string]scanner.State{"open": scanner.Open, "closed": scanner.Closed, "filtered": scanner.Filtered, "unknown": scanner.Unknown}
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		o := Observation{Vantage: f[0], Source: addr(sources[f[0]]), Address: addr(f[1]), State: states[f[3]], Reason: scanner.Reason(f[4]), Time: noon, Journal: f[0] + ".jsonl"}
		fmt.Sscan(f[2], &o.Port)
		for _, more := range f[5:] {
			switch key, value, _ := strings.Cut(more, "="); key {
			case "icmp":
				o.ICMP = addr(value)
			case "at":
				d, err := time.ParseDuration(value)
				if err != nil {
					t.Fatal(err)
				}
				o.Time = noon.Add(d)
			case "reflector":
				o.Reflector = true
			case "stopped":
				o.StoppedAt = value
			case "host":
				o.Host = value
			case "source":
				o.Source = addr(value)
			default:
				t.Fatalf("%q in %q", more, line)
			}
		}
		out = append(out, o)
	}
	return out
}

// rowsText writes what matters of rows, a line each.
func rowsText(rows []Row) (out []string) {
	for i := range rows {
		r := &rows[i]
		where := r.Vantage
		if r.Source.IsValid() {
			where += "/" + r.Source.String()
		}
		text := fmt.Sprintf("%s %s %s:%s %s %s", where, r.Family, r.Destination, r.Ports, r.Expected, r.Result)
		if r.StoppedAt != "" {
			text += " at " + r.StoppedAt
		}
		if r.Note != "" {
			text += ": " + r.Note
		}
		out = append(out, text)
	}
	return out
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const head = "deny: [{from: all, to: any, ports: [25]}]\n"
	const twoSegments = "segments: {relays: [10.1.2.0/28], users: [10.20.0.0/16]}\n" + head + "allow: [{from: relays, to: any, ports: [25]}]\n"
	for _, c := range []struct{ name, policy, seen, want string }{
		{"open is open", head, "users 198.51.100.7 25 open syn-ack",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked fail-open: a connection was established, and the policy denies it"},
		{"silence of a host that answers on another port", head, "users 198.51.100.7 25 filtered no-response\nusers 198.51.100.7 587 open syn-ack at=9m59s",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked pass: no answer, while 198.51.100.7 answers on 587 from here"},
		{"ten minutes are near, more are not", head, "users 198.51.100.7 25 filtered no-response\nusers 198.51.100.7 587 open syn-ack at=-10m1s",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked untested: no answer, and within 10 minutes 198.51.100.7 answered neither on another port nor another vantage: it may be down"},
		{"silence of a dead server", head, "users 198.51.100.7 25 filtered no-response\nusers 198.51.100.7 587 closed conn-refused\nusers 198.51.100.8 587 open syn-ack",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked untested: no answer, and within 10 minutes 198.51.100.7 answered neither on another port nor another vantage: it may be down"},
		{"another vantage is answered", head, "users 198.51.100.7 25 filtered no-response\nlab 198.51.100.7 587 open syn-ack",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked pass: no answer, while 198.51.100.7 answers on 587 from lab"},
		{"an earlier answer to the same vantage on the same port is no control", head, "users 198.51.100.7 25 open syn-ack at=-1m\nusers 198.51.100.7 25 filtered no-response",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked untested: no answer, and within 10 minutes 198.51.100.7 answered neither on another port nor another vantage: it may be down"},
		{"of two the later counts", head, "users 198.51.100.7 25 open syn-ack\nusers 198.51.100.7 25 filtered no-response at=-1m",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked fail-open: a connection was established, and the policy denies it"},
		{"another source of the same box is another vantage", head, "box 198.51.100.7 25 filtered no-response source=10.20.0.7\nbox 198.51.100.7 25 open syn-ack source=10.1.2.3",
			"box/10.1.2.3 IPv4 198.51.100.7:25 blocked fail-open: a connection was established, and the policy denies it\n" +
				"box/10.20.0.7 IPv4 198.51.100.7:25 blocked pass: no answer, while 198.51.100.7 answers on 25 from 10.1.2.3"},
		{"a hop prohibits", head, "users 198.51.100.7 25 filtered admin-prohibited icmp=10.20.0.1\nusers 198.51.100.7 587 open syn-ack",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked pass at 10.20.0.1: admin-prohibited from 10.20.0.1, while 198.51.100.7 answers on 587 from here"},
		{"a hop prohibits what may be down", head, "users 198.51.100.7 25 filtered admin-prohibited icmp=10.20.0.1",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked untested at 10.20.0.1: admin-prohibited from 10.20.0.1, and within 10 minutes 198.51.100.7 answered neither on another port nor another vantage: it may be down"},
		{"the far end itself prohibits", head, "users 198.51.100.7 25 filtered admin-prohibited icmp=198.51.100.7\nusers 198.51.100.7 587 open syn-ack",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked untested: refused, and the far end is no reflector of ours: it may have refused by itself"},
		{"a trace knows where", head, "users 198.51.100.7 25 filtered no-response stopped=hop-2-3\nusers 198.51.100.7 587 open syn-ack",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked pass at hop-2-3: no answer, while 198.51.100.7 answers on 587 from here"},
		{"a refusal of anybody", head, "users 198.51.100.7 25 closed conn-refused\nusers 198.51.100.7 587 open syn-ack\nlab 198.51.100.7 25 open syn-ack",
			"lab/192.0.2.9 IPv4 198.51.100.7:25 blocked fail-open: a connection was established, and the policy denies it\n" +
				"users/10.20.0.7 IPv4 198.51.100.7:25 blocked untested: refused, and the far end is no reflector of ours: it may have refused by itself"},
		{"a refusal in the name of a reflector", head, "users 198.51.100.7 25 closed conn-refused\nusers 198.51.100.7 587 open syn-ack reflector",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked pass: refused, while 198.51.100.7 answers on 587 from here"},
		{"a refusal in the name of a reflector that may be gone", head, "users 198.51.100.7 25 closed conn-refused reflector",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked untested: refused, and within 10 minutes 198.51.100.7 answered neither on another port nor another vantage: it may be down"},
		{"what this machine could not do", head, "users 198.51.100.7 25 unknown local-error",
			"users/10.20.0.7 IPv4 198.51.100.7:25 blocked untested: not decided: local-error"},
		{"nobody looked", head, "users 198.51.100.7 587 open syn-ack",
			"all  any:25 blocked untested: no journal has this, seen from anywhere"},
		{"a segment without a journal", twoSegments, "relays 198.51.100.7 25 open syn-ack",
			"relays/10.1.2.3 IPv4 198.51.100.7:25 open pass\n" +
				"users IPv4 any:25 blocked untested: no journal has this, seen from segment users"},
		{"blocked and must be open", twoSegments, "relays 198.51.100.7 25 filtered no-response\nusers 198.51.100.7 25 open syn-ack",
			"relays/10.1.2.3 IPv4 198.51.100.7:25 open fail-blocked: no answer, while 198.51.100.7 answers on 25 from users\n" +
				"users/10.20.0.7 IPv4 198.51.100.7:25 blocked fail-open: a connection was established, and the policy denies it"},
		{"must be open and is dead", twoSegments, "relays 198.51.100.7 25 filtered no-response\nusers 198.51.100.7 25 filtered no-response",
			"relays/10.1.2.3 IPv4 198.51.100.7:25 open untested: no answer, and within 10 minutes 198.51.100.7 answered neither on another port nor another vantage: it may be down\n" +
				"users/10.20.0.7 IPv4 198.51.100.7:25 blocked untested: no answer, and within 10 minutes 198.51.100.7 answered neither on another port nor another vantage: it may be down"},
		{"must be open and is refused where another gets in", twoSegments, "relays 198.51.100.7 25 closed conn-refused\nusers 198.51.100.7 25 open syn-ack\nrelays 198.51.100.8 25 closed conn-refused\nrelays 198.51.100.8 587 open syn-ack",
			"relays/10.1.2.3 IPv4 198.51.100.7:25 open fail-blocked: refused, while 198.51.100.7 answers on 25 from users\n" +
				"relays/10.1.2.3 IPv4 198.51.100.8:25 open untested: refused, and the far end is no reflector of ours: it may have refused by itself\n" +
				"users/10.20.0.7 IPv4 198.51.100.7:25 blocked fail-open: a connection was established, and the policy denies it"},
		{"exceptions", head + "exceptions:\n- {from: all, to: 198.51.100.7, ports: [25], owner: team, until: 2026-11-25}\n- {from: all, to: 198.51.100.8, ports: [25], owner: team, until: 2026-11-24}\n",
			"users 198.51.100.7 25 open syn-ack\nusers 198.51.100.8 25 open syn-ack\nlab 198.51.100.7 25 filtered no-response\nlab 198.51.100.8 25 filtered no-response\nlab 198.51.100.9 25 filtered no-response",
			"lab/192.0.2.9 IPv4 198.51.100.7:25 open fail-blocked: no answer, while 198.51.100.7 answers on 25 from users\n" +
				"lab/192.0.2.9 IPv4 198.51.100.8:25 blocked pass: no answer, while 198.51.100.8 answers on 25 from users\n" +
				"lab/192.0.2.9 IPv4 198.51.100.9:25 blocked untested: no answer, and within 10 minutes 198.51.100.9 answered neither on another port nor another vantage: it may be down\n" +
				"users/10.20.0.7 IPv4 198.51.100.7:25 open exception: open by an exception until 2026-11-25; its owner: team\n" +
				"users/10.20.0.7 IPv4 198.51.100.8:25 blocked expired: open by an exception that expired on 2026-11-24; its owner: team"},
		{"an exception that nobody looked at", "segments: {users: [10.20.0.0/16, \"fd20::/64\"]}\n" + head + "exceptions: [{from: users, to: [198.51.100.7, mx.example.org], ports: [25], owner: team, until: 2026-12-31}]\n", "users 203.0.113.7 25 open syn-ack",
			"users IPv4 mx.example.org:25 open untested: no journal has this, seen from segment users\n" +
				"users IPv4 198.51.100.7:25 open untested: no journal has this, seen from segment users\n" +
				"users IPv6 any:25 blocked untested: no journal has this, seen from segment users over IPv6\n" +
				"users IPv6 mx.example.org:25 open untested: no journal has this, seen from segment users over IPv6\n" +
				"users/10.20.0.7 IPv4 203.0.113.7:25 blocked fail-open: a connection was established, and the policy denies it"},
		{"a name, and one that has no address", "deny: [{from: all, to: mx.example.org, ports: [25]}]\n", "users 198.51.100.7 25 open syn-ack host=MX.example.org.\nlab - 25 unknown dns-nxdomain host=mx.example.org\nlab 198.51.100.7 25 open syn-ack",
			"lab/192.0.2.9  mx.example.org:25 blocked untested: not decided: dns-nxdomain\n" +
				"users/10.20.0.7 IPv4 198.51.100.7:25 blocked fail-open: a connection was established, and the policy denies it"},
		{"a vantage that has only the segment's name", twoSegments, "relays 198.51.100.7 25 open syn-ack source=172.17.0.2\nusers 198.51.100.7 25 filtered no-response source=-",
			"relays/172.17.0.2 IPv4 198.51.100.7:25 open pass\n" +
				"users IPv4 198.51.100.7:25 blocked pass: no answer, while 198.51.100.7 answers on 25 from relays"},
		{"a range that nobody looked at, and one of which a port was seen", "deny: [{from: all, to: any, ports: [20-30, 100-200]}]\n", "users 198.51.100.7 25 open syn-ack",
			"all  any:100-200 blocked untested: no journal has this, seen from anywhere\n" +
				"users/10.20.0.7 IPv4 198.51.100.7:25 blocked fail-open: a connection was established, and the policy denies it"},
		{"a place that only a rule names, where nobody looked", "segments: {users: [10.20.0.0/16]}\n" + head + "allow: [{from: [10.20.0.9, 192.0.2.0/28], to: 198.51.100.7, ports: [25]}]\n", "users 198.51.100.7 25 open syn-ack",
			"10.20.0.9 IPv4 198.51.100.7:25 open untested: no journal has this, seen from 10.20.0.9\n" +
				"192.0.2.0/28 IPv4 198.51.100.7:25 open untested: no journal has this, seen from 192.0.2.0/28\n" +
				"users/10.20.0.7 IPv4 198.51.100.7:25 blocked fail-open: a connection was established, and the policy denies it"},
		{"a part of a segment has rules of its own", "segments: {users: [10.20.0.0/16]}\n" + head + "allow: [{from: 10.20.0.7, to: any, ports: [25]}]\n", "users 198.51.100.7 25 open syn-ack",
			"users IPv4 any:25 blocked untested: no journal has this, seen from segment users\n" +
				"users/10.20.0.7 IPv4 198.51.100.7:25 open pass"},
	} {
		p := mustParse(t, c.policy)
		got := rowsText(p.Judge(seen(t, c.seen), noon).Rows)
		if diff := cmp.Diff(strings.Split(c.want, "\n"), got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestJudgeCountsWhatNoRuleIsAbout(t *testing.T) {
	t.Parallel()
	v := mustParse(t, "deny: [{from: all, to: any, ports: [25]}]\n").Judge(seen(t, `
		users 198.51.100.7 25 filtered no-response
		users 198.51.100.7 587 open syn-ack
		users 198.51.100.7 465 open syn-ack
		lab 198.51.100.8 25 open syn-ack`), noon)
	if len(v.Nowhere) != 0 {
		t.Errorf("without segments nobody is outside of them: %q", v.Nowhere)
	}
	if v.Outside != 2 || v.Count(Pass) != 1 || v.Count(FailOpen, Pass) != 2 || len(v.Rows) != 2 {
		t.Errorf("outside %d, rows %v", v.Outside, rowsText(v.Rows))
	}
}

func TestJudgeNamesVantagesInNoSegment(t *testing.T) {
	t.Parallel()
	v := mustParse(t, "segments: {users: [10.20.0.0/16]}\ndeny: [{from: users, to: any, ports: [25]}]\n").Judge(seen(t, `
		users 198.51.100.7 25 open syn-ack
		users 198.51.100.7 25 open syn-ack source=172.17.0.2
		lab 198.51.100.7 25 open syn-ack
		lab 198.51.100.7 587 open syn-ack
		box 198.51.100.7 587 open syn-ack`), noon)
	if diff := cmp.Diff([]string{"lab 192.0.2.9", "box"}, v.Nowhere); diff != "" {
		t.Error(diff)
	}
}

// A far end may have all its ports looked at, from several vantages, hours apart.
func TestJudgeOfAllPortsIsNotSquare(t *testing.T) {
	t.Parallel()
	p := mustParse(t, "deny: [{from: all, to: any, ports: [1-65535]}]\n")
	var all []Observation
	for port := 1; port <= 65535; port++ {
		o := Observation{Vantage: "users", Address: addr("198.51.100.7"), Port: uint16(port), State: scanner.Filtered, Reason: scanner.NoResponse, Time: noon}
		other := o
		other.Vantage, other.State, other.Time = "lab", scanner.Open, noon.Add(-time.Hour)
		all = append(all, o, other)
	}
	all[len(all)-1].Time = noon // the highest port, as the only one
	v := p.Judge(all, noon)
	if v.Count(Pass) != 65535 || v.Count(FailOpen) != 65535 {
		t.Errorf("%d pass, %d fail-open", v.Count(Pass), v.Count(FailOpen))
	}
}

func TestRowsCarryWhatFilesNeed(t *testing.T) {
	t.Parallel()
	p := mustParse(t, "deny: [{from: all, to: any, ports: [25]}]\n")
	row := p.Judge(seen(t, "users 2001:db8::7 25 filtered no-response at=3s\nusers 2001:db8::7 587 open syn-ack"), noon).Rows[0]
	want := Row{Vantage: "users", Source: netip.MustParseAddr("10.20.0.7"), Family: "IPv6", Destination: "2001:db8::7", Ports: Ports{25, 25}, Rule: p.Rules[0],
		Expected: ExpectBlocked, Seen: true, State: scanner.Filtered, Reason: scanner.NoResponse, Result: Pass, Time: noon.Add(3 * time.Second),
		Journal: "users.jsonl", Note: "no answer, while 2001:db8::7 answers on 587 from here"}
	if row != want {
		t.Errorf("got  %+v\nwant %+v", row, want)
	}
	for _, r := range Results() {
		if bad := r == FailOpen || r == FailBlocked || r == Expired; r.Bad() != bad {
			t.Errorf("%s is bad: %v", r, r.Bad())
		}
	}
}
