package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// TestTruthAtScale sweeps many addresses of all classes at the default pace with
// full conversations. Nothing may be wrong, missing or there twice: neither in
// the report nor in the journal, whose fold would hide a row too many.
func TestTruthAtScale(t *testing.T) {
	fillsTheMachine(t)
	lab.Run(t, lab.Config{Classes: true, Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		prefix := someTargets(lab.Count(t, 512, 8192, 65_536))
		s := startScanTo(t, l, []string{"csv", "jsonl"}, "-p", "25,465,587", prefix.String())
		s.mustBeDone(t)
		n := checkEach(t, s.file("csv"), prefix, mailPorts, func(r map[string]string, addr netip.Addr, port uint16) {
			checkRow(t, r, l.Truth(addr, port))
		})
		checkOnce(t, s.file("jsonl"), n)
		lab.Proof(t, "%d rows compared with the truth", n)
	})
}

// TestMemoryOfASweep sweeps a million endpoints of all classes as fast as it can.
// What the program needs must not depend on their number.
func TestMemoryOfASweep(t *testing.T) {
	fillsTheMachine(t)
	lab.Run(t, lab.Config{Classes: true, Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		prefix := someTargets(lab.Count(t, 16_384, 131_072, 1_048_576))
		s := startScanTo(t, l, []string{"csv", "jsonl"}, "-p", "25", "--probe", "port", "--rate", "0", prefix.String())
		m := s.watchMemory(t)
		s.mustBeDone(t)
		m.check(t, 40<<10)
		n := checkEach(t, s.file("csv"), prefix, []uint16{25}, func(r map[string]string, addr netip.Addr, port uint16) {
			truth := l.Truth(addr, port)
			if r["state"] != truth.State || r["reason"] != truth.Reason {
				t.Errorf("%s (%v): %s %s, want %s %s", addr, truth.Class, r["state"], r["reason"], truth.State, truth.Reason)
			}
		})
		checkOnce(t, s.file("jsonl"), n)
	})
}

// TestMemoryOfSilence sweeps a network where nobody answers: then as many dials
// are under way as there may be, all the time. 10 MiB are the goal. What the program
// needs of its own is about that; the pages of its file, which the kernel maps 16
// at a time and shares with the page cache, come on top, and are as many already
// when it only says its version.
func TestMemoryOfSilence(t *testing.T) {
	fillsTheMachine(t)
	lab.Run(t, lab.Config{Binary: true}, func(t *testing.T, l *lab.Lab) {
		l.DropOut(t, lab.Router, lab.Targets4, 0)
		prefix := someTargets(lab.Count(t, 32_768, 65_536, 524_288))
		s := startScanTo(t, l, []string{"jsonl"}, "-p", "25,465,587", "--probe", "port", "--rate", "0", "--timeout", "0.9s", prefix.String())
		m := s.watchMemory(t)
		s.mustBeDone(t)
		m.check(t, 32<<10)
		if m.anon > 20<<10 { // 9 to 13 were seen, whatever the number: what was free may not be given back yet
			t.Errorf("%d KiB of memory of its own at the most, want some 10 MiB", m.anon)
		}
		checkOnce(t, s.file("jsonl"), 3<<(32-prefix.Bits()))
	})
}

// TestMemoryOfConversations holds as many conversations at a time as there may
// be, with servers that answer EHLO when all are there, take their time for each
// reply after it, and speak TLS.
func TestMemoryOfConversations(t *testing.T) {
	fillsTheMachine(t)
	lab.Run(t, lab.Config{Binary: true}, func(t *testing.T, l *lab.Lab) {
		n := lab.Count(t, 1024, 4096, 8192)
		want := min(n, scanner.DefaultConversations)
		servers := l.Start(t, lab.Target, "scale-unhurried", strconv.Itoa(want))
		prefix := someTargets(n)
		s := startScanTo(t, l, []string{"csv", "jsonl"}, "-p", "25", "--rate", "0", prefix.String())
		m := s.watchMemory(t)
		s.mustBeDone(t)
		m.check(t, 80e6>>10)
		checkEach(t, s.file("csv"), prefix, []uint16{25}, func(r map[string]string, addr netip.Addr, _ uint16) {
			if r["service"] != "smtp" || r["starttls"] != "offered" || r["tls_version"] == "" {
				t.Errorf("%s: %v", addr, r)
			}
		})
		checkOnce(t, s.file("jsonl"), n)
		if err := servers.Stop(); err != nil {
			t.Error(err)
		}
		most := 0
		if _, err := fmt.Sscanf(servers.Output(), "most %d", &most); err != nil || most < want {
			t.Errorf("%d conversations at a time at the servers, want %d (%v)", most, want, err)
		}
		lab.Proof(t, "%d conversations at a time", most)
	})
}

