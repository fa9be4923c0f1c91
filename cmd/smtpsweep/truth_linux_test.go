package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// mailPorts are the ports of every sweep here: those of the lab.
var mailPorts = []uint16{25, 465, 587}

// What is swept. Every eighth address is of the same class.
var (
	routed4 = netip.MustParsePrefix("10.64.32.0/21") // 2,048 addresses
	routed6 = netip.MustParsePrefix("fd64::100/120") // 256 addresses
	nowhere = netip.MustParsePrefix("10.99.0.1/32")  // the router has no way there
	onLink6 = netip.MustParsePrefix("fd30::/122")    // 64 addresses, one of them ours

	onLinkHosts = []netip.Addr{
		netip.MustParseAddr("10.30.0.1"), netip.MustParseAddr("10.30.0.100"), netip.MustParseAddr("10.30.0.254"),
		netip.MustParseAddr("fd30::1"), netip.MustParseAddr("fd30::20"), netip.MustParseAddr("fd30::3f"),
	}
)

// TestTruth sweeps a network whose every answer is known: its routed part, where
// the answer is a function of the address and the target itself sends the ICMP
// messages, and its on-link part, where three addresses have a neighbour. nmap,
// xmllint and ndiff then judge the same sweeps. All programs are started
// together: they mostly wait.
func TestTruth(t *testing.T) {
	t.Parallel()
	cfg := lab.Config{Classes: true, Serve: true, Binary: true, OnLink: onLinkHosts}
	lab.Run(t, cfg, func(t *testing.T, l *lab.Lab) {
		routed := startScan(t, l, routed4.String(), nowhere.String())
		link := startScan(t, l, lab.OnLink4.String())
		var overIPv6, linkIPv6 *labScan
		if l.IPv6() {
			overIPv6 = startScan(t, l, routed6.String())
			linkIPv6 = startScan(t, l, onLink6.String())
		}
		oracle := startOracle(t, l)

		t.Run("ndiff shows one changed port", func(t *testing.T) { checkNdiff(t, l) })
		t.Run("routed", func(t *testing.T) {
			checkTruth(t, l, routed.rows(t), append(addressesOf(routed4), addressesOf(nowhere)...))
		})
		t.Run("on-link", func(t *testing.T) { checkOnLink(t, l, link) })
		if l.IPv6() {
			t.Run("routed IPv6", func(t *testing.T) { checkTruth(t, l, overIPv6.rows(t), addressesOf(routed6)) })
			t.Run("on-link IPv6", func(t *testing.T) { checkTruth(t, l, linkIPv6.rows(t), addressesOf(onLink6)) })
		}
		oracle.check(t, l, routed, overIPv6, link)
	})
}

// TestTruthOfARouter sweeps a network where a router on the way rejects: it is
// the sender of every ICMP message, whatever address was probed. It counts our
// SYNs, too.
func TestTruthOfARouter(t *testing.T) {
	t.Parallel()
	cfg := lab.Config{Classes: true, Serve: true, Binary: true, RejectAt: lab.Router}
	lab.Run(t, cfg, func(t *testing.T, l *lab.Lab) {
		some4, some6 := netip.MustParsePrefix("10.64.48.0/25"), netip.MustParsePrefix("fd64::/122")
		specs, addrs := []string{some4.String()}, addressesOf(some4)
		if l.IPv6() { // both families in one run
			specs, addrs = append(specs, some6.String()), append(addrs, addressesOf(some6)...)
		}
		rows := startScan(t, l, specs...).rows(t)
		checkTruth(t, l, rows, addrs)
		checkAttempts(t, rows, l.CountSYN(t, lab.Router))
	})
}

