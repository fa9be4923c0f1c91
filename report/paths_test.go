package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

var (
	tracedHost4 = netip.MustParseAddr("198.51.100.10")
	hop1        = netip.MustParseAddr("192.168.1.1")
	hop2        = netip.MustParseAddr("100.64.0.1")
	hop3        = netip.MustParseAddr("203.0.113.1")
	hop3b       = netip.MustParseAddr("203.0.113.2")
)

// hopOf makes a hop with one answer.
func hopOf(port uint16, ttl int, from netip.Addr, reason scanner.Reason, rtt time.Duration) scanner.Hop {
	a := scanner.HopAnswer{From: from, Reason: reason, RTT: rtt, Count: 1}
	if reason == scanner.TimeExceeded {
		a.ICMP = scanner.ICMP{From: from, Type: 11}
	}
	return scanner.Hop{Port: port, TTL: ttl, Sent: 1, Answers: []scanner.HopAnswer{a}}
}

// tracedFixture is what the golden files show: of one host a port that is lost, one that is rejected, one that something else
// answers, and one that reaches it; of the other nothing.
func tracedFixture(name string) []Traced {
	ms := time.Millisecond
	no := scanner.ICMP{From: hop2, Type: 3, Code: 13}
	rejected := scanner.Hop{Port: 465, TTL: 3, Sent: 1, Answers: []scanner.HopAnswer{{From: hop2, Reason: scanner.AdminProhibited, ICMP: no, RTT: 8 * ms, Count: 1}}}
	hop3of587 := hopOf(587, 3, hop3, scanner.TimeExceeded, 9*ms)
	hop3of587.Sent, hop3of587.Answers = 2, append(hop3of587.Answers, scanner.HopAnswer{From: hop3b, Reason: scanner.TimeExceeded, ICMP: scanner.ICMP{From: hop3b, Type: 11}, RTT: 11 * ms, Count: 1})
	return []Traced{{
		At: began, Vantage: "mon1", Source: netip.MustParseAddr("192.168.1.7"),
		Target: targets.Target{Addr: tracedHost4, From: &targets.Origin{Spec: "mx:example.org", Host: "mail.example.org"}},
		Names:  map[netip.Addr]string{hop3: name, tracedHost4: "mail.example.org"},
		Paths: []scanner.Path{
			{Port: 25, Control: 587, Fate: scanner.Lost, State: scanner.Filtered, Reason: scanner.NoResponse, LastHop: 2, After: 2, NoLaterThan: 3},
			{Port: 465, Control: 587, Fate: scanner.Rejected, State: scanner.Filtered, Reason: scanner.AdminProhibited, LastHop: 2, After: 2, NoLaterThan: 3, By: no, ByHop: 2},
			{Port: 2525, Control: 587, Fate: scanner.Interposed, State: scanner.Open, Reason: scanner.SynAck, Distance: 1, NoLaterThan: 1},
			{Port: 587, Fate: scanner.Reached, State: scanner.Open, Reason: scanner.SynAck, Distance: 4, LastHop: 3},
		},
		Hops: []scanner.Hop{
			hopOf(25, 1, hop1, scanner.TimeExceeded, 900*time.Microsecond), hopOf(465, 1, hop1, scanner.TimeExceeded, ms), hopOf(2525, 1, tracedHost4, scanner.SynAck, ms), hopOf(587, 1, hop1, scanner.TimeExceeded, 90*time.Microsecond),
			hopOf(25, 2, hop2, scanner.TimeExceeded, 7*ms), hopOf(465, 2, hop2, scanner.TimeExceeded, 7*ms), hopOf(587, 2, hop2, scanner.TimeExceeded, 7*ms),
			{Port: 25, TTL: 3, Sent: 3}, rejected, hop3of587,
			{Port: 25, TTL: 4, Sent: 3}, hopOf(587, 4, tracedHost4, scanner.SynAck, 12*ms),
		},
	}, {
		At: began.Add(time.Second), Vantage: "mon1", Target: targets.Target{Addr: netip.MustParseAddr("2001:db8::25"), From: &targets.Origin{Spec: "mx:example.org", Host: "mail.example.org"}},
		Paths: []scanner.Path{{Port: 25, Fate: scanner.Untraced, Reason: scanner.LocalError, Err: "this machine has no route to IPv6 addresses like this"}},
	}}
}

