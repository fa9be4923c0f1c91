package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	SideBySide(4)
	os.Exit(Main(m))
}

// echo is a function that tests start: it prints its arguments, its interfaces, and READY.
var _ = Register("echo", func(ctx context.Context, args []string) error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, link := range links {
		fmt.Println("link", link.Name)
	}
	fmt.Println("args", args)
	if len(args) > 0 && args[0] == "fail" {
		return errors.New("told to")
	}
	Ready()
	<-ctx.Done()
	fmt.Println("stopped")
	return nil
})

// seen is what one connect saw.
type seen struct {
	errno      error // nil: connected; EINPROGRESS: silence
	from       netip.Addr
	typ, code  uint8
	firstLine  string
	connection bool
}

// answered is how long a test waits for what must come. It comes at once, but on a
// machine that is busy.
const answered = time.Minute

// dial connects the way an engine would: error queue on, and read on failure.
func dial(t *testing.T, addr netip.Addr, port uint16, wait time.Duration) (s seen) {
	t.Helper()
	var sa unix.Sockaddr
	fam, level, opt := unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR
	if addr.Is6() {
		sa = &unix.SockaddrInet6{Port: int(port), Addr: addr.As16()}
		fam, level, opt = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	} else {
		sa = &unix.SockaddrInet4{Port: int(port), Addr: addr.As4()}
	}
	fd, err := unix.Socket(fam, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, level, opt, 1); err != nil {
		t.Fatal(err)
	}
	s.errno = unix.Connect(fd, sa)
	if !errors.Is(s.errno, unix.EINPROGRESS) || !await(t, fd, unix.POLLOUT, wait) {
		s.readQueue(fd)
		return s
	}
	// An ICMP message that comes back within connect itself leaves the socket
	// in SYN_SENT: the queue says more than the error.
	if s.readQueue(fd); s.from.IsValid() {
		return s
	}
	if errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
		s.errno = syscall.Errno(errno)
		return s
	}
	s.errno, s.connection = nil, true
	if await(t, fd, unix.POLLIN, wait) {
		var buf [512]byte
		n, _ := unix.Read(fd, buf[:])
		s.firstLine, _, _ = strings.Cut(string(buf[:max(n, 0)]), "\r\n")
	}
	return s
}

// await waits for a socket and reports whether something came.
func await(t *testing.T, fd int, events int16, wait time.Duration) bool {
	t.Helper()
	for end := time.Now().Add(wait); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(max(time.Until(end).Milliseconds(), 0)))
		if err == nil {
			return n > 0
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}

// readQueue takes the first message of the error queue (ip(7), IP_RECVERR).
func (s *seen) readQueue(fd int) {
	var oob [512]byte
	_, n, _, _, err := unix.Recvmsg(fd, nil, oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) == 0 || len(msgs[0].Data) < int(unsafe.Sizeof(unix.SockExtendedErr{})) {
		return
	}
	data := msgs[0].Data
	ee := (*unix.SockExtendedErr)(unsafe.Pointer(&data[0]))
	s.typ, s.code = ee.Type, ee.Code
	offender := data[unsafe.Sizeof(*ee):]
	switch family := uint16(offender[0]) | uint16(offender[1])<<8; { // as every machine that runs this is little-endian
	case family == unix.AF_INET && len(offender) >= 8:
		s.from, _ = netip.AddrFromSlice(offender[4:8])
	case family == unix.AF_INET6 && len(offender) >= 24:
		s.from, _ = netip.AddrFromSlice(offender[8:24])
	}
}

// check compares what was seen with the truth.
func check(t *testing.T, l *Lab, addr netip.Addr, port uint16, wait time.Duration) {
	t.Helper()
	want := l.Truth(addr, port)
	s := dial(t, addr, port, wait)
	state := "filtered"
	switch {
	case s.connection:
		state = "open"
	case errors.Is(s.errno, unix.ECONNREFUSED) && !s.from.IsValid():
		state = "closed"
	}
	if state != want.State || s.from != want.From || s.typ != want.ICMPType || s.code != want.ICMPCode || s.firstLine != want.Greeting {
		t.Errorf("%s port %d (%v): got %s, ICMP %d/%d from %v, %q (%v)\nwant %+v",
			addr, port, want.Class, state, s.typ, s.code, s.from, s.firstLine, s.errno, want)
	}
	if want.Reason == "no-response" && !errors.Is(s.errno, unix.EINPROGRESS) {
		t.Errorf("%s port %d: got %v, want silence", addr, port, s.errno)
	}
}

