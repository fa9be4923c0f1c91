package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// otherName leads to the Postfix server, whose certificate is for its own name.
const otherName = "mx.example.org"

// TestRealServers sweeps Postfix, postscreen, Exim, Sendmail and OpenSMTPD by
// address and by name, over IPv4 and IPv6, and then reads their logs.
func TestRealServers(t *testing.T) {
	t.Parallel()
	servers := mailServers()
	var hosts []string
	for _, s := range servers {
		hosts = append(hosts, s.name)
		s.needed(t)
	}
	systemProgram(t, "chroot")
	lab.Run(t, lab.Config{Hosts: hosts, Binary: true}, func(t *testing.T, l *lab.Lab) {
		mountRoots(t)
		t.Cleanup(func() { nothingRuns(t) })
		ca := newTestCA(t)
		for _, s := range servers {
			startServer(t, l, ca, s)
		}
		for _, s := range servers {
			awaitListening(t, l, s)
		}
		rows := sweepServers(t, l, ca, servers)
		conversations := map[string]map[string]int{} // by server and port
		for _, r := range rows {
			name := r.server(l, servers)
			if conversations[name] == nil {
				conversations[name] = map[string]int{}
			}
			conversations[name][r.cell["port"]]++
			t.Run(fmt.Sprintf("%s %s by %s", r.cell["address"], r.cell["port"], r.cell["target"]), func(t *testing.T) { r.check(t, name, ca) })
		}
		for _, s := range servers {
			t.Run("log of "+s.name, func(t *testing.T) { s.checkLog(t, conversations[s.name]) })
		}
	})
}

// screens reports whether postscreen answers on port 25.
func (s *mailServer) screens() bool { return strings.HasSuffix(s.name, "screen") }

// sweepServers scans all servers and returns the rows.
func sweepServers(t *testing.T, l *lab.Lab, ca *testCA, servers []*mailServer) []foundRow {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("ca.pem"), []byte(ca.pem), 0o600); err != nil {
		t.Fatal(err)
	}
	targets, zone, want := serverTargets(l, servers)
	cmd := l.Command(lab.Scanner, lab.Binary(t), append([]string{"scan", "--ca", file("ca.pem"),
		"--resolver", scannertest.DNS(t, zone).String(), "-o", file("rows.csv"), "-o", file("rows.jsonl")}, targets...)...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("scan: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("scan said:\n%s", out)
		}
	})
	kept, _ := filepath.Glob(file("smtpsweep/*"))
	for _, path := range kept {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			t.Errorf("-o rows.jsonl is the journal, and there is another: %s", path)
		}
	}
	rows := readRows(t, file("rows.csv"), file("rows.jsonl"))
	if len(rows) != want {
		t.Errorf("got %d rows, want %d", len(rows), want)
	}
	return rows
}

// serverTargets returns what to scan, the names in it, and how many rows that
// is: every server by name and by address. postscreen is reached once only:
// whoever has waited need not wait again.
func serverTargets(l *lab.Lab, servers []*mailServer) (targets []string, zone scannertest.DNSZone, rows int) {
	zone = scannertest.DNSZone{otherName: {"CNAME postfix.example.org"}}
	targets, rows = []string{otherName + ":25"}, 1
	if l.IPv6() {
		rows++
	}
	for _, s := range servers {
		addr4, addr6 := l.HostAddrs(s.name)
		zone[s.host()] = []string{"A " + addr4.String()}
		targets = append(targets, s.host())
		rows += 3
		if s.screens() {
			continue
		}
		targets = append(targets, addr4.String())
		rows += 3
		if l.IPv6() {
			zone[s.host()] = append(zone[s.host()], "AAAA "+addr6.String())
			targets = append(targets, addr6.String())
			rows += 6
		}
	}
	return targets, zone, rows
}

// A foundRow is a row of the CSV file, with what only the journal has of it.
type foundRow struct {
	cell    map[string]string // by column
	journal journalRow
}

// A journalRow is what is looked at of a result in the journal.
type journalRow struct {
	Type string
	journalKey
	EHLOTLS    []string `json:"ehlo_tls"`
	Transcript []struct{ From, Text string }
}

// A journalKey is what a row is about.
type journalKey struct {
	Target, Address string
	Port            int
}

// readRows joins the rows of both files.
func readRows(t *testing.T, csvPath, journalPath string) []foundRow {
	t.Helper()
	f, err := os.Open(csvPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	journal, err := os.ReadFile(journalPath)
	if err != nil {
		t.Fatal(err)
	}
	details := map[journalKey]journalRow{}
	for line := range strings.Lines(string(journal)) {
		var r journalRow
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("journal: %v in %s", err, line)
		}
		if r.Type == "result" {
			details[r.journalKey] = r
		}
	}
	var rows []foundRow
	for _, line := range lines[1:] {
		cell := map[string]string{}
		for i, name := range lines[0] {
			cell[name] = line[i]
		}
		port, _ := strconv.Atoi(cell["port"])
		key := journalKey{cell["target"], cell["address"], port}
		detail, ok := details[key]
		if !ok {
			t.Fatalf("not in the journal, or twice in the file: %v", line)
		}
		delete(details, key)
		rows = append(rows, foundRow{cell, detail})
	}
	return rows
}

// server returns the name of the server that a row is about.
func (r *foundRow) server(l *lab.Lab, servers []*mailServer) string {
	addr, _ := netip.ParseAddr(r.cell["address"])
	for _, s := range servers {
		if addr4, addr6 := l.HostAddrs(s.name); addr == addr4 || addr == addr6 {
			return s.name
		}
	}
	return ""
}

// needed ends the test if a program of the server is not there.
func (s *mailServer) needed(t *testing.T) {
	t.Helper()
	for _, program := range slices.Concat([]string{s.program()}, s.tools) {
		if _, err := os.Stat(program); err != nil {
			cannotTest(t, "%s is missing: .ci/programs installs it on Debian 12", program)
		}
	}
}
