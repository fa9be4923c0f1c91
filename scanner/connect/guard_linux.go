package connect

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A firewall of this machine may answer our own SYN with a reset, which nothing tells from
// the target's: it comes in an instant, and errno and error queue are the same. But it
// comes by the loopback interface. So a socket may have a guard: a filter that drops
// resets from there. If there is one, the dial ends like one that is dropped.
//
// A guard costs as much as a dial (the kernel compiles it), so not every socket has one,
// only the first that go to a network and port, until one of them has shown that
// SYNs do get out there: the network is vouched for. A reset without a guard, from
// a network that nobody vouches for, is not believed: the dial is repeated with one.
const (
	mostGuards   = 4096             // of a loop; the kernel needs 5 KB for each
	mostNetworks = 4096             // that a loop tells apart; if there are more, larger ones
	vouchedFor   = 30 * time.Second // a firewall may change its mind
	guardRetry   = 250 * time.Millisecond
	loopbackLink = 1 // index of the loopback interface, in every network namespace
	memInfoDrops = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h
	tcpFlags     = 13
	tcpReset     = 4
)

// The guard: keep what is no reset, and what did not come by the loopback interface.
var guardCode = [...]unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: tcpFlags},
	{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: tcpReset, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfAdOff + skfAdIfindex},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: loopbackLink, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
}

// Ancillary data of filters (linux/filter.h): a negative offset, and what is there.
const (
	skfAdOff     = 1<<32 - 0x1000
	skfAdIfindex = 8
)

// guard gives a socket a guard, or takes it away, as its target needs. It is
// called before the SYN.
func (l *loop) guard(s *slot) {
	if l.guardless.Load() {
		return
	}
	if s.suspect() {
		l.unguard(s)
		return
	}
	has := l.sockets.guarded(s.fd)
	if !has && (l.networks.vouched(s.target, time.Duration(s.since)) || l.sockets.guards >= mostGuards) {
		return
	}
	local := l.env.isLocal(s.target.Addr)
	switch {
	case has && local:
		l.unguard(s)
	case !has && !local:
		code := guardCode
		program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
		if unix.SetsockoptSockFprog(int(s.fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program) != nil {
			l.guardless.Store(true)
			return
		}
		l.sockets.setGuarded(s.fd, true)
	}
}

// unguard takes the guard from a slot's socket, if it has one.
func (l *loop) unguard(s *slot) {
	if l.sockets.guarded(s.fd) {
		setInt(int(s.fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		l.sockets.setGuarded(s.fd, false)
	}
}

// vouch says that a SYN to a slot's target did leave this machine, if it was guarded.
func (l *loop) vouch(s *slot) {
	if l.doubtful(s) {
		return
	}
	if now := l.now.Sub(l.base); (l.guardless.Load() || l.sockets.guarded(s.fd)) && !l.networks.vouched(s.target, now) {
		l.networks.set(s.target, now+vouchedFor)
	}
}

// doubtful reports whether the reset being seen to may be this machine's own: it was
// there when connect returned, and nobody could tell before.
func (l *loop) doubtful(s *slot) bool { return l.atOnce && l.networks.unsure(s.target) }

// doubt is what a row says of a doubtful reset.
func (l *loop) doubt(s *slot) string {
	if !l.doubtful(s) {
		return ""
	}
	return "refused at once: this machine or the first router may have answered for it, which is not decidable from here"
}

// believes reports whether a reset came from outside, as far as we can know.
func (l *loop) believes(s *slot) bool {
	return l.guardless.Load() && !l.atOnce || l.sockets.guarded(s.fd) || l.networks.known(s.target) || l.networks.unsure(s.target) || l.env.isLocal(s.target.Addr)
}

// again puts a job back whose reset was not believed.
func (l *loop) again(i int32, s *slot, syns int) {
	job := s.job()
	job.Attempts += uint16(syns)
	if l.guardless.Load() {
		job.Dials++
		job.Reason = scanner.LocalError
	}
	l.drop(i, s)
	l.retry(job, guardRetry)
}

// guardDrops returns how many packets a socket has dropped: resets that its guard did not let
// through, or segments that are none of its connection.
func guardDrops(fd int) uint32 {
	var info [memInfoDrops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0 // before Linux 4.12
	}
	return info[memInfoDrops]
}

// A network is a port of a network: a firewall is likely to treat it as one.
type network struct {
	prefix uint64 // the first bits of an address, as many as networks has
	port   uint16
	ip6    bool
}

// networks are those that a loop dialled and knows something of: an address of them
// answered, or was sent a SYN for sure (vouched for), or this machine stopped two dials of
// one. When there are too many, larger ones are told apart.
type networks struct {
	until  map[network]time.Duration // vouched for, since the run's base; or stopped
	coarse int                       // bytes less than of a /24 or /64
}

func (n *networks) of(t targets.Target) network {
	b := t.Addr.As16()
	prefix, size := binary.BigEndian.Uint64(b[:]), 8
	if t.Addr.Is4() {
		prefix, size = uint64(binary.BigEndian.Uint32(b[12:])>>8), 3
	}
	return network{prefix: prefix >> (8 * min(n.coarse, size)), port: t.Port, ip6: t.Addr.Is6()}
}

// Marks of a network that nobody vouches for.
const (
	stopped time.Duration = -1 // this machine stopped two dials of one
	unsure  time.Duration = -2 // whose reset it is that comes at once cannot be decided
)

// known reports whether a network is, or was, vouched for.
func (n *networks) known(t targets.Target) bool { return n.until[n.of(t)] > 0 }

// stopped reports whether this machine itself stops what goes to a network.
func (n *networks) stopped(t targets.Target) bool { return n.until[n.of(t)] == stopped }

// unsure reports whether resets of a network may as well be our own.
func (n *networks) unsure(t targets.Target) bool { return n.until[n.of(t)] == unsure }

func (n *networks) stop(t targets.Target) { n.set(t, stopped) }

func (n *networks) vouched(t targets.Target, now time.Duration) bool {
	return now < n.until[n.of(t)]
}

func (n *networks) set(t targets.Target, until time.Duration) {
	if n.until == nil || len(n.until) >= mostNetworks {
		if n.until != nil {
			n.coarse++
		}
		n.until = map[network]time.Duration{}
	}
	n.until[n.of(t)] = until
}
