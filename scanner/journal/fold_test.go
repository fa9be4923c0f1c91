package journal

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/targets"
)

func TestFoldGivesPlanOrderWhateverTheMemory(t *testing.T) {
	plan := planOf(t, "10.1.0.0/22", "mail.example.org", "mx:example.org", "2001:db8::/122")
	w := begun(t, plan, Run{})
	for _, a := range answers {
		w.Put("answer", a)
	}
	order := plan.Order(targets.Shard{})
	for pos := range order.Len() { // rows that later ones replace
		if i := order.At(pos); i%3 == 0 {
			w.Append(rowOf(plan.At(i), "unknown", "interrupted"))
		} else if i%3 == 1 {
			w.Silent(pos, 2, time.Unix(1, 0))
		}
	}
	w.Sync()
	for _, target := range nameTargets() {
		w.Append(rowOf(target, "filtered", "no-response"))
	}
	sweep(t, w, plan, targets.Shard{}, nil, 1<<30, nil)
	w.Close()
	want := wanted(plan, true)
	for _, memory := range []int{0, minMemory, 64 << 10} {
		dir := t.TempDir()
		if got := folded(t, FoldOptions{Memory: memory, TempDir: dir}, w.Path()); !slices.Equal(got, want) {
			t.Errorf("memory %d: %d rows, want %d; %s", memory, len(got), len(want), difference(got, want))
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("memory %d: left %v", memory, left)
		}
	}
}

func TestShardsFoldIntoOneRun(t *testing.T) {
	plan := planOf(t, "10.1.0.0/24")
	var paths []string
	for i := range uint64(3) {
		shard := targets.Shard{I: i + 1, N: 3}
		w := begun(t, plan, Run{Shard: fmt.Sprintf("%d/3", i+1), Vantage: "v"})
		order := plan.Order(shard)
		for pos := range order.Len() {
			i := order.At(pos)
			if state, reason, silent := verdict(i); silent {
				w.Silent(pos, 4, time.Unix(1_800_000_000, 0))
			} else {
				w.Append(rowOf(plan.At(i), state, reason))
			}
		}
		w.Close()
		paths = append(paths, w.Path())
	}
	want := wanted(plan, false)
	if got := folded(t, FoldOptions{}, paths...); !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d; %s", len(got), len(want), difference(got, want))
	}
}

func TestTheLaterJournalCountsAndVantagesStayApart(t *testing.T) {
	plan := planOf(t, "10.1.0.1")
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	journal := func(vantage, state string) string {
		started = started.Add(time.Hour)
		w := begun(t, plan, Run{Vantage: vantage, Started: started})
		w.Append(rowOf(plan.At(0), state, vantage))
		w.Close()
		return w.Path()
	}
	monday, other, tuesday := journal("a", "open"), journal("b", "open"), journal("a", "closed")
	want := []string{string(rowOf(plan.At(0), "closed", "a")), string(rowOf(plan.At(0), "open", "b"))}
	for _, paths := range [][]string{{monday, other, tuesday}, {tuesday, other, monday}, {tuesday, monday, other}} {
		if got := folded(t, FoldOptions{}, paths...); !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	}
}

func TestRowsOfNoPlanKeepTheirOrder(t *testing.T) {
	w := started(t)
	var want []string
	for i := range 50 {
		want = append(want, string(result(i)))
		w.Append(result(i))
	}
	w.Append([]byte(`{"type":"hop"}`))
	w.Close()
	if got := folded(t, FoldOptions{Memory: minMemory}, w.Path()); !slices.Equal(got, want) {
		t.Errorf("%d rows; %s", len(got), difference(got, want))
	}
}

func TestANameThatLedNowhereIsARowInItsPlace(t *testing.T) {
	plan := planOf(t, "gone.example.org", "Mail.Example.org", "mx:null.example.org", "10.1.0.1:25")
	w := begun(t, plan, Run{})
	rows := []string{
		string(rowOf(plan.At(0), "open", "syn-ack")),
		`{"type":"result","target":"gone.example.org","state":"unknown","reason":"dns-nxdomain"}`,
		string(rowOf(nameTargets()[0], "open", "syn-ack")), // the target in its plain form
		`{"type":"result","target":"mx:null.example.org","state":"unknown","reason":"no-mail"}`,
	}
	for _, i := range []int{3, 1, 0, 2} {
		w.Append([]byte(rows[i]))
	}
	w.Close()
	if got := folded(t, FoldOptions{}, w.Path()); !slices.Equal(got, rows) {
		t.Errorf("got %q", got)
	}
}

