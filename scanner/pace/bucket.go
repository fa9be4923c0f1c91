package pace

import (
	"math"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A bucket is a rate limit by the generic cell rate algorithm: it may spend when
// its time at is not later than now. The zero bucket has no limit.
//
// at may lag behind by lag at most, which is made up for; so in any window of
// length w, at most w/every + lag/every + 1 are spent. A bucket whose time has
// come is as good as a new one, so an idle one can be forgotten.
type bucket struct {
	at    int64 // ns: when the next may be spent
	every int64 // ns between two; 0 = no limit
	lag   int64 // ns
}

// period returns the time between two events of a rate, in ns, rounded up.
func period(rate float64) int64 {
	return int64(min(math.Ceil(1e9/rate), math.MaxInt64/4))
}

func (b *bucket) spend(t int64) {
	if b.every > 0 {
		b.at = max(b.at, t-b.lag) + b.every
	}
}

// none ends a list of nodes.
const none int32 = -1

// A node is a job that is kept back: in a list, or among the timers.
type node struct {
	job  scanner.Job
	next int32
}

// A list is a queue of nodes.
type list struct{ head, tail int32 }

var emptyList = list{none, none}

func (s *Scheduler) push(l *list, n int32) {
	s.nodes[n].next = none
	if l.head == none {
		l.head = n
	} else {
		s.nodes[l.tail].next = n
	}
	l.tail = n
}

func (s *Scheduler) pop(l *list) int32 {
	n := l.head
	if n != none {
		l.head = s.nodes[n].next
	}
	return n
}

// keep stores a job in a node.
func (s *Scheduler) keep(job scanner.Job) int32 {
	s.held++
	if n := s.free; n != none {
		s.free = s.nodes[n].next
		s.nodes[n] = node{job: job}
		return n
	}
	s.nodes = append(s.nodes, node{job: job})
	return int32(len(s.nodes) - 1)
}

// drop frees a node and returns its job.
func (s *Scheduler) drop(n int32) scanner.Job {
	s.held--
	job := s.nodes[n].job
	s.nodes[n] = node{next: s.free}
	s.free = n
	return job
}

// A timer is something that is due at a time: the end of a host's or a subnet's
// rest, or else a retried job.
type timer struct {
	at   int64 // ns
	host *host
	net  *subnet
	node int32
}

// timers is a binary heap, the earliest first.
type timers []timer

func (h *timers) push(e timer) {
	q := append(*h, e)
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 2
		if q[up].at <= e.at {
			break
		}
		q[i] = q[up]
		i = up
	}
	q[i] = e
	*h = q
}

func (h *timers) pop() timer {
	q := *h
	top := q[0]
	e := q[len(q)-1]
	q[len(q)-1] = timer{}
	q = q[:len(q)-1]
	*h = q
	if len(q) == 0 {
		return top
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= len(q) {
			break
		}
		if c+1 < len(q) && q[c+1].at < q[c].at {
			c++
		}
		if e.at <= q[c].at {
			break
		}
		q[i] = q[c]
		i = c
	}
	q[i] = e
	return top
}
