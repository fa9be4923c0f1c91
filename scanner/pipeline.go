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
	limit := cmp.Or(s.Conversations, DefaultConversations)
	p := &pipeline{prober: s.Prober, emit: emit, talk: s.Talk, limit: limit, window: newWindow(limit, time.Now())}
	if p.talk == nil {
		p.talk = ctx
	}
	if s.Prober != nil {
		q = unhurried{q, p}
	}
	err := s.Engine.Scan(ctx, q, p.observed)
	err = errors.Join(err, p.group.Wait())
	p.rest()
	return err
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
	window  window        // of those
	widen   *time.Timer   // to ask the window again; nil if nobody must
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
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, obs)
	if len(p.waiting) > p.limit/4 {
		p.behind.Store(true)
	}
	if p.room() { // else one of those who run takes it
		p.start()
	}
}

// room reports whether one more conversation may be held; if there is none because
// the window is narrow, it is asked again later. One that runs there is always, or
// nobody would take what is waiting.
func (p *pipeline) room() bool {
	if p.running == 0 || p.window.admits(p.running, time.Now()) {
		return true
	}
	if p.running < p.limit && p.widen == nil {
		p.widen = time.AfterFunc(windowStep, p.begin)
	}
	return false
}

// start starts a goroutine that holds conversations. Run waits for it: the engine
// runs, or another one.
func (p *pipeline) start() {
	p.running++
	p.group.Go(p.converse)
}

// begin starts a goroutine for each open port that is waiting, as far as there is room.
func (p *pipeline) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.widen = nil
	for n := len(p.waiting); n > 0 && p.room(); n-- {
		p.start()
	}
}

// rest sees that nothing is begun any more.
func (p *pipeline) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.widen != nil {
		p.widen.Stop()
	}
}

// converse holds conversations until none is waiting, or there are too many.
func (p *pipeline) converse() error {
	for obs, ok := p.next(nil); ok; {
		conn := obs.Conn
		obs.Conn = nil
		service := p.prober.Probe(p.talk, conn, &obs)
		conn.Close() // the result counts, however the connection ends
		if p.talk.Err() != nil {
			obs.State, obs.Reason = Unknown, Interrupted // cut short by us: not their whole answer
		}
		p.emit(&Result{Observation: obs, Service: service})
		obs, ok = p.next(service)
	}
	return nil
}

// next returns an open port that waits for a conversation, if there is room for one
// in the place of the last, whose service that was (nil if it is the first). It wakes
// the engine when half of those that were too many are gone.
func (p *pipeline) next(last *Service) (obs Observation, ok bool) {
	p.mu.Lock()
	if last != nil {
		p.window.end(last.ConversedIn, last.Queued)
	}
	if p.running--; len(p.waiting) == 0 {
		p.waiting = nil
	} else if ok = p.room(); ok {
		p.running++
		obs, p.waiting = p.waiting[0], p.waiting[1:]
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
