package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

var _ = lab.Register("signals-slow", serveSlow)

// serveSlow is a mute server on port 2501 and a tarpit on port 2502, on every
// address of a namespace.
func serveSlow(ctx context.Context, _ []string) error {
	zoo, err := scannertest.Start(ctx, scannertest.Config{Drip: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	defer zoo.Close()
	for at, name := range map[string]string{":2501": "mute", ":2502": "tarpit"} {
		ln, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		b, _ := scannertest.Find(name)
		if err := zoo.Serve(ln, func(netip.AddrPort) scannertest.Behaviour { return b }); err != nil {
			return err
		}
	}
	lab.Ready()
	<-ctx.Done()
	return nil
}

func TestSignalsStopARun(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Classes: true, Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		t.Run("the first", func(t *testing.T) { testFirstSignal(t, l) })
		t.Run("the second", func(t *testing.T) { testSecondSignal(t, l) })
	})
}

// slowArgs sweep a mute server, a tarpit, and enough else to be busy for a
// while. The two are among the first that are dialled.
func slowArgs(t *testing.T, path string) []string {
	t.Helper()
	specs := []string{"10.64.0.0:2501", "10.64.0.0:2502", "10.64.16.0/20:25"}
	seed := uint64(0)
	for early := false; !early; {
		seed++
		b := targets.NewBuilder(targets.Config{Ports: targets.DefaultPorts()})
		for _, spec := range specs {
			if err := b.Add(spec); err != nil {
				t.Fatal(err)
			}
		}
		plan, err := b.Build(seed)
		if err != nil {
			t.Fatal(err)
		}
		early = true
		for _, port := range []uint16{2501, 2502} {
			i, _ := plan.Index(netip.MustParseAddr("10.64.0.0"), port)
			pos, _ := plan.Order(targets.Shard{}).Pos(i)
			early = early && pos < 300
		}
	}
	return append([]string{"scan", "--rate", "1000", "--timeout", "2s", "--greeting-timeout", "300ms", "--patience", "60s",
		"--seed", fmt.Sprint(seed), "-o", path}, specs...)
}

// untilNoSYN waits until no SYN arrives for a while, and returns how many came.
// It logs how long that took: the contract is 100 ms, which a test of a busy
// machine cannot hold it to. Sending does not stop later than the run ends.
func untilNoSYN(t *testing.T, l *lab.Lab, p *process) uint64 {
	t.Helper()
	signalled := time.Now()
	count, since := l.CountSYN(t, lab.Target)[0], signalled
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		now := l.CountSYN(t, lab.Target)[0]
		if now != count {
			count, since = now, time.Now()
		}
		if time.Since(since) > 500*time.Millisecond {
			t.Logf("the last SYN arrived %v after the signal", since.Sub(signalled))
			return count
		}
		select {
		case <-p.ended:
			t.Fatalf("it sent until it ended: %s", p.err.String())
		default:
		}
	}
}

