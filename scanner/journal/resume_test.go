package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/targets"
)

// planOf returns the plan of some specs on ports 25 and 465.
func planOf(t testing.TB, specs ...string) *targets.Plan {
	t.Helper()
	b := targets.NewBuilder(targets.Config{Ports: []targets.Port{{Number: 25}, {Number: 465, Role: targets.SMTPS}}, AllowReserved: true})
	for _, spec := range specs {
		if err := b.Add(spec); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := b.Build(42)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// begun returns a journal that has a plan and nothing else.
func begun(t testing.TB, plan *targets.Plan, run Run) *Writer {
	t.Helper()
	run.PlanHash, run.Seed, run.Endpoints, run.Names = plan.Hash(), plan.Seed(), plan.Len(), plan.NameCount()
	w, err := Create(filepath.Join(t.TempDir(), "x.jsonl"), run)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	for rec := range plan.Records() {
		if err := w.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	return w
}

// rowOf returns a result record of an endpoint.
func rowOf(target targets.Target, state, reason string) []byte {
	host := ""
	if target.Host() != "" {
		host = fmt.Sprintf(`"host":%q,`, target.Host())
	}
	return fmt.Appendf(nil, `{"type":"result","target":%q,%s"address":%q,"port":%d,"state":%q,"reason":%q}`,
		target.Spec(), host, target.Addr, target.Port, state, reason)
}

// answers are what a test's resolver says.
var answers = []targets.Answer{
	{Name: "mail.example.org", Hosts: []targets.HostAnswer{{Host: "mail.example.org", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("2001:db8::7")}}}},
	{Name: "mx:example.org", Hosts: []targets.HostAnswer{
		{Host: "z.example.org", Preference: 10, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.9")}},
		{Host: "a.example.org", Preference: 20, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.8"), netip.MustParseAddr("10.1.0.5")}},
	}},
}

// nameRows returns the endpoints of the names.
func nameTargets() (all []targets.Target) {
	for _, a := range answers {
		for _, h := range a.Hosts {
			for _, addr := range h.Addrs {
				for _, port := range []uint16{25, 465} {
					all = append(all, targets.Target{Index: targets.NoIndex, Addr: addr, Port: port, From: &targets.Origin{Spec: a.Name, Host: h.Host}})
				}
			}
		}
	}
	return all
}

// verdict is what every test engine sees of an index.
func verdict(i uint64) (state, reason string, silent bool) {
	switch i % 5 {
	case 0:
		return "open", "syn-ack", false
	case 1:
		return "closed", "conn-refused", false
	}
	return "filtered", "no-response", true
}

// sweep is a run that probes what is not done. It fails a few endpoints for a
// cause of its own, so that they must be probed again.
func sweep(t *testing.T, w *Writer, plan *targets.Plan, shard targets.Shard, rec *Recovered, limit int, flaky *rand.Rand) (complete bool) {
	t.Helper()
	order, n := plan.Order(shard), 0
	if rec == nil {
		rec = &Recovered{Plan: plan, Done: new(targets.Positions), Names: newNames(plan)}
	}
	for pos := range order.Len() {
		if rec.Done.Contains(pos) {
			continue
		}
		if n++; n > limit {
			return false
		}
		i := order.At(pos)
		state, reason, silent := verdict(i)
		switch {
		case flaky != nil && flaky.IntN(10) == 0:
			w.Append(rowOf(plan.At(i), "unknown", "local-error"))
		case silent:
			w.Silent(pos, 4, time.Unix(1_800_000_000, 0))
		default:
			w.Append(rowOf(plan.At(i), state, reason))
		}
	}
	for _, target := range nameTargets() {
		if !isDone(rec, target) {
			w.Append(rowOf(target, "open", "syn-ack"))
		}
	}
	return flaky == nil
}

// isDone reports whether the endpoint of a name has a final row.
func isDone(rec *Recovered, target targets.Target) bool {
	name, known := newNameIndex(rec.Plan).number(target.Spec())
	if !known {
		return false
	}
	for i, ep := range rec.Names.Answers.Endpoints(name) {
		if t := ep.Target; t.Addr == target.Addr && t.Port == target.Port && t.Host() == target.Host() {
			return rec.Names.Done(name, i, t)
		}
	}
	return rec.Names.Done(name, 0, target) // no answer leads there
}

// answerOf returns what a journal has of a name, or an answer without hosts.
func answerOf(rec *Recovered, name string) targets.Answer {
	n, _ := newNameIndex(rec.Plan).number(name)
	_, a, _ := rec.Names.Answers.At(n)
	return a
}

// folded returns the rows of journals as text.
func folded(t testing.TB, opt FoldOptions, paths ...string) (rows []string) {
	t.Helper()
	var readers []*Reader
	for _, path := range paths {
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		readers = append(readers, r)
	}
	for e, err := range Fold(readers, opt) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Silent {
			if e.Attempts != 4 || e.At.Unix() != 1_800_000_000 {
				t.Errorf("%d attempts at %v", e.Attempts, e.At)
			}
			rows = append(rows, string(rowOf(e.Target, "filtered", "no-response")))
		} else {
			rows = append(rows, string(e.Line))
		}
	}
	return rows
}

// wanted returns the rows of a whole run in plan order.
func wanted(plan *targets.Plan, names bool) (rows []string) {
	for i := range plan.Len() {
		state, reason, _ := verdict(i)
		rows = append(rows, string(rowOf(plan.At(i), state, reason)))
	}
	if names {
		all := nameTargets()
		slices.SortStableFunc(all[6:], func(a, b targets.Target) int { return a.Addr.Compare(b.Addr) }) // of one MX host
		for _, target := range all {
			rows = append(rows, string(rowOf(target, "open", "syn-ack")))
		}
	}
	return rows
}

func TestARunThatIsKilledAndResumedEqualsOneThatWasNot(t *testing.T) {
	plan := planOf(t, "10.1.0.0/25", "2001:db8::/123", "mail.example.org", "mx:example.org", "10.2.3.4")
	want := wanted(plan, true)
	rng := rand.New(rand.NewPCG(7, 8))
	for trial := range 15 {
		w := begun(t, plan, Run{})
		for _, a := range answers {
			w.Put("answer", a)
		}
		w.Sync()
		info, _ := os.Stat(w.Path())
		header := info.Size()
		var rec *Recovered
		for kills := 0; ; kills++ {
			var flaky *rand.Rand
			if kills < 6 {
				flaky = rng
			}
			if sweep(t, w, plan, targets.Shard{}, rec, rng.IntN(150)+kills*20, flaky) {
				break
			}
			w.Close()
			info, _ := os.Stat(w.Path())
			if err := os.Truncate(w.Path(), header+rng.Int64N(info.Size()-header+1)); err != nil {
				t.Fatal(err)
			}
			var err error
			if w, rec, err = Resume(w.Path(), targets.Config{AllowReserved: true}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { w.Close() })
			if rec.Plan.Hash() != plan.Hash() || len(answerOf(rec, "mail.example.org").Hosts) != 1 || len(answerOf(rec, "mx:example.org").Hosts) != 2 {
				t.Fatalf("recovered %+v", rec)
			}
		}
		if err := w.Finish(End{Reason: "done"}); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if got := folded(t, FoldOptions{}, w.Path()); !slices.Equal(got, want) {
			t.Fatalf("trial %d: %d rows, want %d; first difference %s", trial, len(got), len(want), difference(got, want))
		}
	}
}

// difference shows the first rows that differ.
func difference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("at %d\n got %s\nwant %s", i, got[i], want[i])
		}
	}
	return "in length"
}