// checkAttempts compares the attempts of all rows with the SYNs that arrived.
func checkAttempts(t *testing.T, rows []map[string]string, arrived map[uint16]uint64) {
	t.Helper()
	attempts := map[string]uint64{}
	for _, r := range rows {
		n, _ := strconv.ParseUint(r["attempts"], 10, 16)
		attempts[r["port"]] += n
	}
	for _, port := range mailPorts {
		if got := attempts[strconv.Itoa(int(port))]; got != arrived[port] {
			t.Errorf("port %d: %d attempts in the rows, %d SYNs arrived", port, got, arrived[port])
		}
	}
}

// addressesOf returns all addresses of a prefix.
func addressesOf(p netip.Prefix) (all []netip.Addr) {
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		all = append(all, a)
	}
	return all
}

// A labScan is a run of the built program in a lab, by a user without any
// privilege, with its rows in files.
type labScan struct {
	cmd    *exec.Cmd
	dir    string
	said   bytes.Buffer
	code   int // valid when waited for
	waited bool
}

// startScan starts `smtpsweep scan` on the mail ports, with all formats for programs.
func startScan(t *testing.T, l *lab.Lab, args ...string) *labScan {
	t.Helper()
	return startScanTo(t, l, []string{"csv", "json", "jsonl", "xml"}, append([]string{"-p", "25,465,587"}, args...)...)
}

// startScanTo starts `smtpsweep scan` with outputs of some formats.
func startScanTo(t *testing.T, l *lab.Lab, formats []string, args ...string) *labScan {
	t.Helper()
	s := &labScan{dir: t.TempDir()}
	flags := []string{"scan"}
	for _, f := range formats {
		flags = append(flags, "-o", s.file(f))
	}
	s.cmd = lab.NoCaps(l.Command(lab.Scanner, lab.Binary(t), append(flags, args...)...))
	s.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+s.dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.waited { // a test before this one's has failed
			s.cmd.Process.Kill()
			s.cmd.Wait()
		}
	})
	return s
}

// file returns the path of the output in a format.
func (s *labScan) file(ending string) string { return filepath.Join(s.dir, "rows."+ending) }

// wait returns when the scan is over, with its exit code.
func (s *labScan) wait(t *testing.T) int {
	t.Helper()
	if s.waited {
		return s.code
	}
	s.waited = true
	err := s.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		s.code = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("scan: %v", err)
	}
	return s.code
}

// rows returns the rows of a scan that ended with exit code 0, column by column.
// They are read from CSV, JSON and the journal, which must agree on every cell.
func (s *labScan) rows(t *testing.T) []map[string]string {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("scan said:\n%s", s.said.String())
		}
	})
	if code := s.wait(t); code != exitDone {
		t.Fatalf("exit code %d, want %d", code, exitDone)
	}
	rows := rowsOfCSV(t, s.file("csv"))
	for _, other := range []struct {
		name string
		rows []map[string]string
	}{{"JSON", rowsOfJSON(t, s.file("json"))}, {"the journal", rowsOfJournal(t, s.file("jsonl"))}} {
		compareRows(t, rows, other.name, other.rows)
	}
	return rows
}

// compareRows reports where the rows of another format differ from those of CSV.
func compareRows(t *testing.T, rows []map[string]string, name string, others []map[string]string) {
	t.Helper()
	if len(others) != len(rows) {
		t.Errorf("%s has %d rows, CSV has %d", name, len(others), len(rows))
	}
	key := func(r map[string]string) string { return r["target"] + " " + r["address"] + " " + r["port"] }
	by := map[string]map[string]string{}
	for _, r := range others {
		by[key(r)] = r
	}
	for _, r := range rows {
		for column, cell := range r {
			if other := by[key(r)][column]; other != cell {
				t.Errorf("%s: %s is %q in CSV and %q in %s", key(r), column, cell, other, name)
			}
		}
	}
}

func rowsOfCSV(t *testing.T, path string) (rows []map[string]string) {
	t.Helper()
	for row := range readCSV(t, path) {
		rows = append(rows, maps.Clone(row))
	}
	return rows
}