// testFirstSignal stops a run whose tarpit keeps it alive for the grace: not one
// SYN arrives in that time.
func testFirstSignal(t *testing.T, l *lab.Lab) {
	slow := l.Start(t, lab.Target, "signals-slow")
	dir := t.TempDir()
	path, csvPath := filepath.Join(dir, "run.jsonl"), filepath.Join(dir, "run.csv")
	p := launch(t, l, nil, append(slowArgs(t, path), "-o", csvPath)...)
	awaitRows(t, path, 500)
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	last := untilNoSYN(t, l, p)
	select {
	case <-p.ended:
		t.Errorf("the conversation that ran got no time to end: %s", p.err.String())
	case <-time.After(time.Second):
	}
	p.mustEnd(t, exitInterrupt)
	if now := l.CountSYN(t, lab.Target)[0]; now != last {
		t.Errorf("%d SYNs arrived after the run had stopped sending", now-last)
	}
	if want := "Go on with: smtpsweep scan --resume " + path + " -o " + csvPath + " --force"; !strings.Contains(p.err.String(), want) {
		t.Errorf("it said %q, want %q", p.err.String(), want)
	}
	written, err := os.ReadFile(csvPath)
	if err != nil {
		t.Fatal(err)
	}
	rows := statesOf(t, string(written))
	sameStates(t, rows, reported(t, path))
	if len(rows) < 500 || len(rows) >= 4098 {
		t.Errorf("%d rows, want what was known", len(rows))
	}
	end, _ := os.ReadFile(path)
	if !bytes.Contains(end, []byte(`{"type":"end"`)) || !bytes.Contains(end, []byte(`"reason":"interrupted","totals"`)) {
		t.Error("the journal does not say that the run was interrupted")
	}
	slow.Stop() // what was cut short is asked again, and is another now
	launch(t, l, nil, "scan", "-q", "--resume", path, "--rate", "0", "-o", csvPath, "--force").mustEnd(t, 0)
	rows = reported(t, path)
	if len(rows) != 4098 {
		t.Errorf("%d rows after it went on, want 4098", len(rows))
	}
	for key, state := range rows {
		truth := l.Truth(netip.MustParseAddr(key.address), 25)
		want := truth.State + " " + truth.Reason
		if key.port != "25" {
			want = "closed conn-refused"
		}
		if state != want {
			t.Errorf("%v is %q, want %q", key, state, want)
		}
	}
}

// testSecondSignal ends a run with a parked mute server and a conversation with
// a tarpit: neither is waited for.
func testSecondSignal(t *testing.T, l *lab.Lab) {
	slow := l.Start(t, lab.Target, "signals-slow")
	path := filepath.Join(t.TempDir(), "run.jsonl")
	p := launch(t, l, nil, slowArgs(t, path)...)
	awaitRows(t, path, 500)
	p.Process.Signal(os.Interrupt)
	select {
	case <-p.ended:
		t.Fatalf("the conversation with the tarpit was not waited for: %s", p.err.String())
	case <-time.After(500 * time.Millisecond):
	}
	begun := time.Now()
	p.Process.Signal(os.Interrupt)
	p.mustEnd(t, exitInterrupt)
	took, most := time.Since(begun), time.Duration(lab.Count(t, 10, 10, 1))*time.Second
	if took > most {
		t.Errorf("it took %v to end after the second signal, want %v at most", took, most)
	}
	lab.Proof(t, "ended %v after the second signal", took)
	if !strings.Contains(p.err.String(), "Stopped before the outputs were written. Go on with: smtpsweep scan --resume "+path) {
		t.Errorf("it said %q", p.err.String())
	}
	if rows := reported(t, path); len(rows) < 500 {
		t.Errorf("%d rows, want those that were known", len(rows))
	}
	slow.Stop() // what was cut short is asked again, and is another now
	launch(t, l, nil, "scan", "-q", "--resume", path, "--rate", "0").mustEnd(t, 0)
	rows := reported(t, path)
	for key, state := range rows {
		if key.port != "25" && state != "closed conn-refused" {
			t.Errorf("port %s is %q after it went on, as if it had not been cut short", key.port, state)
		}
	}
	if len(rows) != 4098 {
		t.Errorf("%d rows after it went on, want 4098", len(rows))
	}
}

