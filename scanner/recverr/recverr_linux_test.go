package recverr

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// cmsg builds a control message of 64-bit or 32-bit machines, whichever this is.
func cmsg(level, typ int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	if unix.SizeofCmsghdr == 16 {
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(data))))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(unix.CmsgLen(len(data))))
	}
	binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-8:], uint32(level))
	binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-4:], uint32(typ))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

// extendedErr builds a struct sock_extended_err with its offender.
func extendedErr(origin, typ, code byte, from netip.Addr) []byte {
	b := make([]byte, 16, 48)
	b[4], b[5], b[6] = origin, typ, code
	if from.Is4() {
		b = binary.NativeEndian.AppendUint16(b, unix.AF_INET)
		a := from.As4()
		b = append(append(b, 0, 0), a[:]...)
		return append(b, make([]byte, 8)...)
	}
	b = binary.NativeEndian.AppendUint16(b, unix.AF_INET6)
	a := from.As16()
	b = append(append(b, 0, 0, 0, 0, 0, 0), a[:]...)
	return append(b, 0, 0, 0, 0)
}

var (
	router4  = netip.MustParseAddr("192.0.2.1")
	router6  = netip.MustParseAddr("2001:db8::1")
	message4 = cmsg(unix.SOL_IP, unix.IP_RECVERR, extendedErr(unix.SO_EE_ORIGIN_ICMP, 3, 13, router4))
	message6 = cmsg(unix.SOL_IPV6, unix.IPV6_RECVERR, extendedErr(unix.SO_EE_ORIGIN_ICMP6, 1, 1, router6))
)

func TestErrorQueueTellsWhoSentWhat(t *testing.T) {
	other := cmsg(unix.SOL_SOCKET, unix.SO_TIMESTAMP, make([]byte, 16))
	for _, c := range []struct {
		name string
		oob  []byte
		want scanner.ICMP
	}{
		{"IPv4", message4, scanner.ICMP{From: router4, Type: 3, Code: 13}},
		{"IPv6", message6, scanner.ICMP{From: router6, Type: 1, Code: 1}},
		{"after another message", append(other, message4...), scanner.ICMP{From: router4, Type: 3, Code: 13}},
		{"of the kernel itself", cmsg(unix.SOL_IP, unix.IP_RECVERR, extendedErr(unix.SO_EE_ORIGIN_LOCAL, 3, 13, router4)), scanner.ICMP{}},
		{"cut off", message4[:unix.CmsgLen(0)+15], scanner.ICMP{}},
		{"no offender", cmsg(unix.SOL_IP, unix.IP_RECVERR, extendedErr(unix.SO_EE_ORIGIN_ICMP, 3, 13, router4)[:16]), scanner.ICMP{}},
		{"nothing", nil, scanner.ICMP{}},
	} {
		if got, ok := Parse(c.oob); got != c.want || ok != c.want.From.IsValid() {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, ok, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(message4)
	f.Add(message6)
	f.Add(append(cmsg(unix.SOL_SOCKET, 1, nil), message6[:30]...))
	f.Add(make([]byte, unix.SizeofCmsghdr))
	f.Fuzz(func(t *testing.T, oob []byte) {
		m, ok := Parse(oob)
		if ok != m.From.IsValid() {
			t.Errorf("got %+v, %v", m, ok)
		}
		if !ok && m != (scanner.ICMP{}) {
			t.Errorf("not ok, and still %+v", m)
		}
	})
}

// TestQueueOfARealSocket: a datagram to a port of ours where nobody listens is answered by
// our own kernel with an ICMP message.
func TestQueueOfARealSocket(t *testing.T) {
	for _, to := range []string{"127.0.0.1", "::1"} {
		t.Run(to, func(t *testing.T) {
			addr := netip.MustParseAddr(to)
			closed, err := net.ListenUDP("udp", &net.UDPAddr{IP: addr.AsSlice()})
			if err != nil {
				t.Skipf("no %s here: %v", to, err)
			}
			dest := closed.LocalAddr().(*net.UDPAddr)
			closed.Close()
			conn, err := net.DialUDP("udp", nil, dest)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			raw, err := conn.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var asked error
			if err := errors.Join(raw.Control(func(fd uintptr) { asked = Ask(int(fd), addr.Is6()) }), asked); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			want := scanner.ICMP{From: addr, Type: 3, Code: 3}
			if addr.Is6() {
				want.Type, want.Code = 1, 4
			}
			var q Queue
			raw.Control(func(fd uintptr) {
				if got, ok := q.Next(int(fd)); got != want || !ok {
					t.Errorf("got %+v, %v, want %+v", got, ok, want)
				}
				if got, ok := q.Next(int(fd)); ok {
					t.Errorf("another message: %+v", got)
				}
				if got := q.Last(int(fd)); got.From.IsValid() {
					t.Errorf("the last of an empty queue: %+v", got)
				}
			})
			if reason := Reason(want); reason != scanner.PortUnreach {
				t.Errorf("reason %q", reason)
			}
		})
	}
}
