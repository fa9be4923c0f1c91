package path

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/outgoing"
	"github.com/smtpsweep/smtpsweep/scanner/recverr"
)

// A sockets dials with ordinary sockets, and reads the packets that answer if it may.
type sockets struct {
	Refusal
	tap    *tap // nil: not allowed, or not wanted
	isHere bool
	queue  recverr.Queue
}

func newDialler(r Refusal) (dialler, error) {
	d := &sockets{Refusal: r}
	if d.Patience <= 0 {
		d.Patience = defaultPatience
	}
	source, err := d.route()
	if err != nil {
		return nil, err
	}
	d.isHere = source == r.Port.Addr().WithZone("")
	if !r.Unprivileged {
		d.tap, err = openTap(r.Port.Addr(), r.Port.Port(), r.Control)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("watch packets from %s: %w", r.Port.Addr(), err)
		}
	}
	return d, nil
}

// route returns the address that this machine dials the host from; nothing is sent.
func (d *sockets) route() (netip.Addr, error) {
	dialer := net.Dialer{}
	if d.Source.IsValid() {
		dialer.LocalAddr = &net.UDPAddr{IP: d.Source.AsSlice(), Zone: d.Source.Zone()}
	}
	conn, err := dialer.Dial("udp", d.Port.String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no way to %s: %w", d.Port.Addr(), err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone(""), nil
}

func (d *sockets) here() bool { return d.isHere }

func (d *sockets) method() Method {
	if d.tap != nil {
		return MethodRaw
	}
	return MethodMinTTL
}

func (d *sockets) close() {
	if d.tap != nil {
		d.tap.close()
	}
}

// dial makes a socket for one attempt, and closes it by a reset.
func (d *sockets) dial(ctx context.Context, a attempt) (answer, error) {
	fd, err := d.socket(a)
	if err != nil {
		return answer{}, err
	}
	defer unix.Close(fd)
	dest := sockaddr(d.Port.Addr(), a.port)
	var before outgoing.Count
	if a.counts {
		before = outgoing.Read(false)
	}
	begun := time.Now()
	err = unix.Connect(fd, dest)
	if err == nil || errors.Is(err, unix.EINPROGRESS) {
		err = nil
	} else if !isAnswer(err) {
		return answer{}, fmt.Errorf("connect to %s: %w", netip.AddrPortFrom(d.Port.Addr(), a.port), err)
	}
	ans, err := d.await(ctx, fd, a, err, begun)
	if err != nil {
		return answer{}, err
	}
	if a.counts {
		ans.own = own(before, outgoing.Read(true))
	}
	if d.tap != nil {
		err = d.tap.read(localPort(fd), begun, &ans)
	}
	return ans, err
}

// isAnswer reports whether an error of connect may be an answer from the network.
func isAnswer(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) ||
		errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EACCES)
}

// await waits for what answers a connect, which returned an error already or none.
func (d *sockets) await(ctx context.Context, fd int, a attempt, err error, begun time.Time) (answer, error) {
	// What a socket drops is nothing that the kernel wakes us for.
	slice := time.Millisecond
	for {
		waited := time.Since(begun)
		ans, failed := d.look(fd, a, err)
		ans.rtt = waited
		switch {
		case failed != nil || ans.heard != silence:
			return ans, failed
		case ctx.Err() != nil:
			return answer{}, context.Cause(ctx)
		case waited >= d.Patience:
			return answer{}, nil
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		timeout := unix.NsecToTimespec(int64(min(slice, d.Patience-waited)))
		if _, err := unix.Ppoll(fds, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return answer{}, fmt.Errorf("wait for %s: %w", d.Port.Addr(), err)
		}
		slice = min(slice*5/4, 20*time.Millisecond)
	}
}

// look says what has come for a socket so far.
func (d *sockets) look(fd int, a attempt, err error) (answer, error) {
	if icmp := d.queue.Last(fd); icmp.From.IsValid() {
		return ofICMP(icmp), nil
	}
	if err == nil {
		n, failed := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case failed != nil:
			return answer{}, failed
		case n != 0:
			err = syscall.Errno(n)
			// The message that it is of may have come in between.
			if icmp := d.queue.Last(fd); icmp.From.IsValid() {
				return ofICMP(icmp), nil
			}
		}
	}
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return answer{heard: refused}, nil
	case errors.Is(err, unix.ECONNRESET): // a reset that ends a connection, not an attempt at one
		return answer{heard: accepted}, nil
	case errors.Is(err, unix.ETIMEDOUT):
		return answer{}, nil
	case err != nil:
		return answer{}, fmt.Errorf("connect to %s: %w", netip.AddrPortFrom(d.Port.Addr(), a.port), err)
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return answer{}, fmt.Errorf("TCP_INFO: %w", err)
	}
	n, _ := drops(fd)
	switch {
	case info.State == tcpEstablished, info.State == tcpCloseWait:
		return answer{heard: accepted}, nil
	case info.State == tcpSynSent && (a.minTTL > 0 || a.filter != filterNone) && n > 0:
		return answer{heard: dropped}, nil
	}
	return answer{}, nil // it goes on; or an error ended it just now, which is there next time
}

