package reflect

import (
	"errors"
	"math/rand/v2"
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listenControl has the kernel keep the SYN of each connection (Linux 4.3).
// Without it a far end works, and says less.
func listenControl(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1)
	})
}

// synOf returns the SYN of a connection that came in, nil if it was not kept: a
// SYN cookie answered it, say. It can be asked for once.
func synOf(conn net.Conn) *SYN {
	var syn *SYN
	_ = control(conn, func(fd int) error {
		var buf [256]byte
		size := uint32(len(buf))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_SAVED_SYN,
			uintptr(unsafe.Pointer(&buf)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return errno
		}
		s, err := parseSYN(buf[:min(int(size), len(buf))])
		if err == nil {
			syn = s
		}
		return err
	})
	return syn
}

// rttOf returns the least round trip of a connection, as the kernel measured it; 0 if unknown.
func rttOf(conn net.Conn) (rtt time.Duration) {
	_ = control(conn, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Min_rtt != ^uint32(0) {
			rtt = time.Duration(info.Min_rtt) * time.Microsecond
		}
		return err
	})
	return rtt
}

// control calls f with the descriptor of a connection.
func control(conn net.Conn, f func(fd int) error) error {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return errors.ErrUnsupported
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if ctlErr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

// newMark chooses marks that no system uses by itself: systems begin with a TTL
// of 64, 128 or 255 and a window scale of 6 or more. A TTL of 180 to 210 arrives
// over at most 40 hops as one that is none of theirs either.
func newMark() mark { return mark{ttl: 180 + rand.IntN(31), scale: 2 + rand.IntN(4)} }

// set puts the mark, and a segment size if it is not 0, on a socket that is not connected yet.
func (m mark) set(network string, raw syscall.RawConn, segment int) (err error) {
	ctlErr := raw.Control(func(fd uintptr) { err = m.setOn(int(fd), network == "tcp6", segment) })
	return errors.Join(ctlErr, err)
}

func (m mark) setOn(fd int, ip6 bool, segment int) error {
	level, option := unix.IPPROTO_IP, unix.IP_TTL
	if ip6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	err := errors.Join(
		unix.SetsockoptInt(fd, level, option, m.ttl),
		// The scale offered is the one that this window needs (RFC 7323, 2.2).
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 1<<(15+m.scale)),
	)
	if segment > 0 {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, segment))
	}
	return err
}
