package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A process is a run of the built program.
type process struct {
	*exec.Cmd
	out, err bytes.Buffer
	ended    chan struct{} // closed when it has
	waitErr  error         // valid when ended
}

// launch starts the built program in a lab, or on this machine if l is nil, with
// its journals in a folder of its own unless env says otherwise.
func launch(t *testing.T, l *lab.Lab, env []string, args ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{})}
	p.Cmd = execCommand(t, args...)
	if l != nil {
		inside := l.Command(lab.Scanner, lab.Binary(t), args...)
		inside.Env, p.Cmd = p.Env, inside
	}
	p.Env = append(p.Env, env...)
	p.Stdout, p.Stderr = &p.out, &p.err
	p.start(t)
	return p
}

func (p *process) start(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		p.waitErr = p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() { p.kill() })
}

// kill ends a process as the kernel does when memory runs out.
func (p *process) kill() {
	p.Process.Kill() // an error means that it has ended
	<-p.ended
}

// wait waits for the end and returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(2 * time.Minute):
		t.Fatalf("the program does not end; it said:\n%s", p.err.String())
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.waitErr); ok {
		return exit.ExitCode()
	}
	if p.waitErr != nil {
		t.Fatal(p.waitErr)
	}
	return 0
}

// mustEnd waits for the end and fails the test unless the exit code is as wanted.
func (p *process) mustEnd(t *testing.T, code int) *process {
	t.Helper()
	if got := p.wait(t); got != code {
		t.Fatalf("%s\nexit code %d, want %d; it said:\n%s", strings.Join(p.Args, " "), got, code, p.err.String())
	}
	return p
}

// An endpointKey is what makes a row one row.
type endpointKey struct{ target, host, address, port string }

// statesOf reads a CSV and returns state and reason of each endpoint. A row that
// is there twice is an error.
func statesOf(t *testing.T, text string) map[endpointKey]string {
	t.Helper()
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(records) == 0 {
		t.Fatalf("not a CSV: %v\n%.2000s", err, text)
	}
	at := map[string]int{}
	for i, name := range records[0] {
		at[name] = i
	}
	states := map[endpointKey]string{}
	for _, r := range records[1:] {
		key := endpointKey{r[at["target"]], r[at["host"]], r[at["address"]], r[at["port"]]}
		if states[key] != "" {
			t.Errorf("%v is there twice", key)
		}
		states[key] = r[at["state"]] + " " + r[at["reason"]]
	}
	return states
}

// reported renders journals as CSV and returns what statesOf makes of it.
func reported(t *testing.T, paths ...string) map[endpointKey]string {
	t.Helper()
	code, out, said := invoke(t, append([]string{"report", "-q", "-f", "csv"}, paths...)...)
	if code != 0 {
		t.Fatalf("report: exit code %d: %s", code, said)
	}
	return statesOf(t, out)
}

// sameStates compares the rows of two runs.
func sameStates(t *testing.T, got, want map[endpointKey]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	shown := 0
	for key, state := range want {
		if got[key] != state && shown < 10 {
			t.Errorf("%v: %q, and %q in a run that was not interrupted", key, got[key], state)
			shown++
		}
	}
	t.Errorf("%d rows, want %d", len(got), len(want))
}

// usable reports whether a run that was killed can be gone on with: its plan is
// in the journal. If not, nothing was sent, and the run has to begin again.
func usable(t *testing.T, path string) bool {
	t.Helper()
	r, err := journal.Open(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, journal.ErrIncomplete) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Plan(targets.Config{})
	if err != nil && !errors.Is(err, journal.ErrPlan) {
		t.Fatal(err)
	}
	return err == nil
}

// A victim is a run that is killed again and again.
type victim struct {
	t    *testing.T
	l    *lab.Lab
	path string   // of its journal
	args []string // of its beginning
	more []string // beside --resume
	rows int      // in the journal after the last kill
}

// next begins the run, or goes on with it.
func (v *victim) next() *process {
	v.t.Helper()
	args := append([]string{"scan", "-q", "--resume", v.path}, v.more...)
	if !usable(v.t, v.path) {
		os.Remove(v.path)
		args = append([]string{"scan", "-q", "-o", v.path}, v.args...)
	}
	return launch(v.t, v.l, nil, args...)
}

