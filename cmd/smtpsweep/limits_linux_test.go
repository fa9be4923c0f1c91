package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// A limited is a sweep whose limits are counted on the other side. One of them
// is what slows it down.
type limited struct {
	name   string
	prefix netip.Prefix // the targets are within
	specs  string
	pace   pace.Config
}

// limitPorts are many, so that a host has much to refuse.
var limitPorts = []uint16{25, 587, 2525, 2526, 2527, 2528}

var limiteds = []limited{
	{"rate", netip.MustParsePrefix("10.64.0.0/16"), "10.64.1.0/27 10.64.2.0/27 10.64.3.0/27",
		pace.Config{Rate: 300, HostLimit: 2}},
	{"subnet rate", netip.MustParsePrefix("10.65.0.0/16"), "10.65.1.0/28 10.65.2.0/28 10.65.3.0/28",
		pace.Config{Rate: 5000, HostLimit: 3, SubnetRate: 60}},
	{"host interval", netip.MustParsePrefix("10.66.0.0/16"), "10.66.1.0/28 10.66.2.0/28",
		pace.Config{Rate: 5000, HostLimit: 6, HostInterval: 400 * time.Millisecond}},
	{"host limit", netip.MustParsePrefix("10.67.0.0/16"), "10.67.1.0/25 10.67.2.0/25",
		pace.Config{HostLimit: 2}},
	{"everything", netip.MustParsePrefix("10.68.0.0/16"), "10.68.1.0/28 10.68.2.0/28 10.68.3.0/28",
		pace.Config{Rate: 100, HostLimit: 2, HostInterval: 200 * time.Millisecond, SubnetRate: 40}},
	{"IPv6 subnet rate", netip.MustParsePrefix("fd64::/64"), "fd64::1:0/125 fd64::2:0/125",
		pace.Config{Rate: 5000, HostLimit: 3, SubnetRate: 60}},
}

// No limit is exceeded in any window of time, also when the program is stopped
// and goes on. What arrives at the target is what left; the windows are judged by
// the kernel's times of leaving, because a busy machine holds packets up and
// lets them go together.
func TestNoLimitIsExceededInAnyWindow(t *testing.T) {
	t.Parallel()
	stop := time.Duration(lab.Count(t, 1, 2, 30)) * time.Second
	lab.Run(t, lab.Config{Serve: true, Binary: true, Ports: limitPorts}, func(t *testing.T, l *lab.Lab) {
		leaving, arriving := l.Capture(t, lab.Scanner, "sc0"), l.Capture(t, lab.Target, "tg0")
		t.Run("sweeps", func(t *testing.T) {
			for _, c := range limiteds {
				if c.prefix.Addr().Is6() && !l.IPv6() {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.sweep(t, l, stop)
				})
			}
		})
		left, arrived := leaving.Stop(t), arriving.Stop(t)
		for _, c := range limiteds {
			t.Run(c.name, func(t *testing.T) { c.check(t, left, arrived) })
		}
	})
}

// sweep runs the program, stops it for a while in the middle, and sees to it
// that the result is right.
func (c *limited) sweep(t *testing.T, l *lab.Lab, stop time.Duration) {
	path := filepath.Join(t.TempDir(), "run.jsonl")
	args := append([]string{"scan", "-q", "-p", "25,587,2525/smtp,2526/smtp,2527/smtp,2528/smtp", "-o", path,
		"--rate", fmt.Sprint(c.pace.Rate), "--host-limit", strconv.Itoa(c.pace.HostLimit),
		"--host-interval", c.pace.HostInterval.String(), "--subnet-rate", fmt.Sprint(c.pace.SubnetRate)}, strings.Fields(c.specs)...)
	p := launch(t, l, nil, args...)
	awaitRows(t, path, 30)
	p.Process.Signal(syscall.SIGSTOP)
	time.Sleep(stop) // this is what the program is to bear
	p.Process.Signal(syscall.SIGCONT)
	p.mustEnd(t, exitDone)
	rows := reported(t, path)
	want := 0
	for _, spec := range strings.Fields(c.specs) {
		want += len(addressesOf(netip.MustParsePrefix(spec))) * len(limitPorts)
	}
	for key, state := range rows {
		if state != "open syn-ack" {
			t.Errorf("%v is %q", key, state)
		}
	}
	if len(rows) != want {
		t.Errorf("%d rows, want %d", len(rows), want)
	}
}

