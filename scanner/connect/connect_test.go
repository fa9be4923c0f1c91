package connect

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/targets"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// onBoth runs a test on every engine there is.
func onBoth(t *testing.T, f func(t *testing.T, portable bool)) {
	if native {
		t.Run("epoll", func(t *testing.T) { f(t, false) })
	}
	t.Run("portable", func(t *testing.T) { f(t, true) })
}

// serve accepts on a loopback port until the test ends, and calls f for each connection.
func serve(t *testing.T, f func(net.Conn)) targets.Target {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				wg.Go(func() { f(c) })
			}
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return target(ln.Addr().(*net.TCPAddr).AddrPort())
}

func target(a netip.AddrPort) targets.Target {
	return targets.Target{Index: uint64(a.Port()), Addr: a.Addr().Unmap(), Port: a.Port()}
}

// closedPort returns an endpoint that nobody listens on.
func closedPort(t *testing.T) targets.Target {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return target(ln.Addr().(*net.TCPAddr).AddrPort())
}

// mute holds a connection until the other side closes it.
func mute(c net.Conn) {
	defer c.Close()
	io.Copy(io.Discard, c)
}

func greet(c net.Conn) {
	defer c.Close()
	io.WriteString(c, "220 mail.example.org ESMTP\r\n")
	io.Copy(io.Discard, c)
}

func each(ts ...targets.Target) func() (targets.Target, bool) {
	return func() (targets.Target, bool) {
		if len(ts) == 0 {
			return targets.Target{}, false
		}
		first := ts[0]
		ts = ts[1:]
		return first, true
	}
}

// A sweep collects what an engine emits.
type sweep struct {
	mu  sync.Mutex
	all []scanner.Observation
	wg  sync.WaitGroup
}

// emit keeps an observation; its connection is read to the end of the greeting and closed.
func (s *sweep) emit(obs scanner.Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, obs)
	if obs.Conn != nil {
		s.wg.Go(func() { obs.Conn.Close() })
	}
}

// scan runs an engine to its end on some targets, and fails unless there is one
// observation for each.
func scan(t *testing.T, e *Engine, ts ...targets.Target) *sweep {
	t.Helper()
	s := &sweep{}
	if err := e.Scan(t.Context(), pace.New(pace.Config{}, each(ts...)), s.emit); err != nil {
		t.Fatal(err)
	}
	s.wg.Wait()
	if len(s.all) != len(ts) {
		t.Errorf("%d observations of %d targets: %+v", len(s.all), len(ts), s.all)
	}
	if st := e.Stats(); st != (Stats{}) {
		t.Errorf("after Scan: %+v, want nothing in flight", st)
	}
	return s
}

// check compares the state and reason of an observation, and what must be true of any.
func check(t *testing.T, obs scanner.Observation, state scanner.State, reason scanner.Reason) {
	t.Helper()
	if obs.State != state || obs.Reason != reason {
		t.Errorf("%v: got %v %v (%s), want %v %v", obs.Target.AddrPort(), obs.State, obs.Reason, obs.Err, state, reason)
	}
	if obs.At.IsZero() {
		t.Error("At is not set")
	}
	if (state == scanner.Open) == obs.Connected.IsZero() {
		t.Errorf("state %v with Connected %v", state, obs.Connected)
	}
	if (obs.Err != "") != (obs.Reason == scanner.LocalError) {
		t.Errorf("reason %v with Err %q", obs.Reason, obs.Err)
	}
}

func TestClosedPortIsClosed(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		obs := scan(t, &Engine{Portable: portable, Banner: true}, closedPort(t)).all[0]
		check(t, obs, scanner.Closed, scanner.ConnRefused)
		if obs.Attempts != 1 || obs.RTT <= 0 || obs.RTT > time.Second {
			t.Errorf("attempts %d, RTT %v, want 1 and a short time", obs.Attempts, obs.RTT)
		}
		if native && !portable && obs.Source != loopback {
			t.Errorf("source %v, want %v", obs.Source, loopback)
		}
	})
}

func TestOpenPortWithoutBannerIsResetAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		ended := make(chan error, 1)
		open := serve(t, func(c net.Conn) {
			_, err := c.Read(make([]byte, 1))
			ended <- err
			c.Close()
		})
		obs := scan(t, &Engine{Portable: portable}, open).all[0]
		check(t, obs, scanner.Open, scanner.SynAck)
		if obs.Conn != nil || obs.Source != loopback || obs.Attempts != 1 {
			t.Errorf("got conn %v, source %v, attempts %d, want none, loopback, 1", obs.Conn, obs.Source, obs.Attempts)
		}
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the server saw %v, want a reset", err)
		}
	})
}

