package report

import (
	"strings"
	"testing"
)

// rowOf makes a row of some cells.
func rowOf(cells map[Column]string) (r Row) {
	for col, text := range cells {
		r.Cells[col] = text
	}
	return r
}

const longName = "a-mail-server-with-a-name-of-its-own.some-department.some-large-company.example.org"

// ours are rows whose words are all ours, or names, and what they must show.
func ours() (rows []Row, words []string) {
	rows = []Row{
		rowOf(map[Column]string{ColAddress: "198.51.100.12", ColHost: "mx3.corp.example", ColPort: "25", ColState: "filtered", ColReason: "admin-prohibited", ColICMP: "3/13", ColICMPFrom: "10.20.9.1"}),
		rowOf(map[Column]string{ColAddress: "198.51.100.12", ColHost: "mx3.corp.example", ColPort: "465", ColState: "closed", ColReason: "conn-refused"}),
		rowOf(map[Column]string{ColAddress: "2001:db8:1111:2222:3333:4444:5555:6666", ColHost: longName, ColPort: "25", ColState: "filtered", ColReason: "admin-prohibited", ColICMP: "1/1", ColICMPFrom: "2001:db8:ffff:eeee:dddd:cccc:bbbb:aaaa"}),
		rowOf(map[Column]string{ColAddress: "2001:db8:1111:2222:3333:4444:5555:6667", ColPort: "25", ColState: "open", ColReason: "syn-ack", ColService: "wrong-mode", ColSoftware: "Microsoft Exchange 15.2.1118.25", ColStartTLS: "offered", ColTLSVersion: "1.2", ColCertTrust: "expired", ColCertNotAfter: "2026-08-27T00:00:00Z"}),
		rowOf(map[Column]string{ColAddress: "192.0.2.19", ColPort: "25", ColState: "open", ColReason: "syn-ack", ColService: "smtp", ColSoftware: "Exim 4.96", ColBanner: "220 old.example.org", ColStartTLS: "offered", ColTLSVersion: "1.2", ColCertTrust: "expired", ColCertNotAfter: "2026-08-27T00:00:00Z", ColFinding: "cert-expired;banner-masked;ehlo-refused;command-masked;auth-without-tls;greeting-pause"}),
		rowOf(map[Column]string{ColAddress: "192.0.2.20", ColPort: "25", ColState: "open", ColReason: "syn-ack", ColService: "smtp", ColSoftware: "Postfix", ColStartTLS: "offered", ColTLSVersion: "1.3", ColCertTrust: "trusted", ColHost: "mx2.example.org", ColCertNameOK: "false", ColCertNames: longName + ";b.example"}),
		rowOf(map[Column]string{ColAddress: "10.20.30.10", ColHost: "inside.privmx.example", ColTarget: "mx:privmx.example", ColPort: "25", ColState: "unknown", ColReason: "reserved", ColError: "inside.privmx.example leads to 10.20.30.10: private use (RFC 1918), with --allow-private it is probed"}),
		rowOf(map[Column]string{ColTarget: "mx:" + longName, ColHost: longName, ColState: "unknown", ColReason: "no-mail", ColError: "null MX: the domain accepts no mail (RFC 7505)"}),
	}
	return rows, []string{
		"ICMP 3/13 from 10.20.9.1", "mx3.corp.example", "admin-prohibited", "ICMP 1/1 from 2001:db8:ffff:eeee:dddd:cccc:bbbb:aaaa",
		longName, "Microsoft Exchange 15.2.1118.25, wrong-mode", "EXPIRED since 2026-08-27", "commands masked on the way", "greets after a pause",
		"certificate is for " + longName + ", b.example", "private use (RFC 1918), with --allow-private it is probed", "reserved", "mx:" + longName, "no-mail",
		"the domain accepts no mail (RFC 7505)",
	}
}

