package connect

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// errTimeout is the cause of a dial's own end, so that it is never mistaken for
// the end of the run.
var errTimeout = errors.New("no answer in time")

const (
	redials = 3 // of a job whose dial was over while we stood still
	// lastLook is how long a mute peer is listened to once more: a deadline that
	// passed while we stood still hides what has come.
	lastLook = 10 * time.Millisecond
)

// A pool is the portable engine: a goroutine for each connection, on net.Dialer.
// It knows errno only: no sender of an ICMP message, so what errno cannot tell
// apart is a local error. Nor does it know whether a SYN left this machine: it
// says so if a target is silent. Attempts counts dials, because nobody counts the SYNs.
type pool struct {
	*run
	ctx    context.Context
	dialer net.Dialer
	wg     sync.WaitGroup

	mu   sync.Mutex
	mute list.List // of *net.TCPConn: parked, the oldest first
}

// scanPortable starts a goroutine for each job that may be dialled.
func (r *run) scanPortable(ctx context.Context) error {
	woken := make(chan struct{}, 1)
	r.wake = func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}
	r.q.Wake(r.wake)
	if r.Interface != "" {
		return fault("interface "+r.Interface, errors.New("only Linux can dial through an interface by name; give its address as the source"))
	}
	p := &pool{run: r, ctx: ctx, dialer: net.Dialer{KeepAlive: -1}}
	p.dialer.SetMultipathTCP(false)
	if r.Source.IsValid() {
		p.dialer.LocalAddr = &net.TCPAddr{IP: r.Source.Unmap().WithZone("").AsSlice(), Zone: r.Source.Zone()}
	}
	defer p.wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, ok := p.start()
		if !ok {
			return nil
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
		case <-timer.C:
		}
	}
}

// start dials what may be dialled now, and says when to come again.
func (p *pool) start() (wait time.Duration, ok bool) {
	for p.ctx.Err() == nil {
		if !p.acquire() {
			p.grow(time.Now())
			return growInterval, true
		}
		p.grow(time.Now())
		job, wait, ok := p.q.Next(time.Now())
		if !ok || wait > 0 {
			p.giveBack()
			return wait, ok
		}
		p.took(&job)
		p.wg.Go(func() { p.dial(job) })
	}
	return 0, true
}

// dial makes one connection and sees to it until it is over or handed over.
func (p *pool) dial(job scanner.Job) {
	if !p.permitted(job.Target) {
		p.giveBack()
		p.finish(job, excluded(job, time.Now()))
		return
	}
	p.begin()
	ctx, cancel := context.WithTimeoutCause(p.ctx, p.timeout, errTimeout)
	defer cancel()
	begun := time.Now()
	conn, err := p.dialTCP(ctx, job.Target.AddrPort())
	now := time.Now()
	job.Attempts++
	switch {
	case err == nil:
		p.established(job, conn, begun, now)
	case p.ctx.Err() != nil:
		p.release()
		p.finish(job, interrupted(job, now))
	default:
		p.failed(job, ctx, err, now.Sub(begun))
	}
}