func TestGreetingIsHandedOverUnread(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		open := serve(t, greet)
		var text []byte
		e := &Engine{Portable: portable, Banner: true}
		var wg sync.WaitGroup
		err := e.Scan(t.Context(), pace.New(pace.Config{HostLimit: 1}, each(open)), func(obs scanner.Observation) {
			check(t, obs, scanner.Open, scanner.SynAck)
			wg.Go(func() {
				c := obs.Conn
				defer c.Close()
				if got := e.Stats().InFlight; got != 1 {
					t.Errorf("%d in flight while a connection is handed over, want 1", got)
				}
				c.SetDeadline(time.Now().Add(10 * time.Second))
				if got := c.RemoteAddr().(*net.TCPAddr).AddrPort(); got != open.AddrPort() {
					t.Errorf("remote %v, want %v", got, open.AddrPort())
				}
				if got := c.LocalAddr().(*net.TCPAddr); got.Port == 0 || !got.IP.IsLoopback() {
					t.Errorf("local %v", got)
				}
				b := make([]byte, 100)
				n, err := io.ReadAtLeast(c, b, 28)
				if err != nil {
					t.Error(err)
				}
				text = b[:n]
				c.SetReadDeadline(time.Now().Add(time.Millisecond))
				_, err = c.Read(b)
				var ne net.Error
				if !errors.As(err, &ne) || !ne.Timeout() {
					t.Errorf("read after the deadline: %v, want a time-out", err)
				}
				if _, err := c.Write([]byte("QUIT\r\n")); err != nil {
					t.Error(err)
				}
				c.Close()
				c.Close() // idempotent
				if _, err := c.Read(b); !errors.Is(err, net.ErrClosed) {
					t.Errorf("read after Close: %v, want net.ErrClosed", err)
				}
			})
		})
		wg.Wait()
		if err != nil || string(text) != "220 mail.example.org ESMTP\r\n" {
			t.Errorf("got %q, %v", text, err)
		}
	})
}

func TestClientFirstIsHandedOverAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		open := serve(t, mute)
		open.Role = targets.SMTPS
		obs := scan(t, &Engine{Portable: portable, Banner: true, GreetingTimeout: time.Minute}, open).all[0]
		check(t, obs, scanner.Open, scanner.SynAck)
		if obs.Conn == nil || obs.Mute != 0 {
			t.Errorf("conn %v, mute %v, want a connection", obs.Conn, obs.Mute)
		}
	})
}

func TestMuteIsGivenUpAfterGreetingTimeoutOrPatience(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		for _, c := range []struct{ greeting, patience, want time.Duration }{
			{50 * time.Millisecond, 0, 50 * time.Millisecond},
			{50 * time.Millisecond, 120 * time.Millisecond, 120 * time.Millisecond},
			{time.Hour, 50 * time.Millisecond, 50 * time.Millisecond},
		} {
			e := &Engine{Portable: portable, Banner: true, GreetingTimeout: c.greeting, Patience: c.patience}
			obs := scan(t, e, serve(t, mute)).all[0]
			check(t, obs, scanner.Open, scanner.SynAck)
			if obs.Conn != nil || obs.Mute < c.want-5*time.Millisecond {
				t.Errorf("%+v: conn %v, mute for %v, want none, at least %v", c, obs.Conn, obs.Mute, c.want)
			}
		}
	})
}

func TestALateGreetingIsHandedOverFromThePark(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		e := &Engine{Portable: portable, Banner: true, GreetingTimeout: 20 * time.Millisecond, Patience: time.Minute}
		late := serve(t, func(c net.Conn) {
			for e.Stats().Parked == 0 {
				runtime.Gosched()
			}
			greet(c)
		})
		obs := scan(t, e, late).all[0]
		check(t, obs, scanner.Open, scanner.SynAck)
		if obs.Conn == nil || obs.Mute != 0 {
			t.Errorf("conn %v, mute %v, want a connection", obs.Conn, obs.Mute)
		}
	})
}

func TestParkedAreAtMostAQuarter(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		var notes atomic.Int64
		e := &Engine{
			Portable: portable, Banner: true, MaxConns: 16, GreetingTimeout: 20 * time.Millisecond, Patience: time.Hour,
			Note: func(code, text string) {
				if code == "parked-limit" {
					notes.Add(1)
				}
			},
		}
		var ts []targets.Target
		for range 12 {
			ts = append(ts, serve(t, mute))
		}
		ctx, cancel := context.WithCancel(t.Context())
		emitted := make(chan scanner.Observation, len(ts))
		over := make(chan error)
		go func() {
			over <- e.Scan(ctx, pace.New(pace.Config{}, each(ts...)), func(obs scanner.Observation) { emitted <- obs })
		}()
		for range 8 { // the four youngest stay
			obs := <-emitted
			check(t, obs, scanner.Open, scanner.SynAck)
			if obs.Mute < 15*time.Millisecond {
				t.Errorf("mute for %v only", obs.Mute)
			}
		}
		cancel()
		<-over
		for range 4 {
			check(t, <-emitted, scanner.Unknown, scanner.Interrupted)
		}
		if n := notes.Load(); n != 1 {
			t.Errorf("%d notes parked-limit, want one", n)
		}
	})
}

