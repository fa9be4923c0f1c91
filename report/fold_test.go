package report

import (
	"fmt"
	"strings"
	"testing"
)

// checkFolds renders rows with --show unknown,open, and compares all but the rows.
func checkFolds(t *testing.T, rows []Row, want ...string) {
	t.Helper()
	var l listing
	l.show, l.emit = ShowOpen, func([]line) error { return nil }
	for i := range rows {
		if err := l.add(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(l.foldLines(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// allPorts are the ports that a sweep asks for.
var allPorts = []string{"25", "465", "587"}

// firewalld of a host rejects with an ICMP message of the host's own address.
func TestHostsThatRejectThemselvesAreOneLine(t *testing.T) {
	rows := sweep("192.0.2.0", 40, allPorts, func(h int, p string) (string, string, string) {
		switch {
		case h < 30:
			return "filtered", "admin-prohibited", fmt.Sprintf("192.0.2.%d", h)
		case h < 35 && p == "25":
			return "open", "syn-ack", ""
		case h < 35:
			return "filtered", "admin-prohibited", fmt.Sprintf("192.0.2.%d", h)
		}
		return "filtered", "admin-prohibited", "198.51.100.1"
	})
	checkFolds(t, rows,
		"90 endpoints filtered admin-prohibited (30 addresses), ICMP 3/13 from the address itself: 192.0.2.0-29",
		"15 endpoints filtered admin-prohibited (5 addresses), ICMP 3/13 from 198.51.100.1: 192.0.2.35-39",
		"10 endpoints filtered admin-prohibited on 465,587 (5 addresses), ICMP 3/13 from the address itself: 192.0.2.30-34",
	)
	var a Advisor
	for i := range rows {
		a.Add(&rows[i])
	}
	want := []string{
		"192.0.2.0:25 is stopped by the address itself (ICMP 3/13) (99 more): smtpsweep explain admin-prohibited",
		"192.0.2.35:25 is stopped by 198.51.100.1 (ICMP 3/13) (14 more): smtpsweep explain admin-prohibited",
	}
	if got := a.Lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFoldsNameHostsByTheirNames(t *testing.T) {
	at := func(host, address, reason, err string) Row {
		return rowOf(map[Column]string{ColHost: host, ColTarget: host, ColAddress: address, ColPort: "25", ColState: "unknown", ColReason: reason, ColError: err})
	}
	private := "x leads to y: private use (RFC 1918), with --allow-private it is probed"
	rows := []Row{
		at("mail.corp.example", "10.20.30.10", "reserved", private),
		at("two.corp.example", "10.20.30.10", "reserved", private),
		at("two.corp.example", "10.20.30.11", "reserved", private),
		at("doc.corp.example", "192.0.2.1", "reserved", "x leads to y: documentation (RFC 5737), with --allow-reserved it is probed"),
		at("loop.corp.example", "127.0.0.1", "reserved", "x leads to y: loopback (RFC 1122)"),
		at("gone.corp.example", "", "dns-nxdomain", "the name does not exist"),
		at("gone2.corp.example", "", "dns-nxdomain", "the name does not exist"),
		at("mail.corp.example", "10.20.30.10", "reserved", private), // by another domain
	}
	checkFolds(t, rows,
		"4 endpoints unknown reserved (2 addresses): mail.corp.example (10.20.30.10), two.corp.example (10.20.30.10-11); probed with --allow-private",
		"2 endpoints unknown dns-nxdomain: gone.corp.example, gone2.corp.example",
		"1 endpoint unknown reserved: doc.corp.example (192.0.2.1); probed with --allow-reserved",
		"1 endpoint unknown reserved: loop.corp.example (127.0.0.1)",
	)
	silence := sweep("192.0.2.16", 3, allPorts, silent)
	for i := 3; i < 6; i++ {
		silence[i].Cells[ColHost] = "mx2.example.org"
	}
	checkFolds(t, silence, "3 addresses silent on all ports: 192.0.2.16,18, mx2.example.org (192.0.2.17) (no host, or dropped: not decidable from here)")
}

func TestNamesInAFoldAreBounded(t *testing.T) {
	var rows []Row
	for i := range 100 {
		for j := range 50 {
			rows = append(rows, rowOf(map[Column]string{ColHost: fmt.Sprintf("h%d.example.org", i), ColAddress: fmt.Sprintf("10.%d.%d.9", i, j), ColPort: "25", ColState: "closed", ColReason: "conn-refused"}))
		}
	}
	l := listing{show: ShowOpen}
	for i := range rows {
		if err := l.add(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	f := l.folds[0]
	if len(l.folds) != 1 || len(f.names) != maxRuns || len(f.names[0].at) != maxRuns || f.hosts != 5000 || f.beyond != 5000-maxRuns*maxRuns {
		t.Errorf("%d names of %d folds, %d ranges of the first, %d hosts, %d beyond", len(f.names), len(l.folds), len(f.names[0].at), f.hosts, f.beyond)
	}
}

func TestFoldsSayWhichPortsWhereHostsHaveOthers(t *testing.T) {
	at := func(address, state, reason string, ports ...string) (rows []Row) {
		for _, p := range ports {
			rows = append(rows, rowOf(map[Column]string{ColAddress: address, ColPort: p, ColState: state, ColReason: reason}))
		}
		return rows
	}
	var rows []Row
	add := func(more []Row) { rows = append(rows, more...) }
	add(at("192.0.2.1", "closed", "conn-refused", "25"))
	add(at("192.0.2.2", "closed", "conn-refused", "465", "2525"))
	add(at("192.0.2.3", "filtered", "no-response", "25"))
	add(at("192.0.2.4", "filtered", "no-response", "25"))
	add(at("192.0.2.5", "filtered", "host-unreach", "587"))
	add(append(at("192.0.2.6", "open", "syn-ack", "25"), at("192.0.2.6", "closed", "conn-refused", "465")...))
	checkFolds(t, rows,
		"2 addresses silent on 25: 192.0.2.3-4 (no host, or dropped: not decidable from here)",
		"3 endpoints closed conn-refused on some of 25,465,2525 (2 addresses): 192.0.2.1-2",
		"1 endpoint filtered host-unreach on 587: 192.0.2.5",
		"1 endpoint closed conn-refused on 465: 192.0.2.6",
	)
	many := sweep("192.0.2.1", 1, []string{"1", "2", "3", "4", "5"}, silent)
	many = append(many, sweep("192.0.2.2", 1, []string{"6", "7", "8", "9"}, silent)...)
	checkFolds(t, many, "2 addresses silent on some of 9 ports: 192.0.2.1-2 (no host, or dropped: not decidable from here)")
}

// The sender of "no neighbour" is our own kernel, and what was broken off is no evidence.
func TestFoldsDoNotAccuseOurselves(t *testing.T) {
	rows := sweep("192.0.2.0", 4, allPorts, func(h int, p string) (string, string, string) {
		switch {
		case h < 2:
			return "filtered", "no-neighbor", fmt.Sprintf("198.51.100.%d", h) // two cards
		case p == "25":
			return "filtered", "no-neighbor", "198.51.100.1"
		}
		return "unknown", "interrupted", "198.51.100.7"
	})
	checkFolds(t, rows,
		"2 addresses that nobody uses now (no answer to ARP or ND): 192.0.2.0-1",
		"4 endpoints unknown interrupted (2 addresses): 192.0.2.2-3",
		"2 endpoints filtered no-neighbor on 25: 192.0.2.2-3",
	)
}