func TestResumeKnowsWhatIsDone(t *testing.T) {
	plan := planOf(t, "10.1.0.0/28", "mail.example.org", "gone.example.org")
	w := begun(t, plan, Run{Vantage: "v"})
	w.Append(rowOf(plan.At(0), "open", "syn-ack"))
	w.Append(rowOf(plan.At(0), "open", "syn-ack"))
	w.Append(rowOf(plan.At(1), "unknown", "local-error"))
	w.Append(rowOf(plan.At(2), "unknown", "interrupted"))
	w.Append(rowOf(plan.At(3), "unknown", "excluded"))
	host := targets.Target{Addr: netip.MustParseAddr("10.1.0.7"), Port: 25, From: &targets.Origin{Spec: "mail.example.org", Host: "mail.example.org"}}
	w.Append(rowOf(host, "closed", "conn-refused"))
	w.Append([]byte(`{"type":"result","target":"gone.example.org","state":"unknown","reason":"dns-nxdomain"}`))
	w.Append([]byte(`{"type":"result","target":"servfail.example.org","state":"unknown","reason":"dns-error"}`))
	order := plan.Order(targets.Shard{})
	silent, _ := order.Pos(9)
	w.Silent(silent, 4, time.Now())
	w.Sync()
	w.Append([]byte(`{"type":"end","reason":"interrupted","totals":{"open":1}}`))
	w.Close()

	w, rec, err := Resume(w.Path(), targets.Config{AllowReserved: true})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var done []uint64
	for pos := range order.Len() {
		if rec.Done.Contains(pos) {
			done = append(done, order.At(pos))
		}
	}
	slices.Sort(done)
	if !slices.Equal(done, []uint64{0, 3, 9}) {
		t.Errorf("done %v", done)
	}
	gone := targets.Target{From: &targets.Origin{Spec: "gone.example.org"}}
	hostless := targets.Target{Addr: host.Addr, Port: 25, From: &targets.Origin{Spec: "mail.example.org"}}
	if rec.Names.Len() != 2 || !isDone(rec, gone) || !isDone(rec, host) || isDone(rec, hostless) {
		t.Errorf("names %v", rec.Names)
	}
	if got := fmt.Sprint(rec.Counts); got != "map[closed:1 filtered:1 open:1 unknown:2]" {
		t.Error(got)
	}
	if rec.Rows != 9 || !rec.Ended || rec.End.Reason != "interrupted" || rec.End.Totals["open"] != 1 || rec.Run.Vantage != "v" || rec.Torn != 0 {
		t.Errorf("%+v", rec)
	}
}

