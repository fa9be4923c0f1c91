package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// A tracedRun is a run of the built program in a path, by an ordinary user.
type tracedRun struct {
	code           int
	stdout, stderr string
}

// runTraced runs the built program in a path as user 65534, without capabilities, with its journals in a folder.
func runTraced(t *testing.T, p *lab.Path, state string, args ...string) (r tracedRun) {
	t.Helper()
	cmd := lab.Nobody(p.Command(lab.Scanner, lab.Binary(t), args...))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state)
	cmd.Dir = state
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return tracedRun{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// openFolder makes a folder in which an ordinary user can write.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "smtpsweep-trace-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// traceZone has the names of a host and of its hops.
var traceZone = scannertest.DNSZone{
	"mail.example.org": {"A 62.30.1.1", "A 62.30.1.2", "AAAA 2a10:30::1:1"},
	"lost.example.org": {"SERVFAIL"}, "null.example.org": {"MX 0 ."},
	"inner.example.org":       {"A 127.0.0.1"},
	"doc.example.org":         {"A 203.0.113.7"},
	"1.3.20.62.in-addr.arpa":  {"PTR gw3.isp.example."},
	"1.0.64.100.in-addr.arpa": {`PTR evil\027[31m.isp.example.`},
	"1.1.30.62.in-addr.arpa":  {"PTR mail.example.org."},
}

func TestTrace(t *testing.T) {
	t.Parallel()
	lab.RunPath(t, lab.PathConfig{Serve: true, Binary: true}, func(t *testing.T, p *lab.Path) {
		dns := scannertest.DNS(t, traceZone).String()
		state := openFolder(t)
		to := func(addr string) netip.Prefix { return netip.PrefixFrom(netip.MustParseAddr(addr), 32) }
		p.Filter(t, lab.Filter{At: lab.R2, To: to("62.30.1.1"), Ports: []uint16{25}})
		p.Filter(t, lab.Filter{At: lab.R3, Early: true, To: to("62.30.1.3"), Family: 4, Ports: []uint16{25}, Do: lab.DoReject(10)})
		p.Filter(t, lab.Filter{At: lab.Scanner, To: to("62.30.1.4"), Ports: []uint16{25}})
		runs := [][]string{
			{"mail.example.org", "-4", "-o", "lost.csv", "-o", "lost.jsonl", "-o", "lost.md"},
			{"62.30.1.3", "-p", "25", "--control", "587", "-n", "-f", "jsonl", "-o", "rejected.jsonl"},
			{"62.30.1.4", "-p", "25", "-q", "-f", "csv", "--source", "sc0"},
			{"62.30.1.5", "-p", "587", "--control", "0", "-f", "json", "--source", lab.PathClient4.String()},
		}
		if p.IPv6() {
			runs = append(runs, []string{"mail.example.org", "-6", "-p", "587"})
		}
		got := make([]tracedRun, len(runs))
		var wg sync.WaitGroup
		for i, args := range runs {
			wg.Go(func() {
				args := append([]string{"trace", "--resolver", dns, "--timeout", "1.9s", "--flows", "2"}, args...)
				got[i] = runTraced(t, p, state, args...)
			})
		}
		wg.Wait()
		t.Run("lost", func(t *testing.T) { checkLostTrace(t, got[0], state) })
		t.Run("rejected", func(t *testing.T) { checkRejectedTrace(t, got[1], state) })
		t.Run("own firewall", func(t *testing.T) {
			got[2].check(t, exitUndecided, "untraced", "firewall", "local-error")
			if got[2].stderr != "" {
				t.Errorf("-q says %q", got[2].stderr)
			}
		})
		t.Run("reached", func(t *testing.T) {
			got[3].check(t, exitDone, `"answer":"syn-ack"`, `"fate":"reached"`, `"source":"192.168.1.7"`)
			var doc struct{ Hops []map[string]any }
			if err := json.Unmarshal([]byte(got[3].stdout), &doc); err != nil || len(doc.Hops) != 4 {
				t.Errorf("%d hops, %v", len(doc.Hops), err)
			}
		})
		if p.IPv6() {
			t.Run("IPv6", func(t *testing.T) { got[4].check(t, exitDone, "2a10:3::1", "Port 587 reaches the host, hop 4: open.") })
		}
		t.Run("interrupted", func(t *testing.T) { checkInterruptedTrace(t, p, state) })
	})
}

// check expects an exit code and words on stdout.
func (r tracedRun) check(t *testing.T, code int, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(r.stdout, w) {
			t.Errorf("stdout has no %q", w)
		}
	}
	if r.code != code || t.Failed() {
		t.Errorf("exit code %d, want %d\n%s\n%s", r.code, code, r.stdout, r.stderr)
	}
}

