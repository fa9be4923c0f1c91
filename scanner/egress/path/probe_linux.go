package path

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/recverr"
)

// mostFlying bounds the sockets of a trace.
const mostFlying = 64

// lookUp is how long a trace that ends may go unnoticed.
const lookUp = 100 * time.Millisecond

// States of a socket, from the kernel's net/tcp_states.h.
const (
	tcpEstablished = 1
	tcpSynSent     = 2
	tcpCloseWait   = 8
)

// Supported returns ErrUnsupported where a path cannot be traced.
func Supported() error { return nil }

// A flight is a SYN on its way.
type flight struct {
	probe
	fd    int
	since time.Time
}

// A runner carries out a walk.
type runner struct {
	*Tracer
	walk    *walk
	addr    netip.Addr
	wait    time.Duration
	flights []flight
	queue   recverr.Queue
}

// run carries out a walk, until it is over, its time is, or ctx ends.
func (t *Tracer) run(ctx context.Context, addr netip.Addr, w *walk) error {
	r := &runner{Tracer: t, walk: w, addr: addr.Unmap(), wait: cmp.Or(t.Wait, defaultWait)}
	defer r.close()
	end := time.Now().Add(cmp.Or(t.Timeout, defaultTimeout))
	for {
		switch now := time.Now(); {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case now.After(end):
			return nil
		}
		idle, err := r.launch()
		if err != nil {
			return err
		}
		if len(r.flights) == 0 && w.over() {
			return nil
		}
		if err := r.land(min(idle, lookUp)); err != nil {
			return err
		}
	}
}

func (r *runner) close() {
	for _, f := range r.flights {
		unix.Close(f.fd)
	}
}

// launch sends what may be sent now, and returns how long it is until there may be more.
func (r *runner) launch() (idle time.Duration, err error) {
	for {
		p, wait, ok := r.choose()
		if !ok {
			return wait, nil
		}
		f, came, err := r.send(p)
		switch {
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
			if len(r.flights) == 0 {
				return 0, fmt.Errorf("trace: out of file descriptors (raise the limit of open files: ulimit -n): %w", err)
			}
			return lookUp, nil
		case err != nil:
			return 0, fmt.Errorf("trace: %w", err)
		case came != nil:
			r.walk.begin(p)
			r.walk.take(*came)
		default:
			r.walk.begin(p)
			r.flights = append(r.flights, f)
		}
	}
}

// choose returns a SYN that may be sent now, or how long to wait.
func (r *runner) choose() (p probe, wait time.Duration, ok bool) {
	wait = lookUp
	if len(r.flights) >= mostFlying {
		return p, wait, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, p := range r.walk.candidates() {
		d := r.pace.wait(p.ttl, now)
		if d == 0 {
			return p, 0, true
		}
		wait = min(wait, d)
	}
	return p, wait, false
}

// send sends a SYN. err says that there is no socket, and came is what the kernel said at once.
func (r *runner) send(p probe) (f flight, came *reply, err error) {
	ip6 := r.addr.Is6()
	family, level, hops := unix.AF_INET, unix.SOL_IP, unix.IP_TTL
	if ip6 {
		family, level, hops = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return f, nil, err
	}
	err = errors.Join(
		recverr.Ask(fd, ip6),
		unix.SetsockoptInt(fd, level, hops, p.ttl),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1),
		r.bind(fd, ip6),
	)
	if err != nil {
		unix.Close(fd)
		return f, nil, err
	}
	port := int(r.walk.ports[p.port])
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: r.addr.As16(), ZoneId: zoneID(r.addr.Zone())}
	if !ip6 {
		to = &unix.SockaddrInet4{Port: port, Addr: r.addr.As4()}
	}
	f = flight{probe: p, fd: fd, since: time.Now()}
	err = unix.Connect(fd, to)
	if err == nil || errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		return f, nil, nil
	}
	came = &reply{probe: p, reason: scanner.LocalError, ours: true}
	if errors.Is(err, unix.ECONNREFUSED) { // before connect returned
		came = &reply{probe: p, reason: scanner.ConnRefused, rtt: time.Since(f.since)}
	}
	unix.Close(fd)
	return f, came, nil
}