var _ = lab.Register("scale-unhurried", serveUnhurried)

// serveUnhurried is a good mail server on port 25 of every address, which answers
// the first command of a client when so many clients wait for that, and waits a while
// for a client that talks out of turn before each reply. At its end it says how many
// conversations there were at a time.
func serveUnhurried(ctx context.Context, args []string) error {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	zoo, err := scannertest.Start(ctx, scannertest.Config{Turn: 300 * time.Millisecond})
	if err != nil {
		return err
	}
	good, _ := scannertest.Find("good")
	serve := good.Serve
	crowd := &assembly{want: want, all: make(chan struct{})}
	good.Serve = func(conn net.Conn, z *scannertest.Zoo) {
		member := &memberConn{Conn: conn, crowd: crowd}
		serve(member, z)
		if member.joined {
			crowd.leave()
		}
	}
	if _, err := zoo.Listen(":25", good); err != nil {
		return err
	}
	lab.Ready()
	<-ctx.Done()
	zoo.Close()
	fmt.Println("most", crowd.most)
	return nil
}

// An assembly is who has said something, and has not left.
type assembly struct {
	want int
	all  chan struct{} // closed when they are so many

	mu        sync.Mutex // guards following
	now, most int
}

func (c *assembly) join() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now++; c.now > c.most {
		if c.most = c.now; c.most == c.want {
			close(c.all)
		}
	}
}

func (c *assembly) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
}

// A memberConn is the connection of one: what it says first is heard when all are there.
type memberConn struct {
	net.Conn
	crowd  *assembly
	joined bool
}

// Read implements io.Reader.
func (c *memberConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.joined {
		c.joined = true
		c.crowd.join()
		select {
		case <-c.crowd.all:
		case <-time.After(time.Minute): // the client has gone by then
		}
	}
	return n, err
}

// machine is whose turn it is to fill it.
var machine sync.Mutex

// fillsTheMachine makes a test parallel that fills the processors: of those one runs at a
// time, beside others that mostly wait.
func fillsTheMachine(t *testing.T) {
	t.Parallel()
	machine.Lock()
	t.Cleanup(machine.Unlock)
}

// someTargets returns a prefix of the lab's targets with n addresses, a power of two.
func someTargets(n int) netip.Prefix {
	return netip.PrefixFrom(lab.Targets4.Addr(), 33-bits.Len(uint(n)))
}

// mustBeDone waits for the end of a scan, with exit code 0.
func (s *labScan) mustBeDone(t *testing.T) {
	t.Helper()
	if code := s.wait(t); code != exitDone {
		t.Fatalf("exit code %d, want %d:\n%s", code, exitDone, s.said.String())
	}
}

// checkEach checks every row of a CSV file, which must have one for each address
// of a prefix and port, in the order of the plan. It returns how many these are.
func checkEach(t *testing.T, path string, prefix netip.Prefix, ports []uint16, check func(r map[string]string, addr netip.Addr, port uint16)) int {
	t.Helper()
	n, want := 0, netip.AddrPortFrom(prefix.Masked().Addr(), ports[0])
	for r := range readCSV(t, path) {
		if r["address"] != want.Addr().String() || r["port"] != strconv.Itoa(int(want.Port())) {
			t.Fatalf("row %d is of %s port %s, want %s", n+1, r["address"], r["port"], want)
		}
		check(r, want.Addr(), want.Port())
		n++
		want = netip.AddrPortFrom(want.Addr(), ports[n%len(ports)])
		if n%len(ports) == 0 {
			want = netip.AddrPortFrom(want.Addr().Next(), ports[0])
		}
	}
	if all := len(ports) << (32 - prefix.Bits()); n != all {
		t.Fatalf("%d rows, want %d", n, all)
	}
	return n
}

