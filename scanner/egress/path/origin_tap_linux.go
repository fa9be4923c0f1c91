package path

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tap sees the resets and SYN-ACKs that come from a host (packet(7)); it needs CAP_NET_RAW.
type tap struct {
	fd  int
	ip6 bool
}

// openTap watches what comes from ports of a host.
func openTap(host netip.Addr, ports ...uint16) (*tap, error) {
	t := &tap{ip6: host.Is6()}
	protocol := uint16(unix.ETH_P_IP)
	if t.ip6 {
		protocol = unix.ETH_P_IPV6
	}
	// Protocol 0: nothing is received before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	t.fd = fd
	code := tapCode(host, ports)
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8}), // in network order
	)
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tap) close() { unix.Close(t.fd) }

// tapCode is a program that takes the first bytes of TCP segments with SYN or RST from ports of a
// host, in packets without extension headers.
func tapCode(host netip.Addr, ports []uint16) []unix.SockFilter {
	var code []unix.SockFilter
	must := []int{} // jumps to the end unless equal
	add := func(f unix.SockFilter) { code = append(code, f) }
	load := func(size uint16, at uint32) { add(unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: at}) }
	equal := func(k uint32) {
		must = append(must, len(code))
		add(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k})
	}
	protocolAt, sourceAt := uint32(9), uint32(12)
	if host.Is6() {
		protocolAt, sourceAt = 6, 8
	}
	load(unix.BPF_B, protocolAt)
	equal(unix.IPPROTO_TCP)
	for i, b := 0, host.AsSlice(); i < len(b); i += 4 {
		load(unix.BPF_W, sourceAt+uint32(i))
		equal(binary.BigEndian.Uint32(b[i:]))
	}
	if host.Is6() {
		add(unix.SockFilter{Code: unix.BPF_LDX | unix.BPF_IMM, K: 40})
	} else {
		add(unix.SockFilter{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0})
	}
	indirect := func(size uint16, at uint32) { add(unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_IND, K: at}) }
	indirect(unix.BPF_B, tcpFlagsAt)
	must = append(must, len(code))
	add(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: tcpSYN | tcpRST})
	indirect(unix.BPF_H, 0)
	for i, port := range ports {
		add(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(port), Jt: uint8(len(ports) - i)})
	}
	drop := len(code)
	add(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
	add(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: tapBytes})
	for _, i := range must {
		code[i].Jf = uint8(drop - i - 1)
	}
	return code
}

const tapBytes = 80 // an IPv6 or the longest IPv4 header, and the fixed part of the TCP header

// read takes what came to a port of ours, and adds the last of it to the answer of an attempt that was begun then.
func (t *tap) read(to uint16, begun time.Time, ans *answer) error {
	buf, oob := make([]byte, tapBytes), make([]byte, 128)
	for {
		n, oobn, _, from, err := unix.Recvmsg(t.fd, buf, oob, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		h, port, ok := parseHeader(buf[:n])
		if !ok || port != to || ans.heard == accepted && h.Flags&tcpSYN == 0 || ans.heard == refused && h.Flags&tcpRST == 0 {
			continue
		}
		ans.header = &h
		if at, ok := arrived(oob[:oobn]); ok {
			ans.rtt = max(at.Sub(begun.Round(0)), 0)
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && h.Flags&tcpRST != 0 {
			ans.own = factOf(link.Ifindex == loopbackLink)
		}
	}
}

// arrived returns when the kernel had a packet, by its clock for dates.
func arrived(oob []byte) (at time.Time, ok bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return at, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			ts := (*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			return time.Unix(ts.Unix()), true
		}
	}
	return at, false
}
