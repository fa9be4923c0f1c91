package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/egress/reflect"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// A farProcess is a far end that runs as a process of its own.
type farProcess struct {
	*process
	said, log said
	pin       reflect.Pin
	ports     []netip.AddrPort // in the order in which it lists them
}

// A said keeps what a running process says.
type said struct {
	mu   sync.Mutex // guards following
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// startFar starts the built program and waits until it listens. A command is made
// by make, or as launch does without a lab if that is nil.
func startFar(t *testing.T, make func(args []string) *exec.Cmd, args ...string) *farProcess {
	t.Helper()
	args = append([]string{"reflect", "--key", filepath.Join(t.TempDir(), "far.key"), "--name", "far.example.org"}, args...)
	f := &farProcess{process: newProcess()}
	if make != nil {
		f.Cmd = make(args)
	} else {
		f.Cmd = execCommand(t, args...)
	}
	f.Stdout, f.Stderr = &f.said, &f.log
	f.start(t)
	f.await(t, slices.Contains(args, "-q"))
	return f
}

func newProcess() *process { return &process{ended: make(chan struct{})} }

var (
	listensOn = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	fileLine  = regexp.MustCompile(`^smtpsweep egress --reflector '?far\.example\.org#([A-Za-z0-9_-]{43})'?\n$`)
)

// await waits until it has said what an auditor is to be given, and, unless it is
// quiet, where it listens.
func (f *farProcess) await(t *testing.T, quiet bool) {
	t.Helper()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		select {
		case <-f.ended:
			t.Fatalf("it ended: %s%s", f.said.String(), f.log.String())
		default:
		}
		m := fileLine.FindStringSubmatch(f.said.String())
		if m == nil || !quiet && !strings.Contains(f.log.String(), "Give the auditor this line") {
			continue
		}
		pin, err := reflect.ParsePin(m[1])
		if err != nil {
			t.Fatal(err)
		}
		f.pin = pin
		for _, text := range listensOn.FindAllString(f.log.String(), -1) {
			f.ports = append(f.ports, netip.MustParseAddrPort(text))
		}
		return
	}
}

// status returns a number of /proc/PID/status, in its unit.
func (f *farProcess) status(t *testing.T, field string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in its status", field)
	return 0
}

// hostile are the ways in which clients of a far end misbehave. Each returns when
// it has done what it does, and keeps the connection open unless it was closed.
var hostile = []struct {
	name string
	do   func(net.Conn)
}{
	{"says nothing", func(net.Conn) {}},
	{"slowloris", func(c net.Conn) { io.WriteString(c, "EHL") }},
	{"an endless line", func(c net.Conn) { io.WriteString(c, strings.Repeat("x", 100_000)) }},
	{"garbage", func(c net.Conn) { io.WriteString(c, strings.Repeat("\x00\xff\r\n\x16\x03\x01\x7f\xff\n", 200)) }},
	{"a flood of commands", func(c net.Conn) { io.WriteString(c, strings.Repeat("NOOP\r\n", 2000)) }},
	{"a flood of summaries", func(c net.Conn) {
		io.WriteString(c, strings.Repeat("NOOP XREFLECT AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 1\r\n", 90))
	}},
	{"half-open TLS", func(c net.Conn) {
		io.WriteString(c, "STARTTLS\r\n")
		readUntil(c, "220 2.0.0")
		c.Write(append([]byte{22, 3, 1, 0x10, 0, 1, 0, 0xff, 0xfc, 3, 3}, make([]byte, 4000)...)) // a ClientHello of 64 KB, cut short
	}},
	{"a long record", func(c net.Conn) {
		io.WriteString(c, "STARTTLS\r\n")
		readUntil(c, "220 2.0.0")
		c.Write([]byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3})
	}},
	{"TLS and then a record that is begun", func(c net.Conn) {
		io.WriteString(c, "STARTTLS\r\n")
		readUntil(c, "220 2.0.0")
		tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake()
		c.Write(append([]byte{23, 3, 3, 0x10, 0}, make([]byte, 4000)...))
	}},
	{"commands to be remembered", func(c net.Conn) {
		for i := range 60 {
			fmt.Fprintf(c, "NOOP %s %d\r\n", strings.Repeat("x", 190), i)
		}
	}},
	{"mail", func(c net.Conn) {
		io.WriteString(c, "EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
	}},
	{"never reads", func(c net.Conn) {
		c.(*net.TCPConn).SetReadBuffer(2048)
		io.WriteString(c, strings.Repeat("EHLO x\r\n", 99))
	}},
	{"HTTP", func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }},
}