// checkOnce checks that a journal has n endpoints, each once, and an end. What is
// there twice no report would show.
func checkOnce(t *testing.T, path string, n int) {
	t.Helper()
	r, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	plan, err := r.Plan(targets.Config{})
	if err != nil {
		t.Fatal(err)
	}
	order := plan.Order(targets.Shard{})
	times := make([]uint8, n) // by index in the plan
	ended := false
	for record, err := range r.Records() {
		if err != nil { // a wrong checksum is one
			t.Fatal(err)
		}
		ended = ended || record.Type == "end"
		for _, i := range indicesOf(t, plan, order, record) {
			if times[i] < 2 {
				times[i]++
			}
		}
	}
	var count [3]int
	for _, k := range times {
		count[k]++
	}
	if count[1] != n || !ended {
		t.Errorf("the journal has %d of %d endpoints once, %d twice, %d not at all; it has an end: %v", count[1], n, count[2], count[0], ended)
	}
}

// indicesOf returns the indices in the plan of the endpoints that a record is about.
func indicesOf(t *testing.T, plan *targets.Plan, order targets.Order, record journal.Record) (indices []uint64) {
	t.Helper()
	var r struct {
		Address  netip.Addr
		Port     uint16
		From, To uint64
		Except   []uint64
	}
	if record.Type != "result" && record.Type != "silent" {
		return nil
	}
	if err := json.Unmarshal(record.Line, &r); err != nil {
		t.Fatalf("%v in %s", err, record.Line)
	}
	if record.Type == "result" {
		i, ok := plan.Index(r.Address, r.Port)
		if !ok {
			t.Fatalf("nobody asked for %s", record.Line)
		}
		return []uint64{i}
	}
	for pos := r.From; pos <= r.To; pos++ {
		if !slices.Contains(r.Except, pos) {
			indices = append(indices, order.At(pos))
		}
	}
	return indices
}

// A memory is what a process needed at the most, in KiB.
type memory struct {
	whole int           // VmHWM: all of it, code that is mapped included
	anon  int           // RssAnon: what is its own, as seen every few milliseconds
	file  int           // RssFile: pages of the program that were looked at or lie near such
	over  chan struct{} // closed when the process is
}

// watchMemory looks at what a scan needs until it ends. The kernel keeps the peak,
// but not for a process that has ended.
func (s *labScan) watchMemory(t *testing.T) *memory {
	m := &memory{over: make(chan struct{})}
	dir, binary := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid), lab.Binary(t)
	go func() { // ends with the process
		defer close(m.over)
		for {
			status, err := os.ReadFile(dir + "status")
			if err != nil || strings.Contains(string(status), "State:\tZ") {
				return
			}
			if exe, _ := os.Readlink(dir + "exe"); exe == binary { // else it is on its way there
				m.add(string(status))
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return m
}

// add takes what /proc/PID/status says (proc(5)).
func (m *memory) add(status string) {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch key {
		case "VmHWM":
			m.whole = max(m.whole, n)
		case "RssAnon":
			m.anon = max(m.anon, n)
		case "RssFile":
			m.file = max(m.file, n)
		}
	}
}

// check compares the peak of a scan that is over with a limit in KiB. Beside other
// tests garbage is collected late: then half as much again is allowed.
func (m *memory) check(t *testing.T, limit int) {
	t.Helper()
	<-m.over
	if os.Getenv("SMTPSWEEP_LAB") != "long" {
		limit += limit / 2
	}
	lab.Proof(t, "peak %.1f MiB: %.1f of its own, %.1f of the program's file", float64(m.whole)/1024, float64(m.anon)/1024, float64(m.file)/1024)
	if m.whole == 0 || m.whole > limit {
		t.Errorf("peak of %d KiB, want at most %d", m.whole, limit)
	}
}
