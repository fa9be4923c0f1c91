package path

import (
	"fmt"
	"net/netip"
	"strings"
)

// Judge says who sent the resets that figures are of. What cannot be decided, and why:
//
//   - no port of the host accepts a connection: its distance is not known, so that a port
//     which refuses at TTL n is a host n hops away as well as a filter there. If a router at
//     hop n said that the TTL of a SYN to another port was over, the host is farther, and
//     it is decided all the same;
//   - refusals begin where the control port begins to accept, and the TTL of the reset is not
//     known: the router before the host, which forwards, does not answer earlier than the host;
//   - the same, with equal TTLs: a router right before the host whose initial TTL is smaller by
//     one, a bridge, and the host's own firewall have the figures of the host. What
//     does decide is that the reset carries the DSCP of its SYN, as those of hosts do, but to
//     see that takes a socket filter, which some kernels allow only with privilege;
//   - refusals begin before the host, and the reset has the TTL of the host's answers:
//     a filter that imitates the host, or a port whose packets take a shorter way;
//   - refusals begin behind the control port: somebody on the way accepts in the host's place,
//     or the ports take different ways;
//   - the first hop may be this machine's own firewall, and this was not to be seen.
func Judge(f Figures) Attribution {
	a := judge(f)
	a.Figures = f
	if f.Interrupted && a.By == Undecidable {
		a = Attribution{Why: "interrupted before it was decided", Figures: f}
	}
	for hop := a.From; a.By == Hop && hop <= a.To; hop++ {
		if addr := f.routers[hop]; addr.IsValid() {
			a.Addresses = append(a.Addresses, addr)
		}
	}
	a.Why = a.Why + f.numbers()
	return a
}

func judge(f Figures) Attribution {
	switch {
	case f.Own == Yes:
		return Attribution{By: Self, Why: "this machine itself refuses, by a rule of its own firewall: the reset came by the loopback interface"}
	case !f.Refused:
		return undecided("the port does not answer with a reset: " + f.Instead)
	case f.IsHere:
		return Attribution{By: Host, Why: "the port is one of this machine"}
	case !f.Begin.known():
		return undecided("not known at which TTL refusals begin")
	case f.Begin.Min == 1 && f.Own != No:
		return undecided("refusals begin at once: at the first hop, or in this machine, whose own firewall could not be looked at")
	case !f.Distance.known():
		return withoutDistance(f)
	case f.Begin.Max < f.Distance.Min:
		return before(f)
	case f.Begin.Min > f.Distance.Max:
		return undecided("refusals begin behind the control port: another machine than the host accepts there, or the ways of the two ports differ")
	case !f.Begin.exact() || !f.Distance.exact():
		return undecided("it was not found exactly at which TTL refusals begin, or where the host is")
	}
	return atHost(f)
}

func undecided(why string) Attribution { return Attribution{Why: why} }

// interval is the hops of which a filter refuses at certain TTLs: one that forwards is a hop
// nearer than one in prerouting. Hop 0 would be this machine.
func interval(begin Span) (from, to int) { return max(begin.Min-1, 1), begin.Max }

// before judges refusals that begin before the host.
func before(f Figures) Attribution {
	r := compare(f.Reset, f.SYNACK)
	a := Attribution{By: Hop}
	a.From, a.To = interval(f.Begin)
	switch {
	case r.is == same, r.is == farther:
		a.By, a.Why = Undecidable, "the SYNs are refused before the host, but the reset comes from no nearer than its other answers: a filter that imitates it, or another way of this port's packets"
		return a
	}
	a.Hop = f.likely(r, a.From, a.To)
	a.Why = "likely " + a.place() + ": it refuses before the host is reached"
	return a
}

// withoutDistance judges refusals of a host of which no port accepts.
func withoutDistance(f Figures) Attribution {
	a := Attribution{}
	a.From, a.To = interval(f.Begin)
	switch {
	case f.Beyond < f.Begin.Max && f.Control == 0:
		a.Why = "no other port of the host is known that accepts, so that its distance is unknown"
		return a
	case f.Beyond < f.Begin.Max:
		a.Why = "the control port does not accept, so that the host's distance is unknown"
		return a
	}
	a.By = Hop
	a.Hop = f.likely(relation{}, a.From, a.To)
	a.Why = fmt.Sprintf("likely %s: the host is behind hop %d", a.place(), f.Beyond)
	return a
}

