package lab

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Segment is a TCP segment that begins or ends a connection: SYN, FIN or RST is set.
type Segment struct {
	At       time.Time // when the kernel had it, at the link
	From, To netip.AddrPort
	Seq      uint32
	Flags    uint8 // of the TCP header (RFC 9293, 3.1)
}

// Bits of Segment.Flags.
const (
	FIN = 1 << 0
	SYN = 1 << 1
	RST = 1 << 2
	ACK = 1 << 4
)

// A Capture collects the segments at a link. The kernel writes them into memory
// that is read when the capture is over, so that no load of the machine loses one.
type Capture struct {
	fd   int
	ring []byte
}

// The ring has room for 65,536 segments of 256 bytes: the kernel's description,
// the addresses of the link layer, and at most 120 bytes of the packet.
const (
	frameSize  = 256
	blockSize  = 64 << 10
	blockCount = 256
	snapLength = 120
)

// Capture collects the segments, of either direction, that begin or end
// connections at a link of a namespace until t ends: sc0 (Scanner), rt0 and rt1
// (Router), tg0 (Target). Their times are the kernel's. What leaves by a link has
// that of the system call which sent it; what arrives, the time at which the
// kernel came to it, which on a busy machine is later.
func (l *Lab) Capture(t *testing.T, ns, link string) *Capture {
	t.Helper()
	c := &Capture{}
	if err := l.namespaces[ns].do(func() error { return c.open(link) }); err != nil {
		t.Fatalf("capture at %s of %s: %v", link, ns, err)
	}
	t.Cleanup(c.close)
	return c
}

// open opens a packet socket in the namespace of the calling thread.
func (c *Capture) open(link string) error {
	index, err := linkIndex(link)
	if err != nil {
		return err
	}
	if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	ring := unix.TpacketReq{Block_size: blockSize, Block_nr: blockCount, Frame_size: frameSize, Frame_nr: blockSize / frameSize * blockCount}
	filter := endsOfConnections()
	err = errors.Join(
		unix.SetsockoptSockFprog(c.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}),
		unix.SetsockoptInt(c.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2),
		unix.SetsockoptTpacketReq(c.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &ring),
	)
	if err != nil {
		return err
	}
	if c.ring, err = unix.Mmap(c.fd, 0, blockSize*blockCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
}

// endsOfConnections is a program for the kernel that takes TCP segments with
// SYN, FIN or RST, in IP packets without extension headers.
func endsOfConnections() []unix.SockFilter {
	load := func(mode uint16, at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | mode, K: at}
	}
	unless := func(test uint16, k uint32, skip uint8) unix.SockFilter { // jumps over skip if the test fails
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k, Jf: skip}
	}
	return []unix.SockFilter{
		load(unix.BPF_ABS, 0), // version and length of the header
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf0},
		unless(unix.BPF_JEQ, 0x60, 4),
		load(unix.BPF_ABS, 6), // IPv6: next header
		unless(unix.BPF_JEQ, unix.IPPROTO_TCP, 8),
		load(unix.BPF_ABS, 40+13),
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 4},
		load(unix.BPF_ABS, 9), // IPv4: protocol
		unless(unix.BPF_JEQ, unix.IPPROTO_TCP, 4),
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0},
		load(unix.BPF_IND, 13),
		unless(unix.BPF_JSET, SYN|FIN|RST, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: snapLength},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

func linkIndex(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, err
	}
	return int(ifr.Uint32()), nil
}

// segmentIn reads an IP packet without extension headers.
func segmentIn(p []byte) (s Segment, ok bool) {
	if len(p) < 20 {
		return s, false
	}
	var from, to netip.Addr
	header := int(p[0]&15) * 4
	switch {
	case p[0]>>4 == 4 && p[9] == unix.IPPROTO_TCP:
		from, to = netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
	case p[0]>>4 == 6 && len(p) >= 60 && p[6] == unix.IPPROTO_TCP:
		from, to, header = netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:])), 40
	default:
		return s, false
	}
	if len(p) < header+20 {
		return s, false
	}
	tcp := p[header:]
	s = Segment{
		From:  netip.AddrPortFrom(from, binary.BigEndian.Uint16(tcp)),
		To:    netip.AddrPortFrom(to, binary.BigEndian.Uint16(tcp[2:])),
		Seq:   binary.BigEndian.Uint32(tcp[4:]),
		Flags: tcp[13],
	}
	return s, s.Flags&(SYN|FIN|RST) != 0
}

// Stop ends the capture and returns its segments in order of time. It fails t
// if one was lost.
func (c *Capture) Stop(t *testing.T) (segs []Segment) {
	t.Helper()
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || stats.Drops > 0 {
		t.Fatalf("capture: %d segments were lost, %v", stats.Drops, err)
	}
	for i := 0; i < len(c.ring); i += frameSize {
		frame := c.ring[i : i+frameSize]
		hdr := (*unix.Tpacket2Hdr)(unsafe.Pointer(&frame[0]))
		status := atomic.LoadUint32(&hdr.Status)
		if status&unix.TP_STATUS_USER == 0 {
			break // they are filled in order
		}
		seg, ok := segmentIn(frame[hdr.Net:][:hdr.Snaplen])
		if !ok {
			t.Fatalf("capture: a frame is no segment: %x", frame)
		}
		seg.At = time.Unix(int64(hdr.Sec), int64(hdr.Nsec))
		segs = append(segs, seg)
	}
	c.close()
	slices.SortStableFunc(segs, func(a, b Segment) int { return a.At.Compare(b.At) })
	return segs
}

func (c *Capture) close() {
	if c.ring != nil {
		unix.Munmap(c.ring)
		unix.Close(c.fd)
		c.ring = nil
	}
}

// Connections returns the first SYN of each connection that a capture saw, in
// order of time, without the kernel's repetitions.
func Connections(segs []Segment) (first []Segment) {
	type connection struct {
		from, to netip.AddrPort
		seq      uint32
	}
	seen := map[connection]bool{}
	for _, s := range segs {
		id := connection{s.From, s.To, s.Seq}
		if s.Flags&(SYN|ACK) == SYN && !seen[id] {
			seen[id] = true
			first = append(first, s)
		}
	}
	return first
}