func TestEveryClassAnswersAsTruthSays(t *testing.T) {
	t.Parallel()
	for _, at := range []string{Target, Router} {
		t.Run("rejected at "+at, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Classes: true, Serve: true, RejectAt: at, AnyIP: []netip.Prefix{
				netip.MustParsePrefix("8.8.8.0/24"), netip.MustParsePrefix("2001:db8:25::/64")}}
			Run(t, cfg, func(t *testing.T, l *Lab) {
				for _, base := range []string{"10.64.3.8", "10.79.255.240", "8.8.8.0", "fd64::10", "2001:db8:25::ab00"} {
					t.Run(base, func(t *testing.T) { checkClasses(t, l, netip.MustParseAddr(base)) })
				}
				t.Run("outside", func(t *testing.T) {
					check(t, l, netip.MustParseAddr("203.0.113.9"), 25, answered)
					if l.IPv6() {
						check(t, l, netip.MustParseAddr("2001:db8:26::1"), 25, answered)
					}
				})
			})
		})
	}
}

// checkClasses dials eight addresses from base on, one of each class.
func checkClasses(t *testing.T, l *Lab, addr netip.Addr) {
	if addr.Is6() && !l.IPv6() {
		t.Skip("no IPv6 here")
	}
	for range 8 {
		for _, port := range []uint16{25, 465, 587, 26, 2599} {
			wait := answered
			if l.Truth(addr, port).Reason == "no-response" {
				wait = 20 * time.Millisecond
			}
			check(t, l, addr, port, wait)
		}
		addr = addr.Next()
	}
}

