// Package connect is the engine that learns the state of ports by ordinary
// connections, without privilege: [Engine].
//
// On Linux it owns its sockets. An epoll loop per core dials without blocking,
// and the error queue of a socket (IP_RECVERR) tells a reset from an ICMP
// message, which errno cannot: both are ECONNREFUSED. A socket whose dial is over
// and left nothing behind serves the next one: a closed port then costs two
// thirds of what socket, connect and close do. Elsewhere, or if
// [Engine.Portable] is set, a pool of goroutines on net.Dialer does what errno allows.
//
// It does not speak any protocol: an open connection is handed over as soon as
// the peer has sent something, or at once where the client speaks first.
package connect

import (
	"cmp"
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// An Engine dials targets. It implements scanner.Engine. Its zero value works
// and waits for no greeting: see Banner. It must not be copied after first use.
type Engine struct {
	// Timeout and Retries bound the SYNs of a dial, whichever ends first. The
	// default time-out of 3.9 s is four SYNs of Linux, at 0, 1, 2 and 3 s.
	Timeout time.Duration // 0 = 3.9s
	Retries int           // SYNs repeated; 0 = 3, negative = none

	// GreetingTimeout is how long a connection may stay mute before it is
	// parked, and Patience how long (since connect) before it is given up.
	// Without Patience nothing is parked: it is given up after GreetingTimeout.
	GreetingTimeout time.Duration // 0 = 12s
	Patience        time.Duration // 0 = off

	Source    netip.Addr // dial targets of its family from this address, not IPv4-mapped; not valid = any
	Interface string     // dial through this interface; empty = any (Linux only)

	// MaxConns is how many descriptors are used at a time. 0 = the soft
	// RLIMIT_NOFILE less a quarter, or 256 if that is less; 65,536 at most.
	// The portable engine, which needs a goroutine for each, uses 4,096 at most.
	MaxConns int

	// Banner says that open connections are wanted. Without it they are reset
	// as soon as they are established: only the state of the port is learned.
	Banner bool

	Permit   func(targets.Target) bool // asked right before each dial; nil = always
	Note     func(code, text string)   // what may have biased the run, once a code; nil = nobody asks
	Portable bool                      // use the portable engine on Linux too

	outagePatience   time.Duration // see outage; 0 = a minute
	noGuard          bool          // as if the kernel allowed none: see loop.guard
	noCounts         bool          // as if the kernel counted no packets: see loop.connectAlone
	inFlight, parked atomic.Int64
}

// Defaults of an Engine.
const (
	defaultTimeout  = 3900 * time.Millisecond
	defaultRetries  = 3
	defaultGreeting = 12 * time.Second
	mostConns       = 1 << 16
	mostGoroutines  = 4096
)

// Stats is what an Engine is doing now.
type Stats struct {
	InFlight int // connections: pending, waiting for a greeting, parked and handed over
	Parked   int // of these, parked: open, and mute for longer than GreetingTimeout
}

// Stats returns what the Engine is doing now. It may be called at any time.
func (e *Engine) Stats() Stats {
	return Stats{InFlight: int(e.inFlight.Load()), Parked: int(e.parked.Load())}
}

// Scan implements scanner.Engine. The Conn of an observation is a *[Conn].
//
// When ctx is cancelled, a job that waits in the queue after Retry is emitted
// as interrupted too, but without a Done: the queue still holds it.
// The error is ctx's cause, or says why this machine cannot dial at all.
func (e *Engine) Scan(ctx context.Context, q scanner.Queue, emit func(scanner.Observation)) error {
	r := newRun(e, q, emit)
	scan := r.scanNative
	if e.Portable {
		scan = r.scanPortable
	}
	err := scan(ctx)
	r.handed.Wait()
	if ctx.Err() != nil {
		r.interruptRetried()
		return context.Cause(ctx)
	}
	return err
}

// maxConns returns the limit of descriptors, given the soft RLIMIT_NOFILE.
func (e *Engine) maxConns(rlimit int) int {
	if e.MaxConns > 0 {
		return e.MaxConns
	}
	most := mostConns
	if e.Portable || !native {
		most = mostGoroutines
	}
	return max(1, min(most, rlimit-min(256, rlimit/4)))
}

// synTimeout returns how long a dial may take: Timeout, or until right before
// the kernel would send one SYN more than Retries allows. TCP_SYNCNT does not do
// that: Linux adds tcp_syn_linear_timeouts to it.
//
// linear is that number: the first so many repetitions come one second after
// another, the next ones after 2, 4, 8 s (RFC 6298, 2 and 5.5).
func (e *Engine) synTimeout(linear int) time.Duration {
	retries := cmp.Or(max(e.Retries, -1), defaultRetries)
	retries = max(retries, 0)
	at, gap := time.Duration(0), time.Second
	for i := 0; i <= retries && at < time.Hour; i++ {
		at += gap
		if i >= linear {
			gap *= 2
		}
	}
	return min(cmp.Or(e.Timeout, defaultTimeout), at-20*time.Millisecond)
}
