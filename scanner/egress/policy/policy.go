// Package policy says, as code, what mail traffic a network lets out, and judges
// what was observed by it.
//
// [Parse] reads the file, [Policy.Endpoints] says what it wants looked at from a
// place, [Policy.Judge] compares it with the observations of any number of
// vantages. The package does no input or output beyond the reader it is given.
//
// # The file
//
//	segments:                                   # where from
//	  relays: [10.1.2.0/28]
//	  users: [10.20.0.0/16, "fd20::/64"]
//	deny:                                       # must be blocked
//	  - {from: all, to: any, ports: [25]}
//	allow:                                      # must be open
//	  - {from: relays, to: any, ports: [25, 465, submission]}
//	exceptions:                                 # open for now: who answers for it, and until when
//	  - {from: users, to: 198.51.100.7, ports: [25], owner: network team, until: 2026-12-31}
//
// "from" is a segment, an address, a prefix, a list of these, or all. "to" is an
// address, a prefix, a segment, the name of a host, a list of these, or any. A name
// is compared with the name that an observed address came from. "ports" are
// numbers, ranges (20-30) and the words smtp, smtps and submission. The day of
// "until" still counts, to its end in UTC. From then on what the exception permitted
// is denied again, unless another rule allows it.
//
// # Which rule counts
//
// Of the rules that match a source, a destination and a port, the one that is the
// most specific. How specific a rule is says its element that matches best:
//
//  1. from: the longer prefix; a vantage that has only the name of a segment (see
//     below) is less than any prefix, and all is less than that;
//  2. where that is equal, to: an address, then a name, then the longer prefix, then any;
//  3. where that is equal, ports: the smaller range.
//
// Where all three are equal an exception beats a deny and an allow an exception,
// and an allow and a deny contradict one another: Parse refuses them.
//
// # Which segment a vantage is in
//
// The one whose prefix is the longest that holds its source address. Where the
// source is in no segment, or is not known, the one that has the vantage's name.
// A segment that has prefixes of IPv4 and of IPv6 must be looked at from both.
//
// # What the results mean
//
// A row is one rule at one destination from one vantage: what was observed, by the
// rule that counts there; and each element of a rule's "to" and "ports" that counts
// for a segment from which nobody has looked at any of it.
//
//   - pass: as the rule wants it.
//   - fail-open: open, and must be blocked.
//   - fail-blocked: blocked, and must be open.
//   - exception: open by an exception that still counts.
//   - expired: open by an exception that counts no more.
//   - untested: nobody looked, or what was seen proves nothing.
//
// That something is blocked is believed only if the same far end answered, on
// another port or to another vantage, within [ControlWindow]: else it may be down,
// or never have been there. A refusal (a reset, or an ICMP message of the far end
// itself) counts as a block only where the far end is a reflector of ours, which
// does not refuse; of what must be open also where the same port answered another vantage.
package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// An Action is what a rule wants.
type Action uint8

const (
	Deny      Action = iota + 1 // it must be blocked
	Exception                   // it must be open until a day, whatever a deny says
	Allow                       // it must be open
)

// String returns the word for the action.
func (a Action) String() string {
	return [...]string{"", "deny", "exception", "allow"}[a]
}

// A Policy is what a file says.
type Policy struct {
	File     string     // its name, for messages
	Segments []*Segment // in the order of the file
	Rules    []*Rule    // deny, allow, exceptions, each in the order of the file
}

// A Segment is a part of the network that traffic comes from.
type Segment struct {
	Name     string
	Prefixes []netip.Prefix
}

// A Rule says what traffic must be blocked, or open.
type Rule struct {
	Action Action
	From   []From
	To     []To
	Ports  []Ports
	Owner  string    // who answers for an exception
	Until  time.Time // the last day of an exception, at 00:00 UTC; zero for other rules
	Line   int       // where the rule begins in the file, from 1
	Column int
}

