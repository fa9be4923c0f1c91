package pace

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// addresses yields n targets, spread over hosts addresses of nets /24s in turn.
func addresses(n, nets, hosts int) func() (targets.Target, bool) {
	i := 0
	return func() (targets.Target, bool) {
		if i == n {
			return targets.Target{}, false
		}
		a := netip.AddrFrom4([4]byte{192, 0, byte(i % nets), byte(i / nets % hosts)})
		i++
		return targets.Target{Index: uint64(i - 1), Addr: a, Port: uint16(i)}, true
	}
}

// A grant is a job handed out at a time.
type grant struct {
	at  time.Duration
	job scanner.Job
}

// checkWindows fails if, in any window, more than rate*w+burst were handed out.
func checkWindows(t *testing.T, what string, at []time.Duration, rate, burst float64) {
	t.Helper()
	// For sorted times it is enough to look at windows that start and end with one:
	// n(i..j) <= rate*(at[j]-at[i]) + burst, so at[j]*rate-j must not fall by more than burst-1.
	low := 0.0
	for j := range at {
		v := at[j].Seconds()*rate - float64(j)
		if j == 0 || v > low {
			low = v
		}
		if n := low - v + 1; n > burst+1e-6 {
			t.Fatalf("%s: a window that ends at %v has %.2f more than the rate %v, want at most %v", what, at[j], n, rate, burst)
		}
	}
}

// A sim drives a Scheduler with a clock of its own: every job lasts busy.
type sim struct {
	s       *Scheduler
	now     time.Duration
	busy    func() time.Duration
	running []grant // at is the end
	got     []grant
	begin   func(sim *sim, job scanner.Job)
	retry   func(job *scanner.Job) (time.Duration, bool)
}

func (m *sim) clock() time.Time { return epoch.Add(m.now) }

// step ends what is over, and takes what may go. It reports the wait, or false at the end.
func (m *sim) step() (time.Duration, bool) {
	left := m.running[:0]
	for _, g := range m.running {
		if g.at > m.now {
			left = append(left, g)
			continue
		}
		if m.retry != nil {
			if after, again := m.retry(&g.job); again {
				m.s.Retry(g.job, after)
				continue
			}
		}
		m.s.Done(g.job)
	}
	m.running = left
	for {
		job, wait, ok := m.s.Next(m.clock())
		if !ok || wait > 0 {
			return wait, ok
		}
		if m.begin != nil {
			m.begin(m, job)
		}
		m.got = append(m.got, grant{m.now, job})
		m.running = append(m.running, grant{m.now + m.busy(), job})
	}
}

// run drives to the end, waking late by up to late.
func (m *sim) run(t *testing.T, late func() time.Duration) {
	t.Helper()
	for range 10_000_000 {
		wait, ok := m.step()
		if !ok {
			return
		}
		for _, g := range m.running {
			wait = min(wait, max(g.at-m.now, 1))
		}
		m.now += wait + late()
	}
	t.Fatal("the scheduler never came to an end")
}

func (m *sim) times(keep func(scanner.Job) bool) []time.Duration {
	var at []time.Duration
	for _, g := range m.got {
		if keep(g.job) {
			at = append(at, g.at)
		}
	}
	return at
}

func newSim(cfg Config, src func() (targets.Target, bool)) *sim {
	m := &sim{busy: func() time.Duration { return 0 }}
	cfg.Now = m.clock
	m.s = New(cfg, src)
	return m
}

func onTime() time.Duration { return 0 }
func all(scanner.Job) bool  { return true }

func TestNoLimitsHandsOutEverythingAtOnce(t *testing.T) {
	m := newSim(Config{}, addresses(1000, 3, 5))
	m.run(t, onTime)
	if len(m.got) != 1000 || m.got[999].at != 0 {
		t.Errorf("got %d jobs, the last at %v, want 1000 at 0", len(m.got), m.now)
	}
	if len(m.s.nodes) != 0 {
		t.Errorf("%d jobs were kept back", len(m.s.nodes))
	}
}

func TestGlobalRateHoldsInEveryWindowAndIsReached(t *testing.T) {
	for _, rate := range []float64{3, 200, 5000, 100_000} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			cfg := Config{Rate: rate}
			n := int(rate * 2)
			m := newSim(cfg, addresses(n, 100, 200))
			m.run(t, func() time.Duration { return time.Duration(rand.Int64N(int64(2 * time.Millisecond))) })
			at := m.times(all)
			checkWindows(t, "global", at, rate, cfg.Burst())
			if took := at[len(at)-1].Seconds(); took > 2.1 {
				t.Errorf("%d jobs took %.2f s, want 2", n, took)
			}
		})
	}
}

