package connect

import (
	"encoding/binary"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/outgoing"
	"github.com/smtpsweep/smtpsweep/scanner/recverr"
)

const (
	dialBatch    = 32                   // dials between two looks at the answers
	mostWaiting  = 1024                 // jobs of a loop that wait for a place in the neighbour table
	neighborWait = 5 * time.Millisecond // until they are looked at again
	eventfdTag   = -1                   // in place of a descriptor
	mostMisses   = 64                   // dials without an answer at once, before it is looked for in every 64th only
)

// A loop dials, and sees to what becomes of it: one goroutine, one epoll
// instance. Nothing of it is shared but what wake uses, and eldest.
type loop struct {
	*run
	env      *surroundings
	all      []*loop       // of the run, this one too
	now      time.Time     // see tick
	backAt   int64         // until when the loop last stood still: ns since base
	lost     time.Duration // how long that was
	slots    slots
	waiting  []scanner.Job // on-link targets, see mostWaiting
	events   [256]unix.EpollEvent
	sockets  sockets
	networks networks // see guard

	atOnce        bool // the answer being seen to was there when connect returned
	before, after outgoing.Count

	paths  paths
	misses uint32       // dials since one whose answer was there when connect returned
	opens  bool         // the last answer was an open port
	eldest atomic.Int64 // when the first of the parked connections was established: ns since base

	// Buffers of system calls, so that a probe allocates nothing.
	sa4  unix.RawSockaddrInet4
	sa6  unix.RawSockaddrInet6
	info unix.TCPInfo
	name unix.RawSockaddrAny
	errs recverr.Queue

	epoll, eventfd int
	notified       atomic.Bool // woken since the queue was asked
	asleep         atomic.Bool // in epoll_wait, or about to be
	mu             sync.Mutex
	closed         bool
}

func newLoop(r *run, env *surroundings) (*loop, error) {
	l := &loop{run: r, env: env, now: time.Now(), slots: newSlots(), eventfd: -1}
	l.all = []*loop{l}
	l.eldest.Store(math.MaxInt64)
	if env != nil {
		l.paths = slices.Clone(env.paths)
	}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fault("epoll", err)
	}
	if l.eventfd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.eventfd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: eventfdTag})
	}
	if err != nil {
		l.close()
		return nil, fault("eventfd", err)
	}
	return l, nil
}

func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.closeIdle()
	unix.Close(l.epoll)
	if l.eventfd >= 0 {
		unix.Close(l.eventfd)
	}
}

// wake ends the loop's wait. It may be called from anywhere, at any time, even
// when the loop is over: a queue keeps the function that it was given.
func (l *loop) wake() {
	l.notified.Store(true)
	if !l.asleep.CompareAndSwap(true, false) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		one := binary.NativeEndian.AppendUint64(nil, 1)
		unix.Write(l.eventfd, one)
	}
}

// pump dials until the queue has no job left and all of the loop's own are over.
func (l *loop) pump() error {
	defer l.close()
	for {
		runtime.Gosched() // raw system calls do not let go of the processor
		if l.cancelled.Load() {
			l.abort()
			return nil
		}
		l.notified.Store(false)
		l.clearPark()
		wait, over := l.fill()
		if over && l.slots.count == 0 && len(l.waiting) == 0 {
			return nil
		}
		full, err := l.poll(wait)
		if err != nil {
			l.abort()
			return err
		}
		if !full { // else there may be answers that were in time
			l.expire()
		}
	}
}

// fill dials what may be dialled now, a batch at most. It returns how long there
// is nothing to dial, and whether the queue has nothing more.
func (l *loop) fill() (wait time.Duration, over bool) {
	for range dialBatch {
		if l.cancelled.Load() {
			return 0, true
		}
		if wait := l.env.outage.wait(l.now.Sub(l.base)); wait > 0 {
			return wait, false
		}
		if !l.acquire() {
			l.grow(l.now)
			return growInterval, false // until woken by release, or the limit grows
		}
		l.tick(0)
		job, wait, ok := l.next()
		if !ok || wait > 0 {
			l.giveBack()
			return wait, !ok
		}
		l.dial(job)
	}
	l.grow(l.now)
	return 0, false
}

