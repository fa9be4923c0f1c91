package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
)

// auditOf reads an audit from records, as a journal has them.
func auditOf(t testing.TB, records string) *Audit {
	t.Helper()
	a := &Audit{Header: Header{Version: "1.2.3", Args: "smtpsweep egress", Started: time.Date(2026, 9, 30, 12, 0, 0, 0, time.UTC)}}
	for line := range strings.Lines(records) {
		line = strings.TrimSpace(line)
		var r struct {
			Type   string
			Config struct{ Audit AuditFacts }
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Type == "run" {
			a.Facts = r.Config.Audit
		}
		if err := a.Add(r.Type, []byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// writeAudit writes an audit in a format.
func writeAudit(t testing.TB, a *Audit, name string, o Options) string {
	t.Helper()
	f, err := AuditFormat(name, a)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	e, err := f.New(&b, Header{}, o)
	if err == nil {
		err = e.Close(Totals{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestAuditsHaveTheirGoldenFiles writes the audits of testdata/audit-*.jsonl in every format.
func TestAuditsHaveTheirGoldenFiles(t *testing.T) {
	journals, err := filepath.Glob("testdata/audit-*.jsonl")
	if err != nil || len(journals) < 3 {
		t.Fatalf("%d journals, %v", len(journals), err)
	}
	for _, journal := range journals {
		text, err := os.ReadFile(journal)
		if err != nil {
			t.Fatal(err)
		}
		a := auditOf(t, string(text))
		for _, name := range []string{"table", "md", "csv", "json"} {
			path := strings.TrimSuffix(journal, "jsonl") + name
			got := writeAudit(t, a, name, Options{Width: 81})
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("output differs from %s (-update writes it anew):\n%s", path, firstDifference(got, string(want)))
			}
		}
		for line := range strings.Lines(writeAudit(t, a, "table", Options{Width: 81})) {
			if n := columns.StringWidth(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%s: a line of %d columns: %s", journal, n, line)
			}
		}
		if got := writeAudit(t, a, "jsonl", Options{}); got != string(text) {
			t.Errorf("%s: jsonl is not the journal's records", journal)
		}
		rows, err := csv.NewReader(strings.NewReader(writeAudit(t, a, "csv", Options{}))).ReadAll()
		if err != nil || len(rows) != 1+len(a.Verdicts) {
			t.Errorf("%s: %d rows of CSV, %v", journal, len(rows), err)
		}
	}
}

// TestAuditIsClean: whatever a journal has, a terminal is not harmed.
func TestAuditIsClean(t *testing.T) {
	const evil = "\x1b]0;owned\x07\u202e\n<script>=1+1"
	v := egress.Verdict{Family: 4, Port: 25, Word: egress.Blocked, How: egress.Rejected, Vantage: evil, Source: evil, ICMPFrom: evil, ICMP: evil, TLS: evil,
		Evidence: []string{evil}, Findings: []egress.Finding{{Code: evil, Evidence: []string{evil}}}, RuledOut: []egress.RuledOut{{Cause: "x", Evidence: evil}},
		Where: &egress.Where{After: 1, AfterAddr: evil, By: 2, ByAddr: evil, ByName: evil, Destination: evil}}
	h := egress.Hop{Vantage: evil, Family: 4, Destination: evil, N: 1, Address: evil, Name: evil, Words: evil, Cells: []egress.HopCell{{Port: 25, Said: evil}}}
	record := func(typ string, x any) []byte {
		text, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte(`{"type":"`+typ+`",`), text[1:]...)
	}
	a := &Audit{}
	for typ, x := range map[string]any{"verdict": &v, "path": &h} {
		if err := a.Add(typ, record(typ, x)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"table", "md", "csv", "json"} {
		if got := writeAudit(t, a, name, Options{Width: 81}); strings.ContainsAny(got, "\x1b\x07\u202e") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestHeadlines: the first sentence says what matters, for every word and cause.
func TestHeadlines(t *testing.T) {
	for _, test := range []struct {
		v    egress.Verdict
		want string
	}{
		{egress.Verdict{Word: egress.Blocked, How: egress.Dropped}, "BLOCKED: Port 25 out of this network is silently dropped."},
		{egress.Verdict{Word: egress.Blocked, How: egress.Dropped, Where: &egress.Where{After: 2, By: 3, ByAddr: "192.0.2.3", Owner: egress.OwnProvider}},
			"BLOCKED: Port 25 out of this network is silently dropped inside your provider's network, after hop 2 and no later than hop 3 (192.0.2.3)."},
		{egress.Verdict{Word: egress.Blocked, How: egress.Dropped, Where: &egress.Where{After: 2, AfterAddr: "192.0.2.2"}}, "dropped on the way after hop 2 (192.0.2.2)."},
		{egress.Verdict{Word: egress.Blocked, How: egress.Dropped, Where: &egress.Where{By: 1, ByAddr: "192.168.1.1", Owner: egress.OwnRouter}}, "dropped by your router, at hop 1 (192.168.1.1)."},
		{egress.Verdict{Word: egress.Blocked, How: egress.Dropped, Where: &egress.Where{After: 1, By: 2, ByAddr: "100.64.0.1", Owner: "your router or your provider"}},
			"dropped by your router or by your provider, after hop 1 and no later than hop 2 (100.64.0.1)."},
		{egress.Verdict{Word: egress.Blocked, How: egress.Rejected, ICMP: "3/13", ICMPFrom: "192.0.2.1", Where: &egress.Where{After: 1, By: 1, ByAddr: "192.0.2.1"}},
			"is rejected (ICMP 3/13 from 192.0.2.1) on the way, at hop 1 (192.0.2.1)."},
		{egress.Verdict{Word: egress.Blocked, How: egress.Reset}, "is refused: somebody there sends TCP resets"},
		{egress.Verdict{Word: egress.Blocked, How: egress.Cut}, "is cut off as soon as a connection is made."},
		{egress.Verdict{Word: egress.Downgraded, Findings: []egress.Finding{{Code: egress.StartTLSMasked}}}, "DOWNGRADED: Port 25 out of this network is stripped of encryption"},
		{egress.Verdict{Word: egress.Intercepted, Findings: []egress.Finding{{Code: egress.AnswersForAll}, {Code: egress.StartTLSRemoved}}}, "INTERCEPTED: Port 25 out of this network is answered by something near"},
		{egress.Verdict{Word: egress.Inconclusive, Cause: egress.CauseFirewall}, "INCONCLUSIVE: Port 25: this machine's own firewall stops it"},
		{egress.Verdict{Word: egress.Allowed}, "ALLOWED: Port 25 works, unaltered as far as can be seen."},
		{egress.Verdict{Word: egress.NotTested, Cause: egress.CauseNoIPv4}, "NOT TESTED: Nothing could be tested: this machine has no IPv4."},
	} {
		test.v.Family, test.v.Port = 4, 25
		if got := Headline(&Audit{Verdicts: []egress.Verdict{test.v}}); !strings.Contains(got, test.want) {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
	for _, c := range egress.Causes() {
		v := egress.Verdict{Family: 4, Port: 25, Word: egress.Inconclusive, Cause: c}
		s := newStory(&Audit{Verdicts: []egress.Verdict{v}}, "")
		if got := s.do(); len(got) == 0 {
			t.Errorf("%s: nothing to do", c)
		}
	}
	for _, code := range egress.Findings() {
		v := egress.Verdict{Family: 4, Port: 25, Word: egress.Intercepted, Findings: []egress.Finding{{Code: code}}}
		if strings.HasPrefix(code, "egress-") || code == egress.GreetingRefused || code == egress.TooNear {
			continue // these are of other words
		}
		if got := tamperWords(&v, "is"); got == "is changed on the way." {
			t.Errorf("%s has no words", code)
		}
		if tamperShort[code] == "" {
			t.Errorf("%s has no short words", code)
		}
	}
}

// TestHowToIsSaid: with --how-to the screen ends with settings for the port that works.
func TestHowToIsSaid(t *testing.T) {
	for port, want := range map[uint16]string{587: "relayhost = [smtp.YOURPROVIDER]:587\n", 465: "smtp_tls_wrappermode = yes\n"} {
		a := &Audit{Facts: AuditFacts{HowTo: true}, Verdicts: []egress.Verdict{
			{Family: 4, Port: 25, Word: egress.Blocked, How: egress.Dropped}, {Family: 4, Port: port, Word: egress.Allowed, TLS: "1.3"},
		}}
		got := writeAudit(t, a, "table", Options{Width: 81})
		for _, w := range []string{want, "HOW TO   Postfix: ", "HOW TO   Exim: ", "HOW TO   Exchange: ", "verify: "} {
			if !strings.Contains(got, w) {
				t.Errorf("%d: no %q in\n%s", port, w, got)
			}
		}
	}
}

func FuzzAuditAdd(f *testing.F) {
	journals, _ := filepath.Glob("testdata/audit-*.jsonl")
	for _, journal := range journals {
		text, err := os.ReadFile(journal)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		a := &Audit{}
		for _, typ := range []string{"verdict", "path"} {
			if a.Add(typ, []byte(line)) != nil {
				continue
			}
		}
		for _, name := range []string{"table", "md", "csv"} {
			got := writeAudit(t, a, name, Options{Width: 81})
			if strings.ContainsAny(got, "\x1b\x07\x00") {
				t.Errorf("%q", got)
			}
		}
	})
}
