package smtp

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	// maxWire bounds the bytes taken from one peer, TLS records included. The
	// text is bounded by maxBytes; this stops what never becomes text.
	maxWire = 1 << 20
	// maxRecord bounds what a handshake records: a certificate message may
	// have 256 KiB in crypto/tls, the rest is small.
	maxRecord = 320 << 10
	// stallLimit is how long a handshake may be silent. It is the time that a
	// greeting line has as well.
	stallLimit = 12 * time.Second
)

var errTooMuch = errors.New("more than 1 MiB came")

// past is a deadline that ends every pending read and write.
var past = time.Unix(1, 0)

// A wire is the peer's connection with our limits on it: one absolute deadline,
// which only time that we spent queueing for a CPU moves, and a bound on what
// is received. During a handshake it records what comes, and gives its slot
// back while it waits for the peer.
type wire struct {
	net.Conn
	ctx    context.Context
	end    time.Time // absolute deadline of the conversation
	readBy time.Time // read deadline that is set
	total  int       // bytes received

	gate        chan struct{} // slots for TLS arithmetic
	handshaking bool
	holding     bool          // a slot of gate
	queued      time.Duration // that the peer waited for us, in all
	record      []byte        // received during the handshake, at most maxRecord
}

func newWire(ctx context.Context, conn net.Conn, gate chan struct{}, end time.Time) *wire {
	w := &wire{Conn: conn, ctx: ctx, gate: gate}
	w.setEnd(end)
	return w
}

// interrupt ends every pending and later read and write.
func (w *wire) interrupt() { w.Conn.SetDeadline(past) }

// setEnd sets the absolute deadline.
func (w *wire) setEnd(t time.Time) {
	w.end, w.readBy = t, t
	w.Conn.SetDeadline(t)
	w.again()
}

// limitRead makes reads end at t, but never after the absolute deadline.
func (w *wire) limitRead(t time.Time) {
	if t.After(w.end) {
		t = w.end
	}
	if t.Equal(w.readBy) {
		return
	}
	w.readBy = t
	w.Conn.SetReadDeadline(t)
	w.again()
}

// again repeats an interruption, in case the deadline just set overwrote it.
func (w *wire) again() {
	if w.ctx.Err() != nil {
		w.interrupt()
	}
}

// Read implements io.Reader within the limits.
func (w *wire) Read(p []byte) (int, error) {
	if w.total >= maxWire {
		return 0, errTooMuch
	}
	if !w.handshaking {
		n, err := w.Conn.Read(p)
		w.total += n
		return n, err
	}
	w.leave()
	w.limitRead(time.Now().Add(stallLimit))
	n, err := w.Conn.Read(p)
	w.enter()
	w.total += n
	w.record = append(w.record, p[:min(n, maxRecord-len(w.record))]...)
	return n, err
}

// begin starts a handshake, which records into buf.
func (w *wire) begin(buf []byte) {
	w.handshaking, w.record = true, buf[:0]
	w.enter()
}

// finish ends it, and gives back the slot.
func (w *wire) finish() {
	w.handshaking = false
	w.leave()
}

// enter waits for a slot. The wait is ours and not the peer's: the deadline
// moves by it.
func (w *wire) enter() {
	select {
	case w.gate <- struct{}{}:
	default:
		start := time.Now()
		w.gate <- struct{}{}
		waited := time.Since(start)
		w.queued += waited
		w.setEnd(w.end.Add(waited))
	}
	w.holding = true
}

func (w *wire) leave() {
	if w.holding {
		w.holding = false
		<-w.gate
	}
}