func TestThousandsOfHostsAreServed(t *testing.T) {
	t.Parallel()
	Run(t, Config{Classes: true, Serve: true}, func(t *testing.T, l *Lab) {
		const n, workers = 4000, 100
		var wg sync.WaitGroup
		var bad atomic.Int32
		for w := range workers {
			wg.Go(func() {
				for i := w; i < n; i += workers {
					// The third byte counts hosts of class accept and redirect.
					addr := netip.AddrFrom4([4]byte{10, 64, byte(i >> 4), byte(i<<4) | byte(i&1*6)})
					s := dial(t, addr, 25, answered)
					if s.firstLine != l.Truth(addr, 25).Greeting {
						bad.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if syns := l.CountSYN(t, Target)[25]; bad.Load() > 0 || syns < n || syns > n+synsRepeated(t) {
			t.Errorf("%d of %d wrong; %d SYNs, %d of them repeated", bad.Load(), n, syns, synsRepeated(t))
		}
	})
}

// synsRepeated counts the SYNs that the kernel of this namespace has sent again.
func synsRepeated(t *testing.T) (n uint64) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/netstat")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] != "TcpExt:" {
			continue
		} else if names == nil {
			names = f
		} else if _, err := fmt.Sscan(f[slices.Index(names, "TCPSynRetrans")], &n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestICMPIsNotLimitedUnlessAsked has kernels that, after six messages to one peer,
// would send it one a minute, so that it does not matter how long the dials take.
func TestICMPIsNotLimitedUnlessAsked(t *testing.T) {
	for _, limits := range []bool{false, true} {
		t.Run(fmt.Sprint(limits), func(t *testing.T) {
			t.Parallel()
			Run(t, Config{Classes: true, RejectAt: Router, ICMPLimits: limits}, func(t *testing.T, l *Lab) {
				addrs := map[string]string{"10.64.0.3": "net/ipv4/icmp_ratelimit"}
				if l.IPv6() {
					addrs["fd64::3"] = "net/ipv6/icmp/ratelimit"
				}
				wait := answered
				if limits { // what does not come is not waited for
					wait = 50 * time.Millisecond
				}
				for addr, limit := range addrs {
					l.Sysctl(t, Router, limit, "60000")
					if n := answers(t, 40, netip.MustParseAddr(addr), wait); (n == 40) == limits {
						t.Errorf("%s: %d of 40 answered with ICMPLimits: %t", addr, n, limits)
					}
				}
			})
		})
	}
}

// answers dials an address n times at once, and returns how often ICMP answered.
func answers(t *testing.T, n int, addr netip.Addr, wait time.Duration) int {
	var got atomic.Int32
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if dial(t, addr, 25, wait).from.IsValid() {
				got.Add(1)
			}
		})
	}
	wg.Wait()
	return int(got.Load())
}

func TestNothingOfTheMachineIsVisible(t *testing.T) {
	t.Parallel()
	Run(t, Config{OnLink: []netip.Addr{netip.MustParseAddr("10.30.0.10")}}, func(t *testing.T, l *Lab) {
		want := map[string]string{Scanner: "lo sc0 ln0", Router: "lo rt0 rt1", Target: "lo tg0", OnLink: "lo sc1"}
		for ns, links := range want {
			p := l.Start(t, ns, "echo", "a", "b c")
			var got []string
			for line := range strings.Lines(p.Output()) {
				if name, ok := strings.CutPrefix(line, "link "); ok {
					got = append(got, strings.TrimSpace(name))
				}
			}
			if strings.Join(got, " ") != links {
				t.Errorf("links of %s: got %q, want %q", ns, got, links)
			}
			if !strings.Contains(p.Output(), "args [a b c]") {
				t.Errorf("arguments did not arrive: %q", p.Output())
			}
			if err := p.Stop(); err != nil || !strings.Contains(p.Output(), "stopped") {
				t.Errorf("stop: %v, %q", err, p.Output())
			}
		}
		if _, err := l.start(Target, "echo", "fail"); err == nil || !strings.Contains(err.Error(), "told to") {
			t.Errorf("a function that fails: got error %v", err)
		}
		if _, err := l.start(Target, "nobody"); err == nil || !strings.Contains(err.Error(), "lab.Register") {
			t.Errorf("an unknown function: got error %v", err)
		}
	})
}

func TestOnLinkOnlyTheListedAnswer(t *testing.T) {
	t.Parallel()
	hosts := []netip.Addr{netip.MustParseAddr("10.30.0.10"), netip.MustParseAddr("10.30.0.12"), netip.MustParseAddr("fd30::10")}
	Run(t, Config{Serve: true, OnLink: hosts}, func(t *testing.T, l *Lab) {
		for _, addr := range append(hosts, OnLinkAddr4) {
			check(t, l, addr, 25, answered)
			check(t, l, addr, 26, answered)
		}
		// One without ARP and one without ND; the kernel gives up after three seconds.
		t.Run("silent", func(t *testing.T) {
			for _, addr := range []string{"10.30.0.11", "fd30::11"} {
				t.Run(addr, func(t *testing.T) {
					t.Parallel()
					check(t, l, netip.MustParseAddr(addr), 25, answered)
				})
			}
		})
	})
}

func TestRulesLossAndCounters(t *testing.T) {
	t.Parallel()
	Run(t, Config{Serve: true}, func(t *testing.T, l *Lab) {
		addr := netip.MustParseAddr("10.64.0.1")
		prefix := netip.MustParsePrefix("10.64.0.0/16")
		t.Run("count", func(t *testing.T) {
			before, again := l.CountSYN(t, Target), synsRepeated(t)
			for range 5 {
				dial(t, addr, 587, answered)
			}
			dial(t, addr, 26, answered)
			after := l.CountSYN(t, Target)
			again = synsRepeated(t) - again // as it happens on a machine that is busy
			on587, on25, inAll := after[587]-before[587], after[25]-before[25], after[0]-before[0]
			if on587 < 5 || on587 > 5+again || on25 != 0 || inAll < 6 || inAll > 6+again {
				t.Errorf("got %v, then %v, %d repeated; want 5 more SYNs on 587 and 6 more in all", before, after, again)
			}
		})
		for _, ns := range []string{Scanner, Router} {
			t.Run("drop out of "+ns, func(t *testing.T) {
				l.DropOut(t, ns, prefix, 25)
				if s := dial(t, addr, 25, 20*time.Millisecond); !errors.Is(s.errno, unix.EINPROGRESS) {
					t.Errorf("got %v, want silence", s.errno)
				}
				if s := dial(t, addr, 587, answered); !s.connection {
					t.Errorf("another port: got %v", s.errno)
				}
				if s := dial(t, netip.MustParseAddr("10.65.0.1"), 25, answered); !s.connection {
					t.Errorf("another prefix: got %v", s.errno)
				}
			})
		}
		t.Run("reject out", func(t *testing.T) {
			l.RejectOut(t, Scanner, prefix, 0, AdminProhibited)
			if s := dial(t, addr, 25, answered); s.from != ScannerAddr4 || s.code != 13 {
				t.Errorf("got %+v, want 3/13 from ourselves", s)
			}
		})
		t.Run("rules end with the test", func(t *testing.T) {
			if s := dial(t, addr, 25, answered); !s.connection {
				t.Errorf("got %v, want a connection", s.errno)
			}
		})
		t.Run("loss", func(t *testing.T) { checkLoss(t, l, addr) })
	})
}

// checkLoss: with q lost each way, one SYN fails with p = 1-(1-q)², and both of a dial
// with p². The kernel gives up after two, however slow we are: no clock of ours counts.
func checkLoss(t *testing.T, l *Lab, addr netip.Addr) {
	const n, q = 500, 0.2
	l.Sysctl(t, Scanner, "net/ipv4/tcp_syn_retries", "1")
	if err := l.sysctl(Scanner, "net/ipv4/tcp_syn_linear_timeouts", "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err) // it does not exist before Linux 6.5
	}
	l.DropRandom(t, Target, q*100)
	var missed atomic.Int32
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if !dial(t, addr, 26, answered).refused() {
				missed.Add(1)
			}
		})
	}
	wg.Wait()
	p := math.Pow(1-(1-q)*(1-q), 2)
	if sigma, got := math.Sqrt(n*p*(1-p)), float64(missed.Load()); math.Abs(got-n*p) > 5*sigma {
		t.Errorf("%v of %d lost, want %.0f within %.0f", got, n, n*p, 5*sigma)
	}
}

