package path

import (
	"net/netip"
	"slices"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A track is what the hops say of one port.
type track struct {
	last     int // the farthest hop of which a router answered; 0 = none
	distance int // the nearest TTL that was answered as by the host; 0 = none
	opens    bool
	said     int // the nearest TTL that an ICMP rejection answered; 0 = none
	by       scanner.ICMP
}

// far returns how far a port got for certain: to where it was answered as by the host, or, behind the last router
// that answered it, one hop more.
func (t track) far() int {
	if t.distance > 0 {
		return t.distance
	}
	return t.last + 1
}

// conclude says what became of the SYNs to each port. It is a pure function: observed are the
// states by ordinary SYNs, in the order of the request's ports.
func conclude(r Request, observed []scanner.Observation, hops []scanner.Hop) []scanner.Path {
	tracks := make([]track, len(r.Ports))
	for i, port := range r.Ports {
		tracks[i] = trackOf(port, hops)
	}
	paths := make([]scanner.Path, len(r.Ports))
	for i, port := range r.Ports {
		o := observed[i]
		p := scanner.Path{Port: port, State: o.State, Reason: o.Reason, Distance: tracks[i].distance, LastHop: tracks[i].last}
		control := controlOf(r, tracks, i)
		if control >= 0 {
			p.Control = r.Ports[control]
		}
		decide(&p, o, tracks, i, hops)
		paths[i] = p
	}
	return paths
}

// trackOf reads the hops of a port, which are in the order of their TTL.
func trackOf(port uint16, hops []scanner.Hop) (t track) {
	for _, h := range hops {
		if h.Port != port {
			continue
		}
		for _, a := range h.Answers {
			switch a.Reason {
			case scanner.TimeExceeded:
				t.last = max(t.last, h.TTL)
			case scanner.SynAck, scanner.ConnRefused:
				if t.distance == 0 {
					t.distance, t.opens = h.TTL, a.Reason == scanner.SynAck
				}
			default:
				if t.said == 0 {
					t.said, t.by = h.TTL, a.ICMP
				}
			}
		}
	}
	return t
}

// controlOf returns the port, other than i, that is compared with: the one that was answered as by the host
// from farthest, of several one that is open, of several the one that the request names; -1 if there is none.
func controlOf(r Request, tracks []track, i int) int {
	best, most := -1, [3]int{}
	for j, t := range tracks {
		if j == i || t.distance == 0 {
			continue
		}
		rank := [3]int{t.distance, oneIf(t.opens), oneIf(r.Ports[j] == r.Control)}
		if best < 0 || slices.Compare(rank[:], most[:]) > 0 {
			best, most = j, rank
		}
	}
	return best
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// decide says what became of the SYNs to port i.
func decide(p *scanner.Path, o scanner.Observation, tracks []track, i int, hops []scanner.Hop) {
	t := tracks[i]
	farther, host := 0, 0 // how far another port got, and how far it was answered from as by the host
	for j, u := range tracks {
		if j != i {
			host = max(host, u.distance)
			farther = max(farther, u.far())
		}
	}
	nearer := t.distance > 0 && t.distance < farther
	switch {
	case o.State == scanner.Unknown:
		p.Fate, p.Err = scanner.Untraced, o.Err
		return
	case nearer && t.opens:
		p.Fate = scanner.Interposed
	case nearer:
		p.Fate = scanner.Cut
	case t.distance > 0, o.State == scanner.Open, o.State == scanner.Closed:
		p.Fate = scanner.Reached
		return
	case t.said > 0:
		p.Fate, p.By = scanner.Rejected, t.by
	case o.ICMP.From.IsValid():
		p.Fate, p.By = scanner.Rejected, o.ICMP // the router had said it often enough
	default:
		p.Fate = scanner.Lost
	}
	p.After = t.last
	switch {
	case t.distance > 0:
		p.NoLaterThan = t.distance // the SYNs got as far as that
	case t.said > 0:
		p.NoLaterThan = t.said
	default:
		p.NoLaterThan = noLaterThan(t, host, hops)
	}
	if p.By.From.IsValid() {
		p.ByHop = hopOf(p.By.From, hops)
	}
}

// noLaterThan returns the first hop behind the last one that answered a port where a router answered another
// port, or which is the host's; 0 if there is none.
func noLaterThan(t track, host int, hops []scanner.Hop) int {
	first := 0
	if host > t.last {
		first = host
	}
	for _, h := range hops {
		if h.TTL <= t.last || first != 0 && h.TTL >= first {
			continue
		}
		if slices.ContainsFunc(h.Answers, func(a scanner.HopAnswer) bool { return a.Reason == scanner.TimeExceeded }) {
			first = h.TTL
		}
	}
	return first
}

// hopOf returns the nearest hop at which an address answered that a TTL was over, or was the host; 0 if none.
func hopOf(from netip.Addr, hops []scanner.Hop) int {
	for _, h := range hops {
		for _, a := range h.Answers {
			if a.From == from && (a.Reason == scanner.TimeExceeded || a.Reason == scanner.SynAck || a.Reason == scanner.ConnRefused) {
				return h.TTL
			}
		}
	}
	return 0
}
