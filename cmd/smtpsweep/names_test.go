package main

import (
	"encoding/xml"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/targets"
)

// namesJob returns a job of a list of names that was looked up: answer gives what
// the DNS says of each.
func namesJob(t *testing.T, list string, answer func(i int, name string) targets.Answer) *job {
	t.Helper()
	b := targets.NewBuilder(targets.Config{})
	if err := b.ReadFile("list", strings.NewReader(list)); err != nil {
		t.Fatal(err)
	}
	plan, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	j := &job{plan: plan, answers: targets.NewAnswers(plan), order: plan.Order(targets.Shard{})}
	for i, name := range plan.Names() {
		j.domains = j.domains || strings.HasPrefix(name.Text, "mx:")
		if err := j.answers.Put(i, answer(i, name.Text)); err != nil {
			t.Fatal(err)
		}
	}
	j.survey()
	return j
}

// TestAListOfNamesTakesLittleMemory: what is kept of a name that resolves is its
// text, 16 bytes, and its addresses (DESIGN.md section 3), however many ports it has.
func TestAListOfNamesTakesLittleMemory(t *testing.T) {
	const n = 50_000
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, "h%06d.example.org\n", i)
	}
	var before, after runtime.MemStats
	for range 3 { // what earlier tests left in pools and to finalizers is not ours
		runtime.GC()
	}
	runtime.ReadMemStats(&before)
	s := &sweep{job: namesJob(t, list.String(), func(i int, name string) targets.Answer {
		a := netip.AddrFrom4([4]byte{8, byte(i >> 16), byte(i >> 8), byte(i)})
		return targets.Answer{Name: name, Hosts: []targets.HostAnswer{{Host: name, Addrs: []netip.Addr{a}}}}
	}), f: &scanFlags{}}
	s.f.allowReserved = true // no control probes
	next := s.targetSource()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if bytes := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n; bytes > 80 {
		t.Errorf("%d bytes a name", bytes)
	} else {
		t.Logf("%d bytes a name", bytes)
	}
	if x := s.job.extent(); x.endpoints != 3*n || x.addresses != n || x.host != 3 || x.subnet != 3*256 {
		t.Errorf("the extent is %+v", x)
	}
	for i := range 3 * n {
		target, ok := next()
		if want := fmt.Sprintf("h%06d.example.org", i/3); !ok || target.Host() != want {
			t.Fatalf("target %d is %v of %s, want one of %s", i, target.AddrPort(), target.Host(), want)
		}
	}
	if target, ok := next(); ok {
		t.Errorf("%v follows", target)
	}
	runtime.KeepAlive(&list)
}

// Names that lead to one endpoint share its conversation, each at the ports that
// it asks for, and what one of them must not contact keeps no other from it.
func TestNamesThatLeadToOneEndpointShareIt(t *testing.T) {
	host := func(name, addr string) targets.HostAnswer {
		return targets.HostAnswer{Host: name, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
	}
	answers := map[string][]targets.HostAnswer{
		"mx:a.example.org": {host("mx.example.org", "8.8.8.8"), host("alone.example.org", "8.8.8.9")},
		"mx:b.example.org": {host("mx.example.org", "8.8.8.8")},
		"mx.example.org":   {host("mx.example.org", "8.8.8.8")},
		"c.example.org":    {host("c.example.org", "8.8.8.8")}, // another name: another certificate to judge
	}
	s := &sweep{job: namesJob(t, "mx:a.example.org:25\nmx:b.example.org:587\nmx.example.org\nc.example.org:25\n", func(_ int, name string) targets.Answer {
		return targets.Answer{Name: name, Hosts: answers[name]}
	}), f: &scanFlags{}}
	s.f.allowReserved = true
	var got []string
	next := s.targetSource()
	for target, ok := next(); ok; target, ok = next() {
		got = append(got, fmt.Sprint(target.Spec(), " ", target.Host(), " ", target.AddrPort(), " ", s.others(target)))
	}
	want := []string{
		"mx:a.example.org:25 mx.example.org 8.8.8.8:25 [mx.example.org]",
		"mx:a.example.org:25 alone.example.org 8.8.8.9:25 []",
		"mx:b.example.org:587 mx.example.org 8.8.8.8:587 [mx.example.org]",
		"mx.example.org mx.example.org 8.8.8.8:465 []",
		"c.example.org:25 c.example.org 8.8.8.8:25 []",
	}
	if !slices.Equal(got, want) {
		t.Errorf("probes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What could not be asked is asked again by a resumed run, but not what nobody
// wants to know.
func TestAFailureOfTheFamilyThatIsNotWantedIsNotAskedAgain(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	server := scannertest.StartDNS(t, scannertest.DNSZone{"half.example.org": {"A 10.0.0.1", "SERVFAIL AAAA"}})
	path := filepath.Join(t.TempDir(), "run.jsonl")
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("half.example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--resolver", server.Addr.String(), "-p", "25"} // the address is private, and contacted by none of these
	if code, _, said := invoke(t, append([]string{"scan", "-i", list, "-o", path, "-4"}, args...)...); code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	before := server.Queries("half.example.org", "A")
	if code, _, said := invoke(t, append([]string{"scan", "--resume", path}, args...)...); code != 0 || server.Queries("half.example.org", "A") != before {
		t.Errorf("exit %d, asked %d times, then %d: %s", code, before, server.Queries("half.example.org", "A"), said)
	}
}

// A report tells of the ports that were asked for, wherever they were written.
func TestReportsTellThePortsOfThePlan(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"127.0.0.1:1", "1"},
		{"127.0.0.1:1/smtps 127.0.0.2 -p 2,3", "1,2,3"},
	} {
		path := filepath.Join(dir, c.want+".xml")
		args := append([]string{"scan", "-q", "-f", "targets", "--probe", "port", "-o", path, "-o", path + ".jsonl"}, strings.Fields(c.args)...)
		if code, _, said := invoke(t, args...); code != 0 {
			t.Fatalf("exit %d: %s", code, said)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var run struct {
			Info struct {
				Services string `xml:"services,attr"`
			} `xml:"scaninfo"`
		}
		if err := xml.Unmarshal(text, &run); err != nil || run.Info.Services != c.want {
			t.Errorf("%s: the services are %q, want %s (%v)", c.args, run.Info.Services, c.want, err)
		}
		r, err := journal.Open(path + ".jsonl")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if ports, err := portsOf(r.Run()); err != nil || strings.HasPrefix(c.want, "1,") && ports[0].Role != targets.SMTPS {
			t.Errorf("%s: the ports are %v (%v)", c.args, ports, err)
		}
	}
}

// A note names commands that this version has.
func TestTheNoteOfABlockedPort25HelpsToday(t *testing.T) {
	s := &sweep{u: newUI(nil, nil, nil), noted: map[string]bool{}}
	for port, state := range map[uint16]scanner.State{25: scanner.Filtered, 587: scanner.Open} {
		s.tally.add(&scanner.Result{Observation: scanner.Observation{State: state, Target: targets.Target{Addr: netip.MustParseAddr("8.8.8.8"), Port: port}}})
	}
	s.endNotes()
	for note := range s.noted {
		if !strings.Contains(note, "smtpsweep explain egress-25-suspect") || !strings.Contains(note, "smtpsweep egress") {
			t.Errorf("the note says %q", note)
		}
	}
	if len(s.noted) != 1 {
		t.Errorf("notes: %v", s.noted)
	}
}