func (p *pool) dialTCP(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	d := p.dialer
	if p.Source.IsValid() && p.Source.Unmap().Is4() != to.Addr().Is4() {
		d.LocalAddr = nil // the source of the other family
	}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// failed sees to a dial without a connection.
func (p *pool) failed(job scanner.Job, ctx context.Context, err error, took time.Duration) {
	var errno syscall.Errno
	errors.As(err, &errno)
	errno = portableErrno(errno)
	if scarce(errno) {
		job.Attempts-- // no SYN left
		if p.starve(job, errno) {
			return
		}
	}
	if errno == 0 && (context.Cause(ctx) == errTimeout || os.IsTimeout(err)) {
		errno = syscall.ETIMEDOUT
	}
	if errno == syscall.ECONNRESET || errno == syscall.EPIPE {
		p.resetAtOnce(job, took)
		return
	}
	if errno == syscall.ETIMEDOUT && took > p.timeout+standstill && job.Dials < redials {
		job.Dials++ // we stood still, and the answer may have come meanwhile
		p.release()
		p.retry(job, 0)
		return
	}
	obs := scanner.Observation{Target: job.Target, Attempts: int(job.Attempts), At: time.Now()}
	obs.State, obs.Reason = classify(evidence{errno: errno})
	switch {
	case obs.Reason == "": // an error without a number
		obs.Reason, obs.Err = scanner.LocalError, "this machine could not connect: "+err.Error()
	case obs.Reason == scanner.LocalError:
		obs.Err = localSentence(errno, job.Target.Addr.Is6())
	case obs.State == scanner.Closed:
		obs.RTT = took
	case obs.Reason == scanner.NoResponse:
		p.note("own-drop-unseen", "on this system the engine cannot see whether a firewall of this machine drops what it sends: no-response may be that, too")
	}
	if p.Source.IsValid() {
		obs.Source = p.Source
	}
	p.release()
	p.finish(job, obs)
}

// established sees to a connection: it is closed, handed over at once, or when
// the peer has sent something.
func (p *pool) established(job scanner.Job, conn *net.TCPConn, begun, now time.Time) {
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	obs := scanner.Observation{
		Target: job.Target, State: scanner.Open, Reason: scanner.SynAck, Source: local.Addr().Unmap(),
		RTT: now.Sub(begun), Attempts: int(job.Attempts), At: now, Connected: now,
	}
	if !p.Banner {
		conn.SetLinger(0)
		conn.Close()
		p.release()
		p.finish(job, obs)
		return
	}
	var peeked []byte
	var reset bool
	if !job.Target.Role.ClientFirst() {
		var spoke bool
		peeked, spoke, reset = p.await(conn, now)
		if !spoke {
			conn.SetLinger(0) // a tarpit would not take a FIN: it closes its window
			conn.Close()
			p.release()
			obs.At = time.Now()
			obs.Mute = obs.At.Sub(now)
			if p.ctx.Err() != nil {
				obs = interrupted(job, obs.At)
			}
			p.finish(job, obs)
			return
		}
	}
	p.handOver(job, obs, &Conn{stream: conn, local: tcpAddr(netip.AddrPortFrom(local.Addr().Unmap(), local.Port())), peeked: peeked, reset: reset})
}

// resetAtOnce sees to a connection that was established, and reset by the peer
// before the dialer could return it.
func (p *pool) resetAtOnce(job scanner.Job, took time.Duration) {
	now := time.Now()
	obs := scanner.Observation{
		Target: job.Target, State: scanner.Open, Reason: scanner.SynAck,
		RTT: took, Attempts: int(job.Attempts), At: now, Connected: now,
	}
	if !p.Banner {
		p.release()
		p.finish(job, obs)
		return
	}
	p.handOver(job, obs, &Conn{stream: dead{}, reset: true})
}

// handOver emits an open connection.
func (p *pool) handOver(job scanner.Job, obs scanner.Observation, c *Conn) {
	c.remote = tcpAddr(job.Target.AddrPort())
	c.done = func() {
		p.release()
		p.q.Done(job)
		p.handed.Done()
	}
	obs.Conn, obs.At = c, time.Now()
	p.handed.Add(1)
	p.over(&job)
	p.emit(obs)
}

// dead is the stream of a connection that is gone.
type dead struct{}

func (dead) Read([]byte) (int, error)         { return 0, syscall.ECONNRESET }
func (dead) Write([]byte) (int, error)        { return 0, syscall.ECONNRESET }
func (dead) Close() error                     { return nil }
func (dead) SetDeadline(time.Time) error      { return nil }
func (dead) SetReadDeadline(time.Time) error  { return nil }
func (dead) SetWriteDeadline(time.Time) error { return nil }
func (dead) SetLinger(int) error              { return nil }

// await waits for the first byte of the peer, or its end of the connection.
// spoke is false if it stayed mute until it was given up, or the run was cancelled.
func (p *pool) await(conn *net.TCPConn, since time.Time) (peeked []byte, spoke, reset bool) {
	stop := context.AfterFunc(p.ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	p.deadline(conn, since.Add(p.greeting))
	peeked, err := peek(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) && p.Patience > p.greeting && p.ctx.Err() == nil {
		e := p.park(conn, since.Add(p.Patience))
		peeked, err = peek(conn)
		p.unpark(e)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && p.ctx.Err() == nil {
		p.deadline(conn, time.Now().Add(lastLook))
		peeked, err = peek(conn)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, false, false
	}
	conn.SetReadDeadline(time.Time{})
	return peeked, true, err != nil && isReset(err)
}

// deadline sets when a read of conn ends; if the run is cancelled, it has ended.
func (p *pool) deadline(conn *net.TCPConn, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() == nil {
		conn.SetReadDeadline(until)
	} else {
		conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// peek reads one byte.
func peek(conn *net.TCPConn) ([]byte, error) {
	b := make([]byte, 1)
	n, err := conn.Read(b)
	return b[:n], err
}

func isReset(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && portableErrno(errno) == syscall.ECONNRESET
}

// park keeps a mute connection on until a time, and gives up the oldest if there
// are too many.
func (p *pool) park(conn *net.TCPConn, until time.Time) *list.Element {
	p.deadline(conn, until)
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.mute.PushBack(conn)
	p.parked.Add(1)
	if p.mute.Len() > p.mostParked() {
		p.noteParked()
		oldest := p.mute.Front()
		p.mute.Remove(oldest)
		oldest.Value.(*net.TCPConn).SetReadDeadline(time.Unix(1, 0))
	}
	return e
}

func (p *pool) unpark(e *list.Element) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute.Remove(e) // does nothing if it was given up
	p.parked.Add(-1)
}
