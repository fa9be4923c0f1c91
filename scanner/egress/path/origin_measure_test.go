package path

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// A model is a path in a test: routers in a row, a host behind them, and somebody who refuses port 25.
type model struct {
	routers  int
	initial  []int // TTLs that routers begin with, the first is next to us; the last is the host's
	back     int   // hops that the way back is longer
	sender   int   // hop of the filter; routers+1: the host; 0: this machine
	early    bool  // the filter is in prerouting
	firewall bool  // the host's own firewall refuses, not its stack
	control  controlIs
	silent   map[int]bool // routers that say nothing when a TTL is over
	copies   bool         // the host's resets copy the DSCP
	loss     float64      // of each packet, each way
	shunAt   int          // the port is silent after so many connects; 0: never

	how     Method
	filters bool // the kernel allows socket filters
	counts  bool // it counts well enough

	rnd      *rand.Rand
	connects int
	minTTLs  map[uint16]int // connects with a least TTL, by port
}

type controlIs uint8

const (
	controlOpen controlIs = iota
	controlNone
	controlSilent
	controlClosed
)

func (n *model) method() Method { return n.how }
func (n *model) here() bool     { return false }
func (n *model) close()         {}

func (n *model) host() int { return n.routers + 1 }

// ttlOf is the TTL with which packets from a hop come.
func (n *model) ttlOf(hop int) int {
	switch {
	case hop == 0:
		return 64
	case hop == n.host():
		return max(n.initial[hop-1]-hop+1-n.back, 1)
	}
	return n.initial[hop-1] - hop + 1
}

func (n *model) dial(_ context.Context, a attempt) (answer, error) {
	n.connects++
	if a.filter != filterNone && !n.filters {
		n.connects--
		return answer{}, errUnable
	}
	if a.minTTL > 0 {
		n.minTTLs[a.port]++
	}
	if a.minTTL > 0 && a.ttl > 0 {
		panic("a least TTL drops what routers say")
	}
	for range 2 { // SYNs
		if ans := n.syn(a); ans.heard != silence {
			return ans, nil
		}
	}
	return answer{}, nil
}

// syn sends one SYN.
func (n *model) syn(a attempt) answer {
	ttl, filtered := a.ttl, a.port == 25 && n.sender <= n.routers
	if ttl == 0 {
		ttl = 64
	}
	switch {
	case filtered && n.sender == 0:
		return n.reset(a, 0, false)
	case n.rnd.Float64() < n.loss, n.rnd.Float64() < n.loss:
		return answer{}
	}
	if n.shunAt > 0 && n.connects > n.shunAt && a.port == 25 {
		return answer{}
	}
	for hop := 1; hop <= n.routers; hop++ {
		switch {
		case filtered && hop == n.sender && n.early:
			return n.reset(a, hop, false)
		case ttl == hop && (n.silent[hop] || a.minTTL > 0):
			return answer{}
		case ttl == hop:
			return answer{heard: expired, icmp: scanner.ICMP{From: netip.AddrFrom4([4]byte{10, 0, 0, byte(hop)}), Type: 11}}
		case filtered && hop == n.sender:
			return n.reset(a, hop, false)
		}
	}
	switch {
	case a.port == 25:
		return n.reset(a, n.host(), n.copies && !n.firewall)
	case a.port == usuallyClosed, n.control == controlClosed:
		return n.reset(a, n.host(), n.copies)
	case n.control == controlSilent:
		return answer{}
	}
	h := Header{TTL: n.ttlOf(n.host()), Flags: tcpSYN | tcpACK}
	return n.came(a, answer{heard: accepted}, h)
}

// reset answers with a reset from a hop.
func (n *model) reset(a attempt, hop int, copied bool) answer {
	h := Header{TTL: n.ttlOf(hop), Flags: tcpRST | tcpACK}
	if copied && a.filter == filterMark {
		h.DSCP = 1
	}
	ans := answer{heard: refused, own: factOf(hop == 0), rtt: time.Millisecond}
	if n.how != MethodRaw && !(a.counts && n.counts) {
		ans.own = Unseen
	}
	if a.filter == filterOwn && hop == 0 {
		ans.heard = dropped
	}
	return n.came(a, ans, h)
}