// readUntil reads until a word came, or nothing comes any more.
func readUntil(c net.Conn, word string) {
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil || strings.Contains(line, word) {
			return
		}
	}
}

// Two thousand hostile clients at once, each from an address of its own so that
// no limit of a source protects, leave a far end small and answering.
func TestHostileClientsLeaveAFarEndSmallAndAnswering(t *testing.T) {
	t.Parallel()
	clients := lab.Count(t, 200, 2000, 4000)
	f := startFar(t, nil, "--listen", "127.0.0.1", "-p", "random")
	plain := f.ports[0]
	var wg sync.WaitGroup
	var open atomic.Int64
	slots := make(chan struct{}, 64)
	done := make(chan struct{})
	for i := range clients {
		slots <- struct{}{}
		began := make(chan struct{})
		wg.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 10, byte(i>>8), byte(i))}, Timeout: time.Minute}
			conn, err := d.DialContext(t.Context(), "tcp", plain.String())
			if err == nil {
				defer conn.Close()
				open.Add(1)
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				hostile[i%len(hostile)].do(conn)
			}
			close(began)
			<-done
		})
		go func() { // ends when the client has done what it does
			<-began
			<-slots
		}()
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
	held := open.Load()
	for _, o := range []reflect.Options{{}, {LongLine: true}} {
		r, err := reflect.Probe(t.Context(), plain, f.pin, o)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Has(reflect.Intact) {
			t.Errorf("among %d hostile clients: ended at %s: %s; %+v", held, r.Step, r.Error, r.Conclusions)
		}
	}
	rss, peak := f.status(t, "VmRSS"), f.status(t, "VmHWM")
	close(done)
	wg.Wait()
	lab.Proof(t, "%d hostile clients at once: %d connected; %d KB resident, %d KB at most; it answered", clients, held, rss, peak)
	if held < int64(clients) {
		t.Errorf("%d of %d clients connected", held, clients)
	}
	if peak >= 64<<10 {
		t.Errorf("it had %d KB at most, want under 64 MB", peak)
	}
	f.stopWell(t)
}

// stopWell ends a far end as a service manager does.
func (f *farProcess) stopWell(t *testing.T) {
	t.Helper()
	if err := f.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := f.wait(t); code != exitDone || !strings.Contains(f.log.String(), "Ended: ") {
		t.Errorf("exit code %d, it said %s", code, f.log.String())
	}
}

// In a network of its own, as root, with the usual ports: it becomes nobody, in
// all threads and for good, and serves an auditor without privileges.
func TestAFarEndGivesUpRoot(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Binary: true}, func(t *testing.T, l *lab.Lab) {
		if text, err := os.ReadFile("/proc/self/uid_map"); err != nil || !manyUsers(string(text)) {
			t.Skipf("lab: there is no user %d in it (%v): run as root", nobody, err)
		}
		inTarget := func(args []string) *exec.Cmd { return l.Command(lab.Target, lab.Binary(t), args...) }
		f := startFar(t, inTarget)
		for _, thread := range threads(t, f.Process.Pid) {
			for field, want := range map[string]string{"Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534", "Groups": "",
				"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
				if got := strings.Join(strings.Fields(thread[field]), " "); got != want {
					t.Errorf("a thread has %s %q, want %q", field, got, want)
				}
			}
		}
		if !strings.Contains(f.log.String(), "has become user nobody (65534)") {
			t.Errorf("it said %s", f.log.String())
		}
		for _, port := range reflect.Ports() {
			for _, addr := range []netip.Addr{lab.TargetAddr4, lab.TargetAddr6} {
				if addr.Is6() && !l.IPv6() {
					continue
				}
				r, err := reflect.Probe(t.Context(), netip.AddrPortFrom(addr, port), f.pin, reflect.Options{ImplicitTLS: reflect.ImplicitTLS(port)})
				if err != nil {
					t.Fatal(err)
				}
				if len(r.Conclusions) != 1 || !r.Has(reflect.Intact) {
					t.Errorf("%s port %d: %+v", addr, port, r.Conclusions)
				}
			}
		}
		second := l.Command(lab.Target, lab.Binary(t), "reflect", "--key", filepath.Join(t.TempDir(), "key"))
		if out, _ := second.CombinedOutput(); second.ProcessState.ExitCode() != exitEnvironment || !strings.Contains(string(out), "cannot listen on all addresses port 25: another program does") {
			t.Errorf("a second one: exit code %d, %s", second.ProcessState.ExitCode(), out)
		}
		f.stopWell(t)
		bare := lab.NoCaps(l.Command(lab.Target, lab.Binary(t), "reflect", "--key", filepath.Join(t.TempDir(), "key")))
		if out, _ := bare.CombinedOutput(); bare.ProcessState.ExitCode() != exitEnvironment || !strings.Contains(string(out), "ports below 1024 need root") {
			t.Errorf("without privileges: exit code %d, %s", bare.ProcessState.ExitCode(), out)
		}
	})
}

