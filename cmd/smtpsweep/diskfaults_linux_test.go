package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// Nobody listens there: a run that takes 20 s at the rate of steadily, and that
// is over in a moment without a limit.
const (
	quietHosts = "127.9.0.0/20"
	quietRows  = 1 << 12
)

// steadily are the arguments of a run whose disk is about to fail.
func steadily(more ...string) []string {
	return append([]string{"scan", quietHosts, "-p", "1", "--probe", "port", "--rate", "200", "--seed", "8"}, more...)
}

// allClosed goes on with a run, or begins it again if it never began, and fails
// the test unless it has then a row of every endpoint, once.
func allClosed(t *testing.T, path string) {
	t.Helper()
	v := &victim{t: t, path: path, args: append(steadily()[1:], "--rate", "0"), more: []string{"--rate", "0"}}
	v.next().mustEnd(t, 0)
	rows := reported(t, path)
	for key, state := range rows {
		if state != "closed conn-refused" {
			t.Errorf("%v is %q", key, state)
		}
	}
	if len(rows) != quietRows {
		t.Errorf("%d rows, want %d", len(rows), quietRows)
	}
	eachOnce(t, path, quietRows)
}

// A fault is what the kernel answers to the n-th call of a thread.
type fault struct {
	call, errno string
	n           int
	says        string // what the user is told
}

// faults are those of a journal at path that are tried.
func faults(t *testing.T) (all []fault) {
	const eio, erofs, enospc = "input/output error (EIO)", "read-only (EROFS)", "the disk is full (ENOSPC)"
	all = []fault{
		{"fdatasync", "EIO", 1, eio}, {"fdatasync", "EIO", 2, eio}, {"write", "EIO", 1, eio}, {"write", "EROFS", 3, erofs}, {"fsync", "EIO", 1, eio},
	}
	for n := 2; n <= lab.Count(t, 0, 4, 10); n++ {
		all = append(all, fault{"write", "EIO", n, eio}, fault{"write", "ENOSPC", n, enospc}, fault{"fdatasync", "EIO", n + 1, eio})
	}
	return all
}

// straced starts the program under strace, which answers calls about a path with
// a fault, and notes them in a log.
func straced(t *testing.T, f fault, about string, args ...string) (p *process, log string) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		if v := os.Getenv("SMTPSWEEP_LAB"); v == "require" || v == "long" {
			t.Fatal(err)
		}
		t.Skip("no strace here: the faults of a file are tried in package journal only")
	}
	log = filepath.Join(t.TempDir(), "strace.log")
	p = &process{ended: make(chan struct{})}
	p.Cmd = execCommand(t, args...)
	wrapped := []string{"strace", "-f", "--seccomp-bpf", "-ttt", "-q", "-o", log, "-e", "trace=" + f.call,
		"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", f.call, f.errno, f.n)}
	if about != "" {
		wrapped = append(wrapped, "-P", about)
	}
	p.Cmd.Path, p.Cmd.Args = strace, append(append(wrapped, "--"), append([]string{p.Cmd.Path}, args...)...)
	p.Stdout, p.Stderr = &p.out, &p.err
	p.start(t)
	return p, log
}

// logLine is a line of strace: thread, time, and what happened.
var logLine = regexp.MustCompile(`(?m)^\d+ +(\d+\.\d+) (.*)$`)

// afterFault reads a log of strace: how long the program went on after the first
// fault, and the calls that it made in that time.
func afterFault(t *testing.T, log string) (wentOn time.Duration, calls []string, happened bool) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var at, last float64
	for _, m := range logLine.FindAllStringSubmatch(string(text), -1) {
		last, _ = strconv.ParseFloat(m[1], 64)
		switch {
		case happened && strings.Contains("+-?", m[2][:1]): // exits, signals, and what an exit cut short
		case happened:
			calls = append(calls, m[2])
		case !happened && strings.Contains(m[2], "(INJECTED)"):
			at, happened = last, true
		}
	}
	return time.Duration((last - at) * float64(time.Second)), calls, happened
}

