// Package pace decides when a target may be dialled: global rate, connections
// at a time and interval per host, rate per subnet.
//
// [New] gives a [Scheduler], which implements scanner.Queue. It pulls targets
// from a source as fast as they may go, keeps back those that may not, and
// never sends anything itself.
package pace

import (
	"net/netip"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

const (
	defaultHeld = 1 << 16               // targets kept back at most: 8 MB
	minBurst    = 16                    // of the global rate, so that a timer of 1 ms reaches 10,000/s
	slack       = 10 * time.Millisecond // what a bucket may lag behind and make up for
	pause       = 100 * time.Millisecond
	longWait    = time.Minute // nothing but a Done can make a job ready
)

// A Config says how fast targets may be dialled. The zero Config sets no limit.
type Config struct {
	Rate         float64       // dials per second in all; 0 = no limit
	HostLimit    int           // jobs at a time to one address; 0 = no limit
	HostInterval time.Duration // between two dials of one address; 0 = none
	SubnetRate   float64       // dials per second to one /24 or /48; 0 = no limit

	Held int              // targets kept back at most, before the source has to wait; 0 = 65,536
	Now  func() time.Time // the clock of Retry; nil = time.Now
}

// Burst returns how many dials the global rate may make up for at once, after a
// hold-up of less than 100 ms. After a longer one nothing is made up for.
func (c Config) Burst() float64 {
	return max(minBurst, c.Rate*slack.Seconds())
}

// A Scheduler hands out the targets of a source at the pace of its Config.
// It implements scanner.Queue. Its memory is bounded by the targets kept back
// and by the hosts that are being dialled or rest between two dials.
type Scheduler struct {
	cfg    Config
	src    func() (targets.Target, bool)
	base   time.Time // the scheduler counts in nanoseconds since then
	byHost bool      // some limit per host or subnet is set

	mu       sync.Mutex
	last     int64 // latest time seen
	global   bucket
	inFlight int // jobs handed out, not Done
	held     int // jobs kept back
	ended    bool
	peeked   bool           // next is a target already pulled
	next     targets.Target // see idle
	nodes    []node
	free     int32 // list of free nodes
	plain    list  // retried jobs that are due, if !byHost
	due      timers
	space    space
	wakers   []func()
}

// New returns a Scheduler of the targets that src yields until it returns false.
// It calls src under its lock, one call at a time.
func New(cfg Config, src func() (targets.Target, bool)) *Scheduler {
	if cfg.Held <= 0 {
		cfg.Held = defaultHeld
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Scheduler{cfg: cfg, src: src, base: cfg.Now(), free: none, plain: emptyList}
	s.byHost = cfg.HostLimit > 0 || cfg.HostInterval > 0 || cfg.SubnetRate > 0
	if cfg.Rate > 0 {
		s.global.every = period(cfg.Rate)
		s.global.lag = int64((cfg.Burst() - 1) * float64(s.global.every))
	}
	if s.byHost {
		s.space.hosts = newHosts()
		s.space.nets = make(map[netip.Prefix]*subnet)
	}
	return s
}

// Next implements scanner.Queue. Time never runs backwards for it: an earlier
// now than one seen before counts as that one.
func (s *Scheduler) Next(now time.Time) (job scanner.Job, wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tick(now)
	s.release(t)
	if s.global.at > t {
		return s.idle(t)
	}
	job, ok = s.take(t)
	if !ok {
		return s.idle(t)
	}
	s.global.spend(t)
	s.inFlight++
	return job, 0, true
}

// tick turns now into the scheduler's time. After a pause (a stopped process, a
// suspended machine, a stalled caller) the global bucket starts afresh: what was
// not sent in time is not sent in a burst afterwards.
func (s *Scheduler) tick(now time.Time) int64 {
	t := max(int64(now.Sub(s.base)), s.last)
	if t-s.last > int64(pause) {
		s.global.at = max(s.global.at, t)
	}
	s.last = t
	return t
}

// release moves what became due at t to where it is looked for.
func (s *Scheduler) release(t int64) {
	for len(s.due) > 0 && s.due[0].at <= t {
		e := s.due.pop()
		switch {
		case e.host != nil:
			e.host.resting = false
			s.settle(e.host)
		case e.net != nil:
			e.net.resting = false
			s.space.settleNet(e.net)
		case s.byHost:
			s.hold(s.hostOf(s.nodes[e.node].job.Target.Addr), e.node)
		default:
			s.push(&s.plain, e.node)
		}
	}
}

// take returns a job that may go at t, or false if there is none.
func (s *Scheduler) take(t int64) (scanner.Job, bool) {
	if n := s.pop(&s.plain); n != none {
		return s.drop(n), true
	}
	if s.byHost {
		if job, ok := s.takeReady(t); ok {
			return job, true
		}
	}
	for s.held < s.cfg.Held {
		target, ok := s.pull()
		if !ok {
			break
		}
		job := scanner.Job{Target: target}
		if !s.byHost {
			return job, true
		}
		h := s.hostOf(target.Addr)
		if s.clear(h) {
			s.grant(h, t)
			return job, true
		}
		s.hold(h, s.keep(job))
	}
	return scanner.Job{}, false
}

// pull returns the next target of the source.
func (s *Scheduler) pull() (targets.Target, bool) {
	if s.peeked {
		s.peeked = false
		return s.next, true
	}
	if s.ended {
		return targets.Target{}, false
	}
	target, ok := s.src()
	s.ended = !ok
	return target, ok
}

// idle says how long no job may go. It looks one target ahead, so that a slow
// rate does not delay the end.
func (s *Scheduler) idle(t int64) (scanner.Job, time.Duration, bool) {
	if !s.peeked && s.held == 0 {
		s.next, s.peeked = s.pull()
	}
	if s.over() {
		return scanner.Job{}, 0, false
	}
	wait := int64(longWait)
	if s.global.at > t && (s.peeked || s.plain.head != none || s.space.ready.head != nil || !s.ended && s.held < s.cfg.Held) {
		wait = min(wait, s.global.at-t)
	}
	if len(s.due) > 0 {
		wait = min(wait, max(s.due[0].at, s.global.at)-t)
	}
	return scanner.Job{}, time.Duration(max(wait, 1)), true
}

// over reports whether no job is left, nor can come back.
func (s *Scheduler) over() bool {
	return s.ended && !s.peeked && s.held == 0 && s.inFlight == 0
}

// Done implements scanner.Queue.
func (s *Scheduler) Done(job scanner.Job) {
	s.mu.Lock()
	wake := s.leave(job) || s.over()
	s.wakeAndUnlock(wake)
}

// Retry implements scanner.Queue. It takes a job even if as many as may be kept
// back are.
func (s *Scheduler) Retry(job scanner.Job, after time.Duration) {
	at := int64(s.cfg.Now().Sub(s.base)) + int64(max(after, 0))
	s.mu.Lock()
	wake := s.leave(job)
	n := s.keep(job)
	s.due.push(timer{at: at, node: n})
	s.wakeAndUnlock(wake || s.due[0].node == n && s.due[0].at == at)
}

// leave takes a job out of flight and reports whether its host has another one
// that may go now.
func (s *Scheduler) leave(job scanner.Job) (ready bool) {
	s.inFlight--
	if !s.byHost {
		return false
	}
	h := s.space.hosts.of(job.Target.Addr)
	if h == nil {
		return false
	}
	h.active--
	s.settle(h)
	return s.space.ready.head != nil
}

// Wake implements scanner.Queue.
func (s *Scheduler) Wake(f func()) {
	s.mu.Lock()
	s.wakers = append(s.wakers, f)
	s.mu.Unlock()
}

func (s *Scheduler) wakeAndUnlock(wake bool) {
	var wakers []func()
	if wake {
		wakers = s.wakers
	}
	s.mu.Unlock()
	for _, f := range wakers {
		f()
	}
}