func TestSIGTERMStopsARunAndIsToldFromCtrlC(t *testing.T) {
	t.Parallel()
	zoo, err := scannertest.Start(t.Context(), scannertest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer zoo.Close()
	mute := mailHost(t, zoo, "127.0.0.1:0", "mute")
	path := filepath.Join(t.TempDir(), "run.jsonl")
	p := launch(t, nil, nil, "scan", mute.String(), "-o", path)
	awaitTrue(t, "the mute server has a connection", func() bool { return zoo.Counts().Conns > 0 })
	p.Process.Signal(syscall.SIGTERM)
	p.mustEnd(t, exitTerminated)
	if want := "Go on with: smtpsweep scan --resume " + path; !strings.Contains(p.err.String(), want) {
		t.Errorf("it said %q, want %q", p.err.String(), want)
	}
	if state := reported(t, path)[keyOf(mute)]; state != "unknown interrupted" {
		t.Errorf("the server is %q", state)
	}
}

// Who presses Ctrl-C learns at once that it was heard, and how to stop now: a
// conversation that runs has five seconds to end.
func TestTheFirstCtrlCIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	for _, quiet := range []bool{false, true} {
		t.Run(fmt.Sprint("quiet ", quiet), func(t *testing.T) {
			t.Parallel()
			server, asked := afterEHLOMute(t)
			said, err := os.CreateTemp(t.TempDir(), "stderr")
			if err != nil {
				t.Fatal(err)
			}
			defer said.Close()
			p := &process{ended: make(chan struct{})}
			p.Cmd = execCommand(t, "scan", server, fmt.Sprint("-q=", quiet))
			p.Stderr = said
			p.start(t)
			select {
			case <-asked:
			case <-time.After(time.Minute):
				t.Fatal("nobody says EHLO")
			}
			p.Process.Signal(os.Interrupt)
			text := func() string { b, _ := os.ReadFile(said.Name()); return string(b) }
			const want = "Stopping: 1 conversation gets up to 5 s to end; Ctrl-C again stops at once.\n"
			if !quiet {
				awaitTrue(t, "it answers", func() bool { return strings.Contains(text(), want) })
			}
			select {
			case <-p.ended:
				t.Error("it answered when it ended")
			default:
			}
			p.Process.Signal(os.Interrupt)
			p.mustEnd(t, exitInterrupt)
			if quiet && text() != "" {
				t.Errorf("with -q it says %q", text())
			}
		})
	}
}

// afterEHLOMute starts a server that greets, and says nothing more. asked is
// closed when it has been told EHLO.
func afterEHLOMute(t *testing.T) (addr string, asked chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = make(chan struct{})
	done := make(chan struct{})
	go func() { // ends when the client or the listener is closed
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "220 mail.example.org ESMTP\r\n")
		if _, err := conn.Read(make([]byte, 512)); err == nil {
			close(asked)
		}
		io.Copy(io.Discard, conn)
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), asked
}

func TestCtrlCWhileNamesAreLookedUp(t *testing.T) {
	t.Parallel()
	ns := scannertest.StartDNS(t, scannertest.DNSZone{"slow.example.org": {"DROP"}})
	state := t.TempDir()
	p := launch(t, nil, []string{"XDG_STATE_HOME=" + state}, "scan", "slow.example.org", "--resolver", ns.Addr.String())
	awaitTrue(t, "the name is asked for", func() bool { return ns.Queries("slow.example.org", "A") > 0 })
	p.Process.Signal(os.Interrupt)
	p.mustEnd(t, exitInterrupt)
	if p.out.Len() > 0 || !strings.Contains(p.err.String(), "before anything was sent") {
		t.Errorf("stdout %q, stderr %q", p.out.String(), p.err.String())
	}
	if left, _ := filepath.Glob(filepath.Join(state, "*", "*")); len(left) > 0 {
		t.Errorf("a run that never began left %v", left)
	}
}

func TestCtrlCWhileAListIsTyped(t *testing.T) {
	t.Parallel()
	p := &process{ended: make(chan struct{})}
	p.Cmd = execCommand(t, "scan", "-i", "-")
	stdin, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	defer typed.Close() // the list never ends
	fmt.Fprintln(typed, "127.0.0.1")
	p.Stdin, p.Stdout, p.Stderr = stdin, &p.out, &p.err
	p.start(t)
	awaitTrue(t, "it reads the list", func() bool { return pipeBytes(t, stdin) == 0 })
	p.Process.Signal(os.Interrupt)
	p.mustEnd(t, exitInterrupt)
}

