//go:build linux || darwin

package connect

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// manyOpen returns n targets on one open port.
func manyOpen(t *testing.T, n int) []targets.Target {
	open := serve(t, greet)
	var ts []targets.Target
	for i := range n {
		open.Index = uint64(i)
		ts = append(ts, open)
	}
	return ts
}

func setFiles(t *testing.T, n uint64) {
	t.Helper()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
		t.Fatal(err)
	}
}

func TestWorksWith64Files(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, portable bool) {
		t.Parallel()
		if !inChild(t) {
			return
		}
		setFiles(t, 64)
		// The servers are in the same process: 12 connections need 24.
		ts := manyOpen(t, 300)
		for _, obs := range scan(t, &Engine{Portable: portable, Banner: true}, ts...).all {
			check(t, obs, scanner.Open, scanner.SynAck)
		}
	})
}

func TestOutOfFilesIsNeverAVerdict(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, portable bool) {
		t.Parallel()
		if !inChild(t) {
			return
		}
		closed := closedPort(t)
		ts := manyOpen(t, 200)
		for i := range 200 {
			closed.Index = uint64(i)
			ts = append(ts, closed)
		}
		setFiles(t, 40)
		var mu sync.Mutex
		notes := map[string]int{}
		// The server is in this process, and short of files too: it may be mute.
		e := &Engine{Portable: portable, Banner: true, MaxConns: 1000, GreetingTimeout: 200 * time.Millisecond, Note: func(code, text string) { mu.Lock(); notes[code]++; mu.Unlock() }}
		for _, obs := range scan(t, e, ts...).all {
			if obs.Target.Port == closed.Port {
				check(t, obs, scanner.Closed, scanner.ConnRefused)
			} else {
				check(t, obs, scanner.Open, scanner.SynAck)
			}
		}
		if notes["descriptors-short"] != 1 || len(notes) != 1 {
			t.Errorf("notes %v, want descriptors-short once", notes)
		}
	})
}

func TestNoFileAtAllEndsAsALocalError(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, portable bool) {
		t.Parallel()
		if !inChild(t) {
			return
		}
		closed := closedPort(t)
		e := &Engine{Portable: portable, MaxConns: 4}
		var files []*os.File
		e.Permit = func(targets.Target) bool { // the loops have theirs; now there is none
			for {
				f, err := os.Open(os.DevNull)
				if err != nil {
					return true
				}
				files = append(files, f)
			}
		}
		defer func() { runtime.KeepAlive(files) }()
		setFiles(t, 64)
		obs := scan(t, e, closed).all[0]
		check(t, obs, scanner.Unknown, scanner.LocalError)
		if obs.Attempts != 0 {
			t.Errorf("%d attempts, want none", obs.Attempts)
		}
	})
}
