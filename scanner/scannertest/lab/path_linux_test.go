package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An expired is what came of a connect with a TTL: who answered, by which message, or how it ended.
type expired struct {
	from      netip.Addr
	typ, code uint8
	errno     error
}

func (e expired) String() string {
	if e.from.IsValid() {
		return fmt.Sprintf("%d/%d from %s", e.typ, e.code, e.from)
	}
	return fmt.Sprint(e.errno)
}

// dialTTL connects with a TTL, as a trace does.
func dialTTL(t *testing.T, to netip.AddrPort, ttl int, wait time.Duration) (e expired) {
	t.Helper()
	sa, fam, level, recverr, hops := unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port())}), unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR, unix.IP_TTL
	if to.Addr().Is6() {
		sa, fam, level, recverr, hops = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}, unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.IPV6_UNICAST_HOPS
	} else {
		sa.(*unix.SockaddrInet4).Addr = to.Addr().As4()
	}
	fd, err := unix.Socket(fam, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.SetsockoptInt(fd, level, recverr, 1), unix.SetsockoptInt(fd, level, hops, ttl)); err != nil {
		t.Fatal(err)
	}
	e.errno = unix.Connect(fd, sa)
	if errors.Is(e.errno, unix.EINPROGRESS) && !await(t, fd, unix.POLLOUT, wait) {
		return e
	}
	var s seen
	if s.readQueue(fd); s.from.IsValid() {
		e.from, e.typ, e.code = s.from, s.typ, s.code
		return e
	}
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if e.errno = err; errno != 0 {
		e.errno = unix.Errno(errno)
	}
	return e
}

// silently is how long a test looks at what must stay silent.
const silently = 30 * time.Millisecond

func TestPath(t *testing.T) {
	t.Parallel()
	client := netip.MustParseAddr("10.20.0.5")
	RunPath(t, PathConfig{Serve: true, Clients: []netip.Addr{client}}, func(t *testing.T, p *Path) {
		for _, fam := range []int{4, 6} {
			if fam == 6 && !p.IPv6() {
				continue
			}
			server, hops, own := netip.MustParseAddr("62.30.1.1"), PathHops4, PathServer4
			if fam == 6 {
				server, hops, own = netip.MustParseAddr("2a10:30::25"), PathHops6, PathServer6
			}
			t.Run(fmt.Sprintf("IPv%d", fam), func(t *testing.T) {
				for _, addr := range []netip.Addr{server, own} {
					checkHops(t, netip.AddrPortFrom(addr, 25), hops)
				}
				checkFilters(t, p, fam, server, hops)
				checkProxy(t, p, fam, server, hops)
				checkMasquerade(t, p, fam, server)
			})
		}
		checkClients(t, p, client)
		dark := netip.MustParseAddrPort("203.0.113.1:25")
		if e := dialTTL(t, dark, 64, silently); !errors.Is(e.errno, unix.EINPROGRESS) {
			t.Errorf("%s: got %v, want silence", dark, e)
		}
		if out, err := Nobody(p.Command(Scanner, "/usr/bin/id", "-u")).Output(); err != nil || string(out) != "65534\n" && os.Geteuid() == 0 {
			t.Errorf("Nobody: got user %q, %v", out, err)
		}
		if err := p.StartNobody(t, R2, "without root").Stop(); err != nil {
			t.Error(err)
		}
	})
}

var _ = Register("without root", func(ctx context.Context, _ []string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	if n := strings.Count(string(status), "0000000000000000"); os.Getuid() == 0 || n < 5 {
		return fmt.Errorf("user %d with %s", os.Getuid(), status)
	}
	Ready()
	<-ctx.Done()
	return nil
})

// checkHops: every router says that the TTL is over, and the fourth hop answers.
func checkHops(t *testing.T, to netip.AddrPort, hops [3]netip.Addr) {
	t.Helper()
	typ := uint8(11)
	if to.Addr().Is6() {
		typ = 3
	}
	for i, want := range hops {
		if e := dialTTL(t, to, i+1, answered); e.from != want || e.typ != typ || e.code != 0 {
			t.Errorf("%s with TTL %d: got %v, want time exceeded from %s", to, i+1, e, want)
		}
	}
	if e := dialTTL(t, to, 4, answered); e.errno != nil {
		t.Errorf("%s with TTL 4: got %v, want a connection", to, e)
	}
	if e := dialTTL(t, netip.AddrPortFrom(to.Addr(), 26), 4, answered); !errors.Is(e.errno, unix.ECONNREFUSED) {
		t.Errorf("%s, port 26: got %v, want refused", to, e)
	}
}