func TestASecondCtrlCDoesNotWaitForWhoeverReadsStdout(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"csv", "jsonl"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "run.jsonl")
			p := &process{ended: make(chan struct{})}
			p.Cmd = execCommand(t, "scan", "127.0.0.0/19", "-p", "1", "--rate", "0", "--probe", "port", "-f", format, "-o", path)
			full, w, err := os.Pipe() // that nobody empties: it holds 64 KiB
			if err != nil {
				t.Fatal(err)
			}
			defer full.Close()
			p.Stdout, p.Stderr = w, &p.err
			p.start(t)
			w.Close()
			awaitRows(t, path, 20)
			awaitTrue(t, "the pipe is full", func() bool { return pipeBytes(t, full) > 60000 })
			p.Process.Signal(os.Interrupt)
			p.Process.Signal(syscall.SIGTERM)
			if code := p.wait(t); code != exitInterrupt && code != exitTerminated {
				t.Errorf("exit code %d: %s", code, p.err.String())
			}
			if rows := reported(t, path); len(rows) < 20 {
				t.Errorf("%d rows were saved", len(rows))
			}
		})
	}
}

// What does not end because nobody reads its stdout is left alone, and leaves no
// temporary file: not the half of a report, not the journal of the demo.
func TestASecondCtrlCLeavesNoTemporaryFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	launch(t, nil, nil, "scan", "-q", "127.0.0.0/22", "-p", "1", "--probe", "port", "--rate", "0", "-o", path).mustEnd(t, 0)
	for _, args := range [][]string{
		{"report", path, "-f", "json"},
		{"scan", "127.0.0.0/22", "-p", "1", "--probe", "port", "--rate", "0", "-f", "json"},
		{"demo", "-f", "csv"},
	} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			dir, journals := t.TempDir(), t.TempDir()
			p := &process{ended: make(chan struct{})}
			p.Cmd = execCommand(t, append(args, "-o", filepath.Join(dir, "rows.csv"))...)
			p.Env = append(p.Env, "TMPDIR="+dir, "XDG_STATE_HOME="+journals)
			stdout, w, size := smallPipe(t)
			defer stdout.Close()
			p.Stdout, p.Stderr = w, &p.err
			p.start(t)
			w.Close()
			awaitTrue(t, "rows come, more than the pipe will hold", func() bool { return pipeBytes(t, stdout) > size/4 })
			p.Process.Signal(os.Interrupt)
			p.Process.Signal(syscall.SIGTERM)
			if code := p.wait(t); code != exitInterrupt && code != exitTerminated {
				t.Errorf("exit code %d: %s", code, p.err.String())
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left %v; it said %q", left, p.err.String())
			}
		})
	}
}

// smallPipe returns a pipe that holds less than what is written at a time.
func smallPipe(t *testing.T) (r, w *os.File, size int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if size, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 2*os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	return r, w, size
}

func TestARunUnderNohupOutlivesItsTerminal(t *testing.T) {
	t.Parallel()
	_, mute, zoo := goodAndMute(t)
	path := filepath.Join(t.TempDir(), "run.jsonl")
	p := &process{ended: make(chan struct{})}
	p.Cmd = execCommand(t, "scan", mute.String(), "-o", path, "--greeting-timeout", "300ms", "--patience", "1s")
	p.Cmd = &exec.Cmd{Path: "/bin/sh", Args: append([]string{"sh", "-c", `trap "" HUP; exec "$@"`, "sh"}, p.Args...), Env: p.Env, Stderr: &p.err}
	p.start(t)
	awaitTrue(t, "the mute server has a connection", func() bool { return zoo.Load(mute.Addr()).Accepted > 0 })
	p.Process.Signal(syscall.SIGHUP)
	p.mustEnd(t, 0)

	p = launch(t, nil, nil, "scan", mute.String(), "-o", path+".2.jsonl") // and without nohup it saves and ends
	awaitTrue(t, "the mute server has another", func() bool { return zoo.Load(mute.Addr()).Accepted > 1 })
	p.Process.Signal(syscall.SIGHUP)
	p.mustEnd(t, exitInterrupt)
}

// pipeBytes returns how much a pipe holds.
func pipeBytes(t *testing.T, f *os.File) int {
	t.Helper()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