func tracedRows(name string) (rows []HopRow) {
	for _, t := range tracedFixture(name) {
		rows = append(rows, t.Rows()...)
	}
	return rows
}

func writePaths(t *testing.T, format string, rows []HopRow, o Options) []byte {
	t.Helper()
	f, err := LookupPath(format)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := f.Write(&buf, &PathReport{Header: fixtureHeader(), Rows: rows}, o); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestEveryFormatOfTracesHasItsGoldenFile(t *testing.T) {
	for _, f := range PathFormats() {
		t.Run(f.Name, func(t *testing.T) {
			got := writePaths(t, f.Name, tracedRows("gw3.isp.example"), Options{Width: 100})
			path := filepath.Join("testdata", "trace."+f.Name)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestHopRowsComeBack: what a journal has is what was written.
func TestHopRowsComeBack(t *testing.T) {
	for _, row := range tracedRows(hostile) {
		record := row.AppendJSON(nil)
		if !json.Valid(record) {
			t.Fatalf("not JSON: %s", record)
		}
		again, err := ParseHopRow(record)
		if err != nil || again != row {
			t.Errorf("got %+v, %v\nwant %+v", again, err, row)
		}
	}
	for _, bad := range []string{"", "[]", `{"ttl":[1]}`, `{"name":{}}`, `{"port":true}`} {
		if _, err := ParseHopRow([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// TestNamesOfHopsAreInert: a PTR record is a stranger's.
func TestNamesOfHopsAreInert(t *testing.T) {
	for _, f := range PathFormats() {
		out := string(writePaths(t, f.Name, tracedRows(hostile), Options{}))
		for _, r := range out {
			if r < ' ' && r != '\n' && r != '\r' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' {
				t.Errorf("%s: a control character %q in the output", f.Name, r)
				break
			}
		}
		if f.Name == "md" && strings.Contains(out, "<script>") {
			t.Error("md: HTML in the output")
		}
	}
	rows, err := csv.NewReader(bytes.NewReader(writePaths(t, "csv", tracedRows("=1+1"), Options{}))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(rows[0], "name")
	for _, row := range rows[1:] {
		if strings.HasPrefix(row[at], "=") {
			t.Errorf("a formula: %q", row[at])
		}
	}
	if len(rows[0]) != int(NumHopColumns) || len(rows) != len(tracedRows(""))+1 {
		t.Errorf("%d columns, %d lines", len(rows[0]), len(rows))
	}
}

func TestTraceTableFitsTheTerminal(t *testing.T) {
	for _, width := range []int{80, 100} {
		for line := range strings.Lines(string(writePaths(t, "table", tracedRows("a-router-with-quite-a-long-name.pop.isp.example"), Options{Width: width}))) {
			if n := columns.StringWidth(strings.TrimRight(line, "\n")); n > width {
				t.Errorf("a line of %d in %d columns: %s", n, width, line)
			}
		}
	}
}

// TestTraceSentences are those that the golden files do not have.
func TestTraceSentences(t *testing.T) {
	for _, c := range []struct {
		path scanner.Path
		hops []scanner.Hop
		want string
	}{
		{scanner.Path{Fate: scanner.Lost, Control: 587, After: 0, NoLaterThan: 1}, []scanner.Hop{hopOf(587, 1, hop1, scanner.TimeExceeded, 0)},
			"Port 25 IS LOST without a word between this machine and hop 1 (192.168.1.1), at that at the latest; port 587 of the same host answers."},
		{scanner.Path{Fate: scanner.Lost, After: 2}, []scanner.Hop{hopOf(25, 2, hop2, scanner.TimeExceeded, 0)},
			"Port 25: nothing answers somewhere after hop 2 (100.64.0.1), and no other port of the host does: it may be down, or all that goes to it is dropped."},
		{scanner.Path{Fate: scanner.Lost}, nil, "Port 25: nothing answers somewhere after this machine, and no other port of the host does: it may be down, or all that goes to it is dropped."},
		{scanner.Path{Fate: scanner.Lost, Control: 587, After: 3, NoLaterThan: 4, Distance: 4}, []scanner.Hop{hopOf(25, 3, hop3, scanner.TimeExceeded, 0)},
			"Port 25 IS LOST without a word after hop 3 (203.0.113.1) and no later than hop 4, which is the host itself; port 587 of the same host answers."},
		{scanner.Path{Fate: scanner.Cut, Control: 587, After: 1, NoLaterThan: 2}, nil,
			"Port 25 IS REFUSED in the host's name (TCP reset) after hop 1, which answers nothing and no later than hop 2, which answers nothing; port 587 of the same host answers."},
		{scanner.Path{Fate: scanner.Reached, State: scanner.Closed, Distance: 4}, nil, "Port 25 reaches the host, hop 4: refused, by the host or by a filter right before it."},
		{scanner.Path{Fate: scanner.Reached, State: scanner.Filtered, Distance: 4}, nil, "Port 25 reaches the host, hop 4 now and then: something limits it, or loses packets."},
		{scanner.Path{Fate: scanner.Untraced, Reason: scanner.Interrupted}, nil, "Port 25 could not be traced: interrupted."},
	} {
		c.path.Port = 25
		tr := Traced{Target: targets.Target{Addr: tracedHost4}, Paths: []scanner.Path{c.path}, Hops: c.hops}
		for _, h := range c.hops {
			if h.Port != 25 {
				tr.Paths = append(tr.Paths, scanner.Path{Port: h.Port, Fate: scanner.Reached, State: scanner.Open})
			}
		}
		if got := PathSentences(tr.Rows())[0]; got != c.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", c.path, got, c.want)
		}
	}
}

func TestFormatsThatTracesDoNotHave(t *testing.T) {
	if _, err := LookupPath("xml"); err == nil || !strings.Contains(err.Error(), "table, csv, jsonl, json, md") {
		t.Errorf("got %v", err)
	}
	if _, err := PathByEnding("x.xml"); err == nil || !strings.Contains(err.Error(), ".csv") {
		t.Errorf("got %v", err)
	}
	for _, f := range PathFormats() {
		if got, err := PathByEnding("X" + strings.ToUpper(f.Endings[0])); err != nil || got.Name != f.Name {
			t.Errorf("%s: got %s, %v", f.Name, got.Name, err)
		}
	}
}

// FuzzHopRow: a journal may come from anywhere.
func FuzzHopRow(f *testing.F) {
	for _, row := range tracedRows(hostile) {
		f.Add(row.AppendJSON(nil))
	}
	f.Add([]byte(`{"type":"hop","ttl":99999999999999999999,"port":1e400,"address":"\u0000","after_hop":-1,"no_later_than":0.5}`))
	f.Fuzz(func(t *testing.T, record []byte) {
		row, err := ParseHopRow(record)
		if err != nil {
			return
		}
		for i, cell := range row.Cells {
			if Clean(cell) != cell {
				t.Errorf("%s is not clean: %q", Hops.Fields[i].Name, cell)
			}
		}
		again, err := ParseHopRow(row.AppendJSON(nil))
		if err != nil || again != row {
			t.Errorf("it does not come back: %+v, %v", again, err)
		}
		if ttl, err := strconv.Atoi(row.Cells[HopTTL]); err == nil && ttl > 1<<20 {
			row.Cells[HopPort] = "25"
		}
		for _, format := range PathFormats() {
			if err := format.Write(&bytes.Buffer{}, &PathReport{Rows: []HopRow{row, row}}, Options{Width: 80}); err != nil {
				t.Errorf("%s: %v", format.Name, err)
			}
		}
	})
}
