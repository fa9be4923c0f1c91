package connect

import (
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A phase is what a connection of a loop is in.
type phase uint8

const (
	free     phase = iota
	dialing        // SYN sent
	greeting       // established, waits for the peer to speak
	parked         // the same, for longer than GreetingTimeout
	phases
)

// A slot is a connection of a loop. There are many, so it is small (80 bytes),
// and what few of them need lies behind learned.
type slot struct {
	target   targets.Target
	learned  *scanner.Observation // dialing: of an earlier dial, nil if none. Else: what will be emitted
	since    int64                // ns since the run's base: when it was dialled, then when it was established
	fd       int32
	prev     int32 // in the list of its phase, the oldest first
	next     int32
	attempts uint16 // SYNs of earlier dials
	dials    uint8  // earlier dials
	phase    phase
}

// job returns the job that the slot was made for, or what has become of it.
func (s *slot) job() scanner.Job {
	j := scanner.Job{Target: s.target, Dials: s.dials, Attempts: s.attempts}
	if s.phase == dialing && s.learned != nil {
		j.ICMP, j.Reason, j.RTT = s.learned.ICMP, s.learned.Reason, s.learned.RTT
	}
	return j
}

const chunk = 256 // slots made at a time

// slots is the table of a loop's connections: it grows by chunks and never moves.
// All connections of a phase have the same time to live, so a list in order of
// arrival is in order of deadline too.
type slots struct {
	chunks []*[chunk]slot
	unused int32 // list of free slots
	lists  [phases]struct{ head, tail int32 }
	count  int
}

const nobody int32 = -1

func newSlots() slots {
	s := slots{unused: nobody}
	for i := range s.lists {
		s.lists[i].head, s.lists[i].tail = nobody, nobody
	}
	return s
}

func (t *slots) at(i int32) *slot { return &t.chunks[i/chunk][i%chunk] }

// take returns a slot of a phase, the youngest of it.
func (t *slots) take(p phase) (int32, *slot) {
	if t.unused == nobody {
		t.chunks = append(t.chunks, new([chunk]slot))
		first := int32(len(t.chunks)-1) * chunk
		for i := first + chunk - 1; i >= first; i-- {
			t.at(i).next, t.unused = t.unused, i
		}
	}
	i := t.unused
	s := t.at(i)
	t.unused = s.next
	t.count++
	t.link(i, s, p)
	return i, s
}

// give takes a slot back.
func (t *slots) give(i int32) {
	s := t.at(i)
	t.unlink(s)
	*s = slot{next: t.unused}
	t.unused = i
	t.count--
}

// move makes a slot the youngest of another phase.
func (t *slots) move(i int32, p phase) {
	s := t.at(i)
	t.unlink(s)
	t.link(i, s, p)
}

func (t *slots) link(i int32, s *slot, p phase) {
	l := &t.lists[p]
	s.phase, s.prev, s.next = p, l.tail, nobody
	if l.tail == nobody {
		l.head = i
	} else {
		t.at(l.tail).next = i
	}
	l.tail = i
}

func (t *slots) unlink(s *slot) {
	l := &t.lists[s.phase]
	if s.prev == nobody {
		l.head = s.next
	} else {
		t.at(s.prev).next = s.next
	}
	if s.next == nobody {
		l.tail = s.prev
	} else {
		t.at(s.next).prev = s.prev
	}
}

// oldest returns the slot of a phase that has been in it for longest, or nobody.
func (t *slots) oldest(p phase) int32 { return t.lists[p].head }