func TestResumeOfAWholeJournalThatAppendsNothingChangesNothing(t *testing.T) {
	plan := planOf(t, "10.1.0.0/28")
	w := begun(t, plan, Run{})
	w.Append(rowOf(plan.At(0), "open", "syn-ack"))
	w.Finish(End{Reason: "done"})
	w.Close()
	before, _ := os.ReadFile(w.Path())
	w, rec, err := Resume(w.Path(), targets.Config{})
	if err != nil || !rec.Ended || rec.End.Reason != "done" {
		t.Fatalf("%+v, %v", rec, err)
	}
	w.Close()
	after, _ := os.ReadFile(w.Path())
	if !bytes.Equal(before, after) {
		t.Errorf("%d bytes before, %d after", len(before), len(after))
	}
	w, _, err = Resume(w.Path(), targets.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w.Append(rowOf(plan.At(1), "open", "syn-ack"))
	w.Close()
	all := readAll(t, w.Path())
	if n := len(all); !strings.Contains(all[n-2], `"code":"resumed"`) || all[n-1] != string(rowOf(plan.At(1), "open", "syn-ack")) {
		t.Errorf("got %q", all)
	}
	if w, rec, err = Resume(w.Path(), targets.Config{}); err != nil || rec.Ended {
		t.Errorf("ended %t, %v", rec.Ended, err)
	}
	w.Close()
}

func TestAJournalIsResumedOnceAtATime(t *testing.T) {
	w := begun(t, planOf(t, "10.1.0.0/28"), Run{})
	for range 2 {
		if _, _, err := Resume(w.Path(), targets.Config{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), w.Path()) {
			t.Errorf("got %v", err)
		}
	}
	w.Close()
	w, _, err := Resume(w.Path(), targets.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
}

func TestWhatCannotBeResumedIsLeftAsItIs(t *testing.T) {
	plan := planOf(t, "10.1.0.0/28")
	w := begun(t, plan, Run{})
	w.Append(rowOf(plan.At(0), "open", "syn-ack"))
	w.Finish(End{Reason: "done"})
	w.Close()
	good, _ := os.ReadFile(w.Path())
	flipped := bytes.Clone(good)
	flipped[bytes.Index(good, []byte("syn-ack"))] ^= 1
	firstLine := good[:bytes.IndexByte(good, '\n')+1]
	outside := fmt.Sprintf(`{"type":"silent","time":"2026-01-02T03:04:05Z","from":0,"to":%d,"except":[],"attempts":4}`, plan.Len())
	for name, test := range map[string]struct {
		content []byte
		is      error // nil: *DamageError
	}{
		"damaged":              {flipped, nil},
		"no plan":              {firstLine, ErrPlan},
		"half a run record":    {firstLine[:len(firstLine)/2], ErrIncomplete},
		"empty":                {nil, ErrIncomplete},
		"newer":                {frame(`{"type":"run","schema":99}`), ErrSchema},
		"address of nonsense":  {append(bytes.Clone(good), frame(`{"type":"result","address":"nowhere","port":25}`)...), nil},
		"silence outside plan": {append(bytes.Clone(good), frame(outside)...), errOutside},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, test.content)
			_, _, err := Resume(path, targets.Config{})
			var damage *DamageError
			if err == nil || test.is != nil && !errors.Is(err, test.is) || test.is == nil && !errors.As(err, &damage) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(after, test.content) {
				t.Error("the file was changed")
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := lock(f); err != nil {
				t.Errorf("still locked: %v", err)
			}
		})
	}
}

func TestALinkIsNotResumed(t *testing.T) {
	w := begun(t, planOf(t, "10.1.0.0/28"), Run{})
	w.Close()
	link := filepath.Join(t.TempDir(), "link")
	if noFollow == 0 || os.Symlink(w.Path(), link) != nil {
		t.Skip("not here")
	}
	if _, _, err := Resume(link, targets.Config{}); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("got %v", err)
	}
}
