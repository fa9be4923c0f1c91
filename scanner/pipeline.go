package scanner

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// DefaultConversations is how many conversations run at a time unless the
// Scanner says otherwise. At some 16 KiB each they cost 32 MiB.
const DefaultConversations = 2000

// A Scanner is the pipeline: jobs from a queue, through an engine, to a prober,
// to results. Engine is required.
type Scanner struct {
	Engine        Engine
	Prober        Prober // nil to stop at the port state
	Conversations int    // conversations at a time; DefaultConversations if zero

	// Talk is the context of the conversations. When Run's context is cancelled
	// no new connection is made, but a conversation that runs may end politely
	// until Talk is cancelled too. Nil means Run's context.
	Talk context.Context
}

// Run scans what q holds and emits exactly one Result for each job, in the
// order they finish, until q is exhausted or ctx is cancelled. emit is called
// from several goroutines, must not block for long, and must not keep the
// Result, whose memory serves the next one (a copy, and its Service, may be
// kept). When Run returns no goroutine of it is left.
//
// The error is nil if the queue was exhausted, ctx's cause if it was cancelled,
// and otherwise a fault of this machine: nothing a peer does makes Run fail.
func (s *Scanner) Run(ctx context.Context, q Queue, emit func(*Result)) error {
	p := &pipeline{prober: s.Prober, emit: emit, talk: s.Talk, limit: cmp.Or(s.Conversations, DefaultConversations)}
	if p.talk == nil {
		p.talk = ctx
	}
	if s.Prober != nil {
		q = unhurried{q, p}
	}
	err := s.Engine.Scan(ctx, q, p.observed)
	return errors.Join(err, p.group.Wait())
}

// A pipeline is the state of one Run.
type pipeline struct {
	prober Prober
	emit   func(*Result)
	talk   context.Context
	limit  int
	group  errgroup.Group // at most limit goroutines, each holds one conversation at a time

	behind atomic.Bool // too many are waiting: nothing new is dialled

	mu      sync.Mutex    // guards following
	running int           // goroutines of group that will still look at waiting
	waiting []Observation // open, and no goroutine free for them yet
	wakers  []func()      // of the engine
}

// An unhurried queue yields nothing while a quarter as many open ports wait for a
// conversation as are held. Servers do not wait for ever: who is left without a
// word may be gone when its turn comes, which would look like its doing.
type unhurried struct {
	Queue
	p *pipeline
}

// Next implements Queue.
func (q unhurried) Next(now time.Time) (Job, time.Duration, bool) {
	if q.p.behind.Load() {
		return Job{}, time.Minute, true // or until next wakes the engine
	}
	return q.Queue.Next(now)
}

// Wake implements Queue.
func (q unhurried) Wake(f func()) {
	q.p.mu.Lock()
	q.p.wakers = append(q.p.wakers, f)
	q.p.mu.Unlock()
	q.Queue.Wake(f)
}

// observed takes what the engine saw. It does not block: an open port waits in
// p.waiting until a conversation ends.
func (p *pipeline) observed(obs Observation) {
	if obs.Conn == nil || p.prober == nil {
		p.settle(obs)
		return
	}
	p.mu.Lock()
	p.waiting = append(p.waiting, obs)
	if len(p.waiting) > p.limit/4 {
		p.behind.Store(true)
	}
	start := p.running < p.limit // else one of those who run takes it
	if start {
		p.running++
	}
	p.mu.Unlock()
	if start {
		p.group.Go(p.converse)
	}
}

// converse holds conversations until none is waiting.
func (p *pipeline) converse() error {
	for {
		obs, ok := p.next()
		if !ok {
			return nil
		}
		conn := obs.Conn
		obs.Conn = nil
		service := p.prober.Probe(p.talk, conn, &obs)
		conn.Close() // the result counts, however the connection ends
		if p.talk.Err() != nil {
			obs.State, obs.Reason = Unknown, Interrupted // cut short by us: not their whole answer
		}
		p.emit(&Result{Observation: obs, Service: service})
	}
}

// next returns an open port that waits for a conversation. It wakes the engine
// when half of those that were too many are gone.
func (p *pipeline) next() (obs Observation, ok bool) {
	p.mu.Lock()
	if ok = len(p.waiting) > 0; ok {
		obs, p.waiting = p.waiting[0], p.waiting[1:]
	} else {
		p.waiting = nil
		p.running--
	}
	var wakers []func()
	if len(p.waiting) <= p.limit/8 && p.behind.Load() {
		p.behind.Store(false)
		wakers = p.wakers
	}
	p.mu.Unlock()
	for _, wake := range wakers {
		wake()
	}
	return obs, ok
}

// settle emits an observation that needs no conversation.
func (p *pipeline) settle(obs Observation) {
	if obs.Conn != nil {
		obs.Conn.Close()
		obs.Conn = nil
	}
	r := results.Get().(*Result)
	*r = Result{Observation: obs}
	if obs.Mute > 0 {
		r.Service = &Service{Kind: KindMute}
	}
	p.emit(r)
	*r = Result{}
	results.Put(r)
}

// results are those that emit is done with: in a sweep of silence they would be
// all the garbage that there is.
var results = sync.Pool{New: func() any { return new(Result) }}
