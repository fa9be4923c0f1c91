package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// An Observation is what a vantage saw of one endpoint: a row of a journal.
type Observation struct {
	Vantage string
	Source  netip.Addr // not valid if it is not known
	Host    string     // the name that the address came from, or that has none
	Address netip.Addr // not valid if the name has none
	Port    uint16
	State   scanner.State
	Reason  scanner.Reason
	ICMP    netip.Addr // who sent the ICMP message, if one came
	// StoppedAt is where a trace of the path found it stopped ("198.51.100.1",
	// "hop 2-3"); "" if nobody traced it.
	StoppedAt string
	// Reflector says that the far end is a reflector of ours, by its key: it
	// listens on the port, so that a refusal comes from somebody else.
	Reflector bool
	Time      time.Time
	Journal   string // file that it is from
	Err       string // our words for what went wrong
}

// A Result is the judgement of one row.
type Result string

const (
	Pass        Result = "pass"
	FailOpen    Result = "fail-open"
	FailBlocked Result = "fail-blocked"
	Excepted    Result = "exception"
	Expired     Result = "expired"
	Untested    Result = "untested"
)

// Results lists the results, worst first.
func Results() []Result { return []Result{FailOpen, FailBlocked, Expired, Untested, Excepted, Pass} }

// Bad reports whether the policy is violated.
func (r Result) Bad() bool { return r == FailOpen || r == FailBlocked || r == Expired }

// Words of Row.Expected.
const (
	ExpectOpen    = "open"
	ExpectBlocked = "blocked"
)

// A Row is the judgement of one rule at one destination, from one vantage.
type Row struct {
	Vantage     string     // of a row that nobody looked at: the segment
	Source      netip.Addr // not valid if it is not known, or nobody looked
	Family      string     // "IPv4", "IPv6", or "" where there is no address
	Host        string     // the name that the address came from, if any
	Destination string     // an address; of a row that nobody looked at, and of a name without an address, as in the policy
	Ports       Ports      // one, but for a range that nobody looked at
	Rule        *Rule
	Expected    string // ExpectOpen or ExpectBlocked
	Seen        bool   // somebody looked: State, Reason and Time are valid
	State       scanner.State
	Reason      scanner.Reason
	StoppedAt   string // who or where it was stopped, if that is known
	Result      Result
	Time        time.Time
	Journal     string
	Note        string // why, one sentence without a full stop
}

// A Verdict is the judgement of a policy.
type Verdict struct {
	Rows    []Row    // by vantage, source, destination and port
	Outside int      // observations that no rule is about
	Nowhere []string // vantages that are in no segment, where there are segments
}

// Count returns how many rows have a result.
func (v *Verdict) Count(results ...Result) (n int) {
	for i := range v.Rows {
		if slices.Contains(results, v.Rows[i].Result) {
			n++
		}
	}
	return n
}

// Judge judges observations of any number of vantages by the policy. Of several
// of one endpoint by one vantage the latest counts, and all of them show that
// the far end is alive. now decides which exceptions have expired where nobody looked.
func (p *Policy) Judge(seen []Observation, now time.Time) *Verdict {
	v := &Verdict{}
	far := farEndsOf(seen)
	done := newCoverage(p)
	for _, o := range latest(seen) {
		c := p.cellOf(o.Vantage, o.Source, o.Host, o.Address, o.Port)
		v.place(p, &c, o)
		rule := p.governs(&c, o.Time)
		if rule == nil {
			v.Outside++
			continue
		}
		done.add(&c, o.Vantage, rule)
		v.Rows = append(v.Rows, judge(o, rule, far))
	}
	v.Rows = append(v.Rows, done.missing(now)...)
	slices.SortStableFunc(v.Rows, compareRows)
	return v
}

// place notes a vantage that is in no segment.
func (v *Verdict) place(p *Policy, c *cell, o *Observation) {
	if len(p.Segments) == 0 || c.segment != "" || p.segmentOf(c.from) != nil {
		return
	}
	label := o.Vantage
	if o.Source.IsValid() {
		label += " " + o.Source.String()
	}
	if !slices.Contains(v.Nowhere, label) {
		v.Nowhere = append(v.Nowhere, label)
	}
}

// compareRows orders rows by where from, where to, and rule.
func compareRows(a, b Row) int {
	return cmp.Or(
		strings.Compare(a.Vantage, b.Vantage), a.Source.Compare(b.Source), strings.Compare(a.Family, b.Family),
		compareDestinations(a.Destination, b.Destination), cmp.Compare(a.Ports.First, b.Ports.First), cmp.Compare(a.Ports.Last, b.Ports.Last),
		cmp.Compare(a.Rule.Line, b.Rule.Line), cmp.Compare(a.Rule.Column, b.Rule.Column),
	)
}

