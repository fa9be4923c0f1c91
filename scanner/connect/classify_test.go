package connect

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// TestErrorQueueDecidesAndErrnoOnlyWithoutIt goes through every code of every
// type of ICMP message that can answer a SYN.
func TestErrorQueueDecidesAndErrnoOnlyWithoutIt(t *testing.T) {
	const none = ""
	net4 := []scanner.Reason{
		scanner.NetUnreach, scanner.HostUnreach, scanner.ProtoUnreach, scanner.PortUnreach,
		none, scanner.NetUnreach, scanner.NetUnreach, scanner.HostUnreach,
		scanner.HostUnreach, scanner.NetProhibited, scanner.HostProhibited, scanner.NetUnreach,
		scanner.HostUnreach, scanner.AdminProhibited, scanner.AdminProhibited, scanner.AdminProhibited,
	}
	net6 := []scanner.Reason{
		scanner.NetUnreach, scanner.AdminProhibited, scanner.NetUnreach, scanner.HostUnreach,
		scanner.PortUnreach, scanner.AdminProhibited, scanner.AdminProhibited, scanner.NetUnreach, scanner.HostUnreach,
	}
	cases := map[scanner.ICMP]scanner.Reason{}
	from4, from6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for code, want := range net4 {
		cases[scanner.ICMP{From: from4, Type: 3, Code: uint8(code)}] = want
	}
	for code, want := range net6 {
		cases[scanner.ICMP{From: from6, Type: 1, Code: uint8(code)}] = want
	}
	for m, want := range map[[2]uint8]scanner.Reason{
		{4, 0}: none, {5, 1}: none, {11, 0}: scanner.TimeExceeded, {11, 1}: scanner.TimeExceeded, {12, 0}: scanner.ProtoUnreach, {3, 200}: scanner.NetUnreach,
	} {
		cases[scanner.ICMP{From: from4, Type: m[0], Code: m[1]}] = want
	}
	for m, want := range map[[2]uint8]scanner.Reason{
		{2, 0}: none, {3, 0}: scanner.TimeExceeded, {4, 1}: scanner.ProtoUnreach, {129, 0}: none,
	} {
		cases[scanner.ICMP{From: from6, Type: m[0], Code: m[1]}] = want
	}
	for m, want := range cases {
		for _, errno := range []syscall.Errno{0, syscall.ECONNREFUSED, syscall.EACCES, syscall.EHOSTUNREACH, syscall.ETIMEDOUT} {
			state := scanner.Filtered
			if want == none {
				state = scanner.Unknown
			}
			checkClass(t, evidence{errno: errno, icmp: m, neighbor: neighborFailed}, state, want)
		}
	}
}

func checkClass(t *testing.T, e evidence, state scanner.State, reason scanner.Reason) {
	t.Helper()
	if s, r := classify(e); s != state || r != reason {
		t.Errorf("%+v: got %v %q, want %v %q", e, s, r, state, reason)
	}
}

func TestICMPFromOurselves(t *testing.T) {
	for _, from := range []string{"192.0.2.7", "2001:db8::7"} {
		m := scanner.ICMP{From: netip.MustParseAddr(from), Type: 3, Code: 1}
		prohibited := scanner.ICMP{From: m.From, Type: 3, Code: 13}
		if m.From.Is6() {
			m.Type, m.Code, prohibited.Type, prohibited.Code = 1, 3, 1, 1
		}
		checkClass(t, evidence{errno: syscall.EHOSTUNREACH, icmp: m, own: true, neighbor: neighborFailed}, scanner.Filtered, scanner.NoNeighbor)
		checkClass(t, evidence{errno: syscall.EHOSTUNREACH, icmp: m, own: true}, scanner.Unknown, scanner.LocalError)
		checkClass(t, evidence{errno: syscall.EHOSTUNREACH, icmp: prohibited, own: true, neighbor: neighborFailed}, scanner.Unknown, scanner.LocalError)
	}
}

func TestErrnoWithAnEmptyQueue(t *testing.T) {
	checkClass(t, evidence{}, scanner.Unknown, "")
	checkClass(t, evidence{errno: syscall.ECONNREFUSED}, scanner.Closed, scanner.ConnRefused)
	checkClass(t, evidence{errno: syscall.ETIMEDOUT}, scanner.Filtered, scanner.NoResponse)
	checkClass(t, evidence{errno: syscall.ETIMEDOUT, neighbor: neighborFailed}, scanner.Filtered, scanner.NoNeighbor)
	checkClass(t, evidence{errno: syscall.ETIMEDOUT, neighbor: neighborMissing}, scanner.Unknown, scanner.LocalError)
	for _, p := range []passage{passageDropped, passageCrowded, passageHeld, passageRefused} {
		checkClass(t, evidence{errno: syscall.ETIMEDOUT, passage: p}, scanner.Unknown, scanner.LocalError)
		checkClass(t, evidence{errno: syscall.ETIMEDOUT, neighbor: neighborFailed, passage: p}, scanner.Filtered, scanner.NoNeighbor)
	}
	for _, errno := range []syscall.Errno{
		syscall.EACCES, syscall.EPERM, syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EAFNOSUPPORT, syscall.EINVAL,
		syscall.ENETDOWN, syscall.EMFILE, syscall.EADDRNOTAVAIL, syscall.EIO,
	} {
		checkClass(t, evidence{errno: errno}, scanner.Unknown, scanner.LocalError)
	}
}

func TestLocalErrorsAreSaidInPlainWords(t *testing.T) {
	for _, c := range []struct {
		errno syscall.Errno
		ip6   bool
		want  string
	}{
		{syscall.ENETUNREACH, true, "no route to IPv6"},
		{syscall.ENETUNREACH, false, "no route to IPv4"},
		{syscall.EACCES, false, "firewall or policy forbids"},
		{syscall.EPERM, false, "firewall or policy forbids"},
		{syscall.EAFNOSUPPORT, true, "does not do IPv6"},
		{syscall.EMFILE, false, "out of file descriptors"},
		{syscall.EIO, false, syscall.EIO.Error()},
	} {
		if got := localSentence(c.errno, c.ip6); !strings.Contains(got, c.want) {
			t.Errorf("%v: got %q, want %q in it", c.errno, got, c.want)
		}
	}
}

func TestScarcityIsNotAFact(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN, syscall.EADDRNOTAVAIL} {
		if code, text := starvation(errno); !scarce(errno) || code == "" || text == "" {
			t.Errorf("%v: scarce %v, note %q %q", errno, scarce(errno), code, text)
		}
	}
	for _, errno := range []syscall.Errno{0, syscall.ECONNREFUSED, syscall.EACCES, syscall.ENETUNREACH} {
		if scarce(errno) {
			t.Error(fmt.Sprint(errno, " counts as scarcity"))
		}
	}
}