func (s seen) refused() bool { return errors.Is(s.errno, unix.ECONNREFUSED) }

func TestHostsAreReachedThroughTheRouter(t *testing.T) {
	t.Parallel()
	Run(t, Config{Hosts: []string{"postfix", "exim"}}, func(t *testing.T, l *Lab) {
		addr4, addr6 := l.HostAddrs("exim")
		if want4, want6 := "10.20.21.2", "fd20:21::2"; addr4.String() != want4 || addr6.String() != want6 {
			t.Fatalf("addresses: got %s and %s, want %s and %s", addr4, addr6, want4, want6)
		}
		l.Start(t, "exim", "lab.answer", "25=220 exim.example ESMTP")
		for _, addr := range []netip.Addr{addr4, addr6} {
			if addr.Is6() && !l.IPv6() {
				continue
			}
			if s := dial(t, addr, 25, answered); s.firstLine != "220 exim.example ESMTP" {
				t.Errorf("%s: got %+v", addr, s)
			}
		}
		addr4, _ = l.HostAddrs("postfix")
		if s := dial(t, addr4, 25, answered); !s.refused() {
			t.Errorf("%s: got %v, want refused", addr4, s.errno)
		}
	})
}

func TestCommandRunsInTheNamespace(t *testing.T) {
	t.Parallel()
	Run(t, Config{}, func(t *testing.T, l *Lab) {
		l.Sysctl(t, Target, "net/ipv4/ip_default_ttl", "77")
		for ns, want := range map[string]string{Scanner: "64", Target: "77"} {
			for _, nocaps := range []bool{false, true} {
				cmd := l.Command(ns, "/bin/sh", "-c", `cat /proc/sys/net/ipv4/ip_default_ttl; grep -E "^Cap(Eff|Prm|Bnd)" /proc/self/status; echo $0 "$X"`, "zero")
				cmd.Env = []string{"X=from the environment"}
				if nocaps {
					NoCaps(cmd)
				}
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%s: %v: %s", ns, err, out)
				}
				lines := strings.Split(string(out), "\n")
				if lines[0] != want || !strings.Contains(string(out), "zero from the environment") {
					t.Errorf("%s: got %q", ns, out)
				}
				if gone := strings.Count(string(out), "0000000000000000") == 3; gone != nocaps {
					t.Errorf("%s: NoCaps %t, got %q", ns, nocaps, out)
				}
			}
		}
		alone := l.Command(Target, "/bin/sh", "-c", `echo $$; cat /proc/sys/net/ipv4/ip_default_ttl`)
		alone.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
		if out, err := alone.CombinedOutput(); err != nil || string(out) != "1\n77\n" {
			t.Errorf("with a pid namespace of its own: got %q, %v", out, err)
		}
		if err := l.Command("nowhere", "/bin/true").Run(); err == nil {
			t.Error("a namespace that does not exist: no error")
		}
		if err := l.Command(Target, "no-such-program").Run(); !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("a program that does not exist: got %v", err)
		}
	})
}