// A From is one element of a rule's "from".
type From struct {
	Text     string // as written
	All      bool
	Segment  *Segment // nil if it is an address or a prefix
	Prefixes []netip.Prefix
}

// A To is one element of a rule's "to".
type To struct {
	Text     string // as written
	Any      bool
	Name     string         // of a host, lower case, without a dot at the end; "" if it is none
	Prefixes []netip.Prefix // several only of a segment
}

// address returns the address that the element is, if it is one.
func (t *To) address() netip.Addr {
	if len(t.Prefixes) == 1 && t.Prefixes[0].IsSingleIP() {
		return t.Prefixes[0].Addr()
	}
	return netip.Addr{}
}

// Ports is a range of ports, both ends included.
type Ports struct{ First, Last uint16 }

// String returns the range as it is written: "25" or "20-30".
func (p Ports) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// covers reports whether all of q is in p.
func (p Ports) covers(q Ports) bool { return p.First <= q.First && q.Last <= p.Last }

// size returns how many ports there are.
func (p Ports) size() int { return int(p.Last) - int(p.First) + 1 }

// String says the rule in one line: "deny all to any 25".
func (r *Rule) String() string {
	var from, to, ports []string
	for _, f := range r.From {
		from = append(from, f.Text)
	}
	for _, t := range r.To {
		to = append(to, t.Text)
	}
	for _, p := range r.Ports {
		ports = append(ports, p.String())
	}
	return r.Action.String() + " " + list(from) + " to " + list(to) + " " + list(ports)
}

// maxSaid is how many elements of a list a rule says.
const maxSaid = 4

// list writes the elements of a rule, or of a long list how many they are.
func list(elems []string) string {
	if more := len(elems) - maxSaid; more > 1 {
		elems = append(elems[:maxSaid:maxSaid], "and "+strconv.Itoa(more)+" more")
	}
	return strings.Join(elems, ",")
}

// ended reports whether an exception counts no more.
func (r *Rule) ended(at time.Time) bool {
	return r.Action == Exception && !at.Before(r.Until.AddDate(0, 0, 1))
}

// Warnings says what is odd about the policy and no mistake: exceptions that
// have expired, and exceptions from nothing.
func (p *Policy) Warnings(now time.Time) (out []string) {
	for _, r := range p.Rules {
		if r.Action != Exception {
			continue
		}
		if r.ended(now) {
			out = append(out, fmt.Sprintf("%s: the %s expired on %s: renew it with its owner (%s), or take it out",
				p.place(r), r, r.Until.Format(time.DateOnly), r.Owner))
		}
		if !p.excepts(r) {
			out = append(out, fmt.Sprintf("%s: the %s is one from nothing: no deny covers any of it", p.place(r), r))
		}
	}
	return out
}

// place says where a rule is: "policy.yaml:9:5".
func (p *Policy) place(r *Rule) string { return fmt.Sprintf("%s:%d:%d", p.File, r.Line, r.Column) }

// excepts reports whether a deny has anything in common with an exception.
func (p *Policy) excepts(r *Rule) bool {
	for _, d := range p.Rules {
		if d.Action == Deny && meet(d.From, r.From, meetFrom) && meet(d.To, r.To, meetTo) && meet(d.Ports, r.Ports, meetPorts) {
			return true
		}
	}
	return false
}

// meet reports whether any two elements have something in common.
func meet[E any](a, b []E, common func(x, y *E) bool) bool {
	for i := range a {
		for j := range b {
			if common(&a[i], &b[j]) {
				return true
			}
		}
	}
	return false
}

func meetFrom(x, y *From) bool { return x.All || y.All || meet(x.Prefixes, y.Prefixes, overlap) }

func meetTo(x, y *To) bool {
	return x.Any || y.Any || x.Name != "" && x.Name == y.Name || meet(x.Prefixes, y.Prefixes, overlap)
}

func meetPorts(x, y *Ports) bool { return x.First <= y.Last && y.First <= x.Last }

func overlap(x, y *netip.Prefix) bool { return x.Overlaps(*y) }
