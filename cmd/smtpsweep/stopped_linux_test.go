package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

var _ = lab.Register("stopped-slow", serveSlowly)

// slowly is how long the slow server thinks before each line.
const slowly = 400 * time.Millisecond

// serveSlowly is a server on ports 25 and 2599 (where class redirect leads) that
// takes its time for every answer, so that many conversations run at a time.
func serveSlowly(ctx context.Context, _ []string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, at := range []string{":25", ":2599"} {
		ln, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { ln.Close() })
		defer stop()
		wg.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { answerSlowly(ctx, conn) })
			}
		})
	}
	lab.Ready()
	<-ctx.Done()
	return nil
}

func answerSlowly(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	lines := bufio.NewScanner(conn)
	say := func(text string) {
		time.Sleep(slowly)
		io.WriteString(conn, text+"\r\n") // a client that is gone ends the loop below
	}
	say("220 slow.lab.example ESMTP")
	for lines.Scan() {
		switch verb, _, _ := strings.Cut(lines.Text(), " "); verb {
		case "EHLO":
			say("250-slow.lab.example\r\n250 SIZE 10485760")
		case "QUIT":
			say("221 Bye")
			return
		default:
			say("502 5.5.1 Command not implemented")
		}
	}
}

// A run that is stopped for a while and goes on has the rows of one that was
// not: nobody is filtered, mute or slow because we did not listen.
func TestAStoppedRunChargesNobodyForIt(t *testing.T) {
	t.Parallel()
	stop := time.Duration(lab.Count(t, 2500, 2500, 30_000)) * time.Millisecond
	lab.Run(t, lab.Config{Classes: true, Binary: true, Ports: []uint16{25}}, func(t *testing.T, l *lab.Lab) {
		l.Start(t, lab.Target, "stopped-slow")
		dir := t.TempDir()
		path, rows := filepath.Join(dir, "run.jsonl"), filepath.Join(dir, "rows.csv")
		p := launch(t, l, nil, "scan", "-q", "-p", "25", "--rate", "100", "-o", path, "-o", rows, "10.64.0.0/24")
		awaitRows(t, path, 60)
		p.Process.Signal(syscall.SIGSTOP)
		time.Sleep(stop) // this is what the program is to bear
		p.Process.Signal(syscall.SIGCONT)
		p.mustEnd(t, exitDone)
		wrong, found := 0, rowsOfCSV(t, rows)
		for _, r := range found {
			if problem := chargedFor(r, l.Truth(netip.MustParseAddr(r["address"]), 25)); problem != "" {
				wrong++
				t.Errorf("%s: %s", r["address"], problem)
			}
		}
		if len(found) != 256 {
			t.Errorf("%d rows, want 256", len(found))
		}
		lab.Proof(t, "stopped for %v: %d of %d rows are wrong", stop, wrong, len(found))
	})
}

// chargedFor says what is wrong with a row, or nothing.
func chargedFor(r map[string]string, want lab.Expect) string {
	if r["state"] != want.State || r["reason"] != want.Reason {
		return fmt.Sprintf("%s %s, want %s %s", r["state"], r["reason"], want.State, want.Reason)
	}
	if want.State != "open" {
		return ""
	}
	greeting, err := strconv.ParseFloat(r["greeting_ms"], 64)
	if r["service"] != "smtp" || r["size"] != "10485760" || r["error"] != "" || r["finding"] != "" || err != nil {
		return fmt.Sprintf("service %q, size %q, greeting %q, error %q, finding %q", r["service"], r["size"], r["greeting_ms"], r["error"], r["finding"])
	}
	// It is 0.4 s. That we were stopped for 30 s is in none.
	if rtt, _ := strconv.ParseFloat(r["rtt_ms"], 64); greeting > 15_000 || rtt > 15_000 {
		return fmt.Sprintf("greeting after %v ms, rtt %v ms", greeting, rtt)
	}
	return ""
}

// After a Ctrl-C nothing is sent: neither to new targets nor, by the kernel,
// again to those that have not answered. What is judged is how much was sent all
// the same, which a busy machine does not make more; the time is a matter of the long tier.
func TestCtrlCEndsTheSending(t *testing.T) {
	t.Parallel()
	const rate = 2000
	rounds := lab.Count(t, 1, 2, 20)
	lab.Run(t, lab.Config{Classes: true, Binary: true, Ports: []uint16{25}}, func(t *testing.T, l *lab.Lab) {
		var last []time.Duration
		most := 0
		for range rounds {
			path := filepath.Join(t.TempDir(), "run.jsonl")
			capture := l.Capture(t, lab.Scanner, "sc0")
			p := launch(t, l, nil, "scan", "-q", "-p", "25", "--probe", "port", "--rate", strconv.Itoa(rate), "-o", path, "10.64.0.0/18")
			awaitRows(t, path, 1000)
			signalled := time.Now()
			p.Process.Signal(os.Interrupt)
			p.mustEnd(t, exitInterrupt)
			after, late := 0, time.Duration(0)
			for _, s := range capture.Stop(t) {
				if s.Flags&(lab.SYN|lab.ACK) == lab.SYN && s.At.After(signalled) {
					after, late = after+1, s.At.Sub(signalled)
				}
			}
			last, most = append(last, late), max(most, after)
			if after > rate/2 {
				t.Errorf("%d SYNs left after the signal, the last %v after it", after, late)
			}
			if rows := reported(t, path); len(rows) < 1000 {
				t.Errorf("%d rows were saved", len(rows))
			}
		}
		slices.Sort(last)
		middle, worst := last[len(last)/2], last[len(last)-1]
		if rounds >= 20 && middle > 100*time.Millisecond {
			t.Errorf("the last SYN left %v after the signal (median of %d), want 100 ms at most", middle, rounds)
		}
		lab.Proof(t, "%d runs: the last SYN left %v after the signal (median; worst %v), at most %d SYNs", rounds, middle, worst, most)
	})
}

// A look-up whose time was over while the program was stopped is made again.
func TestALookUpThatWasStoppedIsMadeAgain(t *testing.T) {
	t.Parallel()
	stop := time.Duration(lab.Count(t, 0, 12, 30)) * time.Second
	if stop == 0 {
		t.Skip("a look-up has ten seconds: see .ci/run")
	}
	// The first question is lost, which by itself costs two seconds.
	ns := scannertest.StartDNS(t, scannertest.DNSZone{"late.example.org": {"DROP", "---", "A 192.0.2.1", "---", "A 192.0.2.1"}})
	p := launch(t, nil, nil, "scan", "--dry-run", "--allow-reserved", "-4", "-p", "25", "late.example.org", "--resolver", ns.Addr.String())
	awaitTrue(t, "the name is asked for", func() bool { return ns.Queries("late.example.org", "A") > 0 })
	p.Process.Signal(syscall.SIGSTOP)
	time.Sleep(stop) // this is what the program is to bear
	p.Process.Signal(syscall.SIGCONT)
	p.mustEnd(t, exitDone)
	if got, want := p.out.String(), "192.0.2.1:25 late.example.org\n"; got != want {
		t.Errorf("it lists %q, want %q; it said %q", got, want, p.err.String())
	}
}
