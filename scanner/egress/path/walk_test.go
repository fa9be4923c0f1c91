package path

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A world is a made-up way to a host, for walks without packets.
type world struct {
	rand     *rand.Rand
	distance int          // hops to the host
	mute     map[int]bool // routers that never say that a TTL is over
	loss     float64      // of answers
	twins    bool         // each hop is one of two routers
	longer   bool         // some SYNs go by a way that is a hop longer
	filters  map[uint16]filterAt
}

// A filterAt stops what goes to a port: SYNs whose TTL is from or more.
type filterAt struct {
	from int
	do   scanner.Reason // NoResponse, ConnRefused, SynAck (a proxy), AdminProhibited
}

var worldHost = netip.MustParseAddr("192.0.2.25")

func routerAt(ttl, twin int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(twin), byte(ttl)})
}

// answer is what comes of a SYN.
func (w *world) answer(port uint16, p probe) reply {
	r := reply{probe: p, reason: scanner.NoResponse, rtt: time.Millisecond}
	f, filtered := w.filters[port]
	distance := w.distance
	if w.longer && w.rand.IntN(2) == 0 {
		distance++
	}
	switch {
	case w.rand.Float64() < w.loss:
	case filtered && p.ttl >= f.from:
		r.reason = f.do
		if f.do == scanner.AdminProhibited {
			r.icmp = scanner.ICMP{From: routerAt(f.from-1, 0), Type: 3, Code: 13}
		}
	case p.ttl >= distance:
		r.reason = scanner.SynAck
	case !w.mute[p.ttl]:
		twin := 0
		if w.twins {
			twin = w.rand.IntN(2)
		}
		r.reason, r.icmp = scanner.TimeExceeded, scanner.ICMP{From: routerAt(p.ttl, twin), Type: 11}
	}
	return r
}

// observed is what ordinary SYNs say.
func (w *world) observed(ports []uint16) (out []scanner.Observation) {
	for _, port := range ports {
		o := scanner.Observation{State: scanner.Open, Reason: scanner.SynAck}
		switch f := w.filters[port]; f.do {
		case scanner.NoResponse:
			o.State, o.Reason = scanner.Filtered, scanner.NoResponse
		case scanner.AdminProhibited:
			o.State, o.Reason = scanner.Filtered, scanner.AdminProhibited
		case scanner.ConnRefused:
			o.State, o.Reason = scanner.Closed, scanner.ConnRefused
		}
		out = append(out, o)
	}
	return out
}

// walkIn walks through a world, with answers in any order, and returns the conclusion.
func walkIn(t *testing.T, w *world, r Request, l limits) ([]scanner.Path, *walk) {
	t.Helper()
	observed := w.observed(r.Ports)
	k := newWalk(l, r, observed)
	var flying []reply
	for {
		todo := k.candidates()
		if len(todo) == 0 && len(flying) == 0 {
			break
		}
		if len(todo) > 0 && (len(flying) == 0 || w.rand.IntN(2) == 0) {
			p := todo[0]
			k.begin(p)
			flying = append(flying, w.answer(r.Ports[p.port], p))
		} else {
			i := w.rand.IntN(len(flying))
			k.take(flying[i])
			flying = slices.Delete(flying, i, i+1)
		}
		if k.sent > 2*len(r.Ports)*l.maxHops*l.flows {
			t.Fatalf("%d SYNs sent", k.sent)
		}
	}
	if !k.over() {
		t.Error("it has ended, and is not over")
	}
	return conclude(r, observed, k.hops()), k
}

// TestWalksEndAndTheIntervalHoldsTheFilter: whatever is mute or lost, the interval is never wrong, and exact where all is well.
func TestWalksEndAndTheIntervalHoldsTheFilter(t *testing.T) {
	fates := map[scanner.Reason]scanner.Fate{
		scanner.NoResponse: scanner.Lost, scanner.ConnRefused: scanner.Cut, scanner.SynAck: scanner.Interposed, scanner.AdminProhibited: scanner.Rejected,
	}
	kinds := []scanner.Reason{scanner.NoResponse, scanner.ConnRefused, scanner.SynAck, scanner.AdminProhibited}
	wrong := 0
	for seed := range uint64(4000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w := &world{rand: rnd, distance: 2 + rnd.IntN(20), mute: map[int]bool{}, filters: map[uint16]filterAt{}, twins: seed%3 == 0}
		exact := seed%2 == 0
		if !exact {
			w.loss = 0.2 * rnd.Float64()
			for range rnd.IntN(6) {
				w.mute[1+rnd.IntN(w.distance)] = true
			}
		}
		f := filterAt{1 + rnd.IntN(w.distance-1), kinds[rnd.IntN(len(kinds))]}
		w.filters[25] = f
		r := Request{Addr: worldHost, Ports: []uint16{25, 465, 587}, Control: []uint16{0, 587}[rnd.IntN(2)]}
		paths, k := walkIn(t, w, r, limits{maxHops: 30, gap: 5, flows: 3})
		name := fmt.Sprintf("seed %d: %s from TTL %d, host at %d, mute %v", seed, f.do, f.from, w.distance, w.mute)
		p := paths[0]
		holds := p.After < f.from && (p.NoLaterThan == 0 || p.NoLaterThan >= f.from)
		if exact && (p.Fate != fates[f.do] || p.After != f.from-1 || p.NoLaterThan != f.from || paths[1].Fate != scanner.Reached || paths[1].Distance != w.distance) {
			t.Errorf("%s: got %+v", name, paths)
		}
		if p.Fate == fates[f.do] && !holds || !exact && p.Fate != fates[f.do] && w.loss == 0 {
			if wrong++; wrong > 10 { // where three SYNs to one port were lost at a hop, and none of another's
				t.Errorf("%s: got %+v", name, p)
			}
		}
		if exact && k.sent > 3*(w.distance+2)*3 {
			t.Errorf("%s: %d SYNs", name, k.sent)
		}
		if t.Failed() {
			break
		}
	}
}

