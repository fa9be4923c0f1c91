package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/connect"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A menagerie is a zoo on many addresses at once, and the times in it. Both
// processes of TestMenagerie know it: one serves it, the other sweeps it.
type menagerie struct {
	Servers  int           // on as many addresses, from menagerieFirst on
	Scale    time.Duration // what a second of the greeters' pauses is
	Greeting time.Duration // Engine.GreetingTimeout
	Patience time.Duration
	Deadline time.Duration // of a conversation that waits in vain; 0 is the default of all
	CA       string        // file
}

// menagerieFirst is the first address of a menagerie: all are the target of the lab.
var menagerieFirst = netip.MustParseAddr("10.64.0.1")

// greeterPauses are the seconds after which the slow greeters greet (P9), and
// greeterEvery says that every so-manieth server is one.
var greeterPauses = []int{0, 1, 5, 6, 7, 15, 30, 59}

const greeterEvery = 20

// config returns the times of the slow servers that are no greeters.
func (c *menagerie) config() scannertest.Config {
	if c.Scale == time.Second {
		return scannertest.Config{}
	}
	// A greeting without an end is not over after 512 lines, but at the deadline.
	return scannertest.Config{GreetPause: 300 * time.Millisecond, Drip: c.Deadline / 100}
}

// at returns what lives on the i-th address.
func (c *menagerie) at(i int) scannertest.Behaviour {
	if i%greeterEvery == 0 {
		return scannertest.Greeter(time.Duration(greeterPauses[i/greeterEvery%len(greeterPauses)]) * c.Scale)
	}
	return menagerieKinds[(i-i/greeterEvery-1)%len(menagerieKinds)]
}

var menagerieKinds = scannertest.Behaviours()

// menagerieTable is a menagerie by address.
type menagerieTable map[netip.Addr]scannertest.Behaviour

func (c *menagerie) table() menagerieTable {
	t := make(menagerieTable, c.Servers)
	addr := menagerieFirst
	for i := range c.Servers {
		t[addr], addr = c.at(i), addr.Next()
	}
	return t
}

// homePort is where a behaviour is met.
func homePort(b scannertest.Behaviour) uint16 {
	if b.Role == targets.SMTPS {
		return 465
	}
	return 25
}

func parseMenagerie(args []string) (*menagerie, error) {
	c := new(menagerie)
	return c, json.Unmarshal([]byte(args[0]), c)
}

var (
	_ = lab.Register("menagerie", serveMenagerie)
	_ = lab.Register("menagerie-scanner", sweepMenagerie)
)

// serveMenagerie is the process of the servers. At its end it prints what the
// clients did.
func serveMenagerie(ctx context.Context, args []string) error {
	c, err := parseMenagerie(args)
	if err != nil {
		return err
	}
	zoo, err := scannertest.Start(context.Background(), c.config())
	if err != nil {
		return err
	}
	defer zoo.Close()
	if err := os.WriteFile(c.CA, zoo.CA(), 0o600); err != nil {
		return err
	}
	table := c.table()
	for _, port := range []uint16{25, 465} {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		if err := zoo.Serve(l, func(local netip.AddrPort) scannertest.Behaviour { return table[local.Addr()] }); err != nil {
			return err
		}
	}
	lab.Ready()
	<-ctx.Done()
	return json.NewEncoder(os.Stdout).Encode(zoo.Counts())
}

// A menagerieReport is what the process that sweeps a menagerie says of itself.
type menagerieReport struct {
	Rows       int
	Wrong      []string      // rows that do not say what their server is; the first 100
	WrongCount int           // all of them
	Longest    time.Duration // a conversation took beyond its deadline, and beyond what it waited for a CPU; negative if none did
	LongestOf  string
	Parked     int // at most
	RSS        int // MB, at most
	Took       time.Duration
	Before     residue
	After      residue
}

// A residue is what a run may leave behind.
type residue struct{ Goroutines, Files int }