// readCSV yields the rows of a CSV file, column by column. A row is good until
// the next: there may be a million.
func readCSV(t *testing.T, path string) iter.Seq[map[string]string] {
	t.Helper()
	return func(yield func(map[string]string) bool) {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		r := csv.NewReader(bufio.NewReader(file))
		header, err := r.Read()
		row := map[string]string{}
		for err == nil {
			var line []string
			if line, err = r.Read(); err != nil {
				break
			}
			for i, name := range header {
				row[name] = line[i]
			}
			if !yield(row) {
				return
			}
		}
		if err != io.EOF {
			t.Fatalf("%s: %v", path, err)
		}
	}
}

func rowsOfJSON(t *testing.T, path string) (rows []map[string]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Results []json.RawMessage }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, r := range doc.Results {
		rows = append(rows, cellsOf(t, r))
	}
	return rows
}

func rowsOfJournal(t *testing.T, path string) (rows []map[string]string) {
	t.Helper()
	r, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for record, err := range r.Records() {
		if err != nil { // a wrong checksum is one
			t.Fatal(err)
		}
		if record.Type == "result" {
			rows = append(rows, cellsOf(t, record.Line))
		}
	}
	return rows
}

// cellsOf returns the members of a result that are columns, as CSV has them.
func cellsOf(t *testing.T, result []byte) map[string]string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(result))
	d.UseNumber()
	var members map[string]any
	if err := d.Decode(&members); err != nil {
		t.Fatalf("%v in %s", err, result)
	}
	row := map[string]string{}
	for _, field := range report.Scan.Fields {
		value, ok := members[field.Name]
		switch list, isList := value.([]any); {
		case !ok:
			row[field.Name] = ""
		case isList:
			var elems []string
			for _, e := range list {
				elems = append(elems, fmt.Sprint(e))
			}
			row[field.Name] = strings.Join(elems, ";")
		default:
			row[field.Name] = fmt.Sprint(value)
		}
	}
	return row
}

// checkTruth compares rows with the truth: each endpoint has one, it is right, and
// they are in the order of the plan.
func checkTruth(t *testing.T, l *lab.Lab, rows []map[string]string, addrs []netip.Addr) {
	t.Helper()
	found := map[string]int{}
	var order []netip.AddrPort
	for _, r := range rows {
		addr, err := netip.ParseAddr(r["address"])
		port, portErr := strconv.ParseUint(r["port"], 10, 16)
		if err != nil || portErr != nil || !slices.Contains(mailPorts, uint16(port)) {
			t.Errorf("nobody asked for the row %v", r)
			continue
		}
		found[r["address"]+" "+r["port"]]++
		order = append(order, netip.AddrPortFrom(addr, uint16(port)))
		checkRow(t, r, l.Truth(addr, uint16(port)))
		if source := sourceTowards(addr).String(); r["source"] != source {
			t.Errorf("%s port %s: source is %q, want %s", r["address"], r["port"], r["source"], source)
		}
	}
	for _, addr := range addrs {
		for _, port := range mailPorts {
			key := fmt.Sprintf("%s %d", addr, port)
			if found[key] != 1 {
				t.Errorf("%s: %d rows, want 1", key, found[key])
			}
			delete(found, key)
		}
	}
	for key := range found {
		t.Errorf("%s: nobody asked for it", key)
	}
	if !slices.IsSortedFunc(order, netip.AddrPort.Compare) {
		t.Error("the rows are not in order")
	}
}