func checkLostTrace(t *testing.T, r tracedRun, state string) {
	r.check(t, exitBad,
		`Port 25 IS LOST without a word after hop 2 (100.64.0.1, evil\027[31m.isp.example) and no later than hop 3 (62.20.3.1, gw3.isp.example); port 465 of the same host answers.`,
		"Port 587 reaches the host, hop 4: open.", "<- 25 lost from here on", "your router (private address)", "provider (shared address space, CGNAT)",
		"sudo traceroute -n -T -p 25 62.30.1.1")
	for _, w := range []string{
		"Traces the way to mail.example.org (62.30.1.1), ports 25,465,587, control 443 from 192.168.1.7; ", "no mail", "--dry-run",
		"Notice: mail.example.org has 1 address more", "Wrote lost.csv (", "Wrote lost.md (", "Journal: lost.jsonl",
	} {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("stderr has no %q:\n%s", w, r.stderr)
		}
	}
	file := func(name string) string {
		text, err := os.ReadFile(filepath.Join(state, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	again := func(format string) string {
		code, out, errs := invoke(t, "report", filepath.Join(state, "lost.jsonl"), "-f", format)
		if code != exitDone {
			t.Errorf("report: exit code %d: %s", code, errs)
		}
		return out
	}
	if again("table") != r.stdout || again("csv") != file("lost.csv") {
		t.Errorf("the report of the journal differs:\n%s\n%s", again("table"), again("csv"))
	}
	rows, err := csv.NewReader(strings.NewReader(file("lost.csv"))).ReadAll()
	if err != nil || len(rows) != 1+4*4 {
		t.Errorf("%d lines of CSV, %v", len(rows), err)
	}
	if code, out, _ := invoke(t, "report", filepath.Join(state, "lost.jsonl"), "-f", "xml"); code != exitUsage {
		t.Errorf("-f xml: exit code %d, %q", code, out)
	}
	code, _, errs := invoke(t, "scan", "--resume", filepath.Join(state, "lost.jsonl"))
	if code != exitJournal {
		t.Errorf("scan --resume of a trace: exit code %d, %s", code, errs)
	}
}

// checkRejectedTrace: JSON Lines on stdout are the journal's own lines.
func checkRejectedTrace(t *testing.T, r tracedRun, state string) {
	r.check(t, exitBad, `"fate":"rejected"`, `"stopped_by":"62.20.3.1","stopped_icmp":"3/10","stopped_hop":3`, `"after_hop":2,"no_later_than":3`, `"type":"result"`, `"type":"end"`)
	text, err := os.ReadFile(filepath.Join(state, "rejected.jsonl"))
	journal := ""
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, `{"type":"sync"`) { // they are about the file
			journal += line
		}
	}
	if err != nil || journal != r.stdout {
		t.Errorf("stdout is not the journal, %v:\n%s\n%s", err, r.stdout, text)
	}
	if strings.Contains(r.stdout, "isp.example") {
		t.Error("-n, and still names were asked for")
	}
}

func checkInterruptedTrace(t *testing.T, p *lab.Path, state string) {
	cmd := lab.Nobody(p.Command(lab.Scanner, lab.Binary(t), "trace", "-n", "198.51.100.7", "--allow-reserved", "-o", "cut.jsonl"))
	cmd.Env, cmd.Dir = append(os.Environ(), "XDG_STATE_HOME="+state), state
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(stderr)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "Traces the way to 198.51.100.7") {
		t.Errorf("says %q, %v", line, err)
	}
	cmd.Process.Signal(syscall.SIGINT)
	said, _ := io.ReadAll(in)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupt || !strings.Contains(string(said), "Stopped: what is known so far is saved.") {
		t.Errorf("exit code %d, says %s", code, said)
	}
	code, _, errs := invoke(t, "report", filepath.Join(state, "cut.jsonl"))
	if code != exitDone || !strings.Contains(errs, "is not complete: it was interrupted") {
		t.Errorf("report: exit code %d, %s", code, errs)
	}
}