// check holds the connections that were seen to the limits.
func (c *limited) check(t *testing.T, left, arrived []lab.Segment) {
	at := c.connections(left)
	if n := len(c.connections(arrived).all); n != len(at.all) {
		t.Errorf("%d connections arrived at the target, %d were begun", n, len(at.all))
	}
	// Between the permission and the SYN lies a moment in which the machine may
	// do something else. Each loop of the engine has one dial in that moment.
	loops := float64(runtime.NumCPU())
	if c.pace.Rate > 0 {
		checkWindows(t, "global", at.all, c.pace.Rate, c.pace.Burst()+loops)
	}
	for subnet, times := range at.nets {
		if c.pace.SubnetRate > 0 {
			checkWindows(t, subnet.String(), times, c.pace.SubnetRate, 1+c.pace.SubnetRate*0.01+loops)
		}
	}
	for host, times := range at.hosts {
		if c.pace.HostInterval > 0 {
			checkWindows(t, host.String(), times, 1/c.pace.HostInterval.Seconds(), 1+min(loops, 1))
		}
	}
	most := max(c.mostAtATime(left), c.mostAtATime(arrived))
	if most > c.pace.HostLimit {
		t.Errorf("%d connections at a time to one host, want at most %d", most, c.pace.HostLimit)
	}
	lab.Proof(t, "%d connections to %d hosts, at most %d at a time to one", len(at.all), len(at.hosts), most)
}

// times are those at which connections were begun.
type times struct {
	all   []time.Time
	nets  map[netip.Prefix][]time.Time
	hosts map[netip.Addr][]time.Time
}

// connections returns when the sweep's connections were begun.
func (c *limited) connections(segs []lab.Segment) times {
	at := times{nets: map[netip.Prefix][]time.Time{}, hosts: map[netip.Addr][]time.Time{}}
	for _, s := range lab.Connections(segs) {
		a := s.To.Addr()
		if !c.prefix.Contains(a) {
			continue
		}
		bits := 48
		if a.Is4() {
			bits = 24
		}
		subnet, _ := a.Prefix(bits)
		at.all = append(at.all, s.At)
		at.nets[subnet], at.hosts[a] = append(at.nets[subnet], s.At), append(at.hosts[a], s.At)
	}
	return at
}

// mostAtATime returns the most connections that one host had: from the SYN to
// our own end of them.
func (c *limited) mostAtATime(segs []lab.Segment) (most int) {
	type connection struct{ from, to netip.AddrPort }
	open, hosts := map[connection]bool{}, map[netip.Addr]int{}
	for _, s := range segs {
		id := connection{s.From, s.To}
		host := s.To.Addr()
		switch {
		case !c.prefix.Contains(host):
		case s.Flags&lab.SYN != 0 && !open[id]:
			open[id] = true
			hosts[host]++
			most = max(most, hosts[host])
		case s.Flags&(lab.FIN|lab.RST) != 0 && open[id]:
			delete(open, id)
			hosts[host]--
		}
	}
	return most
}

// checkWindows fails if any window, wherever it begins and ends, has more than
// rate times its length and burst. It is enough to look at those from one event to another.
func checkWindows(t *testing.T, what string, at []time.Time, rate, burst float64) {
	t.Helper()
	least := 0.0
	for i := range at {
		ahead := at[i].Sub(at[0]).Seconds()*rate - float64(i)
		least = max(least, ahead)
		if over := least - ahead + 1; over > burst+1e-6 {
			t.Fatalf("%s: a window that ends %v after the first has %.2f more than %g a second, want at most %.2f",
				what, at[i].Sub(at[0]), over, rate, burst)
		}
	}
}

// With 64 descriptors and no limit of rate a sweep is as complete and as right
// as any other.
func TestSixtyFourFilesAndNoRateAreEnough(t *testing.T) {
	t.Parallel()
	bits := 32 - lab.Count(t, 7, 7, 11) // 128 addresses, or 2,048
	cfg := lab.Config{Classes: true, Serve: true, Binary: true}
	lab.Run(t, cfg, func(t *testing.T, l *lab.Lab) {
		prefix := netip.PrefixFrom(lab.Targets4.Addr(), bits)
		path := filepath.Join(t.TempDir(), "rows.csv")
		p := &process{ended: make(chan struct{})}
		p.Cmd = lab.NoCaps(l.Command(lab.Scanner, "/bin/sh", "-c", `ulimit -n 64 && exec "$@"`, "sh", lab.Binary(t),
			"scan", "--rate", "0", "-o", path, prefix.String()))
		p.Stdout, p.Stderr = &p.out, &p.err
		p.start(t)
		p.mustEnd(t, exitDone)
		checkTruth(t, l, rowsOfCSV(t, path), addressesOf(prefix))
		lab.Proof(t, "%d addresses with 64 descriptors", len(addressesOf(prefix)))
	})
}