// compareDestinations orders addresses by number, and before them what is none.
func compareDestinations(a, b string) int {
	if a == b {
		return 0
	}
	x, _ := netip.ParseAddr(a)
	y, _ := netip.ParseAddr(b)
	return cmp.Or(x.Compare(y), strings.Compare(a, b))
}

// An identity is one endpoint as one vantage sees it.
type identity struct {
	vantage string
	source  netip.Addr
	host    string
	addr    netip.Addr
	port    uint16
}

// latest returns the last observation of each identity, in the order they came.
func latest(seen []Observation) (out []*Observation) {
	at := map[identity]int{}
	for i := range seen {
		o := &seen[i]
		id := identity{o.Vantage, o.Source, hostName(o.Host), o.Address, o.Port}
		n, known := at[id]
		switch {
		case !known:
			at[id] = len(out)
			out = append(out, o)
		case !o.Time.Before(out[n].Time):
			out[n] = o
		}
	}
	return out
}

// judge judges one observation by the rule that governs it.
func judge(o *Observation, rule *Rule, far *farEnds) Row {
	row := Row{
		Vantage: o.Vantage, Source: o.Source, Family: familyOf(o.Address), Host: hostName(o.Host), Destination: hostName(o.Host), Ports: Ports{o.Port, o.Port},
		Rule: rule, Expected: ExpectOpen, Seen: true, State: o.State, Reason: o.Reason, StoppedAt: o.StoppedAt,
		Time: o.Time, Journal: o.Journal,
	}
	if o.Address.IsValid() {
		row.Destination = o.Address.String()
	}
	if row.StoppedAt == "" && o.ICMP.IsValid() && o.ICMP != o.Address {
		row.StoppedAt = o.ICMP.String()
	}
	ended := rule.ended(o.Time)
	if rule.Action == Deny || ended {
		row.Expected = ExpectBlocked
	}
	switch {
	case o.State == scanner.Unknown:
		row.Result, row.Note = Untested, notDecided(o)
	case o.State == scanner.Open && ended:
		row.Result, row.Note = Expired, "open by an exception that expired on "+rule.Until.Format(time.DateOnly)+"; its owner: "+rule.Owner
	case o.State == scanner.Open && row.Expected == ExpectBlocked:
		row.Result, row.Note = FailOpen, "a connection was established, and the policy denies it"
	case o.State == scanner.Open && rule.Action == Exception:
		row.Result, row.Note = Excepted, "open by an exception until "+rule.Until.Format(time.DateOnly)+"; its owner: "+rule.Owner
	case o.State == scanner.Open:
		row.Result = Pass
	default:
		row.stopped(o, far)
	}
	return row
}

// stopped judges what did not get through: is it a block, and of what.
func (row *Row) stopped(o *Observation, far *farEnds) {
	control := far.control(o)
	switch {
	case control == nil && refused(o):
		row.Result, row.Note = Untested, "refused, and "+silence(o)
	case control == nil:
		row.Result, row.Note = Untested, noAnswer(o)+", and "+silence(o)
	case refused(o) && !far.isReflector(o) && (row.Expected == ExpectBlocked || sameVantage(control, o) || control.Port != o.Port):
		row.Result, row.Note = Untested, "refused, and the far end is no reflector of ours: it may have refused by itself"
	case row.Expected == ExpectBlocked:
		row.Result, row.Note = Pass, noAnswer(o)+", while "+answered(control, o)
	default:
		row.Result, row.Note = FailBlocked, noAnswer(o)+", while "+answered(control, o)
	}
}

// refused reports whether the far end, or somebody in its name, said no.
func refused(o *Observation) bool {
	return o.State == scanner.Closed || o.ICMP.IsValid() && o.ICMP == o.Address
}

// noAnswer says what was seen instead of an answer.
func noAnswer(o *Observation) string {
	switch {
	case refused(o):
		return "refused"
	case o.ICMP.IsValid():
		return string(o.Reason) + " from " + o.ICMP.String()
	}
	return "no answer"
}

// silence says that there is no control.
func silence(o *Observation) string {
	if !o.Address.IsValid() {
		return "it has no address"
	}
	return "within 10 minutes " + o.Address.String() + " answered neither on another port nor another vantage: it may be down"
}

// answered says what the control is.
func answered(control, o *Observation) string {
	text := fmt.Sprintf("%s answers on %d", control.Address, control.Port)
	switch {
	case sameVantage(control, o):
		text += " from here"
	case control.Vantage != o.Vantage:
		text += " from " + control.Vantage
	case control.Source != o.Source && control.Source.IsValid():
		text += " from " + control.Source.String()
	}
	return text
}

// notDecided says why there is no observation.
func notDecided(o *Observation) string {
	text := "not decided: " + string(o.Reason)
	if o.Err != "" {
		text += " (" + o.Err + ")"
	}
	return text
}

func familyOf(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return ""
	case a.Unmap().Is4():
		return "IPv4"
	}
	return "IPv6"
}