// came passes a segment by the socket's least TTL and filter.
func (n *model) came(a attempt, ans answer, h Header) answer {
	if n.how == MethodRaw {
		ans.header = &h
	}
	if h.TTL < a.minTTL || a.filter == filterSYNACK && h.Flags&tcpSYN != 0 || a.filter == filterMark && h.Flags&tcpRST != 0 && h.DSCP == 0 {
		ans.heard = dropped
	}
	return ans
}

// attribute measures and judges.
func (n *model) attribute(t *testing.T) Attribution {
	t.Helper()
	r := Refusal{Port: netip.MustParseAddrPort("10.1.1.1:25"), Control: 587}
	if n.control == controlNone {
		r.Control = 0
	}
	n.minTTLs = map[uint16]int{}
	f, err := measure(t.Context(), r, n)
	if n.minTTLs[25] > 8 || n.minTTLs[587] > 8 {
		t.Errorf("%+v: more than eight connects for the TTL of a port's answers", n)
	}
	if err != nil {
		t.Fatalf("%+v: %v", n, err)
	}
	if n.connects != f.Connects || f.Connects > MostConnects {
		t.Errorf("%+v: %d connects, says %d, most %d", n, n.connects, f.Connects, MostConnects)
	}
	return Judge(f)
}

// wrong says what is wrong with an attribution; undecidable never is.
func (n *model) wrong(a Attribution) string {
	want := Hop
	switch {
	case n.sender == 0:
		want = Self
	case n.sender > n.routers:
		want = Host
	}
	switch {
	case a.By == Undecidable:
		if a.From > 0 && (n.sender < a.From || n.sender > a.To) {
			return fmt.Sprintf("undecidable between hops %d and %d, and it is %d", a.From, a.To, n.sender)
		}
		return ""
	case a.By != want:
		return fmt.Sprintf("it is %s, hop %d", want, n.sender)
	case a.By == Hop && (n.sender < a.From || n.sender > a.To):
		return fmt.Sprintf("it is hop %d", n.sender)
	}
	return ""
}

// randomModel returns a network as networks are: all begin with one of the usual TTLs.
func randomModel(rnd *rand.Rand) *model {
	n := &model{routers: rnd.IntN(20), rnd: rnd, silent: map[int]bool{}}
	for hop := 1; hop <= n.host(); hop++ {
		n.initial = append(n.initial, []int{64, 64, 64, 128, 255}[rnd.IntN(5)])
		n.silent[hop] = rnd.IntN(4) == 0
	}
	n.sender = rnd.IntN(n.routers + 2)
	n.early, n.copies, n.filters, n.counts = rnd.IntN(2) == 0, rnd.IntN(2) == 0, rnd.IntN(2) == 0, rnd.IntN(4) > 0
	n.firewall = n.sender == n.host() && rnd.IntN(3) == 0
	n.control = controlIs(max(rnd.IntN(7)-3, 0))
	n.how = []Method{MethodMinTTL, MethodRaw}[rnd.IntN(2)]
	return n
}

// decidable says whether the sender can be told in a model without loss: see Judge.
func (n *model) decidable() bool {
	begin := n.sender + 1
	if n.early || n.sender > n.routers {
		begin = n.sender
	}
	ownSeen := n.filters || n.counts || n.how == MethodRaw
	switch {
	case n.sender == 0:
		return ownSeen
	case n.control != controlOpen:
		// Only if the control port's SYN shows a router where refusals begin.
		return n.control != controlNone && begin <= n.routers && !n.silent[begin] && (begin > 1 || ownSeen)
	case begin == 1:
		return ownSeen
	case n.sender == n.host():
		return n.copies && n.filters && !n.firewall
	}
	return true
}

