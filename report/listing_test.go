package report

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// sweep makes rows of some addresses and ports; states says state and reason of each.
func sweep(first string, hosts int, ports []string, states func(host int, port string) (state, reason, icmpFrom string)) []Row {
	var rows []Row
	addr := netip.MustParseAddr(first)
	for i := range hosts {
		for _, p := range ports {
			var row Row
			row.Cells[ColAddress], row.Cells[ColPort] = addr.String(), p
			row.Cells[ColState], row.Cells[ColReason], row.Cells[ColICMPFrom] = states(i, p)
			if row.Cells[ColICMPFrom] != "" {
				row.Cells[ColICMP] = "3/13"
			}
			rows = append(rows, row)
		}
		addr = addr.Next()
	}
	return rows
}

// table renders rows as a table, and returns its lines.
func table(t *testing.T, rows []Row, o Options) []string {
	t.Helper()
	return strings.Split(strings.TrimSuffix(string(renderRows(t, "table", o, rows, Totals{Complete: true})), "\n"), "\n")
}

func silent(int, string) (string, string, string) { return "filtered", "no-response", "" }

func TestAutoListsEveryRowOfFewEndpointsAndFoldsSilentHosts(t *testing.T) {
	rows := sweep("192.0.2.16", 16, []string{"25", "465", "587"}, func(h int, p string) (string, string, string) {
		if h == 2 || h == 3 && p == "25" {
			return "open", "syn-ack", ""
		}
		if h == 3 {
			return "filtered", "admin-prohibited", "192.0.2.1"
		}
		return silent(h, p)
	})
	got := table(t, rows, Options{})
	if len(got) != 1+6+1 {
		t.Fatalf("got\n%s", strings.Join(got, "\n"))
	}
	if want := "14 addresses silent on all ports: 192.0.2.16-17,20-31 (no host, or dropped: not decidable from here)"; got[7] != want {
		t.Errorf("got %q, want %q", got[7], want)
	}
}

func TestAutoListsOneHostWhole(t *testing.T) {
	var ports []string
	for p := range 100 {
		ports = append(ports, fmt.Sprint(p+1))
	}
	if got := table(t, sweep("192.0.2.16", 1, ports, silent), Options{}); len(got) != 101 {
		t.Errorf("%d lines", len(got))
	}
}

