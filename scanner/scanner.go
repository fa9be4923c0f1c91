// Package scanner finds out what mail ports are, and holds the types that say
// it: [State] and [Reason] of a port, the [Observation] of an [Engine], the
// [Service] that a [Prober] talked to, and the [Result] that is one row.
//
// [Scanner] is the pipeline: targets come from a [Queue] when they may be
// dialled, an engine connects, a prober talks, results are emitted. It never
// prints, and knows nothing of files or formats.
package scanner

import (
	"context"
	"net"
	"time"

	"github.com/smtpsweep/smtpsweep/targets"
)

// A Job is a target on its way through an engine. A job that is put back
// ([Queue.Retry]) keeps what earlier dials learned.
type Job struct {
	Target   targets.Target
	Dials    uint8         // connects made so far
	Attempts uint16        // SYNs sent so far
	ICMP     ICMP          // of an earlier dial; valid iff From is
	Reason   Reason        // what that ICMP meant; LocalError without one: this machine seemed to refuse it
	RTT      time.Duration // from the first SYN of that dial to that ICMP
}

// A Queue hands jobs to an engine at the pace that politeness allows.
// Its methods may be called from several goroutines.
type Queue interface {
	// Next returns a job that may be dialled now. If none may, ok is true and
	// wait says when to ask again at the latest (a Done or Retry may make one
	// ready earlier: see Wake). When no job is left or can still come, ok is false.
	Next(now time.Time) (job Job, wait time.Duration, ok bool)
	// Done says that the job is over and its connection, if any, is closed.
	Done(Job)
	// Retry puts a job back, its connection closed, to be dialled after a delay.
	Retry(job Job, after time.Duration)
	// Wake registers a function that is called, without locks held, when a
	// Done or Retry may have made a job ready.
	Wake(func())
}

// An Engine learns the state of ports by dialling them.
//
// Scan takes jobs until the queue is exhausted, emits exactly one Observation
// for each (a job handed to Retry is not over), calls the queue's Done when the
// job's connection is closed (so: for an emitted Conn, when it is closed), and
// returns when nothing is in flight any more. emit is called from the engine's
// own goroutines, several at a time, and must not block. When ctx is cancelled
// no SYN leaves any more: it closes what it has not handed over, emits
// Unknown/Interrupted for that, waits for the emitted Conns to be closed, and
// returns ctx's cause. Any other error is a fault of this machine.
type Engine interface {
	Scan(ctx context.Context, q Queue, emit func(Observation)) error
}

// A Prober talks to an open port: one conversation that learns everything.
// It may be called from many goroutines. It does not close conn, and always
// returns a Service.
type Prober interface {
	Probe(ctx context.Context, conn net.Conn, obs *Observation) *Service
}
