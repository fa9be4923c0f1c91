package connect

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// native says whether there is an engine of its own for this system.
const native = true

// mostLoops is how many loops are of use: four dial more than half a million
// ports per second, and the kernel's locks let no more through.
const mostLoops = 4

// scanNative runs a loop per core.
func (r *run) scanNative(ctx context.Context) error {
	if err := r.probeSocket(); err != nil {
		return err
	}
	env := newSurroundings()
	env.outage.wake = func() { r.wake() }
	if r.outagePatience > 0 {
		env.outage.patience = r.outagePatience
	}
	loops := make([]*loop, min(runtime.GOMAXPROCS(0), mostLoops, r.max))
	for i := range loops {
		l, err := newLoop(r, env)
		if err != nil {
			for _, l := range loops[:i] {
				l.close()
			}
			return err
		}
		loops[i] = l
	}
	for _, l := range loops {
		l.all = loops
	}
	r.wake = func() {
		for _, l := range loops {
			l.wake()
		}
	}
	defer env.outage.watch(r.base)()
	r.q.Wake(r.wake)
	stop := context.AfterFunc(ctx, func() {
		r.cancelled.Store(true)
		r.wake()
	})
	defer stop()
	var g errgroup.Group
	for _, l := range loops {
		g.Go(l.pump)
	}
	return g.Wait()
}

// probeSocket makes a socket as every dial does and closes it, so that a wrong
// Source or Interface ends the run before it starts, and not once per target.
func (r *run) probeSocket() error {
	if !r.Source.IsValid() && r.Interface == "" {
		return nil
	}
	fd, err := r.socket(r.Source.Is6())
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// linearTimeouts returns how many repetitions of a SYN come one second after
// another (Linux 6.5 and later; 0 before).
func linearTimeouts() int { return readInt("/proc/sys/net/ipv4/tcp_syn_linear_timeouts", 0) }

// readInt returns the number in a file of /proc/sys, or another one if it cannot be read.
func readInt(name string, otherwise int) int {
	b, err := os.ReadFile(name)
	if err != nil {
		return otherwise
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return otherwise
	}
	return n
}