func TestAutoListsOpenRowsOfManyEndpointsAndCountsTheRest(t *testing.T) {
	rows := sweep("10.0.0.0", 1024, []string{"25", "587"}, func(h int, p string) (string, string, string) {
		switch {
		case h == 7 && p == "25":
			return "open", "syn-ack", ""
		case p == "25":
			return "filtered", "admin-prohibited", "10.20.30.1"
		case h < 7:
			return "closed", "conn-refused", ""
		}
		return "filtered", "no-response", ""
	})
	want := []string{
		"ADDRESS   PORT  STATE  REASON   ANSWERS  ENCRYPTION  NOTE",
		"10.0.0.7    25  open   syn-ack",
		"1,023 endpoints filtered admin-prohibited on 25, ICMP 3/13 from 10.20.30.1: 10.0.0.0-6,8-10.0.3.255",
		"1,017 endpoints filtered no-response on 587: 10.0.0.7-10.0.3.255",
		"7 endpoints closed conn-refused on 587: 10.0.0.0-6",
	}
	if got := table(t, rows, Options{}); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestShowListsTheStatesAskedFor(t *testing.T) {
	rows := sweep("192.0.2.16", 3, []string{"25", "465", "587"}, func(_ int, p string) (string, string, string) {
		return map[string]string{"25": "open", "465": "closed", "587": "filtered"}[p], "no-response", ""
	})
	for show, want := range map[string]int{"all": 1 + 9, "open": 1 + 3 + 2, "closed,filtered": 1 + 6 + 1, "unknown": 3} {
		s, err := ParseShow(show)
		if err != nil {
			t.Fatal(err)
		}
		if got := table(t, rows, Options{Show: s}); len(got) != want {
			t.Errorf("--show %s: %d lines, want %d:\n%s", show, len(got), want, strings.Join(got, "\n"))
		}
	}
	for _, bad := range []string{"", "opened", "open,auto", "auto,open", "open,", "OPEN"} {
		if s, err := ParseShow(bad); err == nil {
			t.Errorf("ParseShow(%q) = %v", bad, s)
		}
	}
}

func TestFoldsStayBounded(t *testing.T) {
	l := listing{show: ShowOpen}
	addr := netip.MustParseAddr("2001:db8::")
	for i := range 20_000 {
		var row Row
		row.Cells[ColAddress], row.Cells[ColState], row.Cells[ColReason] = addr.String(), "filtered", "admin-prohibited"
		row.Cells[ColICMPFrom] = fmt.Sprintf("198.51.%d.%d", i/256%256, i%256)
		if i%2 == 0 {
			row.Cells[ColICMPFrom] = "192.0.2.1"
		}
		if err := l.add(&row); err != nil {
			t.Fatal(err)
		}
		addr = addr.Next()
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	var sum uint64
	for _, f := range l.folds {
		sum += f.endpoints
		if len(f.typed) > maxRuns {
			t.Errorf("%d ranges", len(f.typed))
		}
	}
	if len(l.folds) > maxFolds+8 || sum != 20_000 {
		t.Errorf("%d folds of %d rows", len(l.folds), sum)
	}
	if lines := l.foldLines(); !strings.Contains(lines[0], "10,000 endpoints filtered") || !strings.HasSuffix(lines[0], " and 9,976 more (--show all lists them)") {
		t.Errorf("got %q", lines[0])
	}
}

func TestTableFitsTheTerminal(t *testing.T) {
	for _, width := range []int{80, 100, 132, 200} {
		out := string(render(t, "table", Options{Width: width, Show: ShowAll}))
		if want := []string{"EXPIRED s", "admin-prohibited", "no-neighbor", "ICMP 3/13 from 192.0.2"}; !containsAll(out, want) {
			t.Errorf("of %q something is missing at %d columns:\n%s", want, width, out)
		}
		for l := range strings.SplitSeq(out, "\n") {
			if w := columns.StringWidth(l); w > width {
				t.Errorf("%d columns of %d: %s", w, width, l)
			}
			if strings.TrimRight(l, " ") != l {
				t.Errorf("line ends in a space: %q", l)
			}
		}
	}
}

// containsAll reports whether s has every one of some texts.
func containsAll(s string, texts []string) bool {
	for _, x := range texts {
		if !strings.Contains(s, x) {
			return false
		}
	}
	return true
}

func TestColourIsOnlyAddedToStates(t *testing.T) {
	colored := string(render(t, "table", Options{Color: true}))
	if !strings.Contains(colored, "\x1b[32mopen\x1b[0m") {
		t.Errorf("no green open in %q", colored[:300])
	}
	plain := colored
	for _, sgr := range []string{"\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[35m"} {
		plain = strings.ReplaceAll(plain, sgr, "")
	}
	if want := string(render(t, "table", Options{})); plain != want {
		t.Error(firstDifference(plain, want))
	}
	if begun, ended := strings.Count(colored, "\x1b[3"), strings.Count(colored, "\x1b[0m"); begun != ended {
		t.Errorf("%d colours begin and %d end", begun, ended)
	}
}

func TestColourFindsTheStateBesideAnyPort(t *testing.T) {
	rows := sweep("192.0.2.16", 2, []string{"25", strings.Repeat("7", 200)}, func(int, string) (string, string, string) { return "open", "syn-ack", "" })
	for _, l := range table(t, rows, Options{Color: true})[1:] { // a journal of others may say any number
		if !strings.Contains(l, "  \x1b[32mopen\x1b[0m   syn-ack") {
			t.Errorf("got %q", l)
		}
	}
}

func TestLongTablesAreWrittenInBlocks(t *testing.T) {
	rows := sweep("10.0.0.0", 2500, []string{"25"}, func(int, string) (string, string, string) { return "open", "syn-ack", "" })
	got := table(t, rows, Options{})
	if want := 2500 + 3 + 2; len(got) != want {
		t.Errorf("%d lines, want %d", len(got), want)
	}
}

func TestAdviceNamesTheWorstFirst(t *testing.T) {
	rows, _ := fixtureRows()
	var a Advisor
	for i := range rows {
		a.Add(&rows[i])
		a.Add(&rows[i])
	}
	want := []string{
		"192.0.2.23:25 a device on the way overwrites STARTTLS (1 more): smtpsweep explain starttls-masked",
		"192.0.2.19:25 accepts passwords without TLS (1 more): smtpsweep explain auth-without-tls",
		"192.0.2.19:25 certificate expired 2026-08-14 (1 more): smtpsweep explain cert-expired",
		"192.0.2.19:25 certificate is for another name (1 more): smtpsweep explain cert-name-mismatch",
		"192.0.2.19:587 is stopped by 192.0.2.30 (ICMP 3/13) (1 more): smtpsweep explain admin-prohibited",
		"and 4 more kinds of trouble: refusing, mute, banner-masked, other (smtpsweep explain WORD)",
	}
	if got := a.Lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := new(Advisor).Lines(); len(got) != 0 {
		t.Errorf("advice about nothing: %q", got)
	}
}

func TestSummarySaysTotals(t *testing.T) {
	_, totals := fixtureRows()
	if got, want := Summary(totals), "9 open, 1 closed, 7 filtered, 1 not probed, 1 undecided = 19 of 19 in 49 s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if totals.Undecided != 1 { // NXDOMAIN is an answer
		t.Errorf("%d undecided", totals.Undecided)
	}
}

func TestSummaryCallsFinalAnswersNotProbed(t *testing.T) {
	var totals Totals
	for _, r := range [][2]string{{"open", "syn-ack"}, {"unknown", "no-mail"}, {"unknown", "dns-nxdomain"}, {"unknown", "excluded"}, {"unknown", "reserved"}} {
		var row Row
		row.Cells[ColState], row.Cells[ColReason] = r[0], r[1]
		totals.Count(&row)
	}
	totals.Planned = 4 // a name that led to more addresses than counted for it
	if got, want := Summary(totals), "1 open, 0 closed, 0 filtered, 4 not probed, 0 undecided = 5"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Summary(Totals{Open: 7, Closed: 2, Filtered: 3, Planned: 12}), "7 open, 2 closed, 3 filtered, 0 undecided = 12 of 12"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAdviceTellsWhoStopsFromWhoSeesNobody(t *testing.T) {
	var a Advisor
	add := func(address, reason, icmp, from string, times int) {
		for range times {
			var row Row
			c := &row.Cells
			c[ColAddress], c[ColPort], c[ColState], c[ColReason], c[ColICMP], c[ColICMPFrom] = address, "25", "filtered", reason, icmp, from
			a.Add(&row)
		}
	}
	add("192.0.2.10", "host-unreach", "3/1", "198.51.100.1", 117)
	add("192.0.2.11", "net-unreach", "3/0", "198.51.100.2", 1)
	for i := range 1000 { // senders that a stranger makes up
		add("192.0.2.12", "time-exceeded", "11/0", fmt.Sprintf("203.0.%d.%d", i/256, i%256), 1)
	}
	add("192.0.2.13", "admin-prohibited", "3/13", "198.51.100.1", 2)
	add("192.0.2.14", "admin-prohibited", "3/13", "198.51.100.3", 1)
	add("192.0.2.15", "port-unreach", "3/3", "198.51.100.1", 1)
	var old Row
	old.Cells[ColAddress], old.Cells[ColPort], old.Cells[ColFinding] = "192.0.2.16", "25", "tls-old"
	a.Add(&old)
	want := []string{
		"192.0.2.13:25 is stopped by 198.51.100.1 (ICMP 3/13) (1 more): smtpsweep explain admin-prohibited",
		"192.0.2.14:25 is stopped by 198.51.100.3 (ICMP 3/13): smtpsweep explain admin-prohibited",
		"192.0.2.15:25 is stopped by 198.51.100.1 (ICMP 3/3): smtpsweep explain port-unreach",
		"192.0.2.16:25 outdated TLS: smtpsweep explain tls-old",
		"192.0.2.10:25 no host or no way there, says 198.51.100.1 (ICMP 3/1) (116 more): smtpsweep explain host-unreach",
		"and 2 more kinds of trouble: net-unreach, time-exceeded (smtpsweep explain WORD)",
	}
	if got := a.Lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(a.hints); n > 3*maxSenders {
		t.Errorf("%d hints are kept", n)
	}
}

func TestFoldsSayEndpointsAndAddressesEachOnce(t *testing.T) {
	rows := sweep("192.0.2.0", 40, []string{"25", "465", "587"}, func(h int, p string) (string, string, string) {
		switch {
		case h == 0 && p == "25":
			return "open", "syn-ack", ""
		case h == 0:
			return "unknown", "interrupted", ""
		case h < 38:
			return "filtered", "host-unreach", "198.51.100.1"
		case h == 38 && p == "25":
			return "closed", "conn-refused", ""
		}
		return "unknown", "interrupted", ""
	})
	for _, again := range rows[3:6] { // the same address by a name, after all others
		again.Cells[ColHost] = "mx1.example.org"
		rows = append(rows, again)
	}
	want := []string{
		"ADDRESS    PORT  STATE  REASON   ANSWERS  ENCRYPTION  NOTE",
		"192.0.2.0    25  open   syn-ack",
		"114 endpoints filtered host-unreach (37 addresses), ICMP 3/13 from 198.51.100.1: 192.0.2.1-37, mx1.example.org (192.0.2.1)",
		"7 endpoints unknown interrupted (3 addresses): 192.0.2.0,38-39",
		"1 endpoint closed conn-refused on 25: 192.0.2.38",
	}
	if got := table(t, rows, Options{}); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEmptyColumnsGoBeforeTheReason(t *testing.T) {
	rows := sweep("2001:db8::ffff:0:1", 3, []string{"25", "587"}, func(_ int, p string) (string, string, string) {
		return "filtered", "admin-prohibited", "2001:db8::1"
	})
	got := table(t, rows, Options{Width: 80, Show: ShowAll})
	if want := "ADDRESS             PORT  STATE     REASON            NOTE"; got[0] != want {
		t.Errorf("got %q, want %q", got[0], want)
	}
	if len(got) != 1+len(rows) {
		t.Errorf("%d lines for %d rows", len(got), len(rows))
	}
	rows[3].Cells[ColService], rows[3].Cells[ColSoftware] = "smtp", "Microsoft Exchange"
	got = table(t, rows, Options{Width: 100, Show: ShowAll})
	if want := "ADDRESS             PORT  STATE     REASON            ANSWERS             NOTE"; got[0] != want {
		t.Errorf("got %q, want %q", got[0], want)
	}
	for _, width := range []int{80, 100} {
		for _, l := range table(t, rows, Options{Width: width, Show: ShowAll}) {
			if w := columns.StringWidth(l); w > width {
				t.Errorf("%d columns of %d: %s", w, width, l)
			}
		}
	}
}

func TestWordsOfOursAreNotCutOnAnOrdinaryTerminal(t *testing.T) {
	rows, totals := fixtureRows()
	const words = "the peer closed the connection before a greeting"
	for i := range rows {
		if c := &rows[i].Cells; c[ColAddress] == "192.0.2.22" {
			c[ColService], c[ColError] = "closing", words
		}
	}
	for _, width := range []int{80, 100, 120, 132, 150} {
		out := string(renderRows(t, "table", Options{Width: width}, rows, totals))
		if !strings.Contains(out, words) {
			t.Errorf("%d columns: %q is cut:\n%s", width, words, out)
		}
	}
}

func TestANameThatIsSilentIsListed(t *testing.T) {
	rows := sweep("192.0.2.16", 3, []string{"25", "587"}, silent)
	for i := 2; i < 4; i++ {
		rows[i].Cells[ColHost], rows[i].Cells[ColTarget] = "mx2.example.org", "mx:example.org"
	}
	want := []string{
		"ADDRESS     PORT  STATE     REASON       ANSWERS  ENCRYPTION  NOTE",
		"192.0.2.17    25  filtered  no-response                       mx2.example.org",
		"             587  filtered  no-response",
		"2 addresses silent on all ports: 192.0.2.16,18 (no host, or dropped: not decidable from here)",
	}
	if got := table(t, rows, Options{}); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestNotesSayNothingTwice(t *testing.T) {
	var row Row
	c := &row.Cells
	c[ColService], c[ColFinding], c[ColError] = "smtp", "tls-stalled", "STARTTLS: the TLS handshake stalled"
	if got, want := note(&row), "TLS handshake stalled"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c[ColError] = "STARTTLS: the peer closed the connection during the TLS handshake"
	if got, want := note(&row), "TLS handshake stalled; "+c[ColError]; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c[ColFinding], c[ColError], c[ColTLSVersion] = "tls-old", "", "1.0"
	if got, want := note(&row), "outdated TLS 1.0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNotesSayWhatOtherColumnsDoNot(t *testing.T) {
	for want, cells := range map[string]map[Column]string{
		"the greeting never ends: more than 64 KiB or 512 lines came": {ColService: "tarpit", ColFinding: "banner-too-long", ColError: "the greeting never ends: more than 64 KiB or 512 lines came"},
		"greeting without end":                  {ColService: "tarpit", ColFinding: "banner-too-long"},
		"the answer to EHLO contradicts itself": {ColService: "smtp", ColFinding: "reply-malformed", ColError: "the answer to EHLO contradicts itself"},
		"wants a client certificate":            {ColService: "smtp", ColFinding: "client-cert-required", ColError: `the peer ended TLS with the alert "certificate required"`},
		`wants a client certificate; the peer ended TLS with the alert "handshake failure"`: {ColService: "smtp", ColFinding: "client-cert-required", ColError: `the peer ended TLS with the alert "handshake failure"`},
		"TLS handshake stalled":          {ColService: "smtp", ColStartTLS: "offered", ColFinding: "tls-stalled", ColError: "STARTTLS: the TLS handshake stalled"},
		"the peer did not answer in TLS": {ColService: "smtp", ColStartTLS: "offered", ColFinding: "tls-failed", ColError: "STARTTLS: the peer did not answer in TLS"},
		"greeting masked on the way; EHLO refused; commands masked on the way": {ColService: "smtp", ColFinding: "banner-masked;ehlo-refused;command-masked"},
		"nobody answers ARP": {ColAddress: "192.0.2.7", ColState: "filtered", ColReason: "no-neighbor", ColICMP: "3/1", ColICMPFrom: "192.0.2.1"},
		"nobody answers ND":  {ColAddress: "2001:db8::7", ColState: "filtered", ColReason: "no-neighbor", ColICMP: "1/3", ColICMPFrom: "2001:db8::1"},
		"private use (RFC 1918), with --allow-private it is probed": {ColHost: "a.example", ColAddress: "10.0.0.7", ColReason: "reserved", ColError: "a.example leads to 10.0.0.7: private use (RFC 1918), with --allow-private it is probed"},
		"": {ColHost: "a.example", ColAddress: "10.0.0.7", ColReason: "excluded", ColError: "a.example leads to 10.0.0.7, which is excluded"},
	} {
		row := rowOf(cells)
		if got := note(&row); got != want {
			t.Errorf("%v: got %q, want %q", cells, got, want)
		}
	}
}

func TestAdviceRanksByWhatMatters(t *testing.T) {
	var a Advisor
	for _, code := range []string{"tls-old", "starttls-inside-tls", "cert-expired", "auth-without-tls", "starttls-masked", "tls-failed", "no-such-code"} {
		row := rowOf(map[Column]string{ColAddress: "192.0.2.1", ColPort: "25", ColState: "open", ColService: "smtp", ColFinding: code})
		a.Add(&row)
	}
	for _, service := range []string{"tarpit", "mute", "other", "closing", "refusing"} {
		row := rowOf(map[Column]string{ColAddress: "192.0.2.2", ColPort: "25", ColState: "open", ColService: service, ColCode: "554"})
		a.Add(&row)
	}
	for i := range 5 {
		row := rowOf(map[Column]string{ColAddress: "192.0.2.3", ColHost: "mx1.example.org", ColPort: "25", ColState: "filtered", ColReason: "admin-prohibited", ColICMP: "3/13", ColICMPFrom: fmt.Sprintf("198.51.100.%d", i)})
		a.Add(&row)
	}
	want := []string{
		"192.0.2.1:25 a device on the way overwrites STARTTLS: smtpsweep explain starttls-masked",
		"192.0.2.1:25 accepts passwords without TLS: smtpsweep explain auth-without-tls",
		"192.0.2.1:25 certificate expired: smtpsweep explain cert-expired",
		"192.0.2.1:25 TLS fails: smtpsweep explain tls-failed",
		"192.0.2.3:25 (mx1.example.org) is stopped by 198.51.100.0 (ICMP 3/13): smtpsweep explain admin-prohibited",
		"and 8 more kinds of trouble: admin-prohibited from 4 other senders, refusing, mute,",
		"closing, other, tls-old, starttls-inside-tls, tarpit (smtpsweep explain WORD)",
	}
	if got := a.Lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFormatsAreFoundByNameAndEnding(t *testing.T) {
	for path, want := range map[string]string{"x.csv": "csv", "a.b/X.JSONL": "jsonl", "x.json": "json", "x.xml": "xml", "x.md": "md", "x.txt": "table", "x.targets": "targets"} {
		f, err := ByEnding(path)
		if err != nil || f.Name != want {
			t.Errorf("ByEnding(%s) = %s, %v", path, f.Name, err)
		}
	}
	if _, err := ByEnding("mail.docx"); err == nil || !strings.Contains(err.Error(), ".csv") {
		t.Errorf("error %v does not list the endings", err)
	}
	if _, err := Lookup("docx"); err == nil || !strings.Contains(err.Error(), "csv") {
		t.Errorf("error %v does not list the formats", err)
	}
}

func TestNotesSayWhatAPersonMustKnow(t *testing.T) {
	for in, want := range map[string]string{
		"554 5.7.1 Client host rejected": "Client host rejected", "554-Go away | 554 now": "Go away", "421 ": "421 ", "554 5.7 x": "5.7 x", "no code": "no code",
	} {
		if got := replyText(in); got != want {
			t.Errorf("replyText(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"36700160": "35 MB = 25 MB of files", "10240000": "9.7 MB = 7.1 MB of files", "": "", "0": "", "1000": "1,000 bytes = 730 bytes of files"} {
		if got := sizeWords(in); got != want {
			t.Errorf("sizeWords(%q) = %q, want %q", in, got, want)
		}
	}
}
