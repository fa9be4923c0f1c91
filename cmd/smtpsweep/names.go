package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// lookups is how many names are looked up at a time.
const lookups = 32

// takeNames finds the names of the shard that are to be asked for. known is what
// the journal of a run that goes on has of them, or nil: what the DNS could tell
// is not asked for again.
func (j *job) takeNames(known *journal.Names) {
	j.answers = targets.NewAnswers(j.plan)
	if known != nil {
		j.answers = known.Answers
	}
	for i, name := range j.plan.Names() {
		if !j.shard.OwnsName(name) {
			continue
		}
		j.domains = j.domains || strings.HasPrefix(name.Text, "mx:")
		if _, answer, ok := j.answers.At(i); !ok || !j.plan.Settled(answer) {
			j.asked = append(j.asked, uint32(i))
		}
	}
}

// resolve asks for the names that takeNames found, and learns what all of them
// lead to. put keeps an answer.
func (j *job) resolve(ctx context.Context, r *targets.Resolver, put func(name int, a targets.Answer) error) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	for _, i := range j.asked {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := put(int(i), r.Resolve(inner, j.plan.Name(int(i)))); err != nil {
				return planError(err)
			}
			return inner.Err()
		})
	}
	if err := cmp.Or(group.Wait(), ctx.Err()); err != nil {
		return err
	}
	j.survey()
	return nil
}

// survey looks at all that the names led to, once.
func (j *job) survey() {
	j.names.crowds = make([]crowd, 0, j.plan.NameCount()) // mostly that many
	for ep := range j.endpoints() {
		j.names.add(ep.Endpoint)
	}
	j.names.sum(j.plan)
}

// A namedEndpoint is what a name led to.
type namedEndpoint struct {
	targets.Endpoint
	name  uint32 // its number
	place int    // among what the name led to, from 0
}

// endpointsOf returns what a name led to, refused endpoints too.
func (j *job) endpointsOf(name uint32) iter.Seq[namedEndpoint] {
	return func(yield func(namedEndpoint) bool) {
		for place, ep := range j.answers.Endpoints(int(name)) {
			if !yield(namedEndpoint{ep, name, place}) {
				return
			}
		}
	}
}

// endpoints yields what the names led to, refused endpoints too. They are made
// anew each time: a list may have millions of names, and the answers take less
// room.
func (j *job) endpoints() iter.Seq[namedEndpoint] {
	return func(yield func(namedEndpoint) bool) {
		if j.answers == nil {
			return
		}
		for i := range j.plan.NameCount() {
			for ep := range j.endpointsOf(uint32(i)) {
				if !yield(ep) {
					return
				}
			}
		}
	}
}

// A survey is what is to be known of all endpoints of names together.
type survey struct {
	contacts extent // those that are contacted
	rows     uint64 // all of them, and names that lead nowhere
	unprobed map[cause]uint64
	public   bool         // an address that is contacted is public
	strange  bool         // one is not private
	some     []netip.Addr // that are contacted: one of each family
	notices  []string     // the first ones
	unsaid   int          // notices beyond them
	last     string       // the last notice: an address has one a port
	crowds   []crowd      // until sum
}

// A cause is why endpoints of names, or names, are not contacted.
type cause struct {
	why  targets.Unprobed
	cure string // the flag that contacts them; empty if there is none
	name bool   // it is about names, which have no address
}

// A crowd is how many endpoints a name has at one address.
type crowd struct {
	addr netip.Addr
	n    uint64
}

func (s *survey) add(ep targets.Endpoint) {
	s.rows++
	s.notice(ep.Notice)
	addr := ep.Target.Addr
	if ep.Why != "" {
		if s.unprobed == nil {
			s.unprobed = map[cause]uint64{}
		}
		s.unprobed[cause{ep.Why, ep.Cure, !addr.IsValid()}]++
		return
	}
	s.contacts.endpoints++
	s.public = s.public || targets.IsPublic(addr)
	s.strange = s.strange || !targets.IsPrivate(addr)
	if !slices.ContainsFunc(s.some, func(a netip.Addr) bool { return a.Is4() == addr.Is4() }) {
		s.some = append(s.some, addr)
	}
	if n := len(s.crowds); n > 0 && s.crowds[n-1].addr == addr {
		s.crowds[n-1].n++
		return
	}
	s.crowds = append(s.crowds, crowd{addr, 1})
}

