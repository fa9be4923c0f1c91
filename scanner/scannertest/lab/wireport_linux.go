package lab

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A port is a packet socket on one end of the wire. Frames that come lie in a ring
// that it shares with the kernel (packet(7); Linux packet_mmap.rst, TPACKET_V2): it holds
// what comes while the process waits for a processor, whatever net.core.rmem_max is.
type port struct {
	fd   int
	ring []byte
	at   int // the slot that is next

	again int // frames sent once more, because the link had no room: it counts them as dropped
}

// A ring has 16,384 slots, each for a frame of an MTU of 1,500 and the kernel's header.
const (
	slotSize  = 2048
	slots     = 1 << 14
	ringBlock = 1 << 16
)

func openPort(link string) (*port, error) {
	p := &port{fd: -1}
	err := p.open(link)
	if err != nil {
		p.close()
		return nil, fmt.Errorf("wire on %s: %w", link, err)
	}
	return p, nil
}

func (p *port) open(link string) (err error) {
	if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	for _, option := range []struct{ name, value int }{
		{unix.PACKET_VERSION, unix.TPACKET_V2},
		{unix.PACKET_IGNORE_OUTGOING, 1},
	} {
		if err := unix.SetsockoptInt(p.fd, unix.SOL_PACKET, option.name, option.value); err != nil {
			return err
		}
	}
	req := unix.TpacketReq{Block_size: ringBlock, Block_nr: slots * slotSize / ringBlock, Frame_size: slotSize, Frame_nr: slots}
	if err := unix.SetsockoptTpacketReq(p.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return err
	}
	if p.ring, err = unix.Mmap(p.fd, 0, slots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index})
}

func (p *port) close() {
	if p.ring != nil {
		unix.Munmap(p.ring)
	}
	if p.fd >= 0 {
		unix.Close(p.fd)
	}
}

// await waits until a frame is there, for so long (negative: for ever), and reports whether
// it is to stop: another descriptor is closed at its far end.
func (p *port) await(stop int, atMost time.Duration) (stopped bool, err error) {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	var timeout *unix.Timespec
	if atMost >= 0 {
		ts := unix.NsecToTimespec(int64(atMost))
		timeout = &ts
	}
	_, err = unix.Ppoll(fds, timeout, nil)
	if errors.Is(err, unix.EINTR) {
		err = nil
	}
	return fds[1].Revents != 0, err
}

// next returns the frame that came first, and when it came; nil if there is none. It is good until release.
func (p *port) next() (frame []byte, came time.Time, err error) {
	h := p.header()
	if atomic.LoadUint32(&h.Status)&unix.TP_STATUS_USER == 0 {
		return nil, came, nil
	}
	if h.Snaplen < h.Len {
		return nil, came, fmt.Errorf("wire: a frame of %d bytes: are offloads off, and is the MTU 1,500?", h.Len)
	}
	start := p.at*slotSize + int(h.Mac)
	return p.ring[start : start+int(h.Snaplen)], time.Unix(int64(h.Sec), int64(h.Nsec)), nil
}

// release gives the slot of the frame that next returned back to the kernel.
func (p *port) release() {
	atomic.StoreUint32(&p.header().Status, unix.TP_STATUS_KERNEL)
	p.at = (p.at + 1) % slots
}

func (p *port) header() *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(&p.ring[p.at*slotSize]))
}

// send sends a frame. The far end of a link may have no room for a moment.
func (p *port) send(frame []byte) error {
	for {
		_, err := unix.Write(p.fd, frame)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			p.again++
			time.Sleep(100 * time.Microsecond)
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// drops returns how many frames came that had no room in the ring.
func (p *port) drops() (int, error) {
	stats, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, err
	}
	return int(stats.Drops), nil
}

// linkDrops returns how many frames the links of the lab had no room for.
func (l *Lab) linkDrops() (n int, err error) {
	for ns := range l.namespaces {
		h, err := l.handle(ns)
		if err != nil {
			return 0, err
		}
		links, err := h.LinkList()
		h.Close()
		if err != nil {
			return 0, fmt.Errorf("links in %s: %w", ns, err)
		}
		for _, link := range links {
			if s := link.Attrs().Statistics; s != nil && link.Type() == "veth" {
				n += int(s.TxDropped + s.RxDropped)
			}
		}
	}
	return n, nil
}