// TestTraceRefuses: what is not traced, and why. Nothing is sent but questions to a DNS server of the test.
func TestTraceRefuses(t *testing.T) {
	t.Parallel()
	dns := scannertest.DNS(t, traceZone).String()
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "a trace is of one"},
		{"192.0.2.1 192.0.2.2", exitUsage, "2 hosts are given"},
		{"62.30.0.0/24", exitUsage, "more than one address"},
		{"62.30.1.1-62.30.1.2 -p 25", exitUsage, "more than one address"},
		{"mail.example.org -4 -6", exitUsage, "-4 and -6"},
		{"62.30.1.1 -f xml", exitUsage, "no format \"xml\" for a trace"},
		{"62.30.1.1 -o x.xml", exitUsage, "no format of a trace has the ending \".xml\""},
		{"62.30.1.1 -p 1-16", exitUsage, "17 ports"},
		{"62.30.1.1 -p nonsense", exitUsage, "-p"},
		{"62.30.1.1 --max-hops 65", exitUsage, "--max-hops"},
		{"62.30.1.1 --exclude 62.30.0.0/16", exitUsage, "excluded"},
		{"62.30.1.1 --source 192.0.2.99", exitUsage, "not an address of this machine"},
		{"224.0.0.1", exitRefused, "multicast"},
		{"203.0.113.7", exitRefused, "documentation"},
		{"doc.example.org", exitRefused, "reserved"},
		{"inner.example.org", exitRefused, "reserved"},
		{"lost.example.org", exitUndecided, "dns-error"},
		{"gone.example.org", exitUsage, "dns-nxdomain"},
		{"mx:null.example.org", exitUsage, "no-mail"},
	} {
		args := append([]string{"trace", "--dry-run", "--resolver", dns}, strings.Fields(c.args)...)
		code, out, errs := invoke(t, args...)
		if code != c.code || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%s: exit code %d, want %d and %q in %q; stdout %q", c.args, code, c.code, c.says, errs, out)
		}
	}
	code, out, errs := invoke(t, "trace", "--dry-run", "--resolver", dns, "mail.example.org", "-p", "25", "--control", "587")
	want := "62.30.1.1:25 mail.example.org\n62.30.1.1:587 mail.example.org\n[2a10:30::1:1]:25 mail.example.org\n[2a10:30::1:1]:587 mail.example.org\n"
	if code != exitDone || out != want || !strings.Contains(errs, "This is a dry run: nobody is contacted.") {
		t.Errorf("dry run: exit code %d, %q, %q", code, out, errs)
	}
	for args, want := range map[string]string{
		"mail.example.org:2525 -4 --control 0":      "62.30.1.1:2525 mail.example.org\n",
		"[2a10:30::1:1]:2525 --control 587":         "[2a10:30::1:1]:2525\n[2a10:30::1:1]:587\n",
		"10.1.2.3 -p smtp":                          "10.1.2.3:25\n10.1.2.3:443\n",
		"203.0.113.7 --allow-reserved -p 443":       "203.0.113.7:443\n",
		"mx:mail.example.org -6 -p 25 --control 25": "[2a10:30::1:1]:25 mail.example.org\n",
	} {
		code, out, errs := invoke(t, append([]string{"trace", "--dry-run", "--resolver", dns}, strings.Fields(args)...)...)
		if code != exitDone || out != want {
			t.Errorf("%s: exit code %d, %q, want %q; %s", args, code, out, want, errs)
		}
	}
	_, help, _ := invoke(t, "trace", "--help")
	if strings.Contains(help, ".xml") || strings.Contains(help, "--helo") || !strings.Contains(help, ".csv") {
		t.Errorf("help:\n%s", help)
	}
}
