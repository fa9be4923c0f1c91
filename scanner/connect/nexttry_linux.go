package connect

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// soonest is how much sooner than a second after the last one the kernel's next SYN is
// sent, if the last one was sent on time and is not held up by a full queue.
const soonest = 100 * time.Millisecond

// hurries reports whether the kernel is about to repeat a SYN sooner than it does
// when nothing answers: a queue of this machine was full, and it tries again half
// a second later (TCP_RESOURCE_PROBE_INTERVAL). What a firewall drops it repeats
// as if it had left. l.info is of the slot's socket.
func (l *loop) hurries(s *slot) bool {
	tries, age := time.Duration(l.info.Retransmits), l.age(s)
	if tries*time.Second > age {
		return true
	}
	if l.info.Rto != uint32(time.Second/time.Microsecond) {
		return false // it takes longer each time: not known when
	}
	next, ok := nextTry(localAddr(int(s.fd), &l.name), s.target.AddrPort())
	return ok && next < (tries+1)*time.Second-age-soonest
}

// nextTry asks the kernel how long it is until it repeats what a TCP socket of ours
// sent (sock_diag(7), without privilege).
func nextTry(local, remote netip.AddrPort) (left time.Duration, ok bool) {
	const (
		reply   = 72 // sizeof(struct inet_diag_msg)
		timer   = 2  // offset of idiag_timer
		expires = 52 // offset of idiag_expires, in milliseconds
		repeats = 1  // the timer of repetitions
	)
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, 0)
	req.AddRawData(diagRequest(local, remote))
	answers, err := req.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil || len(answers) != 1 || len(answers[0]) < reply || answers[0][timer] != repeats {
		return 0, false
	}
	return time.Duration(binary.NativeEndian.Uint32(answers[0][expires:])) * time.Millisecond, true
}

// diagRequest is a struct inet_diag_req_v2 (linux/inet_diag.h) for one socket.
func diagRequest(local, remote netip.AddrPort) []byte {
	const ports, from, to, link, cookie, size = 8, 12, 28, 44, 48, 56
	b := make([]byte, size)
	b[0], b[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if local.Addr().Is4() {
		b[0] = unix.AF_INET
	}
	binary.NativeEndian.PutUint32(b[4:], 1<<32-1) // in any state
	binary.BigEndian.PutUint16(b[ports:], local.Port())
	binary.BigEndian.PutUint16(b[ports+2:], remote.Port())
	copy(b[from:], local.Addr().AsSlice())
	copy(b[to:], remote.Addr().AsSlice())
	if zone := remote.Addr().Zone(); zone != "" {
		binary.NativeEndian.PutUint32(b[link:], zoneID(zone))
	}
	binary.NativeEndian.PutUint64(b[cookie:], 1<<64-1) // none (INET_DIAG_NOCOOKIE)
	return b
}