// killed lets the run go on for a while and kills it. It returns how many rows
// the journal has then.
func (v *victim) killed(after time.Duration) int {
	v.t.Helper()
	p := v.next()
	select {
	case <-time.After(after): // the instant is what this is about
	case <-p.ended:
	}
	p.kill()
	if !usable(v.t, v.path) {
		return 0
	}
	rows := rowsIn(v.t, v.path)
	if rows < v.rows {
		v.t.Errorf("a kill lost rows: %d were there, %d are", v.rows, rows)
	}
	v.rows = rows
	return v.rows
}

// rowsIn returns how many endpoints a journal has a row of.
func rowsIn(t *testing.T, path string) (rows int) {
	t.Helper()
	r, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, err := range journal.Fold([]*journal.Reader{r}, journal.FoldOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		rows++
	}
	return rows
}

// seedOf returns a source of chance that the log tells how to repeat.
func seedOf(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestKilledRunsThatGoOnEqualOneThatWasNotKilled(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Classes: true, Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		t.Run("20,000 endpoints, 20 kills", func(t *testing.T) { t.Parallel(); testKills(t, l) })
		t.Run("names", func(t *testing.T) { t.Parallel(); testKillsWithNames(t, l) })
		t.Run("silence by block", func(t *testing.T) { t.Parallel(); testKillsOfBlocks(t, l) })
	})
}

// killings say how runs are killed.
type killings struct {
	runs, hosts, kills int
	rate               string
	least, most        time.Duration // from a start to the kill
	slow               float64       // the share of addresses that answer late or never
}

