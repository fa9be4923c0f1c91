package path

import (
	"net/netip"
	"slices"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// limits bound a walk: see Tracer.
type limits struct{ maxHops, gap, flows int }

// A probe is a SYN that may go so many hops.
type probe struct {
	port int // index of Request.Ports
	ttl  int
}

// A reply is what came of a probe.
type reply struct {
	probe
	reason scanner.Reason // NoResponse if nothing came in time
	icmp   scanner.ICMP   // valid iff its From is
	rtt    time.Duration
	ours   bool // it came from this machine itself, or the SYN could not be sent
}

// terminal reports whether the SYN did not expire at a router.
func (r *reply) terminal() bool {
	return r.reason != scanner.NoResponse && r.reason != scanner.TimeExceeded
}

// A walk decides which SYNs are sent. It sends nothing itself.
//
// One port that the host answers, the pilot, goes first, three hops at a time, until the
// host is reached. (If several hops are silent, another such port is tried before it goes on.)
// Then its distance is known, and the other ports follow:
// those that were silent at all hops at once, those that something answered hop by hop, because
// each SYN beyond what says no makes it say no again. In the end hops that did not answer are
// asked again, from other source ports; one that has answered nobody, for one port only.
type walk struct {
	limits
	addr    netip.Addr
	ports   []uint16
	walkers []*walker
	pilots  []int // who may go first, best first; none if the host answers no port
	sent    int
	doubts  map[probe]bool // what is asked again though it was answered
}

// A walker is the walk to one port.
type walker struct {
	observed scanner.Observation
	cells    []cell // by TTL
	next     int    // the TTL that was not asked yet
	flying   int    // SYNs that wait for an answer
	firsts   int    // of them, the first ones of their hop
	end      int    // the least TTL of which the answer was terminal; 0 = none yet
	out      bool   // this machine itself stops it
}

// A cell is what came of the SYNs with one TTL.
type cell struct {
	sent, flying int
	first        bool // the first one is on its way
	answers      []scanner.HopAnswer
}

func newWalk(l limits, r Request, observed []scanner.Observation) *walk {
	w := &walk{limits: l, addr: r.Addr, ports: r.Ports, doubts: map[probe]bool{}}
	for i, o := range observed {
		x := &walker{observed: o, cells: make([]cell, l.maxHops+1), next: 1, out: o.State == scanner.Unknown}
		w.walkers = append(w.walkers, x)
		if x.reached() {
			w.pilots = append(w.pilots, i)
		}
	}
	slices.SortStableFunc(w.pilots, func(a, b int) int { return w.worth(r, b) - w.worth(r, a) })
	return w
}

// worth says how good a pilot a port is: the control, then an open port, then a closed one.
func (w *walk) worth(r Request, i int) int {
	switch {
	case r.Ports[i] == r.Control:
		return 2
	case w.walkers[i].observed.State == scanner.Open:
		return 1
	}
	return 0
}

// pilot returns who goes first now; -1 if there is nobody.
func (w *walk) pilot() int {
	for _, i := range w.pilots {
		if !w.stuck(w.walkers[i]) {
			return i
		}
	}
	if len(w.pilots) > 0 {
		return w.pilots[0]
	}
	return -1
}

// stuck reports whether a walker has met as many silent hops as one gives up at.
func (w *walk) stuck(x *walker) bool { return x.end == 0 && x.next > x.lastAnswer()+w.gap }

// answers reports whether something answered ordinary SYNs to the port.
func (x *walker) answers() bool {
	return x.observed.State != scanner.Filtered || x.observed.Reason != scanner.NoResponse
}

// reached reports whether the host itself, or somebody in its name, answered ordinary SYNs.
func (x *walker) reached() bool {
	return x.observed.State == scanner.Open || x.observed.State == scanner.Closed
}

// distance returns how far the host is, or was found to be at least; 0 if it is not known.
func (w *walk) distance() (most int) {
	for _, x := range w.walkers {
		if x.end > 0 && x.reached() {
			most = max(most, x.end)
		}
	}
	return most
}

// lastAnswer returns the farthest hop that answered anything.
func (w *walk) lastAnswer() (last int) {
	for _, x := range w.walkers {
		for ttl := last + 1; ttl < len(x.cells); ttl++ {
			if len(x.cells[ttl].answers) > 0 {
				last = ttl
			}
		}
	}
	return last
}

// limit is how far the SYNs to a port are sent.
func (w *walk) limit(x *walker) int {
	known := w.distance()
	switch {
	case x.out:
		return 0
	case x.end > 0:
		return x.end
	case known > 0 && x.reached(): // it has a longer way, or who answered the others is not the host
		return min(w.maxHops, max(known, x.lastAnswer())+w.gap)
	case known > 0:
		return known
	case x.reached() && w.walkers[w.pilot()] == x:
		return w.maxHops
	}
	return min(w.maxHops, w.lastAnswer()+w.gap)
}

// window is how many of a walker's SYNs may be on the way at a time, in its first pass.
func (w *walk) window(i int, x *walker) int {
	known := w.distance()
	switch {
	case !x.answers():
		return w.maxHops
	case i == w.pilot():
		return 3
	case x.observed.State == scanner.Open && x.next < known:
		return known - x.next
	}
	return 1
}

// passed reports whether a walker has asked all hops once.
func (w *walk) passed(x *walker) bool { return x.firsts == 0 && x.next > w.limit(x) }

// over reports whether nothing is left to ask or to wait for.
func (w *walk) over() bool {
	for _, x := range w.walkers {
		if x.flying > 0 {
			return false
		}
	}
	return len(w.candidates()) == 0
}

// candidates returns what may be sent now, what is most urgent first.
func (w *walk) candidates() (out []probe) {
	pilot := w.pilot()
	piloted := pilot < 0 || w.passed(w.walkers[pilot])
	again := piloted
	for i, x := range w.walkers {
		if i != pilot && !piloted {
			continue
		}
		limit, room := w.limit(x), w.window(i, x)-x.firsts
		for ttl := x.next; ttl <= limit && room > 0; ttl++ {
			out = append(out, probe{i, ttl})
			room--
		}
		again = again && w.passed(x)
	}
	if !again {
		return out
	}
	for i, x := range w.walkers {
		for ttl := 1; ttl <= w.limit(x); ttl++ {
			c := &x.cells[ttl]
			doubted := w.doubts[probe{i, ttl}] && c.sent < 2*w.flows // who is accused deserves more
			silent := len(c.answers) == 0 && c.sent < w.flows
			if c.flying == 0 && (doubted || silent) && w.speaks(i, ttl) {
				out = append(out, probe{i, ttl})
			}
		}
	}
	return out
}

// speaks reports whether it is of use to ask a hop again for a port: the hop answered another one, or
// this is the one that asks for all.
func (w *walk) speaks(i, ttl int) bool {
	first := -1
	for j, x := range w.walkers {
		if ttl > w.limit(x) {
			continue
		}
		if x.cells[ttl].spoke() {
			return true
		}
		if first < 0 || j == w.pilot() {
			first = j
		}
	}
	return i == first
}

// spoke reports whether a router or the host answered, and not only a filter before it.
func (c *cell) spoke() bool {
	return slices.ContainsFunc(c.answers, func(a scanner.HopAnswer) bool {
		return a.Reason == scanner.TimeExceeded || a.Reason == scanner.SynAck || a.Reason == scanner.ConnRefused
	})
}

// begin says that a candidate is sent.
func (w *walk) begin(p probe) {
	x := w.walkers[p.port]
	c := &x.cells[p.ttl]
	if c.sent == 0 {
		x.firsts++
		c.first = true
	}
	x.next = max(x.next, p.ttl+1)
	x.flying++
	c.flying++
	c.sent++
	w.sent++
}

// take says what came of one.
func (w *walk) take(r reply) {
	x := w.walkers[r.port]
	c := &x.cells[r.ttl]
	x.flying--
	c.flying--
	if c.first {
		x.firsts--
		c.first = false
	}
	switch {
	case r.ours:
		x.out = x.lastAnswer() == 0 // it was not so for the ordinary SYNs: a passing fault
		return
	case r.reason == scanner.NoResponse:
		return
	case r.terminal() && (x.end == 0 || r.ttl < x.end):
		x.end = r.ttl
	}
	c.add(r, w.addr)
	w.doubt()
}

// lastAnswer returns the farthest hop that answered a walker.
func (x *walker) lastAnswer() (last int) {
	for ttl := range x.cells {
		if len(x.cells[ttl].answers) > 0 {
			last = ttl
		}
	}
	return last
}

// add adds an answer to those of a cell.
func (c *cell) add(r reply, target netip.Addr) {
	a := scanner.HopAnswer{From: r.icmp.From, Reason: r.reason, ICMP: r.icmp, RTT: r.rtt, Count: 1}
	if !a.From.IsValid() {
		a.From = target
	}
	i := slices.IndexFunc(c.answers, func(b scanner.HopAnswer) bool { return a.From == b.From && a.ICMP == b.ICMP && a.Reason == b.Reason })
	if i >= 0 {
		c.answers[i].Count++
		return
	}
	c.answers = append(c.answers, a)
}

// doubt has the farthest port asked again where another one was answered as by the host, and
// it was not: the path may be longer for some source ports than for others.
func (w *walk) doubt() {
	far, distance := -1, w.distance()
	for i, x := range w.walkers {
		if x.reached() && x.end == distance {
			far = i
		}
	}
	for _, x := range w.walkers {
		if x.reached() && x.end > 0 && x.end < distance {
			w.doubts[probe{far, x.end}] = true
		}
	}
}

// hops returns what is known of every hop.
func (w *walk) hops() (out []scanner.Hop) {
	for ttl := 1; ttl <= w.maxHops; ttl++ {
		for i, x := range w.walkers {
			if c := x.cells[ttl]; c.sent > 0 && (x.end == 0 || ttl <= x.end) {
				out = append(out, scanner.Hop{Port: w.ports[i], TTL: ttl, Sent: c.sent, Answers: c.answers})
			}
		}
	}
	return out
}
