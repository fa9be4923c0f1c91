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

	// A read listens a turn at a time. A turn that ends lateTurn too late shows
	// that this process stood still (SIGSTOP, a suspended machine), and not only
	// that there is much to do: what the peer sent meanwhile is read in the time
	// of catchUp, and silence is counted from then on. The last deadline, which
	// would be the peer's fault, counts as too late by lateEnd, once.
	turn     = 4 * time.Second
	lateTurn = 5 * time.Second
	lateEnd  = 500 * time.Millisecond
	catchUp  = time.Second
)

var errTooMuch = errors.New("more than 1 MiB came")

// past is a deadline that ends every pending read and write.
var past = time.Unix(1, 0)

// A wire is the peer's connection with our limits on it: one absolute deadline,
// which only time that was ours moves (we queued for a CPU, or stood still), and
// a bound on what is received. During a handshake it records what comes, and gives its slot
// back while it waits for the peer.
type wire struct {
	net.Conn
	ctx    context.Context
	end    time.Time // absolute deadline of the conversation
	readBy time.Time // when reads end: end, or earlier
	set    time.Time // read deadline that is set, a turn ahead at most; zero if unknown
	looked bool      // the last deadline was too late once
	total  int       // bytes received

	gate        *gate // slots for TLS arithmetic
	handshaking bool
	holding     bool          // a slot of gate
	queued      time.Duration // that the peer waited for us, in all: see now
	record      []byte        // received during the handshake, at most maxRecord
}

func newWire(ctx context.Context, conn net.Conn, gate *gate, end time.Time) *wire {
	w := &wire{Conn: conn, ctx: ctx, gate: gate}
	w.setEnd(end)
	return w
}

// interrupt ends every pending and later read and write.
func (w *wire) interrupt() { w.Conn.SetDeadline(past) }

// setEnd sets the absolute deadline.
func (w *wire) setEnd(t time.Time) {
	w.end, w.readBy, w.set = t, t, time.Time{}
	w.Conn.SetDeadline(t)
	w.again()
}

// limitRead makes reads end at t, but never after the absolute deadline.
func (w *wire) limitRead(t time.Time) {
	if t.After(w.end) {
		t = w.end
	}
	w.readBy = t
}

// now is the time by the peer's clock: that which was ours is not part of it.
func (w *wire) now() time.Time { return time.Now().Add(-w.queued) }

// lose moves all deadlines by time that was ours.
func (w *wire) lose(d time.Duration) {
	readBy := w.readBy.Add(d)
	w.queued += d
	w.setEnd(w.end.Add(d))
	w.readBy = readBy
}

// stoodStill reports whether a deadline was passed by so much that this process
// cannot have run meanwhile, and moves the deadlines by that.
func (w *wire) stoodStill(deadline time.Time, least time.Duration) bool {
	late := time.Since(deadline)
	if deadline.IsZero() || late < least || w.ctx.Err() != nil {
		return false
	}
	w.lose(late + catchUp)
	return true
}

// listen reads from the connection, turn by turn.
func (w *wire) listen(p []byte) (int, error) {
	for {
		w.stoodStill(w.set, lateTurn)
		w.setTurn(time.Now())
		n, err := w.Conn.Read(p)
		switch {
		case n > 0 || !isTimeout(err) || w.ctx.Err() != nil:
			return n, err
		case w.stoodStill(w.set, lateTurn), time.Now().Before(w.readBy):
		case w.looked || !w.stoodStill(w.set, lateEnd):
			return n, err
		default:
			w.looked = true
		}
	}
}

// setTurn sets the deadline of a read, unless the one that is set still serves.
func (w *wire) setTurn(now time.Time) {
	by := now.Add(turn)
	if by.After(w.readBy) {
		by = w.readBy
	}
	serves := !w.set.After(w.readBy) && (!w.set.Before(by) || w.set.Sub(now) > turn/2)
	if !serves {
		w.set = by
		w.Conn.SetReadDeadline(by)
		w.again()
	}
}

// Write implements io.Writer within the absolute deadline.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if err != nil && isTimeout(err) && w.stoodStill(w.end, lateEnd) {
		var rest int
		rest, err = w.Conn.Write(p[n:])
		n += rest
	}
	return n, err
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
		n, err := w.listen(p)
		w.total += n
		return n, err
	}
	w.leave()
	w.limitRead(time.Now().Add(stallLimit))
	n, err := w.listen(p)
	w.enter(true)
	w.total += n
	w.record = append(w.record, p[:min(n, maxRecord-len(w.record))]...)
	return n, err
}

// begin starts a handshake, which records into record.
func (w *wire) begin() {
	w.handshaking = true
	w.enter(false)
}

// finish ends it, and gives back the slot.
func (w *wire) finish() {
	w.handshaking = false
	w.leave()
}

// enter waits for a slot, before a handshake or in the middle of one. The wait is
// ours and not the peer's: the deadline moves by it.
func (w *wire) enter(begun bool) {
	if given := w.gate.enter(begun); given != nil {
		start := time.Now()
		<-given
		w.lose(time.Since(start))
	}
	w.holding = true
}

func (w *wire) leave() {
	if w.holding {
		w.holding = false
		w.gate.leave()
	}
}
