package egress

import (
	"net/netip"
	"time"
)

// By says who sent a reset.
type By uint8

const (
	ByUndecided By = iota
	ByHost         // the destination itself
	ByPath         // somebody on the way
)

// An Origin says who refused, and what shows it.
type Origin struct {
	By       By
	Evidence string // a sentence
}

// A Trace is the path to a destination, port by port: what passes beside what is
// stopped.
type Trace struct {
	Time        time.Time
	Family      Family
	Operator    string
	Destination netip.Addr
	Stopped     uint16
	Passing     uint16 // 0 if no port of the address answers
	Hops        []Hop
	// After is the last hop that answered for the stopped port, and By the first one
	// at which it is lost for certain: the next that answers for the passing port, or
	// the destination. By is 0 if nothing shows it.
	After, By int
	Distance  int    // hop of the destination, by the passing port; 0 if not known
	Answered  bool   // the stopped port answered after all: what is stopped is so now and then
	Nearer    bool   // it is answered, with a reset or a connection, from nearer than the host is
	Probes    string // "3 flows, 3 SYNs each"
}

// A Hop is a row of a path, and the journal's "path" record of an audit.
type Hop struct {
	Round       int       `json:"round,omitempty"`
	Vantage     string    `json:"vantage,omitempty"`
	Family      Family    `json:"family"`
	Destination string    `json:"destination"`
	N           int       `json:"hop"`
	Address     string    `json:"address,omitempty"` // empty: nobody answers there
	Others      []string  `json:"others,omitempty"`  // further addresses that answer for this hop
	Name        string    `json:"name,omitempty"`
	Owner       Owner     `json:"owner,omitempty"`
	Words       string    `json:"words,omitempty"` // why it is thought to be the owner's
	Cells       []HopCell `json:"ports"`           // passing port first, then the stopped one
	Lost        bool      `json:"lost,omitempty"`  // from here on the stopped port is lost
}

// A HopCell is what one port's probes got back from a hop.
type HopCell struct {
	Port  uint16  `json:"port"`
	RTT   float64 `json:"rtt_ms,omitempty"`
	Said  string  `json:"said"` // "expired", "answers", "refuses", "rejects" or "nothing"
	ICMP  string  `json:"icmp,omitempty"`
	Times int     `json:"probes,omitempty"`
}

// addWhere puts the place on the path into a verdict on something stopped.
func (e *Evidence) addWhere(d *Verdict) {
	if d.Word != Blocked && d.Cause != CausePartial && d.Cause != CauseOne {
		return
	}
	t := e.traceOf(d)
	switch {
	case t == nil:
		e.whereByICMP(d)
		return
	case t.Answered:
		d.Evidence = append(d.Evidence, t.Operator+": silent at first, and answered when its path was followed, as under a rate limit")
		return
	}
	w := &Where{Destination: t.Destination.String(), After: t.After, By: t.By, Distance: t.Distance, Probes: t.Probes}
	for i := range t.Hops {
		h := &t.Hops[i]
		switch h.N {
		case t.After:
			w.AfterAddr, w.AfterName = h.Address, h.Name
		case t.By:
			w.ByAddr, w.ByName = h.Address, h.Name
		}
	}
	w.Owner = ownerBetween(t)
	d.Where = w
}

// traceOf returns the trace of a port, or nil.
func (e *Evidence) traceOf(d *Verdict) *Trace {
	for i := range e.Traces {
		t := &e.Traces[i]
		if t.Family == d.Family && t.Stopped == d.Port {
			return t
		}
	}
	return nil
}

// whereByICMP names the sender of the message where there is no path.
func (e *Evidence) whereByICMP(d *Verdict) {
	if d.ICMPFrom == "" {
		return
	}
	d.Where = &Where{ByAddr: d.ICMPFrom}
	if addr, err := netip.ParseAddr(d.ICMPFrom); err == nil {
		d.Where.Owner = Places([]netip.Addr{addr}, nil, false)[0].Owner
		if d.Where.Owner == OwnRouter && !addr.IsPrivate() {
			d.Where.Owner = NotKnown // without the path it is not known which hop it is
		}
	}
}

// ownerBetween says in whose hands a port is lost: a hop's own rules let it answer
// for the last time and stop what goes on, or those of the next hop stop what comes in.
func ownerBetween(t *Trace) Owner {
	at := func(n int) Owner {
		for i := range t.Hops {
			if t.Hops[i].N == n {
				return t.Hops[i].Owner
			}
		}
		return NotKnown
	}
	before, after := at(t.After), at(t.By)
	switch {
	case t.After == 0:
		return after // this machine's own firewall would have been seen
	case after == NotKnown, before == NotKnown:
		return NotKnown
	case before == after:
		return before
	case t.By > t.After+1 && before != OwnRouter && before != OwnNetwork:
		return NotKnown
	}
	return before + " or " + after
}