func TestALaterAnswerTakesBackTheRowOfALookUpThatFailed(t *testing.T) {
	plan := planOf(t, "mail.example.org", "mx:example.org")
	nowhere := func(spec, host string) []byte {
		return fmt.Appendf(nil, `{"type":"result","target":%q,"host":%q,"state":"unknown","reason":"dns-error"}`, spec, host)
	}
	w := begun(t, plan, Run{})
	w.Put("answer", targets.Answer{Name: "mail.example.org", Why: targets.DNSError})
	w.Put("answer", targets.Answer{Name: "mx:example.org", Why: targets.DNSError})
	w.Append(nowhere("mail.example.org", "mail.example.org"))
	w.Append(nowhere("mx:example.org", "example.org"))
	if got := folded(t, FoldOptions{}, closed(t, w)); len(got) != 2 {
		t.Fatalf("rows of a run whose DNS failed: %q, want one a name", got)
	}
	again, _, err := Resume(w.Path(), targets.Config{})
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	again.Put("answer", targets.Answer{Name: "mail.example.org", Hosts: []targets.HostAnswer{{Host: "mail.example.org", Addrs: []netip.Addr{addr}}}})
	again.Put("answer", targets.Answer{Name: "mx:example.org", Why: targets.DNSError})
	found := targets.Target{Index: targets.NoIndex, Addr: addr, Port: 25, From: &targets.Origin{Spec: "mail.example.org", Host: "mail.example.org"}}
	again.Append(rowOf(found, "open", "syn-ack"))
	again.Append(nowhere("mx:example.org", "example.org"))
	got := folded(t, FoldOptions{}, closed(t, again))
	if len(got) != 2 || !strings.Contains(got[0], "192.0.2.1") || !strings.Contains(got[1], "dns-error") {
		t.Errorf("rows %q, want the address of the first name, and the failure of the second, once", got)
	}
}

// closed closes a journal and returns its path.
func closed(t *testing.T, w *Writer) string {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.Path()
}

func TestFoldStopsAtDamageAndSalvageGoesOn(t *testing.T) {
	plan := planOf(t, "10.1.0.0/28")
	w := begun(t, plan, Run{})
	sweep(t, w, plan, targets.Shard{}, nil, 1<<30, nil)
	w.Finish(End{})
	w.Close()
	content, _ := os.ReadFile(w.Path())
	content[strings.Index(string(content), `"type":"result"`)] ^= 1
	path := write(t, content)
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var damage *DamageError
	for _, err = range Fold([]*Reader{r}, FoldOptions{}) {
	}
	if !errors.As(err, &damage) {
		t.Errorf("got %v", err)
	}
	s, err := OpenSalvage(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rows := 0
	for _, err := range Fold([]*Reader{s}, FoldOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		rows++
	}
	if all := int(plan.Len()) + len(nameTargets()); rows != all-1 || s.Skipped() != 1 {
		t.Errorf("%d rows of %d, %d skipped", rows, all, s.Skipped())
	}
}

func TestLeavingTheFoldLeavesNothingBehind(t *testing.T) {
	plan := planOf(t, "10.1.0.0/24")
	w := begun(t, plan, Run{})
	sweep(t, w, plan, targets.Shard{}, nil, 1<<30, nil)
	w.Close()
	r, err := Open(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir := t.TempDir()
	for range Fold([]*Reader{r}, FoldOptions{Memory: minMemory, TempDir: dir}) {
		break
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// BenchmarkFold folds 262,144 rows of a /17 on two ports.
func BenchmarkFold(b *testing.B) {
	plan := planOf(b, "10.0.0.0/15")
	for _, kind := range []string{"rows", "silent"} {
		w := begun(b, plan, Run{})
		order := plan.Order(targets.Shard{})
		const n = 1 << 18
		for pos := range uint64(n) {
			if kind == "silent" {
				w.Silent(pos, 4, time.Now())
			} else {
				w.Append(rowOf(plan.At(order.At(pos)), "closed", "conn-refused"))
			}
		}
		w.Close()
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				r, err := Open(w.Path())
				if err != nil {
					b.Fatal(err)
				}
				rows := 0
				for _, err := range Fold([]*Reader{r}, FoldOptions{}) {
					if err != nil {
						b.Fatal(err)
					}
					rows++
				}
				r.Close()
				if rows != n {
					b.Fatalf("%d rows", rows)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.Sys)/1e6, "MB-sys")
		})
	}
}
