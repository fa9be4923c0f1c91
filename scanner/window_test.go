package scanner_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A calculator is a Prober on a machine with one CPU: its peers let it wait for
// so long, and it computes for so long.
type calculator struct {
	talker
	cpu      chan struct{} // has room for the one who computes
	computes time.Duration
}

func (p *calculator) Probe(ctx context.Context, conn net.Conn, obs *scanner.Observation) *scanner.Service {
	start := time.Now()
	service := p.talker.Probe(ctx, conn, obs) // counts until here
	p.now.Add(1)
	defer p.now.Add(-1)
	before := time.Now()
	p.cpu <- struct{}{}
	service.Queued = time.Since(before)
	time.Sleep(p.computes)
	<-p.cpu
	service.ConversedIn = time.Since(start)
	return service
}

// converse holds so many conversations, and returns how long that took and the
// most that were held at a time, once a second.
func converse(t *testing.T, prober scanner.Prober, now *atomic.Int64, n int64) (took time.Duration, held []int64) {
	t.Helper()
	begun := time.Now()
	done := make(chan error)
	s := scanner.Scanner{Engine: &opener{look: open}, Prober: prober}
	var results atomic.Int64
	go func() { done <- s.Run(t.Context(), listOf(n), func(*scanner.Result) { results.Add(1) }) }()
	for {
		select {
		case err := <-done:
			if err != nil || results.Load() != n {
				t.Fatalf("%d results of %d, error %v", results.Load(), n, err)
			}
			return time.Since(begun), held
		case <-time.After(time.Second):
			held = append(held, now.Load())
		}
	}
}

// Where this machine is what conversations wait for, no more of them are held than
// keep it at work.
func TestConversationsThatWouldWaitForACPUAreNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &calculator{talker: talker{takes: 50 * time.Millisecond}, cpu: make(chan struct{}, 1), computes: time.Millisecond}
		took, held := converse(t, p, &p.now, 20_000)
		if took > 21*time.Second {
			t.Errorf("20,000 conversations of 1 ms of CPU each took %v", took)
		}
		for second, n := range held[2 : len(held)-1] { // 50 keep it at work
			if n > 300 {
				t.Errorf("%d conversations are held after %d s, want about 100", n, second+3)
			}
		}
	})
}

// Where peers take their time, as many are waited for as may be, and soon.
func TestConversationsWaitForPeersSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &talker{takes: 20 * time.Second}
		took, held := converse(t, p, &p.now, 2*scanner.DefaultConversations)
		if took > 44*time.Second {
			t.Errorf("twice as many conversations of 20 s as are held at a time took %v", took)
		}
		if held[2] != scanner.DefaultConversations {
			t.Errorf("%d conversations are held after 3 s, want %d", held[2], scanner.DefaultConversations)
		}
	})
}

// Peers that take their time come after some that waited for a CPU: what was right
// for those holds these up for moments only.
func TestAWindowIsNotNarrowForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &turning{
			first: &calculator{talker: talker{takes: 50 * time.Millisecond}, cpu: make(chan struct{}, 1), computes: time.Millisecond},
			then:  &talker{takes: 20 * time.Second},
		}
		if took, _ := converse(t, p, &p.then.now, 5000+scanner.DefaultConversations); took > 5*time.Second+25*time.Second {
			t.Errorf("5,000 conversations of 1 ms of CPU and %d of 20 s took %v", scanner.DefaultConversations, took)
		}
	})
}

// A turning prober is one at first, and then another.
type turning struct {
	begun atomic.Int64
	first *calculator
	then  *talker
}

func (p *turning) Probe(ctx context.Context, conn net.Conn, obs *scanner.Observation) *scanner.Service {
	if p.begun.Add(1) <= 5000 {
		return p.first.Probe(ctx, conn, obs)
	}
	return p.then.Probe(ctx, conn, obs)
}