// checkRow compares a row with what is true of its endpoint.
func checkRow(t *testing.T, r map[string]string, truth lab.Expect) {
	t.Helper()
	want := map[string]string{"state": truth.State, "reason": truth.Reason, "icmp_from": "", "icmp": "", "banner": "", "service": "", "error": "", "host": ""}
	if truth.Reason == "no-neighbor" && r["icmp"] == "" {
		// The kernel limits its messages to us: on a busy machine, where many
		// neighbours fail at once, some are known by the neighbour table alone.
		truth.From = netip.Addr{}
	}
	if truth.From.IsValid() {
		want["icmp_from"], want["icmp"] = truth.From.String(), fmt.Sprintf("%d/%d", truth.ICMPType, truth.ICMPCode)
	}
	if truth.State == "open" {
		want["service"], want["banner"] = "smtp", truth.Greeting
		if r["port"] == "465" { // the lab's server knows no TLS
			want["service"] = "wrong-mode"
			delete(want, "error")
		}
	}
	for column, value := range want {
		if got := r[column]; got != value {
			t.Errorf("%s port %s (%v): %s is %q, want %q", r["address"], r["port"], truth.Class, column, got, value)
		}
	}
	least, most := attemptsOf(truth)
	if n, err := strconv.Atoi(r["attempts"]); err != nil || n < least || n > most {
		t.Errorf("%s port %s (%v): attempts is %q, want %d to %d", r["address"], r["port"], truth.Class, r["attempts"], least, most)
	}
	if answered := truth.State != "filtered" || truth.From.IsValid(); answered != (r["rtt_ms"] != "") {
		t.Errorf("%s port %s (%v): rtt_ms is %q", r["address"], r["port"], truth.Class, r["rtt_ms"])
	}
}

// sourceTowards returns the scanner's address on the way to another.
func sourceTowards(addr netip.Addr) netip.Addr {
	switch {
	case lab.OnLink4.Contains(addr):
		return lab.OnLinkAddr4
	case lab.OnLink6.Contains(addr):
		return lab.OnLinkAddr6
	case addr.Is4():
		return lab.ScannerAddr4
	}
	return lab.ScannerAddr6
}

// attemptsOf returns how many SYNs there may be to an endpoint: one dial sends
// one, and repeats it at most three times. In 3.9 s of silence there is time for
// two repetitions, or for three where the kernel does not double the wait (Linux
// 6.5, tcp_syn_linear_timeouts); a machine too busy to end the wait in time lets
// the kernel repeat it more often. What an ICMP message says is asked again,
// unless it is our own kernel's about a neighbour; where nobody uses the address
// none leaves at all, and the kernel tries until it knows. That the numbers are
// true is checkAttempts' affair.
func attemptsOf(truth lab.Expect) (least, most int) {
	switch {
	case truth.Reason == "no-neighbor" && !truth.From.IsValid():
		return 1, 8
	case truth.State == "filtered" && !truth.From.IsValid():
		return 3, 8
	case truth.From.IsValid() && truth.Reason != "no-neighbor":
		return 2, 8
	}
	return 1, 4
}

// checkOnLink compares the sweep of a network that this machine is part of with
// the truth: three hosts answer, and so does this machine; of the other addresses
// nobody uses any. The broadcast address is nobody's: it is left out, and said.
func checkOnLink(t *testing.T, l *lab.Lab, s *labScan) {
	rows := s.rows(t)
	addrs, left := addressesOf(lab.OnLink4)[:255], "Left out: 1 address (broadcast"
	if !unicastZero(t) {
		addrs, left = addrs[1:], "Left out: 2 addresses (broadcast"
	}
	checkTruth(t, l, rows, addrs)
	count := map[string]int{}
	for _, r := range rows {
		count[r["reason"]]++
	}
	nobody := len(addrs) - 4 // three hosts and this machine
	for reason, want := range map[string]int{"syn-ack": 3 * 3, "conn-refused": 3, "no-neighbor": nobody * 3} {
		if count[reason] != want {
			t.Errorf("%d rows with %s, want %d", count[reason], reason, want)
		}
	}
	said := s.said.String()
	if !strings.Contains(said, left) {
		t.Errorf("does not say %q", left)
	}
	if strings.Contains(said, "is stopped by") {
		t.Error("says that somebody stops connections, where nobody is")
	}
}

// unicastZero reports whether the first address of a network is one like any
// other, as it is since Linux 5.14, and not a second broadcast address.
func unicastZero(t *testing.T) bool {
	t.Helper()
	var u unix.Utsname
	var major, minor int
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 5 || major == 5 && minor >= 14
}