func TestNothingThatWeSayIsCut(t *testing.T) {
	rows, words := ours()
	for _, width := range []int{0, 40, 80, 100, 110, 120, 132, 200} {
		lines := table(t, rows, Options{Width: width})
		out := strings.Join(lines, "\n")
		if strings.Contains(out, "…") {
			t.Errorf("%d columns: something is cut:\n%s", width, out)
		}
		flowing := strings.Join(strings.Fields(out), "") // a note may go on in the next line
		for _, s := range words {
			if !strings.Contains(flowing, strings.ReplaceAll(s, " ", "")) {
				t.Errorf("%d columns: %q is missing:\n%s", width, s, out)
			}
		}
		for _, l := range lines {
			if w := columns.StringWidth(l); width >= 80 && w > width && !strings.HasPrefix(l, "mx:a-mail") { // it can be copied
				t.Errorf("%d columns of %d: %s", w, width, l)
			}
		}
		if width == 0 && len(lines) != 1+len(rows) {
			t.Errorf("a row in a pipe is more than a line:\n%s", out)
		}
	}
	if out := string(renderRows(t, "md", Options{}, rows, Totals{})); strings.Contains(out, "…") {
		t.Errorf("Markdown: something is cut:\n%s", out)
	}
}

func TestNotesStandBesideTheirRowWhereTheyFit(t *testing.T) {
	rows, _ := ours()
	rows = append(rows[4:6:6], rows[0])
	rows[0].Cells[ColFinding], rows[1].Cells[ColCertNames] = "cert-expired", "mail.example.org"
	for width, want := range map[int]string{
		200: `
ADDRESS        PORT  STATE     REASON            ANSWERS    ENCRYPTION                              NOTE
192.0.2.19       25  open      syn-ack           Exim 4.96  STARTTLS 1.2, EXPIRED since 2026-08-27  old.example.org
192.0.2.20       25  open      syn-ack           Postfix    STARTTLS 1.3, trusted, other name       mx2.example.org; certificate is for mail.example.org
198.51.100.12    25  filtered  admin-prohibited                                                     mx3.corp.example; ICMP 3/13 from 10.20.9.1
`,
		130: `
ADDRESS        PORT  STATE     REASON            ANSWERS    ENCRYPTION                              NOTE
192.0.2.19       25  open      syn-ack           Exim 4.96  STARTTLS 1.2, EXPIRED since 2026-08-27  old.example.org
192.0.2.20       25  open      syn-ack           Postfix    STARTTLS 1.3, trusted, other name
      mx2.example.org; certificate is for mail.example.org
198.51.100.12    25  filtered  admin-prohibited
      mx3.corp.example; ICMP 3/13 from 10.20.9.1
`,
		110: `
ADDRESS        PORT  STATE     REASON            ANSWERS    ENCRYPTION  NOTE
192.0.2.19       25  open      syn-ack           Exim 4.96  STARTTLS 1.2, EXPIRED since 2026-08-27
      old.example.org
192.0.2.20       25  open      syn-ack           Postfix    STARTTLS 1.3, trusted, other name
      mx2.example.org; certificate is for mail.example.org
198.51.100.12    25  filtered  admin-prohibited
      mx3.corp.example; ICMP 3/13 from 10.20.9.1
`,
		72: `
ADDRESS        PORT  STATE     ANSWERS    ENCRYPTION
192.0.2.19       25  open      Exim 4.96  STARTTLS 1.2,
      EXPIRED since 2026-08-27; old.example.org
192.0.2.20       25  open      Postfix    STARTTLS 1.3,
      trusted, other name; mx2.example.org; certificate is for
      mail.example.org
198.51.100.12    25  filtered
      admin-prohibited; mx3.corp.example; ICMP 3/13 from 10.20.9.1
`,
	} {
		got := strings.Join(table(t, rows, Options{Width: width}), "\n")
		if got != strings.Trim(want, "\n") {
			t.Errorf("%d columns: got\n%s\nwant%s", width, got, want)
		}
	}
}

func TestWordsOfStrangersAreCut(t *testing.T) {
	rows := []Row{
		rowOf(map[Column]string{ColAddress: "192.0.2.1", ColPort: "25", ColState: "open", ColService: "refusing", ColBanner: "554 " + strings.Repeat("go away ", 100), ColCode: "554"}),
		rowOf(map[Column]string{ColAddress: "192.0.2.2", ColPort: "25", ColState: "open", ColService: "smtp", ColSoftware: strings.Repeat("x", 100), ColError: `the server said "` + strings.Repeat("y", 1000)}),
		rowOf(map[Column]string{ColAddress: "192.0.2.3", ColPort: "25", ColState: "open", ColService: "smtp", ColError: strings.Repeat("z", 4000), ColCertNameOK: "false", ColCertNames: strings.Repeat("n", 900)}),
	}
	for _, width := range []int{0, 80} {
		if got, want := strings.Count(strings.Join(table(t, rows, Options{Width: width}), "\n"), "…"), 5; got != want {
			t.Errorf("%d columns: %d texts of strangers are cut, want %d", width, got, want)
		}
	}
}