// ofICMP says what an ICMP message means.
func ofICMP(icmp scanner.ICMP) answer {
	if recverr.Reason(icmp) == scanner.TimeExceeded {
		return answer{heard: expired, icmp: icmp}
	}
	return answer{heard: rejected, icmp: icmp}
}

// drops returns how many packets a socket has dropped, as its filter or least TTL had it do; ok
// says that the kernel knows (Linux 4.12 and later).
func drops(fd int) (n uint32, ok bool) {
	const memInfoDrops = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h
	var info [memInfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return info[memInfoDrops], errno == 0
}

// socket makes the socket of an attempt.
func (d *sockets) socket(a attempt) (int, error) {
	family := pick(d.Port.Addr().Is6(), unix.AF_INET6, unix.AF_INET)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	if err := d.setUp(fd, a); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// setUp makes a socket fit for an attempt.
func (d *sockets) setUp(fd int, a attempt) error {
	ip6 := d.Port.Addr().Is6()
	level := pick(ip6, unix.SOL_IPV6, unix.SOL_IP)
	err := errors.Join(
		recverr.Ask(fd, ip6),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), // close by a reset
	)
	if a.ttl > 0 {
		err = errors.Join(err, unix.SetsockoptInt(fd, level, pick(ip6, unix.IPV6_UNICAST_HOPS, unix.IP_TTL), a.ttl))
	}
	if a.filter == filterMark {
		err = errors.Join(err, unix.SetsockoptInt(fd, level, pick(ip6, unix.IPV6_TCLASS, unix.IP_TOS), mark))
	}
	if err != nil {
		return fmt.Errorf("set up a socket: %w", err)
	}
	if a.minTTL > 0 {
		err = unix.SetsockoptInt(fd, level, pick(ip6, unix.IPV6_MINHOPCOUNT, unix.IP_MINTTL), a.minTTL)
	}
	if code := filterCode(a.filter, ip6); code != nil {
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
	}
	if _, counted := drops(fd); err != nil || !counted && (a.minTTL > 0 || a.filter != filterNone) {
		return errUnable
	}
	return d.bind(fd)
}

func pick(ip6 bool, option6, option4 int) int {
	if ip6 {
		return option6
	}
	return option4
}

// bind binds a socket to Source and Interface.
func (d *sockets) bind(fd int) error {
	if d.Interface != "" {
		if err := unix.BindToDevice(fd, d.Interface); err != nil {
			return fmt.Errorf("interface %q: %w", d.Interface, err)
		}
	}
	if !d.Source.IsValid() || d.Source.Is6() != d.Port.Addr().Is6() {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("source address %s: %w", d.Source, err)
	}
	if err := unix.Bind(fd, sockaddr(d.Source, 0)); err != nil {
		return fmt.Errorf("source address %s: %w", d.Source, err)
	}
	return nil
}

func sockaddr(addr netip.Addr, port uint16) unix.Sockaddr {
	if addr.Is4() {
		return &unix.SockaddrInet4{Addr: addr.As4(), Port: int(port)}
	}
	return &unix.SockaddrInet6{Addr: addr.As16(), Port: int(port), ZoneId: zoneID(addr.Zone())}
}

// localPort returns the port that a socket dialled from.
func localPort(fd int) uint16 {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port)
	case *unix.SockaddrInet6:
		return uint16(sa.Port)
	}
	return 0
}