func (r residue) exceeds(before residue) bool {
	return r.Goroutines > before.Goroutines || r.Files > before.Files
}

// sweepMenagerie is the process of the scanner.
func sweepMenagerie(ctx context.Context, args []string) error {
	c, err := parseMenagerie(args)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in " + c.CA)
	}
	lab.Ready()
	report := &menagerieReport{Before: measure(), Longest: -time.Hour}
	start := time.Now()
	if err := c.sweep(ctx, roots, report); err != nil {
		return err
	}
	report.Took, report.RSS = time.Since(start), peakRSS()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		// A goroutine that has said that it ends may need a moment to be gone.
		if report.After = measure(); !report.After.exceeds(report.Before) {
			break
		}
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

// sweep sweeps a menagerie and compares every row.
func (c *menagerie) sweep(ctx context.Context, roots *x509.CertPool, report *menagerieReport) error {
	table := c.table()
	var list []targets.Target
	for addr, b := range table {
		list = append(list, targets.Target{Index: uint64(len(list)), Addr: addr, Port: homePort(b), Role: b.Role})
	}
	slices.SortStableFunc(list, func(x, y targets.Target) int { // greeters first: the other servers would delay them
		return cmp.Compare(order(table[x.Addr]), order(table[y.Addr]))
	})
	next := 0
	queue := pace.New(pace.Config{Rate: 5000}, func() (t targets.Target, ok bool) {
		if next == len(list) {
			return t, false
		}
		next++
		return list[next-1], true
	})
	engine := &connect.Engine{Banner: true, GreetingTimeout: c.Greeting, Patience: c.Patience}
	probers := &menagerieProber{patient: &smtp.Prober{Helo: "client.example.org", Roots: roots}, table: table}
	probers.hasty = probers.patient
	if c.Deadline != 0 {
		probers.hasty = &smtp.Prober{Helo: "client.example.org", Roots: roots, Deadline: c.Deadline}
	}
	var mu sync.Mutex
	run := scanner.Scanner{Engine: engine, Prober: probers, Conversations: c.Servers}
	return run.Run(ctx, queue, func(r *scanner.Result) {
		mu.Lock()
		defer mu.Unlock()
		report.Parked = max(report.Parked, engine.Stats().Parked)
		report.add(r, table[r.Target.Addr], probers)
	})
}

// isGreeter reports whether a server is there for its pause.
func isGreeter(b scannertest.Behaviour) bool { return strings.HasPrefix(b.Name, "greets-after-") }

func order(b scannertest.Behaviour) int {
	if isGreeter(b) {
		return 0
	}
	return 1
}

// add compares a row with the truth.
func (report *menagerieReport) add(r *scanner.Result, b scannertest.Behaviour, probers *menagerieProber) {
	report.Rows++
	for _, diff := range compare(r, b) {
		said := ""
		if r.Service != nil {
			said = r.Service.Err
		}
		if report.WrongCount++; report.WrongCount <= 100 {
			report.Wrong = append(report.Wrong, fmt.Sprintf("%s %s: %s; said %q", r.Target.AddrPort(), b.Name, diff, said))
		}
	}
	if s := r.Service; s != nil {
		if over := s.ConversedIn - s.Queued - probers.limit(b); over > report.Longest {
			report.Longest, report.LongestOf = over, b.Name
		}
	}
}

// compare compares a row with the truth. All servers share a process and few
// CPUs, so that many greet late; only that who greets late on purpose is found
// to do so is a truth here.
func compare(r *scanner.Result, b scannertest.Behaviour) []string {
	want := b.Want
	late := isGreeter(b) && slices.Contains(want.Findings, "greeting-pause") && b.Name != "greets-after-5s"
	if s := r.Service; s != nil && !late {
		pause := func(f string) bool { return f == "greeting-pause" }
		want.Findings = slices.DeleteFunc(slices.Clone(want.Findings), pause)
		s.Findings = slices.DeleteFunc(s.Findings, pause)
	}
	return want.Diff(*r, false)
}

