package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// grace is how long running conversations may go on after the first Ctrl-C.
const grace = 5 * time.Second

// sayStopping tells whoever presses Ctrl-C what happens now. release ends that,
// and waits for what is being said.
func (s *sweep) sayStopping(ctx context.Context) (release func()) {
	said := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(said)
		if _, ok := stoppedBy(ctx); !ok {
			return
		}
		ending := ""
		if n := s.talking.Load(); n > 0 {
			ending = fmt.Sprintf("%s up to %.0f s to end; ", plural(uint64(n), "conversation gets", "conversations get"), grace.Seconds())
		}
		s.u.say("Stopping: %sCtrl-C again stops at once.", ending)
	})
	return func() {
		if !stop() {
			<-said
		}
	}
}

// counted counts the conversations that are held now.
type counted struct {
	scanner.Prober
	now *atomic.Int64
	gc  *talkGC
}

func (c counted) Probe(ctx context.Context, conn net.Conn, obs *scanner.Observation) *scanner.Service {
	c.gc.follow(c.now.Add(1))
	defer func() { c.gc.follow(c.now.Add(-1)) }()
	return c.Prober.Probe(ctx, conn, obs)
}

// errOutput is the cause of a run that stopped because nobody takes its results.
var errOutput = errors.New("an output cannot be written")

// watchOutputs returns contexts that also end when the journal or stdout fails:
// as at a first signal, nothing new is begun, and what runs has its grace.
// release waits for the goroutine that watches.
func (s *sweep) watchOutputs(ctx signals) (watched signals, release func()) {
	scan, endScan := context.WithCancelCause(ctx.scan)
	talk, endTalk := context.WithCancelCause(ctx.talk)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with release
		defer close(done)
		select {
		case <-s.writer.Failed():
		case <-s.outputs.failed:
		case <-quit:
			return
		}
		endScan(errOutput)
		select {
		case <-time.After(grace):
			endTalk(errOutput)
		case <-quit:
		}
	}()
	return signals{scan, talk, ctx.now}, func() {
		close(quit)
		<-done
		endScan(nil)
		endTalk(nil)
	}
}