func testKills(t *testing.T, l *lab.Lab) {
	// A silent address takes 2 s, and no kill is later than 0.9 s after a start: so
	// the run is never over before the last kill.
	k := killings{runs: lab.Count(t, 1, 1, 50), hosts: 10_000, kills: 20, rate: "4000", most: 900 * time.Millisecond, slow: 0.1}
	if k.runs > 1 {
		k = killings{runs: k.runs, hosts: 100_000, kills: 20, rate: "30000", least: 150 * time.Millisecond, most: 1100 * time.Millisecond, slow: 0.02}
	}
	chance, dir := seedOf(t), t.TempDir()
	list, wholePath := filepath.Join(dir, "hosts.txt"), filepath.Join(dir, "whole.jsonl")
	if err := os.WriteFile(list, mixedHosts(chance, k.hosts, k.slow), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-i", list, "-p", "25,587", "--probe", "port", "--rate", k.rate, "--timeout", "2s", "--seed", "8"}
	whole := launch(t, l, nil, append([]string{"scan", "-q", "-o", wholePath}, args...)...)
	var want map[endpointKey]string
	for n := range k.runs {
		path := filepath.Join(dir, "killed.jsonl")
		k.kill(t, &victim{t: t, l: l, path: path, args: args}, chance)
		if want == nil {
			whole.mustEnd(t, 0)
			want = reported(t, wholePath)
		}
		got := reported(t, path)
		if len(want) != 2*k.hosts {
			t.Fatalf("the run that was not killed has %d rows", len(want))
		}
		sameStates(t, got, want)
		eachOnce(t, path, uint64(len(want)))
		if t.Failed() || n == 0 {
			mustBeTrue(t, l, got)
		}
		if t.Failed() {
			t.Fatalf("run %d of %d", n+1, k.runs)
		}
		os.Remove(path)
	}
	lab.Proof(t, "%d runs of %d endpoints, each killed %d times: the rows of a run that was not, each once", k.runs, len(want), k.kills)
}

// kill begins a run, kills it again and again, and lets it end.
func (k killings) kill(t *testing.T, v *victim, chance *rand.Rand) {
	t.Helper()
	partial, rows, all, most := 0, 0, 2*k.hosts, k.most
	for n := 0; n < k.kills || partial == 0 && rows < all; n++ {
		if n >= k.kills { // a machine on which a run does not begin in that time
			most *= 2
		}
		after := k.least + time.Duration(chance.Int64N(int64(most-k.least)))
		rows = v.killed(after)
		t.Logf("killed after %v with %d rows", after, rows)
		if rows > 0 && rows < all {
			partial++
		}
	}
	if partial == 0 {
		t.Error("no kill hit a run under way")
	}
	v.next().mustEnd(t, 0)
}

// eachOnce fails the test unless a journal has exactly one record of each of so
// many endpoints: what is there is not probed again.
func eachOnce(t *testing.T, path string, endpoints uint64) {
	t.Helper()
	w, rec, err := journal.Resume(path, targets.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if done := rec.Done.Len() + rec.Names.Len(); rec.Rows != endpoints || done != endpoints {
		t.Errorf("the journal has %d rows of %d endpoints, want one of each of %d", rec.Rows, done, endpoints)
	}
}

// mustBeTrue compares rows with what the lab knows.
func mustBeTrue(t *testing.T, l *lab.Lab, rows map[endpointKey]string) {
	t.Helper()
	for key, state := range rows {
		truth := l.Truth(netip.MustParseAddr(key.address), 25) // the same on every port of the lab
		if state != truth.State+" "+truth.Reason {
			t.Errorf("%v is %q; in truth it is %q", key, state, truth.State+" "+truth.Reason)
		}
	}
}

// mixedHosts lists addresses of all classes, most of which answer at once: a run
// that is killed often would otherwise only dial the slow ones again.
func mixedHosts(chance *rand.Rand, n int, slow float64) []byte {
	var list []byte
	for addr := lab.Targets4.Addr(); n > 0; addr = addr.Next() {
		class := lab.ClassOf(addr)
		atOnce := class == lab.Accept || class == lab.AcceptToo || class == lab.Reset || class == lab.Redirect
		if atOnce || chance.Float64() < slow {
			list = fmt.Appendln(list, addr)
			n--
		}
	}
	return list
}

func testKillsWithNames(t *testing.T, l *lab.Lab) {
	chance, dir := seedOf(t), t.TempDir()
	zone := scannertest.DNSZone{
		"mail.example.org": {"A 10.64.0.8", "A 10.64.0.9"},
		"mx1.example.org":  {"A 10.64.0.16"},
		"mx2.example.org":  {"A 10.64.0.17", "A 10.64.0.10"},
		"example.org":      {"MX 10 mx1.example.org", "MX 20 mx2.example.org"},
		"null.example.org": {"MX 0 ."},
	}
	if l.IPv6() {
		zone["mx1.example.org"] = append(zone["mx1.example.org"], "AAAA fd64::8")
	}
	ns := scannertest.StartDNS(t, zone)
	args := []string{"mail.example.org", "mx:example.org", "mx:null.example.org", "nowhere.example.org", "10.64.0.0/28", "mx2.example.org",
		"--allow-private", "--resolver", ns.Addr.String(), "--rate", "25", "--timeout", "2s", "--seed", "8"}
	whole := launch(t, l, nil, append([]string{"scan", "-q", "-o", filepath.Join(dir, "whole.jsonl")}, args...)...)
	v := &victim{t: t, l: l, path: filepath.Join(dir, "killed.jsonl"), args: args}
	for range 4 {
		after := 300*time.Millisecond + time.Duration(chance.Int64N(int64(900*time.Millisecond)))
		t.Logf("killed after %v with %d rows", after, v.killed(after))
	}
	began := usable(t, v.path)
	asked := ns.Queries("mail.example.org", "A")
	v.next().mustEnd(t, 0)
	whole.mustEnd(t, 0)
	if now := ns.Queries("mail.example.org", "A"); began && now != asked {
		t.Errorf("the DNS was asked again for what the journal knows: %d queries, then %d", asked, now)
	}
	want := reported(t, filepath.Join(dir, "whole.jsonl"))
	if len(want) < 16*3+2+5*3+2*3 {
		t.Fatalf("the run that was not killed has %d rows: %v", len(want), want)
	}
	sameStates(t, reported(t, v.path), want)
}

func testKillsOfBlocks(t *testing.T, l *lab.Lab) {
	chance, dir := seedOf(t), t.TempDir()
	silent := netip.MustParsePrefix("10.72.0.0/16")
	l.DropOut(t, lab.Router, silent, 0)
	args := []string{silent.String(), "10.64.1.0/24", "-p", "25", "--probe", "port", "--rate", "20000", "--timeout", "1s", "--seed", "8"}
	v := &victim{t: t, l: l, path: filepath.Join(dir, "killed.jsonl"), args: args}
	for range 2 {
		after := 1500*time.Millisecond + time.Duration(chance.Int64N(int64(1500*time.Millisecond)))
		t.Logf("killed after %v with %d rows", after, v.killed(after))
	}
	v.next().mustEnd(t, 0)
	got := reported(t, v.path)
	if len(got) != 1<<16+256 {
		t.Errorf("%d rows, want %d", len(got), 1<<16+256)
	}
	for key, state := range got {
		addr := netip.MustParseAddr(key.address)
		want := "filtered no-response"
		if !silent.Contains(addr) {
			truth := l.Truth(addr, 25)
			want = truth.State + " " + truth.Reason
		}
		if state != want {
			t.Errorf("%v is %q, want %q", key, state, want)
		}
	}
	text, err := os.ReadFile(v.path)
	if err != nil {
		t.Fatal(err)
	}
	if rows := bytes.Count(text, []byte(`{"type":"result"`)); rows > 1024 {
		t.Errorf("%d result records: silence is not written by block", rows)
	}
	t.Logf("the journal has %d bytes for %d rows", len(text), len(got))
}

// A mailHost is a listener on a loopback address of the test's own.
func mailHost(t *testing.T, zoo *scannertest.Zoo, addr, behaviour string) netip.AddrPort {
	t.Helper()
	b, ok := scannertest.Find(behaviour)
	if !ok {
		t.Fatalf("no behaviour %q", behaviour)
	}
	at, err := zoo.Listen(addr, b)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// keyOf is the row of an endpoint that was typed.
func keyOf(at netip.AddrPort) endpointKey {
	return endpointKey{at.String(), "", at.Addr().String(), fmt.Sprint(at.Port())}
}

// hasty makes a run that is gone on with end soon: the mute server of an
// interruptedRun is not waited for.
var hasty = []string{"--greeting-timeout", "300ms", "--patience", "300ms"}

// interruptedRun makes a run on loopback that was stopped by Ctrl-C: one server
// answers, one is mute, and would be waited for longer than any test runs. It
// returns the journal, and the two.
func interruptedRun(t *testing.T, args ...string) (path string, good, mute netip.AddrPort, zoo *scannertest.Zoo) {
	t.Helper()
	zoo, err := scannertest.Start(t.Context(), scannertest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(zoo.Close)
	good, mute = mailHost(t, zoo, "127.0.0.1:0", "good"), mailHost(t, zoo, "127.0.0.2:0", "mute")
	path = filepath.Join(t.TempDir(), "run.jsonl")
	p := launch(t, nil, nil, append([]string{"scan", good.String(), mute.String(), "-o", path, "--rate", "100", "--patience", "30m"}, args...)...)
	awaitRows(t, path, 1)
	awaitTrue(t, "the mute server has a connection", func() bool { return zoo.Load(mute.Addr()).Accepted > 0 })
	p.Process.Signal(os.Interrupt)
	p.mustEnd(t, exitInterrupt)
	return path, good, mute, zoo
}

// awaitTrue waits for a condition.
func awaitTrue(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for a minute, and still not: %s", what)
		}
	}
}

// awaitRows waits until a journal has so many rows.
func awaitRows(t *testing.T, path string, n int) {
	t.Helper()
	awaitTrue(t, fmt.Sprintf("%s has %d rows", path, n), func() bool {
		text, _ := os.ReadFile(path)
		return bytes.Count(text, []byte("\n{\"type\":\"result\"")) >= n
	})
}

func TestResumeTakesFlagsAndTargetsFromTheJournal(t *testing.T) {
	t.Parallel()
	path, good, mute, zoo := interruptedRun(t, "--greeting-timeout", "500ms")
	before := zoo.Load(good.Addr()).Accepted
	for _, c := range []struct {
		name string
		args []string
		said string
	}{
		{"other ports", []string{"-p", "2525"}, "--ports"},
		{"another probe", []string{"--probe", "port"}, "--probe"},
		{"another seed", []string{"--seed", "7"}, "--seed"},
		{"another shard", []string{"--shard", "1/2"}, "--shard"},
		{"a list more", []string{"-i", path}, "--input"},
		{"other targets", []string{"127.0.0.9"}, "other targets"},
		{"another family", []string{"-6"}, "--ipv6"},
		{"another vantage", []string{"--vantage", "elsewhere"}, "--vantage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, said := invoke(t, append([]string{"scan", "--resume", path}, c.args...)...)
			if code != exitJournal || !strings.Contains(said, c.said) {
				t.Errorf("exit code %d, want %d; said %q, want %q", code, exitJournal, said, c.said)
			}
		})
	}
	code, out, said := invoke(t, "scan", "--resume", path, "--rate", "50", "--host-limit", "1", "--timeout", "5s", "--patience", "1s", "-f", "csv")
	if code != 0 {
		t.Fatalf("with another pace: exit code %d: %s", code, said)
	}
	want := map[endpointKey]string{
		keyOf(good): "open syn-ack",
		keyOf(mute): "open syn-ack",
	}
	sameStates(t, statesOf(t, out), want) // stdout has all of it, as if nothing had happened
	sameStates(t, reported(t, path), want)
	if now := zoo.Load(good.Addr()).Accepted; now != before {
		t.Errorf("what was done was dialled again: %d connections, then %d", before, now)
	}
}

func TestResumingAFinishedRunReportsIt(t *testing.T) {
	t.Parallel()
	path, _, _, zoo := interruptedRun(t)
	if code, _, said := invoke(t, append([]string{"scan", "--resume", path}, hasty...)...); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dials := zoo.Counts().Conns
	code, out, said := invoke(t, "scan", "--resume", path)
	if code != 0 || !strings.Contains(said, "Nothing to do") || !strings.Contains(out, "2 open") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, said)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the journal of a finished run was changed")
	}
	if zoo.Counts().Conns != dials {
		t.Error("a finished run was dialled again")
	}
	for _, format := range []string{"csv", "jsonl", "targets"} {
		code, out, said := invoke(t, "scan", "--resume", path, "-f", format)
		if code != 0 || strings.Count(out, "127.0.0.2") == 0 {
			t.Errorf("-f %s: exit code %d, stdout %q, stderr %q", format, code, out, said)
		}
	}
	csvPath := filepath.Join(t.TempDir(), "again.csv")
	if code, _, said := invoke(t, "scan", "--resume", path, "-q", "-o", csvPath); code != 0 || said != "" {
		t.Errorf("-o: exit code %d: %s", code, said)
	}
	text, err := os.ReadFile(csvPath)
	if err != nil {
		t.Fatal(err)
	}
	sameStates(t, statesOf(t, string(text)), reported(t, path))
}