// maxNotices bounds what is said of the names of a list; the rest is counted.
const maxNotices = 20

func (s *survey) notice(text string) {
	switch {
	case text == "", text == s.last, slices.Contains(s.notices, text):
	case len(s.notices) < maxNotices:
		s.notices = append(s.notices, text)
	default:
		s.unsaid++
	}
	s.last = text
}

// sum counts the addresses, but those that the plan has itself, and the most
// endpoints at one address and in one subnet.
func (s *survey) sum(plan *targets.Plan) {
	slices.SortFunc(s.crowds, func(a, b crowd) int { return a.addr.Compare(b.addr) })
	var addr netip.Addr
	var subnet netip.Prefix
	var atHost, inSubnet uint64
	for _, c := range s.crowds {
		if c.addr != addr {
			addr, atHost = c.addr, 0
			if !plan.Has(addr) {
				s.contacts.addresses++
			}
		}
		if next := subnetOf(addr); next != subnet {
			subnet, inSubnet = next, 0
		}
		atHost, inSubnet = atHost+c.n, inSubnet+c.n
		s.contacts.host, s.contacts.subnet = max(s.contacts.host, atHost), max(s.contacts.subnet, inSubnet)
	}
	s.crowds = nil
}

// subnetOf returns the /24 or /48 of an address that is probed.
func subnetOf(addr netip.Addr) netip.Prefix {
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	subnet, _ := addr.Prefix(bits) // fails for an invalid address only
	return subnet
}

// whyUnprobed says what is so about names that lead to nothing that is probed.
var whyUnprobed = map[targets.Unprobed]string{
	targets.Excluded:     "names lead to excluded addresses",
	targets.Reserved:     "names lead to addresses that are never contacted behind a name",
	targets.DNSNXDomain:  "no such name exists",
	targets.DNSNoAddress: "there is no address",
	targets.DNSError:     "the DNS could not be asked",
	targets.NoMail:       "the domain accepts no mail (null MX)",
	targets.BadName:      "it is no name of a host",
}

// whyCurable says it where there is a flag.
var whyCurable = map[string]string{
	"--allow-private":  "names of a file or MX lead to private addresses",
	"--allow-reserved": "names lead to special addresses",
}

// inventedText says that the resolver lies, if it does.
func (j *job) inventedText() string {
	if len(j.invented) == 0 {
		return ""
	}
	return fmt.Sprintf("the DNS server %s answers %s for names that do not exist: names that lead only there are dns-error; ask an honest one with --resolver",
		strings.Join(j.resolvers, ", "), strings.Trim(fmt.Sprint(j.invented), "[]"))
}

// announceNames says what names led to that somebody may not expect.
func (s *sweep) announceNames() {
	names := &s.job.names
	var lines []string
	for c, n := range names.unprobed {
		what, why := plural(n, "endpoint is", "endpoints are"), whyUnprobed[c.why]
		if c.name {
			what = plural(n, "name is", "names are")
		}
		if c.cure != "" {
			why = whyCurable[c.cure] + "; " + c.cure + " contacts them"
		}
		lines = append(lines, fmt.Sprintf("%s not contacted: %s.", what, why))
	}
	slices.Sort(lines)
	for _, line := range lines {
		s.u.say("%s", line)
	}
	if text := s.job.inventedText(); text != "" {
		s.u.say("Notice: %s", text)
	}
	for _, notice := range names.notices {
		s.u.say("Notice: %s", notice)
	}
	if names.unsaid > 0 {
		s.u.say("Notice: and %s more like these", group(uint64(names.unsaid)))
	}
}