// next returns a job that may be dialled now: one that waited for a place in the
// neighbour table, or one of the queue. Otherwise as scanner.Queue's Next.
func (l *loop) next() (job scanner.Job, wait time.Duration, ok bool) {
	if len(l.waiting) > 0 {
		t := l.waiting[0].Target
		if l.env.neighbors(t).admit(t.Addr, l.now) {
			job, l.waiting = l.waiting[0], l.waiting[1:]
			return job, 0, true
		}
	}
	for len(l.waiting) < mostWaiting {
		job, wait, ok = l.q.Next(l.now)
		switch {
		case !ok && len(l.waiting) == 0:
			return job, math.MaxInt64, false
		case !ok:
			return job, neighborWait, true
		case wait > 0 && len(l.waiting) > 0:
			return job, min(wait, neighborWait), true
		case wait > 0:
			return job, wait, true
		}
		l.took(&job)
		if !l.env.onLink(job.Target.Addr) || l.env.neighbors(job.Target).admit(job.Target.Addr, l.now) {
			return job, 0, true
		}
		l.waiting = append(l.waiting, job)
	}
	return job, neighborWait, true
}

// poll waits for answers and sees to them. full is true if there may be more.
func (l *loop) poll(wait time.Duration) (full bool, err error) {
	timeout := 0
	if wait > 0 {
		l.asleep.Store(true)
		if !l.notified.Load() {
			timeout = pollTimeout(l.sleep(wait))
		}
	}
	if timeout != 0 {
		l.closeIdle() // who knows for how long
	}
	n, errno := epollWait(l.epoll, l.events[:], timeout)
	l.asleep.Store(false)
	l.tick(time.Duration(timeout) * time.Millisecond)
	if errno == unix.EINTR {
		return false, nil
	}
	if errno != 0 {
		return false, fault("epoll_wait", errno)
	}
	for i := range l.events[:n] {
		l.event(&l.events[i])
	}
	return n == len(l.events), nil
}

func (l *loop) event(ev *unix.EpollEvent) {
	if ev.Fd == eventfdTag {
		var b [8]byte
		unix.Read(l.eventfd, b[:])
		return
	}
	i := l.sockets.of(ev.Fd)
	if i < 0 {
		return // closed meanwhile, by an event before this one, or kept for the next dial
	}
	s := l.slots.at(i)
	switch {
	case s.phase == dialing:
		l.answer(i, s, ev.Events)
	case ev.Events&^unix.EPOLLOUT != 0:
		l.handOver(i, s, false)
	}
}

// lifetime returns how long a connection stays in a phase, at most.
func (l *loop) lifetime(p phase) time.Duration {
	switch p {
	case dialing:
		return l.timeout
	case greeting:
		return l.greeting
	}
	return l.Patience
}

// due returns when the oldest connection of a phase is over.
func (l *loop) due(p phase) (i int32, left time.Duration) {
	i = l.slots.oldest(p)
	if i == nobody {
		return i, math.MaxInt64
	}
	return i, time.Duration(l.slots.at(i).since) + l.lifetime(p) - l.now.Sub(l.base)
}

func (l *loop) nextDeadline() time.Duration {
	left := time.Duration(math.MaxInt64)
	for p := dialing; p < phases; p++ {
		_, d := l.due(p)
		left = min(left, d)
	}
	return max(left, 0)
}

// expire ends what has had its time.
func (l *loop) expire() {
	for p := dialing; p < phases; p++ {
		for {
			i, left := l.due(p)
			if left > 0 {
				break
			}
			s := l.slots.at(i)
			switch {
			case p == dialing:
				l.answer(i, s, timeIsOver)
			case p == greeting && l.Patience > l.greeting:
				l.park(i)
			default:
				l.giveUp(i, s)
			}
		}
	}
}

// abort ends everything that was not handed over, as interrupted.
func (l *loop) abort() {
	l.now = time.Now()
	for p := dialing; p < phases; p++ {
		for i := l.slots.oldest(p); i != nobody; i = l.slots.oldest(p) {
			s := l.slots.at(i)
			job := s.job()
			if p != dialing {
				job.Attempts = uint16(s.learned.Attempts)
			} else {
				_, repeated := tcpInfo(int(s.fd), &l.info)
				job.Attempts += uint16(1 + repeated)
			}
			l.drop(i, s)
			l.finish(job, interrupted(job, l.now))
		}
	}
	for _, job := range l.waiting {
		l.finish(job, interrupted(job, l.now))
	}
	l.waiting = nil
}

// drop closes a connection and gives back what it held.
func (l *loop) drop(i int32, s *slot) {
	l.closeSocket(s)
	l.vacate(i, s)
	l.release()
}

// vacate frees the slot of a connection that is closed or handed over.
func (l *loop) vacate(i int32, s *slot) {
	wasParked := s.phase == parked
	l.resolved(s)
	l.slots.give(i)
	if wasParked {
		l.parked.Add(-1)
		l.noteEldest()
	}
}

// resolved gives back the place of a dial among the unresolved neighbours, when
// it is over.
func (l *loop) resolved(s *slot) {
	if s.phase == dialing && l.env.onLink(s.target.Addr) {
		l.env.neighbors(s.target).settled(s.target.Addr)
	}
}