func TestEndBeforeGreetingIsHandedOver(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		for _, c := range []struct {
			name string
			end  func(net.Conn)
			want error
		}{
			{"closed", func(c net.Conn) { c.Close() }, io.EOF},
			{"reset", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }, syscall.ECONNRESET},
		} {
			t.Run(c.name, func(t *testing.T) {
				e := &Engine{Portable: portable, Banner: true}
				var err error
				var wg sync.WaitGroup
				e.Scan(t.Context(), pace.New(pace.Config{}, each(serve(t, c.end))), func(obs scanner.Observation) {
					check(t, obs, scanner.Open, scanner.SynAck)
					if obs.Conn == nil {
						t.Error("no connection")
						return
					}
					wg.Go(func() {
						_, err = obs.Conn.Read(make([]byte, 1))
						obs.Conn.(interface{ CloseWithReset() error }).CloseWithReset()
					})
				})
				wg.Wait()
				if !errors.Is(err, c.want) {
					t.Errorf("read: %v, want %v", err, c.want)
				}
			})
		}
	})
}

func TestPermitIsAskedBeforeTheDial(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		dialled := make(chan bool, 1)
		open := serve(t, func(c net.Conn) { dialled <- true; c.Close() })
		e := &Engine{Portable: portable, Banner: true, Permit: func(x targets.Target) bool { return x.Addr != loopback }}
		check(t, scan(t, e, open).all[0], scanner.Unknown, scanner.Excluded)
		select {
		case <-dialled:
			t.Error("dialled all the same")
		default:
		}
	})
}

// TestManyTargetsEachComeOnce cancels when all have come but those that stay mute.
func TestManyTargetsEachComeOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		open, closed, silent := serve(t, greet), closedPort(t), serve(t, mute)
		var ts []targets.Target
		for i := range 3000 {
			x := []targets.Target{open, closed, closed, closed, closed}[i%5]
			if i%50 == 0 {
				x = silent
			}
			x.Index = uint64(i)
			ts = append(ts, x)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var s sweep
		var talked atomic.Int64
		e := &Engine{Portable: portable, Banner: true, MaxConns: 500, GreetingTimeout: time.Hour}
		err := e.Scan(ctx, pace.New(pace.Config{}, each(ts...)), func(o scanner.Observation) {
			s.emit(o)
			if o.Target.Port != silent.Port && talked.Add(1) == 3000-3000/50 {
				cancel()
			}
		})
		s.wg.Wait()
		if err != context.Canceled || len(s.all) != len(ts) || e.Stats() != (Stats{}) {
			t.Errorf("%v, %d observations of %d targets, %+v", err, len(s.all), len(ts), e.Stats())
		}
		seen := map[uint64]bool{}
		for _, obs := range s.all {
			if seen[obs.Target.Index] {
				t.Errorf("target %d came twice", obs.Target.Index)
			}
			seen[obs.Target.Index] = true
			switch obs.Target.Port {
			case closed.Port:
				check(t, obs, scanner.Closed, scanner.ConnRefused)
			case silent.Port:
				check(t, obs, scanner.Unknown, scanner.Interrupted)
			default:
				check(t, obs, scanner.Open, scanner.SynAck)
				if obs.Conn == nil || obs.Mute > 0 {
					t.Errorf("conn %v, mute %v, want a connection", obs.Conn, obs.Mute)
				}
			}
		}
	})
}

func TestCancelEndsEverythingNotHandedOver(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		greeting, waiting, parked := serve(t, greet), serve(t, mute), serve(t, mute)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		cause := errors.New("enough")
		e := &Engine{Portable: portable, Banner: true, GreetingTimeout: 30 * time.Millisecond, Patience: time.Hour}
		ts := []targets.Target{greeting, waiting, parked}
		i := 0
		q := pace.New(pace.Config{}, func() (targets.Target, bool) {
			i++
			return ts[min(i, len(ts))-1], i <= len(ts)
		})
		var mu sync.Mutex
		var all []scanner.Observation
		emitted := make(chan scanner.Observation, 3)
		over := make(chan error)
		go func() {
			over <- e.Scan(ctx, q, func(obs scanner.Observation) {
				mu.Lock()
				all = append(all, obs)
				mu.Unlock()
				emitted <- obs
			})
		}()
		handed := <-emitted
		for e.Stats().Parked < 2 {
			runtime.Gosched()
		}
		cancel(cause)
		for range 2 {
			check(t, <-emitted, scanner.Unknown, scanner.Interrupted)
		}
		select {
		case <-over:
			t.Error("Scan returned while a connection was handed over")
		case <-time.After(50 * time.Millisecond):
		}
		handed.Conn.Close()
		if err := <-over; err != cause {
			t.Errorf("Scan returned %v, want the cause", err)
		}
		if len(all) != 3 {
			t.Errorf("%d observations, want 3", len(all))
		}
	})
}