// manyUsers reports whether a map of user numbers has nobody in it.
func manyUsers(uidMap string) bool {
	for line := range strings.Lines(uidMap) {
		var inside, outside, size int
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err == nil && inside <= nobody && nobody < inside+size {
			return true
		}
	}
	return false
}

// threads returns the status of each thread of a process.
func threads(t *testing.T, pid int) (all []map[string]string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) < 2 {
		t.Fatalf("threads %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			fields[name] = value
		}
		all = append(all, fields)
	}
	return all
}

func TestAFarEndLogsCleanLinesAndKeepsItsKey(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "far.key")
	f := startFar(t, nil, "--listen", "127.0.0.1", "-p", "random", "--key", key)
	conn, err := net.Dial("tcp", f.ports[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, "EHLO \x1b]0;owned\x07\u202eevil\x9b2J\r\nQUIT\r\n")
	io.Copy(io.Discard, conn)
	r, err := reflect.Probe(t.Context(), f.ports[0], f.pin, reflect.Options{})
	if err != nil || !r.Has(reflect.Intact) {
		t.Errorf("%+v, %v", r, err)
	}
	f.stopWell(t)
	log := f.log.String()
	if !strings.Contains(log, "2 sessions, 1 of them auditors'; 0 clients were not let in") || !strings.Contains(log, ": auditor, TLS 1.3, ") {
		t.Errorf("it said %s", log)
	}
	for line := range strings.Lines(log) {
		if line = strings.TrimSuffix(line, "\n"); report.Clean(line) != line {
			t.Errorf("a line that is not clean: %q", line)
		}
	}
	again := startFar(t, nil, "--listen", "127.0.0.1", "-p", "random", "-q", "--key", key)
	if again.pin != f.pin {
		t.Error("the second time it has another key")
	}
	if again.log.String() != "" {
		t.Errorf("with -q it said %s", again.log.String())
	}
}

func TestAFarEndSaysWhatIsWrongWithItsFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "far.key")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-p", "99999"}, "-p: "},
		{[]string{"-p", "1-1000"}, "1000 ports are more than an audit needs"},
		{[]string{"-p", "25", "--tls", "465"}, "--tls: port 465 is not among the ports"},
		{[]string{"--tls", "x"}, "--tls: "},
		{[]string{"--listen", "far.example.org"}, "--listen"},
		{[]string{"--name", "a b"}, "--name"},
		{[]string{"--name", strings.Repeat("a", 256)}, "--name"},
		{[]string{"--sessions", "1"}, "--sessions"},
		{[]string{"192.0.2.7"}, "reflect takes no targets"},
	} {
		code, _, stderr := invoke(t, append([]string{"reflect", "--dry-run", "--key", key}, c.args...)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: exit code %d, %s, want %q", c.args, code, stderr, c.want)
		}
	}
	code, stdout, stderr := invoke(t, "reflect", "--dry-run", "--key", key, "--listen", "192.0.2.7", "-p", "25,465,random", "--listen", "2001:db8::7")
	if want := "192.0.2.7 port 25\n192.0.2.7 port 465 (TLS)\n192.0.2.7 port random\n2001:db8::7 port 25\n2001:db8::7 port 465 (TLS)\n2001:db8::7 port random\n"; code != exitDone || stdout != want || !strings.Contains(stderr, "The key would be made: "+key) {
		t.Errorf("a dry run: exit code %d, %s%s, want %s", code, stdout, stderr, want)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("a dry run made %v", left)
	}
	if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, nil, nil, "reflect", "--listen", "127.0.0.1", "-p", "random", "--key", key)
	if code := p.wait(t); code != exitEnvironment || !strings.Contains(p.err.String(), key+": there is no private key in it") {
		t.Errorf("a file that is no key: exit code %d, %s", code, p.err.String())
	}
}