func TestAPauseIsNotMadeUpFor(t *testing.T) {
	cfg := Config{Rate: 5000, HostInterval: time.Second, SubnetRate: 20}
	m := newSim(cfg, addresses(100_000, 250, 200))
	for range 1000 {
		m.step()
		m.now += time.Millisecond
	}
	before := len(m.got)
	m.now += 30 * time.Second // SIGSTOP
	m.step()
	if n := len(m.got) - before; n > 1 {
		t.Errorf("%d jobs at once after a pause of 30 s, want 1", n)
	}
	for range 1000 {
		m.now += time.Millisecond
		m.step()
	}
	checkLimits(t, m, cfg)
}

// checkLimits checks every limit of cfg on what was handed out.
func checkLimits(t *testing.T, m *sim, cfg Config) {
	t.Helper()
	if cfg.Rate > 0 {
		checkWindows(t, "global", m.times(all), cfg.Rate, cfg.Burst())
	}
	hosts, nets := map[netip.Addr][]time.Duration{}, map[netip.Prefix][]time.Duration{}
	for _, g := range m.got {
		a := g.job.Target.Addr
		p, _ := a.Prefix(24)
		if a.Is6() {
			p, _ = a.Prefix(48)
		}
		hosts[a] = append(hosts[a], g.at)
		nets[p] = append(nets[p], g.at)
	}
	if cfg.HostInterval > 0 {
		for a, at := range hosts {
			checkWindows(t, a.String(), at, 1/cfg.HostInterval.Seconds(), 1)
		}
	}
	if cfg.SubnetRate > 0 {
		for p, at := range nets {
			checkWindows(t, p.String(), at, cfg.SubnetRate, 1+cfg.SubnetRate*slack.Seconds())
		}
	}
}

// checkIdle fails if a scheduler whose jobs are all over still remembers hosts.
func checkIdle(t *testing.T, m *sim) {
	t.Helper()
	m.now += time.Hour
	m.s.Next(m.clock())
	if h, n := m.s.space.hosts.count(), len(m.s.space.nets); h > 0 || n > 0 || m.s.held != 0 || m.s.inFlight != 0 {
		t.Errorf("after the end: %d hosts, %d subnets, %d held, %d in flight, want none", h, n, m.s.held, m.s.inFlight)
	}
}

func TestEveryLimitHoldsAndEveryTargetComesOnce(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		pick := func(v ...float64) float64 { return v[r.IntN(len(v))] }
		cfg := Config{
			Rate:         pick(0, 50, 1000, 50_000),
			HostLimit:    int(pick(0, 1, 2, 3)),
			HostInterval: time.Duration(pick(0, 0, 0.01, 0.3) * float64(time.Second)),
			SubnetRate:   pick(0, 0, 20, 300),
			Held:         int(pick(1, 10, 0)),
		}
		t.Run(fmt.Sprintf("%d %+v", seed, cfg.Rate), func(t *testing.T) {
			n := 300 + r.IntN(300)
			m := newSim(cfg, addresses(n, 1+r.IntN(5), 1+r.IntN(40)))
			m.busy = func() time.Duration { return time.Duration(r.IntN(int(50 * time.Millisecond))) }
			m.begin = func(m *sim, job scanner.Job) {
				active := 1
				for _, g := range m.running {
					if g.job.Target.Addr == job.Target.Addr {
						active++
					}
				}
				if cfg.HostLimit > 0 && active > cfg.HostLimit {
					t.Fatalf("%d jobs at a time for %v, want at most %d", active, job.Target.Addr, cfg.HostLimit)
				}
			}
			m.retry = func(job *scanner.Job) (time.Duration, bool) {
				if job.Dials > 0 || r.IntN(10) > 0 {
					return 0, false
				}
				job.Dials++
				return time.Second, true
			}
			m.run(t, func() time.Duration { return time.Duration(r.IntN(int(3 * time.Millisecond))) })
			seen := map[uint64]int{}
			for _, g := range m.got {
				if g.job.Dials == 0 {
					seen[g.job.Target.Index]++
				}
			}
			if len(seen) != n {
				t.Errorf("%d targets came, want %d", len(seen), n)
			}
			for i, times := range seen {
				if times != 1 {
					t.Errorf("target %d came %d times", i, times)
				}
			}
			checkLimits(t, m, cfg)
			checkIdle(t, m)
		})
	}
}