// TestOriginIsNeverWrong attributes the resets of many networks.
func TestOriginIsNeverWrong(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	by, connects, most := map[Party]int{}, 0, 0
	count := lab.Count(t, 4000, 20_000, 500_000)
	for range count {
		n := randomModel(rnd)
		a := n.attribute(t)
		if w := n.wrong(a); w != "" || (a.By != Undecidable) != n.decidable() {
			t.Errorf("%+v\ngot %s, hops %d to %d, hop %d: %s\n%s; decidable: %t", n, a.By, a.From, a.To, a.Hop, a.Why, w, n.decidable())
		}
		if a.Hop != 0 && a.Hop != n.sender {
			t.Errorf("%+v\nlikely hop %d, want %d: %s", n, a.Hop, n.sender, a.Why)
		}
		by[a.By]++
		connects += a.Figures.Connects
		most = max(most, a.Figures.Connects)
	}
	t.Logf("%v; %.1f connects on average, %d at most", by, float64(connects)/float64(count), most)
}

// TestOriginBearsLoss: packets are lost, ways back are longer, and hosts begin to shun us.
// What is found may be less, and it is not wrong; where one packet in ten
// is lost each way, silence is taken for an answer about once in three thousand times.
func TestOriginBearsLoss(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	decided, wrong, wrongAtLoss := 0, 0, 0
	count := lab.Count(t, 4000, 20_000, 500_000)
	for range count {
		n := randomModel(rnd)
		n.loss, n.back = []float64{0, 0.01, 0.1}[rnd.IntN(3)], rnd.IntN(4)
		if rnd.IntN(4) == 0 {
			n.shunAt = 1 + rnd.IntN(12)
		}
		a := n.attribute(t)
		if w := n.wrong(a); w != "" {
			if n.loss < 0.1 {
				wrong++
			} else {
				wrongAtLoss++
			}
			if wrong+wrongAtLoss > 3 {
				continue
			}
			t.Logf("%+v\ngot %s, hops %d to %d: %s\n%s %v", n, a.By, a.From, a.To, a.Why, w, a.Figures.Notes)
		}
		if a.By != Undecidable {
			decided++
		}
	}
	lab.Proof(t, "%d of %d decided, %d wrong, %d at 10%% loss each way", decided, count, wrong, wrongAtLoss)
	if wrong > 0 || wrongAtLoss > 3+count/5000 || decided < count/3 {
		t.Errorf("%d of %d decided, %d wrong, %d at 10%% loss each way", decided, count, wrong, wrongAtLoss)
	}
}

// faulty is a dialler of a machine that cannot dial.
type faulty struct{ model }

var errFault = errors.New("no way out")

func (f *faulty) dial(context.Context, attempt) (answer, error) { return answer{}, errFault }

func TestOriginSaysFaultsOfThisMachine(t *testing.T) {
	_, err := measure(t.Context(), Refusal{Port: netip.MustParseAddrPort("10.1.1.1:25")}, &faulty{})
	if !errors.Is(err, errFault) {
		t.Errorf("got %v", err)
	}
}

// TestOriginPaces: a public host is asked once a second, after the first six; and what is cancelled ends
// with what is known.
func TestOriginPaces(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := &model{routers: 3, initial: []int{64, 64, 64, 64}, sender: 4, rnd: rand.New(rand.NewPCG(1, 1)), how: MethodMinTTL, minTTLs: map[uint16]int{}}
	r := Refusal{Port: netip.MustParseAddrPort("62.1.1.1:25"), Control: 587}
	time.AfterFunc(20*time.Millisecond, cancel)
	f, err := measure(ctx, r, n)
	if !errors.Is(err, context.Canceled) || n.connects > freeConnects+1 || !f.Interrupted || !f.Refused || f.Connects != n.connects {
		t.Errorf("%d connects, then %v: %+v", n.connects, err, f)
	}
}
