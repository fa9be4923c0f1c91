// Package path finds out where, on the way to a host, the SYNs to one of its ports are lost.
//
// [Tracer.Trace] sends SYNs that may go so many hops and no farther, to several ports of
// the same host, and learns from the error queues of their sockets which router each
// ended at. A port that the host answers is the control: where its SYNs still get answers and those to a
// blocked port do not, the path is not what is to blame. What is wrong is said as an
// interval of hops ([scanner.Path]), which hops that never answer widen.
//
// No privilege is needed: each SYN is a connect(2) with a TTL (ip(7), IP_TTL, IPV6_UNICAST_HOPS and
// IP_RECVERR). It has a source port of its own, so where there are several paths of equal
// cost, a hop may have several senders.
//
// Tracing needs Linux; elsewhere the error is [ErrUnsupported].
package path

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// ErrUnsupported says that this system cannot trace.
var ErrUnsupported = errors.New("tracing a path needs Linux: no other system tells a program without privilege which router answered")

// MostPorts is how many ports a trace compares.
const MostPorts = 16

// Defaults and bounds of a Tracer.
const (
	defaultMaxHops = 30
	defaultGap     = 5
	defaultFlows   = 3
	defaultWait    = time.Second
	defaultTimeout = 45 * time.Second
	mostHops       = 64
	mostFlows      = 10
)

// A Tracer traces paths. Its zero value works. One Tracer may trace several hosts at the same time,
// and should: it paces what is sent to each hop. It must not be copied after first use.
type Tracer struct {
	Source    netip.Addr    // send from this address; not valid = any
	Interface string        // send by this interface; empty = any
	MaxHops   int           // 0 = 30; 64 at most
	Gap       int           // how many hops that answer nothing are passed before it stops, towards a host that does not answer; 0 = 5
	Flows     int           // SYNs to a port at a hop, at most, each from another source port; 0 = 3, 10 at most
	Wait      time.Duration // for the answer to each; 0 = 1s
	Silence   time.Duration // how long a port may be silent to ordinary SYNs; 0 = 3.9s
	Timeout   time.Duration // of the hops of one host; 0 = 45s. What is known then is returned, not Complete.

	mu   sync.Mutex // guards following
	pace pacer
}

// A Request says what to trace.
type Request struct {
	Addr    netip.Addr
	Ports   []uint16 // at most 16
	Control uint16   // one of Ports that is compared with, if the host answers it; 0 = whichever it answers
	// Known is what is known of ports already. Those that are not there are dialled first,
	// which takes four seconds if one is silent.
	Known map[uint16]scanner.Observation
}

// A Trace is what came of a Request.
type Trace struct {
	Addr     netip.Addr
	Source   netip.Addr     // our address; not valid if nothing was sent
	Paths    []scanner.Path // in the order of Request.Ports
	Hops     []scanner.Hop  // by TTL, then in the order of Request.Ports
	SYNs     int            // that were sent to find hops
	Complete bool           // it was not interrupted, and its time was enough
	// Observed is the state of each port, by ordinary SYNs, in the order of Request.Ports.
	Observed []scanner.Observation
}

// Blocked reports whether the SYNs to a port are stopped on the way, or nothing says that they are not.
func (t *Trace) Blocked() bool {
	return slices.ContainsFunc(t.Paths, func(p scanner.Path) bool {
		return p.Fate == scanner.Lost || p.Fate == scanner.Rejected || p.Fate == scanner.Cut || p.Fate == scanner.Interposed
	})
}

// valid says what is wrong with a request.
func (r *Request) valid() error {
	switch {
	case !r.Addr.IsValid():
		return errors.New("trace: no address")
	case len(r.Ports) == 0 || len(r.Ports) > MostPorts:
		return fmt.Errorf("trace: %d ports: want 1 to %d", len(r.Ports), MostPorts)
	case slices.Contains(r.Ports, 0):
		return errors.New("trace: there is no port 0")
	case r.Control != 0 && !slices.Contains(r.Ports, r.Control):
		return fmt.Errorf("trace: the control port %d is none of the ports", r.Control)
	}
	for i, p := range r.Ports {
		if slices.Contains(r.Ports[:i], p) {
			return fmt.Errorf("trace: port %d is there twice", p)
		}
	}
	return nil
}

// limits are the Tracer's, defaults filled in.
func (t *Tracer) limits() limits {
	return limits{
		maxHops: min(cmp.Or(t.MaxHops, defaultMaxHops), mostHops),
		gap:     cmp.Or(t.Gap, defaultGap),
		flows:   min(cmp.Or(t.Flows, defaultFlows), mostFlows),
	}
}

// Trace traces the path to each port of a host. The error says why this machine cannot, or is the cause of
// ctx's end; then what is known so far is returned with it.
func (t *Tracer) Trace(ctx context.Context, r Request) (*Trace, error) {
	if err := errors.Join(r.valid(), Supported()); err != nil {
		return nil, err
	}
	tr := &Trace{Addr: r.Addr}
	var err error
	if tr.Observed, err = t.observe(ctx, r); err != nil {
		return tr, err
	}
	for _, o := range tr.Observed {
		if o.Source.IsValid() {
			tr.Source = o.Source
		}
	}
	w := newWalk(t.limits(), r, tr.Observed)
	if err = t.run(ctx, r.Addr, w); err == nil {
		tr.Complete = w.over()
	}
	tr.Hops, tr.SYNs = w.hops(), w.sent
	tr.Paths = conclude(r, tr.Observed, tr.Hops)
	return tr, err
}