// TestAPublicSubnetTakesItsTimeAndNoWork sweeps one /24 on three ports by the
// defaults for public addresses. It may not ask in vain, nor keep more timers than
// there are hosts and subnets at rest.
func TestAPublicSubnetTakesItsTimeAndNoWork(t *testing.T) {
	cfg := Config{Rate: 200, HostLimit: 2, HostInterval: time.Second, SubnetRate: 20}
	m := newSim(cfg, addresses(3*256, 1, 256))
	m.busy = func() time.Duration { return 300 * time.Millisecond }
	steps, timers := 0, 0
	for {
		wait, ok := m.step()
		if !ok {
			break
		}
		steps++
		timers = max(timers, len(m.s.due))
		for _, g := range m.running[:min(1, len(m.running))] {
			wait = min(wait, max(g.at-m.now, 1))
		}
		m.now += wait
	}
	checkLimits(t, m, cfg)
	if n, last := len(m.got), m.got[len(m.got)-1].at; n != 768 || last < 38*time.Second || last > 39*time.Second {
		t.Errorf("%d jobs, the last after %v, want 768, 38 s", n, last)
	}
	if steps > 2*768 || timers > 22 {
		t.Errorf("asked %d times for 768 jobs, with %d timers at most; want few more than one each, and 22", steps, timers)
	}
	checkIdle(t, m)
}

func TestHeldTargetsAreBoundedAndTheSourceWaits(t *testing.T) {
	pulled := 0
	src := addresses(10_000, 1, 1)
	m := newSim(Config{HostLimit: 1, Held: 100}, func() (targets.Target, bool) { pulled++; return src() })
	m.busy = func() time.Duration { return time.Second }
	wait, ok := m.step()
	if !ok || wait < time.Second {
		t.Errorf("got wait %v, ok %v, want a long wait for Done", wait, ok)
	}
	if pulled != 101 || len(m.got) != 1 {
		t.Errorf("pulled %d and handed out %d, want 101 and 1", pulled, len(m.got))
	}
}

func TestABlockedHostDoesNotHoldUpOthers(t *testing.T) {
	i := 0
	m := newSim(Config{HostLimit: 1}, func() (targets.Target, bool) {
		i++
		a := netip.MustParseAddr("192.0.2.1")
		if i > 500 {
			a = netip.MustParseAddr("192.0.2.2")
		}
		return targets.Target{Addr: a, Port: uint16(i)}, i <= 501
	})
	m.busy = func() time.Duration { return time.Second }
	m.step()
	if len(m.got) != 2 || m.got[1].job.Target.Port != 501 {
		t.Errorf("handed out %v, want the first target of each of the two hosts", m.got)
	}
}

func TestRetryComesAfterItsDelayWithWhatItLearned(t *testing.T) {
	for _, cfg := range []Config{{}, {HostLimit: 1, SubnetRate: 100, HostInterval: time.Millisecond}} {
		m := newSim(cfg, addresses(1, 1, 1))
		job, _, ok := m.s.Next(m.clock())
		if !ok {
			t.Fatal("no job")
		}
		m.now += 50 * time.Millisecond // host and subnet have rested
		if _, wait, ok := m.s.Next(m.clock()); !ok || wait == 0 {
			t.Fatalf("while one is in flight: wait %v, ok %v, want a wait", wait, ok)
		}
		woken := 0
		m.s.Wake(func() { woken++ })
		job.Dials, job.Reason = 1, scanner.HostUnreach
		m.s.Retry(job, time.Second)
		if woken != 1 {
			t.Errorf("Retry woke %d times, want 1", woken)
		}
		m.now += 999 * time.Millisecond
		if _, wait, ok := m.s.Next(m.clock()); !ok || wait != time.Millisecond {
			t.Errorf("1 ms before: wait %v, ok %v, want 1ms, true", wait, ok)
		}
		m.now += time.Millisecond
		got, wait, ok := m.s.Next(m.clock())
		if !ok || wait != 0 || got != job {
			t.Errorf("got %+v, %v, %v, want the job put back", got, wait, ok)
		}
		m.s.Done(got)
		if _, _, ok := m.s.Next(m.clock()); ok {
			t.Error("after Done of the last job, ok is true")
		}
	}
}

func TestASlowRateDoesNotDelayTheEnd(t *testing.T) {
	m := newSim(Config{Rate: 0.1}, addresses(1, 1, 1))
	job, _, _ := m.s.Next(m.clock())
	m.s.Done(job)
	if _, wait, ok := m.s.Next(m.clock()); ok {
		t.Errorf("nothing is left, and still Next says wait %v", wait)
	}
}

