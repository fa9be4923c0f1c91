package connect

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A witness is a queue that sees when the dials of each target begin and end. So
// it knows how many SYNs they can have sent, on a machine as slow as it may be: the
// kernel repeats one a second later, never earlier. It can hold what is put back.
type witness struct {
	*pace.Scheduler
	sweep
	lab    *lab.Lab
	before int // SYNs that came to the router before it began
	over   chan error

	mu    sync.Mutex
	taken map[targets.Target]time.Time // when the job was given
	dials map[targets.Target][]span
	hold  int           // jobs put back that are kept until goOn
	held  []func()      // puts them back indeed
	full  chan struct{} // closed when so many are held
}

// A span is the time of a dial.
type span struct{ begin, end time.Time }

// watch starts an engine on some targets. Of the jobs that it puts back, the first
// so many are held.
func watch(t *testing.T, l *lab.Lab, e *Engine, hold int, ts ...targets.Target) *witness {
	t.Helper()
	w := &witness{
		Scheduler: pace.New(pace.Config{}, each(ts...)), over: make(chan error, 1), lab: l, before: int(l.CountSYN(t, lab.Router)[0]),
		taken: map[targets.Target]time.Time{}, dials: map[targets.Target][]span{}, hold: hold, full: make(chan struct{}),
	}
	asked := e.Permit
	e.Permit = func(x targets.Target) bool {
		if asked != nil && !asked(x) {
			return false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dials[x] = append(w.dials[x], span{begin: w.taken[x]})
		return true
	}
	go func() {
		w.over <- e.Scan(context.Background(), w, func(o scanner.Observation) { w.end(o.Target); w.emit(o) })
	}()
	return w
}

func (w *witness) Next(now time.Time) (job scanner.Job, wait time.Duration, ok bool) {
	job, wait, ok = w.Scheduler.Next(now)
	if ok && wait == 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.taken[job.Target] = now
	}
	return job, wait, ok
}

// end says that the last dial of a target, if there was any, is over.
func (w *witness) end(x targets.Target) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if dials := w.dials[x]; len(dials) > 0 && dials[len(dials)-1].end.IsZero() {
		dials[len(dials)-1].end = time.Now()
	}
}

func (w *witness) Retry(job scanner.Job, after time.Duration) {
	w.end(job.Target)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == w.hold {
		w.Scheduler.Retry(job, after)
		return
	}
	w.held = append(w.held, func() { w.Scheduler.Retry(job, after) })
	if len(w.held) == w.hold {
		close(w.full)
	}
}

// goOn puts back what was held.
func (w *witness) goOn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, retry := range w.held {
		retry()
	}
}

// observations returns all that was emitted, when the scan is over.
func (w *witness) observations(t *testing.T) []scanner.Observation {
	t.Helper()
	if err := <-w.over; err != nil {
		t.Fatal(err)
	}
	w.wg.Wait()
	w.check(t)
	return w.all
}

// most returns how many SYNs the dials of a target can have sent.
func (w *witness) most(x targets.Target) (n int) {
	for _, d := range w.dials[x] {
		n += 1 + int(d.end.Sub(d.begin)/time.Second)
	}
	return n
}

// check compares the attempts of each observation with what there was time for,
// those of all with the SYNs that came to the router, and the number of dials and the
// time between them with the rule about ICMP.
func (w *witness) check(t *testing.T) {
	t.Helper()
	attempts, most := 0, 0
	for _, o := range w.all {
		dials := w.dials[o.Target]
		if n := w.most(o.Target); o.Attempts < len(dials) || o.Attempts > n {
			t.Errorf("%v %v: %d attempts in %d dials, there was time for %d", o.Target.AddrPort(), o.Reason, o.Attempts, len(dials), n)
		}
		for i := range dials[1:] {
			if pause := dials[i+1].begin.Sub(dials[i].begin); pause < time.Second {
				t.Errorf("%v: dialled again after %v, want a second at least", o.Target.AddrPort(), pause)
			}
		}
		if last := dials[len(dials)-1]; o.RTT > last.end.Sub(last.begin) {
			t.Errorf("%v: RTT %v is longer than the dial, %v", o.Target.AddrPort(), o.RTT, last.end.Sub(last.begin))
		}
		attempts += o.Attempts
		most += w.most(o.Target)
	}
	if n := w.arrived(t, attempts); n < attempts || n > most {
		t.Errorf("%d attempts, %d SYNs came to the router, and there was time for %d", attempts, n, most)
	}
}

// arrived counts the SYNs that came to the router, of which some may be on their way still.
func (w *witness) arrived(t *testing.T, want int) (n int) {
	t.Helper()
	for range 1000 {
		if n = int(w.lab.CountSYN(t, lab.Router)[0]) - w.before; n >= want {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return n
}