// checkFilters: a filter at each router, late and early, lets segments through that expire before it.
func checkFilters(t *testing.T, p *Path, fam int, server netip.Addr, hops [3]netip.Addr) {
	codes, unreachable := []uint8{0, 1, 2, 3, 9, 10, 13}, uint8(3)
	if fam == 6 {
		codes, unreachable = []uint8{0, 1, 3, 4}, 1
	}
	to := netip.AddrPortFrom(server, 25)
	for i, at := range []string{R1, R2, R3} {
		for _, early := range []bool{false, true} {
			name := fmt.Sprintf("%s early %t", at, early)
			last := i + 1 // the last TTL that is not filtered
			if early {
				last = i
			}
			drop := p.Filter(t, Filter{At: at, Early: early, Family: fam, Ports: []uint16{25}})
			for ttl := 1; ttl <= last; ttl++ {
				if e := dialTTL(t, to, ttl, answered); e.from != hops[ttl-1] {
					t.Errorf("%s: drop, TTL %d: got %v", name, ttl, e)
				}
			}
			if e := dialTTL(t, to, last+1, silently); !errors.Is(e.errno, unix.EINPROGRESS) {
				t.Errorf("%s: drop, TTL %d: got %v, want silence", name, last+1, e)
			}
			if e := dialTTL(t, netip.AddrPortFrom(server, 587), 64, answered); e.errno != nil {
				t.Errorf("%s: another port: got %v", name, e)
			}
			drop.Off(t)
			reset := p.Filter(t, Filter{At: at, Early: early, To: netip.PrefixFrom(server, server.BitLen()), Do: DoReset()})
			if e := dialTTL(t, to, last+1, answered); !errors.Is(e.errno, unix.ECONNREFUSED) || e.from.IsValid() {
				t.Errorf("%s: reset, TTL %d: got %v", name, last+1, e)
			}
			reset.Off(t)
			n := len(codes)
			if at != R2 {
				n = Count(t, 1, n, n)
			}
			for _, code := range codes[:n] {
				reject := p.Filter(t, Filter{At: at, Early: early, Family: fam, Ports: []uint16{25, 465}, Do: DoReject(code)})
				if e := dialTTL(t, to, last+1, answered); e.from != hops[i] || e.typ != unreachable || e.code != code {
					t.Errorf("%s: reject with code %d: got %v, want it from %s", name, code, e, hops[i])
				}
				reject.Off(t)
			}
		}
	}
	limit := p.Filter(t, Filter{At: R2, Family: fam, Do: DoLimit(3, 1, time.Hour)})
	passed := 0
	for range 8 {
		if e := dialTTL(t, netip.AddrPortFrom(server, 26), 64, silently); errors.Is(e.errno, unix.ECONNREFUSED) {
			passed++
		}
	}
	if passed == 0 || passed > 4 {
		t.Errorf("limit: %d of 8 passed, want the burst of 3", passed)
	}
	limit.Off(t)
	if e := dialTTL(t, to, 64, answered); e.errno != nil {
		t.Errorf("no filter any more: got %v, want a connection", e)
	}
	limit.On(t)
	limit.Off(t)
}

// checkProxy: a transparent proxy answers for the server, and passes bytes on.
func checkProxy(t *testing.T, p *Path, fam int, server netip.Addr, hops [3]netip.Addr) {
	to := netip.AddrPortFrom(server, 587)
	proxy := p.Splice(t, R2, 2599)
	defer proxy.Stop()
	redirect := p.Filter(t, Filter{At: R2, Family: fam, Ports: []uint16{587}, Do: DoRedirect(2599)})
	defer redirect.Off(t)
	if e := dialTTL(t, to, 1, answered); e.from != hops[0] {
		t.Errorf("TTL 1: got %v", e)
	}
	if e := dialTTL(t, to, 2, answered); e.errno != nil || e.from.IsValid() {
		t.Errorf("TTL 2: got %v, want the proxy", e)
	}
	if s := dial(t, server, 587, answered); s.firstLine != Greeting {
		t.Errorf("through the proxy: got %+v, want the greeting; the proxy says %q", s, proxy.Output())
	}
}

// checkMasquerade: the connection passes, and its segments beyond have the router's address.
func checkMasquerade(t *testing.T, p *Path, fam int, server netip.Addr) {
	defer p.Filter(t, Filter{At: R1, Family: fam, Do: DoMasquerade()}).Off(t)
	c := p.Capture(t, Target, "tg0")
	if s := dial(t, server, 25, answered); s.firstLine != Greeting {
		t.Errorf("behind NAT: got %+v", s)
	}
	outer := pathOuter4[0]
	if fam == 6 {
		outer = pathOuter6[0]
	}
	for _, s := range Connections(c.Stop(t)) {
		if s.From.Addr() != outer {
			t.Errorf("a connection from %s, want %s", s.From, outer)
		}
	}
}

// checkClients: a filter by source is about one of the scanner's addresses.
func checkClients(t *testing.T, p *Path, client netip.Addr) {
	defer p.Filter(t, Filter{At: R3, From: netip.PrefixFrom(client, 32), Do: DoReset()}).Off(t)
	for _, source := range []netip.Addr{client, PathClient4} {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: source.AsSlice()}, Timeout: answered}
		conn, err := d.Dial("tcp", "62.30.1.1:25")
		if err == nil {
			conn.Close()
		}
		if refused := errors.Is(err, unix.ECONNREFUSED); refused != (source == client) || !refused && err != nil {
			t.Errorf("from %s: got %v", source, err)
		}
	}
}

func TestFiltersThatCannotBe(t *testing.T) {
	for _, f := range []Filter{
		{}, {At: Router}, {At: Scanner, Early: true}, {At: R1, Family: 5}, {At: R1, Do: DoReject(13)}, {At: Scanner, Do: DoRedirect(1)},
	} {
		if f.valid() == nil {
			t.Errorf("%+v is valid", f)
		}
	}
}