func TestWrapBreaksAtSpacesAndOtherwiseAnywhere(t *testing.T) {
	for _, tt := range []struct {
		in    string
		width int
		want  string
	}{
		{"", 10, ""}, {"one two three", 7, "one two|three"}, {"one two three", 100, "one two three"}, {"abcdefghij k", 4, "abcd|efgh|ij k"},
		{"日本語 x", 4, "日本|語 x"}, {"日", 1, "日"}, {"a b", -5, "a|b"},
	} {
		if got := strings.Join(wrap(tt.in, tt.width), "|"); got != tt.want {
			t.Errorf("%q in %d columns: got %q, want %q", tt.in, tt.width, got, tt.want)
		}
	}
}

func TestWhyNothingWasProbedIsSaidOnceAHost(t *testing.T) {
	var rows []Row
	for _, port := range []string{"25", "465"} {
		for range 1 {
			r, _ := ours()
			r[6].Cells[ColPort] = port
			rows = append(rows, r[6])
		}
	}
	want := []string{
		"ADDRESS      PORT  STATE    REASON    ANSWERS  ENCRYPTION  NOTE",
		"10.20.30.10    25  unknown  reserved                       inside.privmx.example; private use (RFC 1918), with --allow-private it is probed",
		"              465  unknown  reserved",
	}
	if got := table(t, rows, Options{}); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What was asked of DNS was the domain, and not a host of that name.
func TestADomainWithoutMailServersIsNoHost(t *testing.T) {
	rows := []Row{
		rowOf(map[Column]string{ColTarget: "mx:Null.example.", ColHost: "null.example", ColState: "unknown", ColReason: "no-mail"}),
		rowOf(map[Column]string{ColTarget: "mx:nul.example:587", ColHost: "nul.example", ColState: "unknown", ColReason: "dns-nxdomain"}),
		rowOf(map[Column]string{ColTarget: "mx:gone.example", ColHost: "mail.gone.example", ColState: "unknown", ColReason: "dns-nxdomain", ColError: "the name does not exist"}),
		rowOf(map[Column]string{ColTarget: "plain.example.org", ColHost: "plain.example.org", ColState: "unknown", ColReason: "dns-nxdomain", ColError: "the name does not exist"}),
	}
	want := []string{
		"ADDRESS             PORT  STATE    REASON        ANSWERS  ENCRYPTION  NOTE",
		"mx:Null.example.          unknown  no-mail",
		"mx:nul.example:587        unknown  dns-nxdomain",
		"mail.gone.example         unknown  dns-nxdomain                       MX of gone.example; the name does not exist",
		"plain.example.org         unknown  dns-nxdomain                       the name does not exist",
	}
	if got := table(t, rows, Options{}); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for format, want := range map[string][]string{
		"md":  {"| mx:Null.example. | ", "| mail.gone.example | ", "| MX of gone.example; the name does not exist |"},
		"xml": {`specification="mx:Null.example."`, `specification="mx:nul.example:587"`, `specification="mail.gone.example"`, `specification="plain.example.org"`},
	} {
		if out := string(renderRows(t, format, Options{}, rows, Totals{})); !containsAll(out, want) {
			t.Errorf("%s: of %q something is missing:\n%s", format, want, out)
		}
	}
	for _, l := range table(t, rows, Options{Show: ShowOpen}) {
		if strings.Contains(l, "no-mail") && !strings.HasSuffix(l, ": mx:Null.example.") {
			t.Errorf("got %q", l)
		}
	}
}

func TestAReportOfAPartSaysSo(t *testing.T) {
	rows, totals := fixtureRows()
	totals.Complete, totals.Planned = false, 768
	for format, want := range map[string]string{
		"table": "\nThe run is not complete: 19 of 768 endpoints have a row.\n",
		"md":    "\nThe run is not complete: 19 of 768 endpoints have a row.\n",
		"xml":   `errormsg="The run is not complete: 19 of 768 endpoints have a row."`,
	} {
		if out := string(renderRows(t, format, Options{}, rows, totals)); !strings.Contains(out, want) {
			t.Errorf("%s: %q is missing:\n%s", format, want, out)
		}
		if out := string(render(t, format, Options{})); strings.Contains(out, "not complete") {
			t.Errorf("%s: a complete run is called incomplete", format)
		}
	}
	totals.Planned = 0
	if got, want := totals.incomplete(), "The run is not complete."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