func TestMoreExclusionsAreHonouredByEveryLaterResume(t *testing.T) {
	t.Parallel()
	path, good, mute, zoo := interruptedRun(t)
	before := zoo.Load(mute.Addr()).Accepted
	code, _, said := invoke(t, "scan", "--resume", path, "--exclude", mute.Addr().String())
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	code, _, said = invoke(t, append([]string{"scan", "--resume", path}, hasty...)...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if now := zoo.Load(mute.Addr()).Accepted; now != before {
		t.Errorf("an excluded address was dialled: %d connections before, %d now", before, now)
	}
	if code, out, said := invoke(t, "scan", "--resume", path, "--dry-run"); code != 0 || out != "" {
		t.Errorf("--dry-run: exit code %d, lists %q, want nothing; said %q", code, out, said)
	}
	rows := reported(t, path)
	if rows[keyOf(good)] != "open syn-ack" || rows[keyOf(mute)] != "unknown excluded" {
		t.Errorf("rows %q: the one was done, the other is excluded before it was decided", rows)
	}
}

func TestExclusionsOfAResumeHoldForTheNext(t *testing.T) {
	t.Parallel()
	path, good, mute, zoo := interruptedRun(t, "127.0.0.3-127.0.0.40:1")
	before := zoo.Load(mute.Addr()).Accepted
	// Killed, so that nothing but what was written at once can tell the next one.
	p := launch(t, nil, nil, "scan", "--resume", path, "--exclude", mute.Addr().String(), "--rate", "5")
	awaitTrue(t, "the resumed run is under way", func() bool {
		text, _ := os.ReadFile(path)
		_, record, ok := bytes.Cut(text, []byte(`{"type":"resume"`))
		return ok && bytes.Contains(record, []byte("\n")) // all of it is there
	})
	p.kill()
	if code, _, said := invoke(t, append([]string{"scan", "--resume", path, "--rate", "1000"}, hasty...)...); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if now := zoo.Load(mute.Addr()).Accepted; now != before {
		t.Errorf("the exclusion of an earlier resume was forgotten: %d connections before, %d now", before, now)
	}
	if rows := reported(t, path); len(rows) != 40 {
		t.Errorf("%d rows, want 40: %s, the excluded one as it was left, and 38", len(rows), good)
	}
}

// killedEarly makes a run of 40 closed ports that was killed when it had a few.
func killedEarly(t *testing.T, args ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "run.jsonl")
	p := launch(t, nil, nil, append([]string{"scan", "127.0.0.1-127.0.0.40:1", "-o", path, "--rate", "0.1"}, args...)...)
	awaitRows(t, path, 1) // the next one comes ten seconds later
	p.kill()
	return path
}