func TestNoCapsOutsideALab(t *testing.T) {
	out, err := NoCaps(exec.Command("grep", "^CapEff", "/proc/self/status")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "0000000000000000") {
		t.Errorf("got %q, %v", out, err)
	}
}

// inner tells whether this process is the inner one of the tests below, which look at a run from outside.
const innerEnv = "SMTPSWEEP_LAB_TEST_INNER"

// rerun runs one of the tests that only make sense when another test looks on.
func rerun(t *testing.T, name string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+name+"$", "-test.v")
	cmd.Env = append(os.Environ(), innerEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

func TestOutcomeIsRelayed(t *testing.T) {
	if !canBuild(t) {
		t.Skip("no lab here")
	}
	for _, tt := range []struct {
		name, say string
		env       string
		fail      bool
	}{
		{name: "TestInnerFail", say: "it is broken", fail: true},
		{name: "TestInnerFail", say: "--- FAIL: TestInnerFail", fail: true},
		{name: "TestInnerSkip", say: "not today"},
		{name: "TestInnerSkip", say: "--- SKIP: TestInnerSkip"},
		{name: "TestInnerPanic", say: "panic: out of mind", fail: true},
		{name: "TestInnerExit", say: "exit status 3", fail: true},
		{name: "TestInnerNest", say: "labs do not nest", fail: true},
		{name: "TestInnerFail", say: "this is not a network namespace of a lab", env: childEnv + "=TestInnerFail", fail: true},
	} {
		t.Run(tt.name+" "+tt.say, func(t *testing.T) {
			t.Parallel()
			out, err := rerun(t, tt.name, tt.env).CombinedOutput()
			if (err != nil) != tt.fail || !strings.Contains(string(out), tt.say) {
				t.Errorf("got %v, want failure %t and %q in:\n%s", err, tt.fail, tt.say, out)
			}
		})
	}
}

// canBuild reports whether this machine can give a lab, and has a network to hide.
func canBuild(t *testing.T) bool {
	t.Helper()
	out, err := rerun(t, "TestInnerSkip").CombinedOutput()
	return err == nil && strings.Contains(string(out), "not today")
}

func inner(t *testing.T) {
	t.Helper()
	if os.Getenv(innerEnv) == "" {
		t.Skip("runs only inside TestOutcomeIsRelayed and TestNothingOutlivesTheTest")
	}
}

func TestInnerFail(t *testing.T) {
	inner(t)
	Run(t, Config{}, func(t *testing.T, l *Lab) { t.Error("it is broken") })
}

func TestInnerSkip(t *testing.T) {
	inner(t)
	Run(t, Config{}, func(t *testing.T, l *Lab) { t.Skip("not today") })
}

func TestInnerPanic(t *testing.T) {
	inner(t)
	Run(t, Config{}, func(t *testing.T, l *Lab) { panic("out of mind") })
}

func TestInnerExit(t *testing.T) {
	inner(t)
	Run(t, Config{}, func(t *testing.T, l *Lab) { os.Exit(3) })
}

func TestInnerNest(t *testing.T) {
	inner(t)
	Run(t, Config{}, func(t *testing.T, l *Lab) {
		t.Run("sub", func(t *testing.T) { Run(t, Config{}, func(*testing.T, *Lab) {}) })
	})
}

// TestInnerHang leaves a process that left everything behind: own session,
// nothing inherited but a pipe, through which its end can be seen.
func TestInnerHang(t *testing.T) {
	inner(t)
	fifo := os.Getenv("SMTPSWEEP_LAB_TEST_FIFO")
	Run(t, Config{}, func(t *testing.T, l *Lab) {
		cmd := l.Command(Target, "/bin/sh", "-c", `exec >"$0" 2>&1 </dev/null; echo up; sleep 600; echo alive`, fifo)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if os.Getenv("SMTPSWEEP_LAB_TEST_END") != "" {
			awaitFile(t, fifo+".go")
			return
		}
		cmd.Wait()
	})
}

// awaitFile opens a fifo for reading, which returns when somebody opens it for writing.
func awaitFile(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestNothingOutlivesTheTest(t *testing.T) {
	if !canBuild(t) {
		t.Skip("no lab here")
	}
	for _, how := range []string{"it ends", "it is killed"} {
		t.Run(how, func(t *testing.T) {
			fifo := filepath.Join(t.TempDir(), "fifo")
			if err := errors.Join(unix.Mkfifo(fifo, 0o600), unix.Mkfifo(fifo+".go", 0o600)); err != nil {
				t.Fatal(err)
			}
			cmd := rerun(t, "TestInnerHang", "SMTPSWEEP_LAB_TEST_FIFO="+fifo)
			if how == "it ends" {
				cmd.Env = append(cmd.Env, "SMTPSWEEP_LAB_TEST_END=1")
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(fifo)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			in := bufio.NewReader(f)
			if line, err := in.ReadString('\n'); line != "up\n" {
				t.Fatalf("got %q, %v", line, err)
			}
			if how == "it ends" {
				w, err := os.OpenFile(fifo+".go", os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				w.Close()
			} else {
				cmd.Process.Kill()
			}
			// The pipe ends when its last holder does; the sleeper would hold it for ten minutes.
			rest, err := io.ReadAll(in)
			if err != nil || len(rest) != 0 {
				t.Errorf("got %q, %v; want the end of the pipe", rest, err)
			}
			if err := cmd.Wait(); (err == nil) != (how == "it ends") {
				t.Errorf("the run: %v", err)
			}
		})
	}
}

func TestBinaryIsBuiltOutsideAndRunsInside(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the command")
	}
	Run(t, Config{Binary: true}, func(t *testing.T, l *Lab) {
		if info, err := os.Stat(Binary(t)); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("got %v, %v; want a program", info, err)
		}
	})
}

func TestCaptureSeesWhereConnectionsBeginAndEnd(t *testing.T) {
	t.Parallel()
	Run(t, Config{Serve: true}, func(t *testing.T, l *Lab) {
		c := l.Capture(t, Router, "rt0")
		before := time.Now()
		const n = 20
		for range n {
			conn, err := net.Dial("tcp", "10.64.0.1:25")
			if err != nil {
				t.Fatal(err)
			}
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close() // by a reset, so that it is over now
		}
		segs := c.Stop(t)
		if got := Connections(segs); len(got) != n {
			t.Errorf("%d connections, want %d", len(got), n)
		}
		reset := map[netip.AddrPort]bool{} // a greeting that crossed ours is reset again
		for _, s := range segs {
			if s.Flags&RST != 0 && s.From.Addr() == ScannerAddr4 && s.To.String() == "10.64.0.1:25" {
				reset[s.From] = true
			}
			if s.At.Before(before) || s.At.After(time.Now()) {
				t.Errorf("a segment at %v, which was before %v or is still to come", s.At, before)
			}
		}
		if len(reset) != n {
			t.Errorf("%d connections that we reset, want %d", len(reset), n)
		}
	})
}