// bind binds a socket to where the Tracer sends from.
func (r *runner) bind(fd int, ip6 bool) error {
	if r.Interface != "" {
		if err := unix.BindToDevice(fd, r.Interface); err != nil {
			return fmt.Errorf("interface %s: %w", strconv.Quote(r.Interface), err)
		}
	}
	if !r.Source.IsValid() || r.Source.Is6() != ip6 {
		return nil
	}
	var from unix.Sockaddr = &unix.SockaddrInet6{Addr: r.Source.As16(), ZoneId: zoneID(r.Source.Zone())}
	if !ip6 {
		from = &unix.SockaddrInet4{Addr: r.Source.As4()}
	}
	err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), unix.Bind(fd, from))
	if err != nil {
		return fmt.Errorf("source address %s: %w", r.Source, err)
	}
	return nil
}

// zoneID returns the index of an interface, given by name or number.
func zoneID(zone string) uint32 {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(ifi.Index)
}

// land waits, and takes what came of the SYNs on their way.
func (r *runner) land(idle time.Duration) error {
	fds := make([]unix.PollFd, len(r.flights))
	now := time.Now()
	for i, f := range r.flights {
		fds[i] = unix.PollFd{Fd: int32(f.fd), Events: unix.POLLOUT}
		idle = min(idle, f.since.Add(r.wait).Sub(now))
	}
	timeout := unix.NsecToTimespec(int64(max(idle, 0)))
	if _, err := unix.Ppoll(fds, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("trace: poll: %w", err)
	}
	now = time.Now()
	kept := r.flights[:0]
	for i, f := range r.flights {
		// One whose time is over is looked at too: this process may have stood still.
		over := now.Sub(f.since) >= r.wait
		var came *reply
		if fds[i].Revents != 0 || over {
			came = r.read(f, now)
		}
		if came == nil && over {
			came = &reply{probe: f.probe, reason: scanner.NoResponse}
		}
		if came == nil {
			kept = append(kept, f)
			continue
		}
		unix.Close(f.fd)
		r.walk.take(*came)
	}
	r.flights = kept
	return nil
}

// read returns what came of a SYN, or nil if nothing did yet. The error queue comes first:
// errno says the same for an ICMP message as for a reset.
func (r *runner) read(f flight, now time.Time) *reply {
	came := &reply{probe: f.probe, rtt: now.Sub(f.since)}
	for {
		m, ok := r.queue.Next(f.fd)
		if !ok {
			break
		}
		if reason := recverr.Reason(m); reason != "" {
			came.reason, came.icmp, came.ours = reason, m, m.From == localAddr(f.fd)
			return came
		}
	}
	errno, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		errno = int(unix.EIO)
	}
	info, err := unix.GetsockoptTCPInfo(f.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	switch {
	case unix.Errno(errno) == unix.ECONNREFUSED, unix.Errno(errno) == unix.ECONNRESET:
		came.reason = scanner.ConnRefused
	case errno != 0 && unix.Errno(errno) != unix.ETIMEDOUT:
		came.reason, came.ours = scanner.LocalError, true
	case err == nil && (info.State == tcpEstablished || info.State == tcpCloseWait):
		came.reason = scanner.SynAck
		// A reset, and not a FIN that waits for an answer.
		unix.SetsockoptLinger(f.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	case errno == 0 && err == nil && info.State == tcpSynSent:
		return nil
	default:
		came.reason = scanner.NoResponse
	}
	return came
}

// localAddr returns the address that a socket is bound to.
func localAddr(fd int) netip.Addr {
	switch sa, _ := unix.Getsockname(fd); sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr)
	}
	return netip.Addr{}
}