// What was excluded is excluded for good, also if nothing else was left to do.
func TestExclusionsThatLeaveNothingToDoHoldForTheNextResume(t *testing.T) {
	t.Parallel()
	path := killedEarly(t)
	rows := len(reported(t, path))
	if code, _, said := invoke(t, "scan", "--resume", path, "--exclude", "127.0.0.0/24"); code != 0 || !strings.Contains(said, "Nothing to do") {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if code, out, said := invoke(t, "scan", "--resume", path, "--dry-run"); code != 0 || out != "" {
		t.Errorf("exit code %d, it would contact %q; said %q", code, out, said)
	}
	if code, _, said := invoke(t, "scan", "--resume", path, "--rate", "0"); code != 0 || len(reported(t, path)) != rows {
		t.Errorf("exit code %d, %d rows, want %d; said %q", code, len(reported(t, path)), rows, said)
	}
}

// A pace that was typed holds, also where it is the default of public addresses.
func TestResumeTakesThePaceFromTheJournal(t *testing.T) {
	t.Parallel()
	path := killedEarly(t, "--subnet-rate", "20", "--host-interval", "1s", "--host-limit", "2")
	_, _, said := invoke(t, "scan", "--resume", path, "--dry-run", "-v")
	if want := "Pace: 0.1 probes per second in all, 20 probes per second to one subnet; 2 connections at a time to one host, 1s apart."; !strings.Contains(said, want) {
		t.Errorf("it said %q, want %q", said, want)
	}
	path = killedEarly(t, "--seed", "1")
	_, _, said = invoke(t, "scan", "--resume", path, "--dry-run", "-v")
	if want := "Pace: 0.1 probes per second in all, unlimited to one subnet; 3 connections at a time to one host, 0s apart."; !strings.Contains(said, want) {
		t.Errorf("it said %q, want %q", said, want)
	}
}

// The pace of private addresses, which nobody asked for, is not for a public one
// that a name leads to when it is asked for again.
func TestThePaceThatNobodyChoseFollowsTheTargets(t *testing.T) {
	t.Parallel()
	dead := scannertest.DNS(t, scannertest.DNSZone{"mail.example.org": {"SERVFAIL"}})
	path := filepath.Join(t.TempDir(), "run.jsonl")
	code, _, said := invoke(t, "scan", "mail.example.org", "127.0.0.1:1", "--rate", "150", "--resolver", dead.String(), "-o", path, "-v")
	if want := "Pace: 150 probes per second in all, unlimited to one subnet; 3 connections at a time to one host, 0s apart."; code != exitUndecided || !strings.Contains(said, want) {
		t.Fatalf("exit code %d; said %q, want %q", code, said, want)
	}
	alive := scannertest.DNS(t, scannertest.DNSZone{"mail.example.org": {"A 8.8.8.8"}})
	_, out, said := invoke(t, "scan", "--resume", path, "--resolver", alive.String(), "--dry-run", "-v")
	if want := "Pace: 150 probes per second in all, 20 probes per second to one subnet; 2 connections at a time to one host, 1s apart."; !strings.Contains(said, want) || !strings.Contains(out, "8.8.8.8:25") {
		t.Errorf("it lists %q and said %q, want %q", out, said, want)
	}
}

func TestHowMuchIsSaidIsNotTakenFromTheJournal(t *testing.T) {
	t.Parallel()
	path := killedEarly(t, "-q")
	if code, _, said := invoke(t, "scan", "--resume", path, "--rate", "0"); code != 0 || !strings.Contains(said, "Contacts ") {
		t.Errorf("exit code %d; said %q", code, said)
	}
}

func TestAListThatChangedEndsTheResume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list, path := filepath.Join(dir, "hosts.txt"), filepath.Join(dir, "run.jsonl")
	write := func(name, text string) string {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const hosts = "127.0.0.1:1\n127.0.0.2:1 # two\n"
	write(list, hosts)
	if code, _, said := invoke(t, "scan", "-i", list, "-o", path); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	copied := write(filepath.Join(dir, "copy.txt"), hosts)
	other := write(filepath.Join(dir, "other.txt"), hosts+"127.0.0.3:1\n")
	for _, c := range []struct {
		name, stdin string
		args        []string
		code        int
	}{
		{"the list as it was", "", nil, 0},
		{"the list again", "", []string{"-i", list}, 0},
		{"a copy of the list", "", []string{"-i", copied}, 0},
		{"the list on stdin", hosts, []string{"-i", "-"}, 0},
		{"another list", "", []string{"-i", other}, exitJournal},
		{"two lists", "", []string{"-i", list, "-i", list}, exitJournal},
		{"another list on stdin", "127.0.0.1\n", []string{"-i", "-"}, exitJournal},
	} {
		t.Run(c.name, func(t *testing.T) {
			if code, _, said := invokeWith(t, c.stdin, append([]string{"scan", "--resume", path}, c.args...)...); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, said)
			}
		})
	}
	write(list, hosts+"127.0.0.9\n")
	if code, _, said := invoke(t, "scan", "--resume", path, "-i", copied); code != 0 {
		t.Errorf("a copy of a list that has changed since: exit code %d: %s", code, said)
	}
	if code, _, said := invoke(t, "scan", "--resume", path); code != exitJournal || !strings.Contains(said, "has changed") {
		t.Errorf("a list that changed: exit code %d: %s", code, said)
	}
}

