package report

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
)

// icmpLimits finds out who tells of some of what it rejects only. Most routers
// limit how many ICMP messages they send, Linux to one a second to one receiver
// after the first six (ip-sysctl.rst, icmp_ratelimit): then most of what they
// reject is silent. A row never says so of itself; who rejects its neighbours is
// no evidence about it. But a person should know.
type icmpLimits struct {
	network netip.Prefix           // that rows come of now: a /24, a /64
	silent  map[string]uint64      // its silent endpoints, by port; at most maxSenders ports
	told    []rejection            // who rejected in it; at most maxSenders
	senders map[netip.Addr]*teller // at most maxSenders
}

// A rejection is a sender of ICMP messages and a port that it rejects in a network.
type rejection struct {
	from netip.Addr
	port string
}

// A teller is a router that sends ICMP messages.
type teller struct {
	rows      int          // endpoints that it told of
	skipped   int          // of these, endpoints of which two SYNs or more were left without an answer
	first     netip.Prefix // network in which it rejects and others are silent
	networks  uint64       // such networks
	endpoints uint64       // that are silent there, on ports that it rejects there
}

const (
	fewestTold  = 3 // rows of a teller that are evidence
	skippedSYNs = 4 // SYNs of a row that was told of; there are two where each is answered
)

// add looks at a filtered row.
func (l *icmpLimits) add(r *Row) {
	c := &r.Cells
	addr, err := netip.ParseAddr(c[ColAddress])
	if err != nil {
		return
	}
	if addr = addr.WithZone(""); !l.network.Contains(addr) {
		l.endNetwork()
		bits := 24
		if addr.Is6() {
			bits = 64
		}
		l.network, _ = addr.Prefix(bits) // the only error is a length that is not 0 to 32 or 128
	}
	switch {
	case c[ColReason] == "no-response":
		l.addSilent(c[ColPort])
	case c[ColICMPFrom] != "" && c[ColICMPFrom] != c[ColAddress] && c[ColReason] != "no-neighbor":
		if from, err := netip.ParseAddr(c[ColICMPFrom]); err == nil {
			l.addTold(from, c[ColPort], c[ColAttempts])
		}
	}
}

func (l *icmpLimits) addSilent(port string) {
	if _, ok := l.silent[port]; !ok && len(l.silent) >= maxSenders {
		return
	}
	if l.silent == nil {
		l.silent = make(map[string]uint64)
	}
	l.silent[port]++
}

func (l *icmpLimits) addTold(from netip.Addr, port, attempts string) {
	t := l.senders[from]
	if t == nil {
		if len(l.senders) >= maxSenders {
			return
		}
		if l.senders == nil {
			l.senders = make(map[netip.Addr]*teller)
		}
		t = new(teller)
		l.senders[from] = t
	}
	t.rows++
	if n, err := strconv.Atoi(attempts); err == nil && n >= skippedSYNs {
		t.skipped++
	}
	if told := (rejection{from, port}); len(l.told) < maxSenders && !slices.Contains(l.told, told) {
		l.told = append(l.told, told)
	}
}

// endNetwork counts what was silent in a network for those who reject in it.
func (l *icmpLimits) endNetwork() {
	for i, told := range l.told {
		t, n := l.senders[told.from], l.silent[told.port]
		if n == 0 {
			continue
		}
		t.endpoints += n
		earlier := func(other rejection) bool { return other.from == told.from && l.silent[other.port] > 0 }
		if slices.ContainsFunc(l.told[:i], earlier) {
			continue // the network is counted
		}
		if t.networks++; t.networks == 1 {
			t.first = l.network
		}
	}
	l.told = l.told[:0]
	clear(l.silent)
}

// icmpLimited is the word for it.
const icmpLimited = "icmp-limited"

// hints returns one for each router that left other SYNs unanswered of more than half of the
// endpoints that it told of, where there is silence which that may explain; most of it first.
func (l *icmpLimits) hints(grade int) (out []*hint) {
	l.endNetwork()
	for from, t := range l.senders {
		if t.rows < fewestTold || t.skipped*2 <= t.rows || t.endpoints == 0 {
			continue
		}
		where := t.first.String()
		if t.networks > 1 {
			where += " and " + counted(t.networks-1, "more network", "more networks")
		}
		out = append(out, &hint{
			key: hintKey{code: icmpLimited, from: from.String()}, grade: grade, count: 1, where: where + ":", ask: icmpLimited,
			what: from.String() + " rejects there and does not say so each time, so " + counted(t.endpoints, "silent endpoint", "silent endpoints") + " may be rejected, too",
		})
	}
	slices.SortFunc(out, func(x, y *hint) int {
		a, b := netip.MustParseAddr(x.key.from), netip.MustParseAddr(y.key.from)
		return cmp.Or(cmp.Compare(l.senders[b].endpoints, l.senders[a].endpoints), a.Compare(b))
	})
	return out
}
