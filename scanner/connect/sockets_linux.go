package connect

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostIdle is how many sockets of a family a loop keeps between two dials: as
// many as it dials at a time.
const mostIdle = dialBatch

// sockets is what a loop knows of its descriptors.
type sockets struct {
	slots  []int32    // by descriptor: unwatched, spare, or the slot that it is of
	idle   [2][]int32 // disconnected, as good as new; IPv4 and IPv6
	guard  []bool     // by descriptor: see loop.guard
	guards int        // of them true
}

// What a descriptor is, if it has no slot.
const (
	unwatched int32 = -1 - iota // not in the epoll instance, or closed
	spare                       // in it, and idle
)

// of returns what a descriptor is.
func (k *sockets) of(fd int32) int32 {
	if int(fd) >= len(k.slots) {
		return unwatched
	}
	return k.slots[fd]
}

// set says what a descriptor is.
func (k *sockets) set(fd, i int32) {
	for int(fd) >= len(k.slots) {
		k.slots = append(k.slots, unwatched)
	}
	k.slots[fd] = i
}

// guarded reports whether a descriptor has a guard.
func (k *sockets) guarded(fd int32) bool { return int(fd) < len(k.guard) && k.guard[fd] }

func (k *sockets) setGuarded(fd int32, has bool) {
	if k.guarded(fd) == has {
		return
	}
	for int(fd) >= len(k.guard) {
		k.guard = append(k.guard, false)
	}
	k.guard[fd] = has
	if has {
		k.guards++
	} else {
		k.guards--
	}
}

// watch has epoll tell what becomes of a slot's socket. It does so once for each
// change: a socket stays watched from its first dial to its end, whatever it waits for.
func (l *loop) watch(i int32, s *slot) syscall.Errno {
	if l.sockets.of(s.fd) == unwatched {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: s.fd}
		_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epoll), unix.EPOLL_CTL_ADD, uintptr(s.fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
		if errno != 0 {
			return errno
		}
	}
	l.sockets.set(s.fd, i)
	return 0
}

// unwatch is for a socket that leaves the loop open.
func (l *loop) unwatch(s *slot) {
	if l.sockets.of(s.fd) != unwatched {
		unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.epoll), unix.EPOLL_CTL_DEL, uintptr(s.fd), 0, 0, 0)
		l.sockets.set(s.fd, unwatched)
	}
}

// closeSocket closes a slot's socket, if it has one.
func (l *loop) closeSocket(s *slot) {
	if s.fd >= 0 {
		l.closeFD(s.fd)
		s.fd = -1
	}
}

// closeFD closes a socket. Closed, it is not watched any more.
func (l *loop) closeFD(fd int32) {
	if l.sockets.of(fd) != unwatched {
		l.sockets.set(fd, unwatched)
	}
	l.sockets.setGuarded(fd, false)
	closeNow(int(fd))
}

// reuse gives a slot an idle socket, if there is one.
func (l *loop) reuse(s *slot, ip6 bool) bool {
	list := &l.sockets.idle[familyIndex(ip6)]
	n := len(*list) - 1
	if n < 0 {
		return false
	}
	s.fd, *list = (*list)[n], (*list)[:n]
	return true
}

// shelve ends a slot's connection and keeps its socket for the next dial, unless
// there are enough or descriptors are short. It is for sockets that sent one SYN:
// kernels before Linux 5.5 go on counting the repeated ones. One that dialled a
// link-local address stays bound to its interface, and is not kept.
func (l *loop) shelve(s *slot) bool {
	list := &l.sockets.idle[familyIndex(s.target.Addr.Is6())]
	limit := l.limit.Load()
	if len(*list) >= min(mostIdle, int(limit/16)) || l.inFlight.Load() > limit-limit/4 ||
		s.target.Addr.IsLinkLocalUnicast() || disconnect(int(s.fd)) != 0 {
		return false
	}
	if l.sockets.of(s.fd) != unwatched {
		l.sockets.set(s.fd, spare)
	}
	*list = append(*list, s.fd)
	s.fd = -1
	return true
}

// closeIdle closes the idle sockets.
func (l *loop) closeIdle() {
	for f := range l.sockets.idle {
		for _, fd := range l.sockets.idle[f] {
			l.closeFD(fd)
		}
		l.sockets.idle[f] = l.sockets.idle[f][:0]
	}
}

func familyIndex(ip6 bool) int {
	if ip6 {
		return 1
	}
	return 0
}

// epollWait waits for milliseconds, or not at all: then it is a raw call.
func epollWait(epoll int, events []unix.EpollEvent, timeout int) (int, syscall.Errno) {
	if timeout != 0 {
		n, err := unix.EpollWait(epoll, events, timeout)
		return n, errnoOf(err)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	return int(n), errno
}
