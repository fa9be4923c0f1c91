package connect

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner/recverr"
)

// States of a socket, from the kernel's net/tcp_states.h.
const (
	tcpEstablished = 1
	tcpSynSent     = 2
	tcpCloseWait   = 8
)

// The system calls of a dial are raw: they never block, and telling the runtime
// of each, which may then give the thread's place to another one, costs as much
// as the shorter ones take. Nor do they allocate.

// socket makes a socket that tells ICMP messages apart and is bound to Source and
// Interface. Its error is a fault of this machine.
func (r *run) socket(ip6 bool) (int, error) {
	family, level, recvErr := unix.AF_INET, unix.SOL_IP, unix.IP_RECVERR
	if ip6 {
		family, level, recvErr = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	n, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	fd := int(n)
	if errno := setInt(fd, level, recvErr, 1); errno != 0 {
		closeNow(fd)
		return -1, errno
	}
	if r.Interface != "" {
		if err := unix.BindToDevice(fd, r.Interface); err != nil {
			unix.Close(fd)
			return -1, fault("interface "+strconv.Quote(r.Interface), err)
		}
	}
	if r.Source.IsValid() && r.Source.Is6() == ip6 {
		if err := bind(fd, r.Source); err != nil {
			unix.Close(fd)
			return -1, fault("source address "+r.Source.String(), err)
		}
	}
	return fd, nil
}

// bind binds to an address, and leaves the choice of the port to connect, which
// knows the target and so has 28,000 ports for each (IP_BIND_ADDRESS_NO_PORT).
func bind(fd int, source netip.Addr) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return err
	}
	if source.Is4() {
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: source.As4()})
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: source.As16(), ZoneId: zoneID(source.Zone())})
}

// zoneID returns the index of an interface, given by name or number.
func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0
	}
	return uint32(ifi.Index)
}

// errnoOf returns the errno of an error of package unix.
func errnoOf(err error) syscall.Errno {
	errno, _ := err.(syscall.Errno)
	return errno
}

// socketError returns SO_ERROR, and so clears it.
func socketError(fd int) syscall.Errno {
	var n int32
	size := uint32(unsafe.Sizeof(n))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return syscall.Errno(n)
}

func setInt(fd, level, option int, value int32) syscall.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return errno
}

// closeNow closes a socket that has nothing to send.
func closeNow(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// disconnect makes a socket as good as new: the next connect takes another port
// (connect(2): "dissolve the association"). A connection that is established is reset.
func disconnect(fd int) syscall.Errno {
	unspec := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unsafe.Sizeof(unspec))
	return errno
}

// tcpInfo returns the state of a connection and how many SYNs were repeated.
func tcpInfo(fd int, info *unix.TCPInfo) (state uint8, repeated int) {
	*info = unix.TCPInfo{}
	size := uint32(unsafe.Sizeof(*info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, 0
	}
	return info.State, int(info.Total_retrans)
}

// localAddr returns the address that a socket is bound to.
func localAddr(fd int, sa *unix.RawSockaddrAny) netip.AddrPort {
	size := uint32(unix.SizeofSockaddrAny)
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return recverr.AddrPort((*[unix.SizeofSockaddrAny]byte)(unsafe.Pointer(sa))[:min(size, unix.SizeofSockaddrAny)])
}

// A file is a connected socket in the runtime's poller. It implements stream.
type file struct{ *os.File }

// SetLinger sets how long a close waits for what was not sent yet; 0 resets.
func (f file) SetLinger(seconds int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = setLinger(int(fd), seconds) })
	if err != nil {
		return err
	}
	return failed
}

func setLinger(fd, seconds int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(seconds)})
}

// setConversing makes a dialled socket fit for a conversation: an ICMP message must not end it
// any more, and short commands must leave at once.
func setConversing(fd int, ip6 bool) {
	level, recvErr := unix.SOL_IP, unix.IP_RECVERR
	if ip6 {
		level, recvErr = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	setInt(fd, level, recvErr, 0)
	setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// pollTimeout turns a wait into milliseconds for epoll, rounded up.
func pollTimeout(wait time.Duration) int {
	return int(min(max(wait, 0)+time.Millisecond-1, time.Minute) / time.Millisecond)
}