// A pipe holds its list once, and waits for a writer for ever: it is not asked
// again, no more than stdin.
func TestAPipedListIsNotReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, path := filepath.Join(dir, "pipe"), filepath.Join(dir, "run.jsonl")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, nil, nil, "scan", "-i", pipe, "-o", path)
	if err := os.WriteFile(pipe, []byte("127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.mustEnd(t, 0)
	launch(t, nil, nil, "scan", "--resume", path).mustEnd(t, 0)
}

func TestADamagedJournalIsRefusedAndSalvaged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	if code, _, said := invoke(t, "scan", "127.0.0.1", "-p", "1-9", "-o", path); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte(`"state":"closed"`))
	text[at+10] ^= 1
	offset := bytes.LastIndexByte(text[:at], '\n') + 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"scan", "--resume", path}, {"report", path}} {
		code, out, said := invoke(t, args...)
		if code != exitJournal || !strings.Contains(said, fmt.Sprintf("byte %d)", offset)) || !strings.Contains(said, "--salvage") {
			t.Errorf("%v: exit code %d, want %d and offset %d; stdout %q, stderr %q", args, code, exitJournal, offset, out, said)
		}
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, text) {
		t.Error("a damaged journal was changed")
	}
	code, out, said := invoke(t, "report", "--salvage", path, "-f", "csv")
	if code != 0 || len(statesOf(t, out)) != 8 || !strings.Contains(said, "Lost: 1 damaged record") {
		t.Errorf("--salvage: exit code %d, %d rows, want 8; said %q", code, len(statesOf(t, out)), said)
	}
	text[5] ^= 1 // the run record, too
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, said = invoke(t, "report", "--salvage", path, "-f", "csv")
	if code != 0 || len(statesOf(t, out)) != 8 || !strings.Contains(said, "Lost: 2 damaged records") {
		t.Errorf("--salvage without a run record: exit code %d, %d rows, want 8; said %q", code, len(statesOf(t, out)), said)
	}
	if err := os.WriteFile(path, []byte("127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	csvPath := filepath.Join(t.TempDir(), "rows.csv")
	if code, _, said := invoke(t, "report", "--salvage", path, "-o", csvPath); code != exitJournal || !strings.Contains(said, "not a row of it can be read") {
		t.Errorf("--salvage of a list: exit code %d: %s", code, said)
	}
	if _, err := os.Stat(csvPath); err == nil {
		t.Error("--salvage of a list wrote a report")
	}
}

// Who has a damaged journal gets at the sound rows, and goes on: what was lost is
// probed again, and nothing else is.
func TestARunGoesOnFromWhatIsWholeOfADamagedJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, sound := filepath.Join(dir, "run.jsonl"), filepath.Join(dir, "sound.jsonl")
	zoo, err := scannertest.Start(t.Context(), scannertest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer zoo.Close()
	good := mailHost(t, zoo, "127.0.0.1:0", "good")
	if code, _, said := invoke(t, "scan", good.String(), "127.0.0.1", "-p", "1-9", "-o", path); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	want := reported(t, path)
	damage := func(marks ...string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, mark := range marks {
			text[bytes.Index(text, []byte(mark))+len(mark)-1] ^= 1
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage(`"port":3,"state":"closed`, `"port":7,"state":"closed`)
	_, _, said := invoke(t, "scan", "--resume", path)
	if hint := "smtpsweep report --salvage " + path; !strings.Contains(said, hint) || !strings.Contains(said, "scan --resume NEW.jsonl") {
		t.Errorf("the refusal says %q, want %q", said, hint)
	}
	code, out, said := invoke(t, "report", "--salvage", path, "-o", sound)
	if code != 0 || !strings.Contains(out, "Lost: 2 damaged records") || !strings.Contains(said, "(8 of 10 rows)") || !strings.Contains(said, "Go on with: smtpsweep scan --resume "+sound) {
		t.Fatalf("exit code %d: %s", code, said)
	}
	if rows := reported(t, sound); len(rows) != len(want)-2 {
		t.Errorf("%d rows are whole, want %d", len(rows), len(want)-2)
	}
	before := zoo.Load(good.Addr()).Accepted
	code, out, said = invoke(t, "scan", "--resume", sound, "--dry-run")
	if wanted := "127.0.0.1:3\n127.0.0.1:7\n"; code != 0 || len(out) != len(wanted) || !strings.Contains(out, "127.0.0.1:3\n") || !strings.Contains(out, "127.0.0.1:7\n") {
		t.Errorf("exit code %d; it would probe %q, want %q; said %q", code, out, wanted, said)
	}
	if code, out, said := invoke(t, "scan", "--resume", sound); code != 0 || !strings.Contains(out, "2 damaged records were left out") {
		t.Fatalf("exit code %d; it does not say that its journal was salvaged: %s%s", code, out, said)
	}
	sameStates(t, reported(t, sound), want)
	eachOnce(t, sound, uint64(len(want)))
	if now := zoo.Load(good.Addr()).Accepted; now != before {
		t.Errorf("what was whole was dialled again: %d connections, then %d", before, now)
	}
	damage(`{"type":"plan`)
	code, _, said = invoke(t, "report", "--salvage", path, "-o", sound, "--force")
	if code != 0 || !strings.Contains(said, "cannot go on") || strings.Contains(said, "Go on with") {
		t.Errorf("without its plan: exit code %d: %s", code, said)
	}
	if rows := reported(t, sound); len(rows) != len(want)-2 {
		t.Errorf("without its plan: %d rows, want %d", len(rows), len(want)-2)
	}
}

func TestAKilledJournalIsReported(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	p := launch(t, nil, nil, "scan", "127.0.0.1", "-p", "1-2000", "--probe", "port", "--rate", "500", "-o", path)
	awaitRows(t, path, 20)
	p.kill()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows := len(reported(t, path))
	if rows < 20 || rows >= 2000 {
		t.Errorf("%d rows, want some", rows)
	}
	// A power cut in the middle of the last record: the rest is all there.
	whole := bytes.LastIndexByte(text[:len(text)-1], '\n')
	torn := filepath.Join(t.TempDir(), "torn.jsonl")
	if err := os.WriteFile(torn, text[:whole+1+20], 0o600); err != nil {
		t.Fatal(err)
	}
	if n := len(reported(t, torn)); n < rows-1 {
		t.Errorf("%d rows of a journal with a torn tail, want %d", n, rows-1)
	}
	code, _, said := invoke(t, "scan", "--resume", torn, "--rate", "0", "-q")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	got := reported(t, torn)
	ports := map[string]bool{}
	for key := range got {
		ports[key.port] = true
	}
	if len(got) != 2000 || len(ports) != 2000 {
		t.Errorf("%d rows, want 2000", len(got))
	}
}

func TestResumeAsksAgainForNamesThatTheDNSCouldNotTell(t *testing.T) {
	t.Parallel()
	dead := scannertest.DNS(t, scannertest.DNSZone{"mail.example.org": {"SERVFAIL"}, "other.example.org": {"SERVFAIL"}})
	zoo, err := scannertest.Start(t.Context(), scannertest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer zoo.Close()
	good := mailHost(t, zoo, "127.0.0.1:0", "good")
	path := filepath.Join(t.TempDir(), "run.jsonl")
	code, _, said := invoke(t, "scan", "mail.example.org", "other.example.org", good.String(), "--resolver", dead.String(), "-o", path)
	if code != exitUndecided {
		t.Fatalf("exit code %d, want %d: %s", code, exitUndecided, said)
	}
	alive := scannertest.DNS(t, scannertest.DNSZone{"other.example.org": {"SERVFAIL"}})
	code, _, said = invoke(t, "scan", "--resume", path, "--resolver", alive.String())
	if code != exitUndecided {
		t.Fatalf("resumed: exit code %d, want %d: %s", code, exitUndecided, said)
	}
	var states []string
	for key, state := range reported(t, path) {
		states = append(states, strings.TrimSuffix(key.target, ":"+key.port)+" "+state)
	}
	slices.Sort(states)
	want := []string{"127.0.0.1 open syn-ack", "mail.example.org unknown dns-nxdomain", "other.example.org unknown dns-error"}
	if !slices.Equal(states, want) {
		t.Errorf("rows %q, want %q", states, want)
	}
}

// execCommand is the built program on this machine, with journals of its own.
func execCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(lab.Binary(t), args...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+t.TempDir(), "NO_COLOR=", "TERM=xterm", "CI=") // colour libraries look at all three
	return cmd
}