func TestDoneWakesOnlyWhenAJobBecameReadyOrAllIsOver(t *testing.T) {
	m := newSim(Config{HostLimit: 1}, addresses(3, 3, 1))
	woken := 0
	m.s.Wake(func() { woken++ })
	m.busy = func() time.Duration { return time.Second }
	m.step()
	m.s.Done(m.got[0].job)
	m.s.Done(m.got[1].job)
	if woken != 0 {
		t.Errorf("woken %d times with nothing waiting, want 0", woken)
	}
	m.s.Done(m.got[2].job)
	if woken != 1 {
		t.Errorf("woken %d times at the end, want 1", woken)
	}

	m = newSim(Config{HostLimit: 1}, addresses(2, 1, 1))
	woken = 0
	m.s.Wake(func() { woken++ })
	m.step()
	m.s.Done(m.got[0].job)
	if woken != 1 {
		t.Errorf("woken %d times when the host's next job became ready, want 1", woken)
	}
}

func TestIPv6SubnetsAre48s(t *testing.T) {
	i := 0
	m := newSim(Config{SubnetRate: 1}, func() (targets.Target, bool) {
		i++
		return targets.Target{Addr: netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::1", i%2, i))}, i <= 4
	})
	m.step()
	if len(m.got) != 2 {
		t.Errorf("%d jobs at once over two /48s, want 2", len(m.got))
	}
}

func TestLimitsHoldForManyGoroutines(t *testing.T) {
	cfg := Config{Rate: 200_000, HostLimit: 2, SubnetRate: 20_000}
	const n = 20_000
	var clock atomic.Int64
	now := func() time.Time { return epoch.Add(time.Duration(clock.Load())) }
	cfg.Now = now
	s := New(cfg, addresses(n, 7, 100))
	var mu sync.Mutex
	active := map[netip.Addr]int{}
	count := 0
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 2))
			for {
				job, wait, ok := s.Next(now())
				if !ok {
					return
				}
				if wait > 0 {
					clock.Add(int64(min(wait, 20*time.Microsecond)))
					continue
				}
				mu.Lock()
				active[job.Target.Addr]++
				if active[job.Target.Addr] > cfg.HostLimit {
					t.Errorf("%d jobs at a time for %v", active[job.Target.Addr], job.Target.Addr)
				}
				mu.Unlock()
				again := job.Dials == 0 && r.IntN(20) == 0
				mu.Lock()
				active[job.Target.Addr]--
				if !again {
					count++
				}
				mu.Unlock()
				if again {
					job.Dials++
					s.Retry(job, time.Millisecond)
				} else {
					s.Done(job)
				}
			}
		})
	}
	wg.Wait()
	if count != n {
		t.Errorf("%d jobs done, want %d", count, n)
	}
	if got, most := float64(n), cfg.Rate*time.Duration(clock.Load()).Seconds()+cfg.Burst(); got > most {
		t.Errorf("%v jobs in %v, want at most %v", got, time.Duration(clock.Load()), most)
	}
}

// BenchmarkNext is one job from the source and back, in steady state.
func BenchmarkNext(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  Config
		step time.Duration
	}{
		{"unlimited", Config{}, 0},
		{"private defaults", Config{Rate: 5000, HostLimit: 3}, 200 * time.Microsecond},
		{"public defaults", Config{Rate: 200, HostLimit: 2, HostInterval: time.Second, SubnetRate: 20}, 5 * time.Millisecond},
	} {
		b.Run(c.name, func(b *testing.B) {
			i := uint32(0)
			s := New(c.cfg, func() (targets.Target, bool) {
				i++
				x := i * 2654435761
				return targets.Target{Addr: netip.AddrFrom4([4]byte{10, byte(x >> 16), byte(x >> 8), byte(x)}), Port: 25}, true
			})
			now := time.Now()
			var ring [128]scanner.Job
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(c.step)
				job, wait, _ := s.Next(now)
				if wait > 0 {
					continue
				}
				if n >= len(ring) {
					s.Done(ring[n%len(ring)])
				}
				ring[n%len(ring)] = job
				n++
			}
		})
	}
}

// A sweep has as many hosts with state as it has connections: at 19,744 of them, the
// most that the engine keeps by itself, they were 2.5 MB.
func TestAHostTakesLittleMemory(t *testing.T) {
	const hosts = 20_000
	next := netip.MustParseAddr("10.64.0.0")
	s := New(Config{HostLimit: 3}, func() (targets.Target, bool) {
		next = next.Next()
		return targets.Target{Addr: next, Port: 25}, true
	})
	before := liveHeap()
	for range hosts {
		if _, wait, ok := s.Next(time.Now()); !ok || wait > 0 {
			t.Fatal("a target of a host of its own has to wait")
		}
	}
	if each := (liveHeap() - before) / hosts; each > 100 {
		t.Errorf("a host takes %d bytes, want about 90", each)
	}
	runtime.KeepAlive(s)
}

// liveHeap returns how many bytes are reachable.
func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