// TestPathsOfSeveralLengths: that some SYNs need a hop more than others is no interception.
func TestPathsOfSeveralLengths(t *testing.T) {
	wrong := 0
	const n = 2000
	for seed := range uint64(n) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		w := &world{rand: rnd, distance: 2 + rnd.IntN(15), longer: true, filters: map[uint16]filterAt{}}
		paths, _ := walkIn(t, w, Request{Addr: worldHost, Ports: []uint16{25, 587}}, limits{maxHops: 30, gap: 5, flows: 3})
		for _, p := range paths {
			if p.Fate != scanner.Reached {
				wrong++
			}
		}
	}
	// Where a port reached the host by the short way, and the other did not, that one is asked six
	// times: all go the long way in one of 64 cases.
	if wrong > n/20 {
		t.Errorf("%d of %d walks see somebody in the way", wrong, n)
	}
}

func TestNobodyAnswers(t *testing.T) {
	w := &world{rand: rand.New(rand.NewPCG(1, 1)), distance: 25, filters: map[uint16]filterAt{25: {7, scanner.NoResponse}, 587: {7, scanner.NoResponse}}}
	paths, k := walkIn(t, w, Request{Addr: worldHost, Ports: []uint16{25, 587}}, limits{maxHops: 30, gap: 5, flows: 3})
	for _, p := range paths {
		if p.Fate != scanner.Lost || p.After != 6 || p.NoLaterThan != 0 || p.Control != 0 {
			t.Errorf("got %+v", p)
		}
	}
	last := 0
	for _, h := range k.hops() {
		last = max(last, h.TTL)
	}
	if last != 11 { // five silent ones behind the last that answered
		t.Errorf("it went as far as hop %d", last)
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	good := Request{Addr: worldHost, Ports: []uint16{25, 587}, Control: 587}
	if err := good.valid(); err != nil {
		t.Error(err)
	}
	for what, r := range map[string]Request{
		"no address":             {Ports: []uint16{25}},
		"0 ports":                {Addr: worldHost},
		"17 ports":               {Addr: worldHost, Ports: make([]uint16, 17)},
		"no port 0":              {Addr: worldHost, Ports: []uint16{0}},
		"there twice":            {Addr: worldHost, Ports: []uint16{25, 25}},
		"443 is none of the por": {Addr: worldHost, Ports: []uint16{25}, Control: 443},
	} {
		if err := r.valid(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v", what, err)
		}
		if _, err := new(Tracer).Trace(t.Context(), r); err == nil {
			t.Errorf("%s: it was traced", what)
		}
	}
}

func TestPacerGivesFourAndThenOneASecond(t *testing.T) {
	var p pacer
	now := time.Unix(1000, 0)
	for i := range 4 {
		if d := p.wait(3, now); d != 0 {
			t.Fatalf("SYN %d has to wait for %v", i, d)
		}
	}
	if d := p.wait(4, now); d != 0 {
		t.Errorf("at another hop: %v", d)
	}
	for i := range 10 {
		d := p.wait(3, now)
		if d != time.Second {
			t.Fatalf("SYN %d has to wait for %v, want a second", i+4, d)
		}
		now = now.Add(d)
		if d := p.wait(3, now); d != 0 {
			t.Fatalf("and then for %v", d)
		}
	}
	now = now.Add(time.Hour)
	for range 4 {
		if d := p.wait(3, now); d != 0 {
			t.Errorf("after a long while: %v", d)
		}
	}
	if d := p.wait(3, now); d <= 0 {
		t.Error("five at once after a long while")
	}
}