// atHost judges refusals that begin where the host answers: it may be the host, or the
// last hop, which forwards.
func atHost(f Figures) Attribution {
	d := f.Distance.Min
	r := compare(f.Reset, f.SYNACK)
	either := Attribution{From: max(d-1, 1), To: d}
	switch {
	case d == 1 && (r.is == same || r.is == notCompared):
		return Attribution{By: Host, Why: "likely the host itself: it is next to this machine"}
	case r.is == same && f.Marked == Yes:
		return Attribution{By: Host, Why: "likely the host itself: it refuses at its own distance, and the reset is made as hosts make theirs"}
	case r.is == same && f.Marked == No && f.HostMarked == Yes:
		either.Why = "a filter of the host itself or right in front of it: the reset has the TTL of the host's answers, but is not made as the host makes its own"
	case r.is == same:
		either.Lean, either.Why = Host, "most likely the host itself; a filter right in front of it, with an initial TTL smaller by one or none of its own, has the same figures"
	case r.is == farther:
		either.Why = "the reset comes from farther than the host's other answers"
	case r.is == notCompared:
		either.Why = "refusals begin where the host answers: it may be the host or the last hop, which forwards"
	default:
		return lastHops(f, r, d)
	}
	return either
}

// lastHops judges a reset with another TTL than the host's answers, for which a SYN must get
// as far as the host: by the last hop, or one before that lets SYNs pass and
// refuses when it sees the answer.
func lastHops(f Figures, r relation, d int) Attribution {
	hop := d - r.hops
	if r.is == otherClass {
		hop = distance(f.Reset.Min) - (distance(f.SYNACK.Min) - d) // the way back may be longer
	}
	if hop < 1 {
		hop = distance(f.Reset.Min)
	}
	switch {
	case hop >= d || d == 1:
		return Attribution{From: max(d-1, 1), To: d, Why: "the reset has another initial TTL, from the host's own distance: the host makes its resets so, or something right in front of it refuses"}
	case !f.Reset.exact() || !f.SYNACK.exact():
		hop = d - 1
	}
	a := Attribution{By: Hop, From: min(hop, d-1), To: d - 1}
	if a.From == a.To {
		a.Hop = a.To
	}
	a.Why = "likely " + a.place() + ", before the host: the reset does not come with the TTL of the host's answers"
	return a
}

// likely returns the hop of an interval that the TTL of the reset speaks for, or 0.
func (f Figures) likely(r relation, from, to int) int {
	if !f.Reset.exact() {
		return 0
	}
	hops := []int{distance(f.Reset.Min)}
	if r.is == nearer && f.Distance.exact() {
		hops = append(hops, f.Distance.Min-r.hops)
	}
	likely := 0
	for _, hop := range hops {
		switch {
		case hop < from || hop > to:
		case likely != 0 && likely != hop:
			return 0 // the way back is not the way there
		default:
			likely = hop
		}
	}
	return likely
}

// place returns the place of an attribution in words.
func (a Attribution) place() string {
	switch {
	case a.From == a.To:
		return fmt.Sprintf("hop %d", a.From)
	case a.Hop != 0:
		return fmt.Sprintf("hop %d (of %d to %d)", a.Hop, a.From, a.To)
	}
	return fmt.Sprintf("one of hops %d to %d", a.From, a.To)
}

// numbers returns the figures in words.
func (f Figures) numbers() string {
	var words []string
	say := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if f.Begin.known() {
		say("refuses from TTL %s on", f.Begin)
	}
	if f.Distance.known() {
		say("port %d accepts from TTL %s on", f.Control, f.Distance)
	} else if f.Beyond > 0 {
		say("hop %d is a router on the way to port %d", f.Beyond, f.Control)
	}
	if f.Reset.known() {
		say("TTL of the reset %s", f.Reset)
	}
	if f.SYNACK.known() {
		say("of the SYN-ACK %s", f.SYNACK)
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}

// A relation is how the TTL of a reset compares with that of a SYN-ACK.
type relation struct {
	is   relationIs
	hops int // that the reset's sender is nearer or farther, on the way back
}

type relationIs uint8

const (
	notCompared relationIs = iota // one is not known, or not exactly enough
	same
	nearer
	farther
	otherClass // they began with different TTLs
)

// compare compares the TTLs of two answers. Those of one sender are equal.
func compare(reset, ack Span) relation {
	switch {
	case !reset.known() || !ack.known():
		return relation{}
	case reset.exact() && reset == ack:
		return relation{is: same}
	case reset.Min <= ack.Max && ack.Min <= reset.Max:
		return relation{}
	case initial(reset.Min) != initial(reset.Max) || initial(ack.Min) != initial(ack.Max) || initial(reset.Min) != initial(ack.Min):
		return relation{is: otherClass}
	case reset.Min > ack.Max:
		return relation{nearer, reset.Min - ack.Max}
	}
	return relation{farther, ack.Min - reset.Max}
}

// initial returns the TTL that a packet began with, of those that systems begin with.
func initial(ttl int) int {
	switch {
	case ttl <= 64:
		return 64
	case ttl <= 128:
		return 128
	}
	return 255
}

// distance returns how many hops away the sender of a packet is: 1 is next to us.
func distance(ttl int) int { return initial(ttl) - ttl + 1 }

// routerAt notes that a router said of a SYN that its TTL was over.
func (f *Figures) routerAt(ttl int, from netip.Addr) {
	if f.routers == nil {
		f.routers = map[int]netip.Addr{}
	}
	f.routers[ttl] = from
}