// A disk that fails ends the run: nothing is written to the file afterwards, and
// it is not synced again, because the kernel may have dropped what it could not
// write and say that all is well. The run goes on when the disk is well.
func TestADiskThatFailsEndsTheRun(t *testing.T) {
	t.Parallel()
	for _, f := range faults(t) {
		t.Run(fmt.Sprintf("%s %s %d", f.errno, f.call, f.n), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "run.jsonl")
			about := path
			if f.call == "fsync" {
				about = filepath.Dir(path) // the name of the journal is brought to the disk so
			}
			p, log := straced(t, f, about, steadily("-o", path)...)
			code := p.wait(t)
			wentOn, calls, happened := afterFault(t, log)
			if !happened && code == 0 && f.n > 3 {
				t.Log("no thread made so many calls")
				return
			}
			if code != exitOutput || !strings.Contains(p.err.String(), path) || !strings.Contains(p.err.String(), f.says) {
				t.Fatalf("exit code %d, want %d; it said %q, want %q", code, exitOutput, p.err.String(), f.says)
			}
			if len(calls) > 0 {
				t.Errorf("after the fault it called %q", calls)
			}
			t.Logf("ended %v after the fault", wentOn)
			if wentOn > 10*time.Second { // the contract is 1 s; left to itself the run takes 20
				t.Errorf("it went on for %v", wentOn)
			}
			allClosed(t, path)
		})
	}
}

// A report on a disk that fails is absent, and leaves nothing behind; what was
// there stays.
func TestAReportOnADiskThatFailsIsAbsent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	launch(t, nil, nil, "scan", "-q", "127.9.0.0/24", "-p", "1", "--probe", "port", "--rate", "0", "-o", path).mustEnd(t, 0)
	for _, f := range []fault{
		{"fsync", "EIO", 1, "input/output error"},
		{"linkat,renameat,renameat2", "EROFS", 1, "read-only file system"},
		{"linkat,renameat,renameat2", "ENOSPC", 1, "no space left on device"},
	} {
		for _, force := range []bool{false, true} {
			t.Run(fmt.Sprint(f.call, " ", f.errno, ", force ", force), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				csvPath := filepath.Join(dir, "rows.csv")
				args := []string{"report", "-q", path, "-o", csvPath}
				var want []string
				if force {
					args, want = append(args, "--force"), []string{"rows.csv"}
					if err := os.WriteFile(csvPath, []byte("theirs"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				p, _ := straced(t, f, "", args...)
				p.mustEnd(t, exitOutput)
				if !strings.Contains(p.err.String(), csvPath+" could not be written") || !strings.Contains(p.err.String(), f.says) {
					t.Errorf("it said %q", p.err.String())
				}
				var left []string
				entries, _ := os.ReadDir(dir)
				for _, e := range entries {
					left = append(left, e.Name())
				}
				if text, _ := os.ReadFile(csvPath); !slices.Equal(left, want) || force && string(text) != "theirs" {
					t.Errorf("it left %v, and rows.csv says %q", left, text)
				}
			})
		}
	}
}

// through runs the program by way of a shell that changes what it is given.
func through(t *testing.T, script string, args ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{})}
	p.Cmd = execCommand(t, args...)
	p.Cmd = &exec.Cmd{Path: "/bin/sh", Args: append([]string{"sh", "-c", script, "sh"}, p.Args...), Env: p.Env, Stdout: &p.out, Stderr: &p.err}
	p.start(t)
	return p
}

func TestALimitOnFileSizeEndsTheRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	p := through(t, `ulimit -f 64; exec "$@"`, steadily("-o", path)...)
	p.mustEnd(t, exitOutput)
	if said := p.err.String(); !strings.Contains(said, "ulimit -f") || !strings.Contains(said, "--resume "+path) {
		t.Errorf("it said %q", said)
	}
	allClosed(t, path)
}

func TestAFullStdoutEndsARunThatStreams(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	p := through(t, `exec "$@" >/dev/full`, steadily("-f", "csv", "-o", path)...)
	p.mustEnd(t, exitOutput)
	if rows := len(reported(t, path)); rows >= quietRows {
		t.Error("it went on to the end")
	}
	allClosed(t, path)
}

// Without a stdout nothing of it may land in a file that got its number.
func TestARunWithoutAStdoutHasItsJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	through(t, `exec "$@" >&- 2>&- <&-`, append(steadily("-f", "csv", "-o", path), "--rate", "0")...).mustEnd(t, 0)
	allClosed(t, path)
}

func TestAStateFolderThatIsDeletedEndsTheRun(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	folder := filepath.Join(state, "smtpsweep")
	p := launch(t, nil, []string{"XDG_STATE_HOME=" + state}, steadily()...)
	awaitTrue(t, "there is a journal", func() bool {
		all, _ := filepath.Glob(filepath.Join(folder, "*.jsonl"))
		return len(all) == 1
	})
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	deleted := time.Now()
	p.mustEnd(t, exitOutput)
	t.Logf("ended %v after that", time.Since(deleted))
	if time.Since(deleted) > 10*time.Second { // the contract is 1 s; left to itself the run takes 20
		t.Error("it went on")
	}
	if said := p.err.String(); !strings.Contains(said, "it was removed or moved") || strings.Contains(said, "saved") {
		t.Errorf("it said %q", said)
	}
}
