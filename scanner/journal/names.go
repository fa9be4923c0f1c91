package journal

import (
	"hash/maphash"
	"net/netip"
	"sync"

	"github.com/smtpsweep/smtpsweep/targets"
)

// Names is what a journal knows of the names of its plan: what the DNS said, and
// which of the endpoints that they lead to have a final row. It keeps 4 bytes a
// name beside the answers, and a bit an endpoint. Put may be called from several
// goroutines, the other methods not beside it.
type Names struct {
	Answers *targets.Answers // are used again, not asked again; changed by Put only

	plan   *targets.Plan
	mu     sync.Mutex         // held by Put
	at     []uint32           // by number of the name: where its bits begin, plus 1; 0 if it has none
	bits   []byte             // a bit for each endpoint of the name's answer
	strays map[stray]struct{} // rows of endpoints that no answer has
	recent []endpointsOfName  // of the names whose rows were read last; nil if there are none
	n      uint64
}

// A stray is the identity of the row of a name, as it stands there.
type stray struct {
	target, host string
	addr         netip.Addr
	port         uint16
}

// endpointsOfName are made anew for every row of a name if they are not kept.
type endpointsOfName struct {
	name uint32
	all  []targets.Endpoint // nil if there are none yet
}

// newNames returns what is known of a plan's names before anything is.
func newNames(plan *targets.Plan) *Names {
	n := &Names{plan: plan, strays: map[stray]struct{}{}}
	if plan != nil {
		n.Answers = targets.NewAnswers(plan)
	}
	return n
}

// Len returns the number of endpoints that have a final row, those included that
// no answer leads to any more.
func (n *Names) Len() uint64 { return n.n }

// Done reports whether an endpoint has a final row. The name is numbered as
// [targets.Plan.Names] does, and its endpoints as [targets.Answers.Endpoints]
// does; t is the target of that endpoint.
func (n *Names) Done(name, endpoint int, t targets.Target) bool {
	if n.bit(name, endpoint) {
		return true
	}
	if len(n.strays) == 0 {
		return false
	}
	_, ok := n.strays[stray{t.Spec(), t.Host(), t.Addr, t.Port}]
	return ok
}

// Put keeps an answer for a name, in place of the one that was there. What is
// done stays done.
func (n *Names) Put(name int, a targets.Answer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var done []targets.Target
	if len(n.at) > 0 && n.at[name] > 0 {
		for i, ep := range n.Answers.Endpoints(name) {
			if n.bit(name, i) {
				done = append(done, ep.Target)
			}
		}
		n.at[name] = 0 // the bits stay, unused: few names are asked for twice
	}
	if err := n.Answers.Put(name, a); err != nil {
		return err
	}
	n.recent = nil
	for _, t := range done {
		n.add(name, true, stray{t.Spec(), t.Host(), t.Addr, t.Port})
	}
	return nil
}

// finish takes a row that is final; known is false if the name is not one of
// the plan. It reports whether the endpoint had none before.
func (n *Names) finish(name int, known bool, row stray) (first bool) {
	if first = n.add(name, known, row); first {
		n.n++
	}
	return first
}

// add notes that the endpoint of a row is done.
func (n *Names) add(name int, known bool, row stray) (first bool) {
	fits := false
	if known {
		all := n.endpoints(name)
		for i, ep := range all {
			if t := ep.Target; t.Port == row.port && t.Addr == row.addr && t.Host() == row.host && t.Spec() == row.target {
				fits = true
				first = n.setBit(name, i, len(all)) || first
			}
		}
	}
	if _, there := n.strays[row]; fits || there {
		return first && !there
	}
	n.strays[row] = struct{}{}
	return true
}

// endpoints returns what a name leads to.
func (n *Names) endpoints(name int) []targets.Endpoint {
	if n.recent == nil {
		n.recent = make([]endpointsOfName, 256)
	}
	kept := &n.recent[name%len(n.recent)]
	if kept.all == nil || kept.name != uint32(name) {
		*kept = endpointsOfName{uint32(name), n.Answers.Endpoints(name)}
	}
	return kept.all
}

// bit reports whether endpoint i of a name is done.
func (n *Names) bit(name, i int) bool {
	if len(n.at) == 0 || n.at[name] == 0 {
		return false
	}
	return n.bits[int(n.at[name]-1)+i/8]>>(i%8)&1 == 1
}

// setBit notes that endpoint i of a name, which has so many, is done. It reports
// whether that is new.
func (n *Names) setBit(name, i, endpoints int) bool {
	if n.bit(name, i) {
		return false
	}
	if len(n.at) == 0 {
		n.at = make([]uint32, n.plan.NameCount())
	}
	if n.at[name] == 0 {
		n.at[name] = uint32(len(n.bits) + 1)
		n.bits = append(n.bits, make([]byte, (endpoints+7)/8)...)
	}
	n.bits[int(n.at[name]-1)+i/8] |= 1 << (i % 8)
	return true
}

// A nameIndex finds the number of a name of a plan. It keeps 5 to 11 bytes a
// name, and as much again if none was written in its plain form.
type nameIndex struct {
	plan  *targets.Plan
	seed  maphash.Seed
	slots []uint32 // open addressing: number of a name + 1, 0 is free
}

// newNameIndex returns the index of a plan's names, as they were typed and in
// their plain form. Of two that are alike the first is found.
func newNameIndex(plan *targets.Plan) *nameIndex {
	forms := 0
	for _, name := range plan.Names() {
		if forms++; name.Text != name.Spec {
			forms++
		}
	}
	size := 16
	for size*3/4 < forms {
		size *= 2
	}
	x := &nameIndex{plan: plan, seed: maphash.MakeSeed(), slots: make([]uint32, size)}
	for i, name := range plan.Names() {
		x.add(i, name.Spec)
		if name.Text != name.Spec {
			x.add(i, name.Text)
		}
	}
	return x
}

// add adds a form of a name, unless an earlier one has it.
func (x *nameIndex) add(name int, form string) {
	slot, found := x.find(form)
	if !found {
		x.slots[slot] = uint32(name + 1)
	}
}

// find returns the slot of a form, or the free one where it belongs.
func (x *nameIndex) find(form string) (slot int, found bool) {
	mask := len(x.slots) - 1
	for slot = int(maphash.String(x.seed, form)) & mask; x.slots[slot] != 0; slot = (slot + 1) & mask {
		if name := x.plan.Name(int(x.slots[slot] - 1)); name.Spec == form || name.Text == form {
			return slot, true
		}
	}
	return slot, false
}

// number returns the number of a name, as it was typed or in its plain form.
func (x *nameIndex) number(form string) (name int, ok bool) {
	slot, ok := x.find(form)
	if !ok {
		return 0, false
	}
	return int(x.slots[slot] - 1), true
}
