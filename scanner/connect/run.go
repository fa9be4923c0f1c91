package connect

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

const (
	icmpRetry      = time.Second           // an ICMP message is provisional until a dial this much later
	starvedRetry   = 50 * time.Millisecond // first pause of a job for want of a descriptor; doubled up to 0.4 s
	starvedTimes   = 10                    // pauses with nothing else in flight, before it is a local error
	shrinkInterval = 100 * time.Millisecond
	growInterval   = time.Second
	selfConnects   = 5 // dials of one job that reached themselves

	// Who comes to look at the clock so much later than meant has stood still: the
	// process was stopped, or the machine suspended.
	standstill = time.Second
)

// A run is one Scan: what its loops or workers share.
type run struct {
	*Engine
	base      time.Time // of the times that loops keep
	q         scanner.Queue
	emit      func(scanner.Observation)
	timeout   time.Duration // of a dial
	greeting  time.Duration
	max       int
	limit     atomic.Int64 // of places now: at most max
	places    atomic.Int64 // taken: one for each connection, and for each that is about to be made
	stalled   atomic.Bool  // somebody waits for the limit
	cancelled atomic.Bool
	wake      func()         // wakes all loops
	handed    sync.WaitGroup // connections handed over
	alone     sync.RWMutex   // locked by a dial that must be alone
	// guardless says that the kernel allows no guard: see connectAlone. All loops know it as
	// soon as one does: the job of one may be dialled again by another.
	guardless atomic.Bool

	back atomic.Int64 // len(retried)
	mu   sync.Mutex
	// retried are the jobs that the queue has back, and how often each was
	// starved. A job being dialled keeps its entry only if it was starved.
	retried map[targets.Target]putBack
	noted   map[string]bool
	changed time.Time // when limit was
}

type putBack struct {
	job     scanner.Job
	queued  bool
	starved int
}

func newRun(e *Engine, q scanner.Queue, emit func(scanner.Observation)) *run {
	r := &run{
		Engine: e, base: time.Now(), q: q, emit: emit, wake: func() {},
		timeout:  e.synTimeout(linearTimeouts()),
		greeting: cmp.Or(e.GreetingTimeout, defaultGreeting),
		max:      e.maxConns(descriptors()),
		retried:  map[targets.Target]putBack{},
		noted:    map[string]bool{},
	}
	if e.Patience > 0 { // whoever has less patience than that does not wait for the park
		r.greeting = min(r.greeting, e.Patience)
	}
	r.limit.Store(int64(r.max))
	r.guardless.Store(e.noGuard)
	return r
}

// acquire takes a place for a connection, if the limit allows one more. If not, the
// loops are woken when it does.
func (r *run) acquire() bool {
	if r.tryAcquire() {
		return true
	}
	r.stalled.Store(true)
	return r.tryAcquire() // one may have been released just before
}

func (r *run) tryAcquire() bool {
	if r.places.Add(1) <= r.limit.Load() {
		return true
	}
	r.places.Add(-1)
	return false
}

// giveBack gives back a place in which no connection was made.
func (r *run) giveBack() {
	r.places.Add(-1)
	if r.stalled.Load() && r.stalled.Swap(false) {
		r.wake()
	}
}

// begin says that a connection is made in a place that was acquired.
func (r *run) begin() { r.inFlight.Add(1) }

// release gives back the place of a connection that is closed.
func (r *run) release() {
	r.inFlight.Add(-1)
	r.giveBack()
}

// took says that the queue gave a job, maybe one that it had back.
func (r *run) took(job *scanner.Job) {
	if r.back.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.retried[job.Target]
	if !ok {
		return
	}
	p.queued = false
	r.set(job.Target, p)
}

func (r *run) set(t targets.Target, p putBack) {
	if p.queued || p.starved > 0 {
		r.retried[t] = p
	} else {
		delete(r.retried, t)
	}
	r.back.Store(int64(len(r.retried)))
}

// retry puts a job back whose connection is closed and released.
func (r *run) retry(job scanner.Job, after time.Duration) {
	r.mu.Lock()
	r.set(job.Target, putBack{job: job, queued: true})
	r.mu.Unlock()
	r.q.Retry(job, after)
}

// starve puts a job back for which this machine had no resources (never a
// verdict), and halves the limit of connections. It reports false if that was
// done often, and there is nothing else in flight whose end could help.
// The job's connection is closed, and not yet released.
func (r *run) starve(job scanner.Job, errno syscall.Errno) bool {
	r.shrink(errno)
	r.mu.Lock()
	p := r.retried[job.Target]
	if p.starved >= starvedTimes && r.inFlight.Load() <= 1 {
		r.mu.Unlock()
		return false
	}
	p.job, p.queued, p.starved = job, true, p.starved+1
	r.set(job.Target, p)
	r.mu.Unlock()
	r.release()
	r.q.Retry(job, starvedRetry<<min(p.starved-1, 3))
	return true
}

// over forgets what is remembered of a job that is over.
func (r *run) over(job *scanner.Job) {
	if r.back.Load() == 0 {
		return
	}
	r.mu.Lock()
	r.set(job.Target, putBack{})
	r.mu.Unlock()
}

// shrink halves the limit, at most ten times a second, and says so once.
func (r *run) shrink(errno syscall.Errno) {
	r.mu.Lock()
	if now := time.Now(); now.Sub(r.changed) >= shrinkInterval {
		r.changed = now
		r.limit.Store(max(1, min(r.limit.Load(), r.inFlight.Load())/2))
	}
	r.mu.Unlock()
	code, text := starvation(errno)
	r.note(code, text)
}

// grow gives back a sixteenth of the limit each second without a shortage.
func (r *run) grow(now time.Time) {
	if r.limit.Load() >= int64(r.max) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.changed) >= growInterval {
		r.changed = now
		r.limit.Store(min(int64(r.max), r.limit.Load()+int64(r.max/16)+1))
	}
}

// note tells what may have biased the run, once a code.
func (r *run) note(code, text string) {
	r.mu.Lock()
	first := !r.noted[code]
	r.noted[code] = true
	r.mu.Unlock()
	if first && r.Note != nil {
		r.Note(code, text)
	}
}

// finish ends a job without a connection, or whose connection is closed.
func (r *run) finish(job scanner.Job, obs scanner.Observation) {
	r.over(&job)
	r.emit(obs)
	r.q.Done(job)
}

// interruptRetried emits the jobs that the queue has back when all is cancelled.
func (r *run) interruptRetried() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.retried {
		if p.queued {
			r.emit(interrupted(p.job, time.Now()))
		}
	}
}

func interrupted(job scanner.Job, at time.Time) scanner.Observation {
	return scanner.Observation{Target: job.Target, Reason: scanner.Interrupted, ICMP: job.ICMP, Attempts: int(job.Attempts), At: at}
}

func excluded(job scanner.Job, at time.Time) scanner.Observation {
	return scanner.Observation{Target: job.Target, Reason: scanner.Excluded, Attempts: int(job.Attempts), At: at}
}

func (r *run) permitted(t targets.Target) bool { return r.Permit == nil || r.Permit(t) }

// mostParked is how many connections may be parked: a quarter of all.
func (r *run) mostParked() int { return max(1, r.max/4) }

func (r *run) noteParked() {
	r.note("parked-limit", fmt.Sprintf("more than %d connections were open and mute at a time: the oldest were given up before --patience (raise the limit of open files: ulimit -n)", r.mostParked()))
}

// fault is an error of this machine that keeps it from dialling at all.
func fault(what string, errno error) error {
	return fmt.Errorf("connect engine: %s: %w", what, errno)
}