func TestCancelInterruptsWhatWasPutBack(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &sweep{}
	e := &Engine{}
	q := pace.New(pace.Config{}, each(closedPort(t)))
	r := newRun(e, q, s.emit)
	job, _, _ := q.Next(time.Now())
	job.Attempts, job.Dials = 1, 1
	r.retry(job, time.Hour)
	cancel()
	if err := r.scanNative(ctx); err != nil {
		t.Fatal(err)
	}
	r.interruptRetried()
	if len(s.all) != 1 || s.all[0].Reason != scanner.Interrupted || s.all[0].Attempts != 1 {
		t.Errorf("got %+v, want one interrupted", s.all)
	}
}

func TestSourceAddressIsUsed(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs all of 127.0.0.0/8 on the loopback interface")
	}
	onBoth(t, func(t *testing.T, portable bool) {
		from := make(chan string, 1)
		open := serve(t, func(c net.Conn) { from <- c.RemoteAddr().String(); c.Close() })
		source := netip.MustParseAddr("127.0.0.9")
		obs := scan(t, &Engine{Portable: portable, Source: source}, open).all[0]
		if got := <-from; obs.Source != source || !strings.HasPrefix(got, "127.0.0.9:") {
			t.Errorf("source %v, the server saw %v, want %v", obs.Source, got, source)
		}
	})
}

func TestSynTimeoutEndsBeforeOneSYNTooMany(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		timeout time.Duration
		retries int
		linear  int
		want    time.Duration
	}{
		{0, 0, 4, 3900 * ms},
		{0, 0, 0, 3900 * ms},
		{time.Minute, 3, 4, 3980 * ms},
		{time.Minute, 3, 0, 14980 * ms}, // SYNs at 0, 1, 3, 7; the next at 15
		{time.Minute, 5, 4, 6980 * ms},  // 0, 1, 2, 3, 4, 5; 7 would be the sixth repetition
		{0, 1, 4, 1980 * ms},
		{0, -1, 4, 980 * ms},
		{500 * ms, 3, 4, 500 * ms},
	} {
		e := &Engine{Timeout: c.timeout, Retries: c.retries}
		if got := e.synTimeout(c.linear); got != c.want {
			t.Errorf("timeout %v, retries %d, linear %d: got %v, want %v", c.timeout, c.retries, c.linear, got, c.want)
		}
	}
}

func TestMaxConnsKeepsAReserve(t *testing.T) {
	for rlimit, want := range map[int]int{64: 48, 1024: 768, 20_000: 19_744, 1 << 20: mostConns, 1: 1} {
		if got := new(Engine).maxConns(rlimit); got != want && native {
			t.Errorf("RLIMIT_NOFILE %d: got %d, want %d", rlimit, got, want)
		}
	}
}

const childEnv = "SMTPSWEEP_CONNECT_CHILD"

// inChild runs the test again in a process of its own. It reports whether this is it.
func inChild(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// TestThePortableEngineSaysWhatItCannotSee: whether a SYN left this machine.
func TestThePortableEngineSaysWhatItCannotSee(t *testing.T) {
	r := newRun(&Engine{Portable: true}, simpleQueue{}, func(scanner.Observation) {})
	notes := map[string]bool{}
	r.Note = func(code, _ string) { notes[code] = true }
	p := &pool{run: r, ctx: t.Context()}
	p.acquire()
	p.begin()
	p.failed(scanner.Job{Target: target(netip.MustParseAddrPort("127.0.0.1:25")), Attempts: 1}, t.Context(), syscall.ETIMEDOUT, time.Second)
	if !notes["own-drop-unseen"] {
		t.Errorf("notes %v, want own-drop-unseen", notes)
	}
}

// simpleQueue is empty.
type simpleQueue struct{}

func (simpleQueue) Next(time.Time) (scanner.Job, time.Duration, bool) { return scanner.Job{}, 0, false }
func (simpleQueue) Done(scanner.Job)                                  {}
func (simpleQueue) Retry(scanner.Job, time.Duration)                  {}
func (simpleQueue) Wake(func())                                       {}
