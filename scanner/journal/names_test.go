package journal

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// someAnswer is what a DNS of chance says of a name: the hosts and addresses are
// few, so that later answers have some of them again.
func someAnswer(rng *rand.Rand, name string) targets.Answer {
	a := targets.Answer{Name: name}
	host, mx := strings.CutPrefix(name, "mx:")
	hosts := 1
	if mx {
		hosts = rng.IntN(4)
	}
	for i := range hosts {
		h := targets.HostAnswer{Host: host, Preference: uint16(i)}
		if mx {
			h.Host = fmt.Sprintf("mx%d.%s", rng.IntN(3), host) // one may be there twice
		}
		for range rng.IntN(6) {
			h.Addrs = append(h.Addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(8))}))
		}
		if len(h.Addrs) == 0 {
			h.Why = targets.DNSNXDomain
		} else if rng.IntN(4) == 0 {
			h.Why, h.Failed = targets.DNSError, 6
		}
		a.Hosts = append(a.Hosts, h)
	}
	if hosts == 0 {
		a.Why = targets.NoMail
	}
	return a
}

// What Names knows is what a plain set of rows would, also after a name was
// asked for again and leads elsewhere.
func TestNamesAgreeWithAPlainSetOfRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		plan := planOf(t, "a.example.org", "mx:b.example.org", "C.example.org:25", "mx:d.example.org", "e.example.org", "10.9.9.9")
		index, names, plain := newNameIndex(plan), newNames(plan), map[stray]bool{}
		for range 200 {
			i := rng.IntN(plan.NameCount())
			switch eps := names.Answers.Endpoints(i); {
			case rng.IntN(5) == 0 || len(eps) == 0:
				if err := names.Put(i, someAnswer(rng, plan.Name(i).Text)); err != nil {
					t.Fatal(err)
				}
			default:
				tg := eps[rng.IntN(len(eps))].Target
				row := stray{tg.Spec(), tg.Host(), tg.Addr, tg.Port}
				if rng.IntN(8) == 0 {
					row.host = "of.an.earlier.answer"
				}
				n, known := index.number(row.target)
				if first := names.finish(n, known, row); first == plain[row] {
					t.Fatalf("row %v: first %t, and a plain set has it: %t", row, first, plain[row])
				}
				plain[row] = true
			}
			agree(t, names, plan, plain)
		}
	}
}

func agree(t *testing.T, names *Names, plan *targets.Plan, plain map[stray]bool) {
	t.Helper()
	for i := range plan.NameCount() {
		for place, ep := range names.Answers.Endpoints(i) {
			tg := ep.Target
			row := stray{tg.Spec(), tg.Host(), tg.Addr, tg.Port}
			if got := names.Done(i, place, tg); got != plain[row] {
				t.Fatalf("%v at place %d: done %t, want %t", row, place, got, plain[row])
			}
		}
	}
	if names.Len() != uint64(len(plain)) {
		t.Fatalf("%d rows, want %d", names.Len(), len(plain))
	}
}

func TestAnIndexFindsNamesInEitherForm(t *testing.T) {
	plan := planOf(t, "Mail.Example.ORG", "mx:example.org:25", "mx:example.org", "b\u00fccher.example.org", "plain.example.org")
	index := newNameIndex(plan)
	for i, name := range plan.Names() {
		for _, form := range []string{name.Spec, name.Text} {
			if got, ok := index.number(form); !ok || got != i {
				t.Errorf("%q: number %d, %t; want %d", form, got, ok, i)
			}
		}
	}
	if _, ok := index.number("none.example.org"); ok {
		t.Error("a name was found that is not there")
	}
}

// sweptNames writes the journal of a run of n names that has every row, each name
// with one address and three ports.
func sweptNames(t *testing.T, n int) (path string) {
	t.Helper()
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, "h%07d.example.org\n", i)
	}
	b := targets.NewBuilder(targets.Config{Ports: targets.DefaultPorts()})
	if err := b.ReadFile("list", strings.NewReader(list.String())); err != nil {
		t.Fatal(err)
	}
	plan, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	w := begun(t, plan, Run{})
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{8, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i, name := range plan.Names() {
		w.Put("answer", targets.Answer{Name: name.Text, Hosts: []targets.HostAnswer{{Host: name.Text, Addrs: []netip.Addr{address(i)}}}})
	}
	for i, name := range plan.Names() {
		for _, port := range name.Ports {
			w.Append(rowOf(targets.Target{Addr: address(i), Port: port.Number, From: &targets.Origin{Spec: name.Spec, Host: name.Text}}, "open", "syn-ack"))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.Path()
}

// heap returns the bytes that are reachable.
func heap() uint64 {
	var m runtime.MemStats
	for range 3 { // what waits for a finalizer, or is in a pool, goes with the next but one
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A run of names that goes on keeps of a name its text and 12 bytes in the plan,
// 4 bytes and its addresses in the answers, and 4 bytes and a bit an endpoint of
// what is done.
func TestResumingNamesTakesLittleMemory(t *testing.T) {
	n := lab.Count(t, 10_000, 10_000, 1_000_000)
	path := sweptNames(t, n)
	before := heap()
	w, rec, err := Resume(path, targets.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	each := float64(int64(heap()-before)) / float64(n)
	if rec.Names.Len() != uint64(3*n) || rec.Counts["open"] != uint64(3*n) {
		t.Errorf("%d rows, %v", rec.Names.Len(), rec.Counts)
	}
	const text = len("h0000000.example.org")
	lab.Proof(t, "%.1f bytes a name, %d of them its text", each, text)
	if most := 1.5 * (float64(text) + 12 + 4 + 6 + 4 + 1); each > most { // slices that grew have room to spare
		t.Errorf("%.1f bytes a name, want at most %.1f", each, most)
	}
	runtime.KeepAlive(rec)
}

// Endpoints that are done cost a bit each, and an isolated address its 16 bytes
// in the plan (DESIGN.md section 3).
func TestResumingAddressesTakesLittleMemory(t *testing.T) {
	n := lab.Count(t, 50_000, 50_000, 10_000_000)
	list := filepath.Join(t.TempDir(), "list")
	f, err := os.Create(list)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n { // no two are neighbours
		a := uint32(8<<24 + 3*i)
		fmt.Fprintf(f, "%d.%d.%d.%d\n", a>>24, a>>16&255, a>>8&255, a&255)
	}
	f.Seek(0, 0)
	b := targets.NewBuilder(targets.Config{Ports: []targets.Port{{Number: 25}}})
	if err := b.ReadFile("list", f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	plan, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	w := begun(t, plan, Run{})
	order := plan.Order(targets.Shard{})
	for pos := range order.Len() {
		if pos%2 == 0 { // what is done is spread out, and every other is left
			w.Append(rowOf(plan.At(order.At(pos)), "closed", "conn-refused"))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	before := heap()
	w, rec, err := Resume(w.Path(), targets.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	each := float64(int64(heap()-before)) / float64(n)
	lab.Proof(t, "%.1f bytes an address", each)
	if rec.Done.Len() != (order.Len()+1)/2 || each > 16 {
		t.Errorf("%d of %d are done; %.1f bytes an address, want at most 16", rec.Done.Len(), n, each)
	}
	runtime.KeepAlive(rec)
}
