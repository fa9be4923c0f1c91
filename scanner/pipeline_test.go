package scanner_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A list is a Queue of so many jobs, with no manners.
type list struct{ left atomic.Int64 }

func listOf(n int64) *list {
	l := &list{}
	l.left.Store(n)
	return l
}

func (l *list) Next(time.Time) (scanner.Job, time.Duration, bool) {
	n := l.left.Add(-1)
	if n < 0 {
		return scanner.Job{}, 0, false
	}
	return scanner.Job{Target: targets.Target{Index: uint64(n), Addr: netip.MustParseAddr("192.0.2.1"), Port: uint16(n)}}, 0, true
}
func (l *list) Done(scanner.Job)                 {}
func (l *list) Retry(scanner.Job, time.Duration) {}
func (l *list) Wake(func())                      {}

// taken returns how many of n jobs were asked for.
func (l *list) taken(n int64) int64 { return n - max(0, l.left.Load()) }

// An opener is an Engine for which every port is as look says.
type opener struct {
	look func(targets.Target) scanner.Observation
	err  error
	open atomic.Int64 // connections handed over and not closed
}

type countedConn struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

func (e *opener) Scan(ctx context.Context, q scanner.Queue, emit func(scanner.Observation)) error {
	woken := make(chan struct{}, 1)
	q.Wake(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	for {
		job, wait, ok := q.Next(time.Now())
		if !ok || ctx.Err() != nil {
			return errors.Join(e.err, context.Cause(ctx))
		}
		if wait > 0 {
			select {
			case <-woken:
			case <-time.After(wait):
			case <-ctx.Done():
			}
			continue
		}
		obs := e.look(job.Target)
		obs.Target = job.Target
		if obs.State == scanner.Open && obs.Mute == 0 {
			near, far := net.Pipe()
			far.Close()
			e.open.Add(1)
			obs.Conn = &countedConn{Conn: near, open: &e.open}
		}
		emit(obs)
	}
}

// A talker is a Prober that takes a while and counts how many talk at a time.
type talker struct {
	takes     time.Duration
	now, most atomic.Int64
}

func (p *talker) Probe(ctx context.Context, _ net.Conn, _ *scanner.Observation) *scanner.Service {
	n := p.now.Add(1)
	defer p.now.Add(-1)
	for most := p.most.Load(); n > most && !p.most.CompareAndSwap(most, n); most = p.most.Load() {
	}
	select {
	case <-time.After(p.takes):
		return &scanner.Service{Kind: scanner.KindSMTP}
	case <-ctx.Done():
		return &scanner.Service{Err: "interrupted"}
	}
}

func open(targets.Target) scanner.Observation {
	return scanner.Observation{State: scanner.Open, Reason: scanner.SynAck}
}

func TestEveryJobIsOneResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := &opener{look: func(tg targets.Target) scanner.Observation {
			switch tg.Port % 4 {
			case 0:
				return open(tg)
			case 1:
				return scanner.Observation{State: scanner.Open, Mute: 65 * time.Second}
			case 2:
				return scanner.Observation{State: scanner.Closed}
			}
			return scanner.Observation{State: scanner.Filtered}
		}}
		var mu sync.Mutex
		seen := map[uint64]*scanner.Result{}
		s := scanner.Scanner{Engine: engine, Prober: &talker{takes: time.Second}}
		err := s.Run(t.Context(), listOf(1000), func(r *scanner.Result) {
			mu.Lock()
			defer mu.Unlock()
			if seen[r.Target.Index] != nil {
				t.Errorf("job %d has two results", r.Target.Index)
			}
			again := *r
			seen[r.Target.Index] = &again
		})
		if err != nil || len(seen) != 1000 {
			t.Fatalf("%d results of 1000 jobs, error %v", len(seen), err)
		}
		for i, r := range seen {
			talked := r.Service != nil && r.Service.Kind == scanner.KindSMTP
			mute := r.Service != nil && r.Service.Kind == scanner.KindMute
			if r.Conn != nil || talked != (i%4 == 0) || mute != (i%4 == 1) {
				t.Errorf("job %d: connection %v, service %+v", i, r.Conn, r.Service)
			}
		}
		if n := engine.open.Load(); n != 0 {
			t.Errorf("%d connections are open after the run", n)
		}
	})
}

func TestConversationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &talker{takes: time.Second}
		s := scanner.Scanner{Engine: &opener{look: open}, Prober: prober, Conversations: 7}
		begun, n := time.Now(), atomic.Int64{}
		if err := s.Run(t.Context(), listOf(70), func(*scanner.Result) { n.Add(1) }); err != nil {
			t.Fatal(err)
		}
		if n.Load() != 70 || prober.most.Load() != 7 {
			t.Errorf("%d results, at most %d conversations at a time; want 70 and 7", n.Load(), prober.most.Load())
		}
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("70 conversations of 1 s, 7 at a time, took %v", took)
		}
	})
}

// Connections that nobody has time for are not made: a server would greet, wait
// and leave.
func TestNothingIsDialledWhileTooManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const jobs = 1000
		q, engine, prober := listOf(jobs), &opener{look: open}, &talker{takes: time.Second}
		s := scanner.Scanner{Engine: engine, Prober: prober, Conversations: 40}
		done := make(chan error, 1)
		go func() { done <- s.Run(t.Context(), q, func(*scanner.Result) {}) }()
		for second := range int64(jobs / 40) {
			synctest.Wait()
			if n := engine.open.Load(); n > 40+40/4+1 {
				t.Fatalf("%d connections are open, of which 40 are talked to", n)
			}
			if n, want := q.taken(jobs), min(jobs, (second+1)*40); n < want {
				t.Fatalf("%d were dialled after %d s, want %d at least", n, second, want)
			}
			time.Sleep(time.Second) // of the bubble's time
		}
		if err := <-done; err != nil || prober.most.Load() != 40 {
			t.Errorf("error %v, at most %d conversations at a time, want 40", err, prober.most.Load())
		}
	})
}

func TestWithoutAProberOpenPortsAreClosedAndTold(t *testing.T) {
	engine := &opener{look: open}
	n := 0
	s := scanner.Scanner{Engine: engine}
	if err := s.Run(t.Context(), listOf(10), func(r *scanner.Result) { n++ }); err != nil {
		t.Fatal(err)
	}
	if n != 10 || engine.open.Load() != 0 {
		t.Errorf("%d results, %d connections left open", n, engine.open.Load())
	}
}

func TestAStoppedRunLetsConversationsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("stopped by the user")
		ctx, cancel := context.WithCancelCause(t.Context())
		engine := &opener{look: func(tg targets.Target) scanner.Observation {
			if tg.Port == 5 {
				cancel(stop)
			}
			return open(tg)
		}}
		var whole atomic.Int64
		s := scanner.Scanner{Engine: engine, Prober: &talker{takes: time.Second}, Talk: t.Context()}
		err := s.Run(ctx, listOf(10), func(r *scanner.Result) {
			if r.Service.Kind == scanner.KindSMTP {
				whole.Add(1)
			}
		})
		if !errors.Is(err, stop) || whole.Load() != 5 {
			t.Errorf("%d conversations ended well, error %v; want 5 and %v", whole.Load(), err, stop)
		}
	})
}

func TestAFaultOfTheEngineIsTheRunsError(t *testing.T) {
	fault := errors.New("no epoll")
	s := scanner.Scanner{Engine: &opener{look: open, err: fault}, Prober: &talker{}}
	n := atomic.Int64{}
	if err := s.Run(t.Context(), listOf(3), func(*scanner.Result) { n.Add(1) }); !errors.Is(err, fault) || n.Load() != 3 {
		t.Errorf("error %v after %d results", err, n.Load())
	}
}