// A menagerieProber gives those who are waited for in vain less time, if it is to.
type menagerieProber struct {
	patient, hasty *smtp.Prober
	table          menagerieTable
}

var inVain = []string{"mute-smtps", "tarpit", "deaf", "tls-stalled", "tls-half", "line-by-line", "bare-cr"}

func (p *menagerieProber) of(b scannertest.Behaviour) *smtp.Prober {
	if slices.Contains(inVain, b.Name) {
		return p.hasty
	}
	return p.patient
}

func (p *menagerieProber) limit(b scannertest.Behaviour) time.Duration {
	if d := p.of(b).Deadline; d != 0 {
		return d
	}
	return smtp.DefaultDeadline
}

// Probe implements scanner.Prober.
func (p *menagerieProber) Probe(ctx context.Context, conn net.Conn, obs *scanner.Observation) *scanner.Service {
	return p.of(p.table[obs.Target.Addr]).Probe(ctx, conn, obs)
}

func measure() residue {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return residue{runtime.NumGoroutine(), -1}
	}
	return residue{runtime.NumGoroutine(), len(files)}
}

// peakRSS returns the most memory that this process had, in MB; 0 if it cannot be known.
func peakRSS() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
	return kb / 1024
}

// Issue 3, 8: a zoo on many addresses, all at once. The servers are one process
// and the scanner is another, so that its memory is its own.
func TestMenagerie(t *testing.T) {
	fillsTheMachine(t)
	c := menagerie{Servers: lab.Count(t, 160, 1000, 10_000), CA: filepath.Join(t.TempDir(), "ca.pem")}
	switch c.Servers {
	case 10_000: // as in the field
		c.Scale, c.Greeting, c.Patience = time.Second, 12*time.Second, 65*time.Second
	case 1000: // with the race detector, beside other tests
		c.Scale, c.Greeting, c.Patience, c.Deadline = 20*time.Millisecond, 500*time.Millisecond, 30*time.Second, 20*time.Second
	default:
		c.Scale, c.Greeting, c.Patience, c.Deadline = 20*time.Millisecond, 500*time.Millisecond, 7*time.Second, 6*time.Second
	}
	args, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		servers := l.Start(t, lab.Target, "menagerie", string(args))
		var got menagerieReport
		var counts scannertest.Counts
		result(t, l.Start(t, lab.Scanner, "menagerie-scanner", string(args)), &got)
		servers.Stop()
		result(t, servers, &counts)
		got.check(t, &c)
		if counts.Rude() != 0 || counts.Conns != c.Servers {
			t.Errorf("%d servers counted: %+v", c.Servers, counts)
		}
		lab.Proof(t, "%d rows in %v, %d MB, %d parked at most; longest beyond its deadline: %v (%s); zoo: %+v",
			got.Rows, got.Took.Round(time.Millisecond), got.RSS, got.Parked, got.Longest, got.LongestOf, counts)
	})
}

// result waits for a process and reads what it printed at its end.
func result(t *testing.T, p *lab.Proc, v any) {
	t.Helper()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(p.Output()), v); err != nil {
		t.Fatalf("%v: %s", err, p.Output())
	}
}

// check compares a report with what is promised.
func (report *menagerieReport) check(t *testing.T, c *menagerie) {
	t.Helper()
	if report.Rows != c.Servers || report.WrongCount != 0 {
		t.Errorf("%d rows of %d servers, %d things wrong:\n%s", report.Rows, c.Servers, report.WrongCount, strings.Join(report.Wrong, "\n"))
	}
	if report.Longest > 2*time.Second {
		t.Errorf("a conversation (%s) ended %v after its deadline", report.LongestOf, report.Longest)
	}
	if report.After.exceeds(report.Before) {
		t.Errorf("left behind: %+v, before %+v", report.After, report.Before)
	}
	if report.RSS > 300 && !raced {
		t.Errorf("%d MB", report.RSS)
	}
}
