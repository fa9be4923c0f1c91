package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// What the names of the test lead to. Public addresses are such inside the lab only.
var (
	public4 = netip.MustParsePrefix("8.8.8.0/24")
	public6 = netip.MustParsePrefix("2606:4700::/64")
	marker4 = netip.MustParseAddr("8.8.8.250") // see nameHost.dialled
)

var namesZone = scannertest.DNSZone{
	"mail.example.org":     {"A 8.8.8.10", "A 8.8.8.11", "AAAA 2606:4700::10"},
	"alias.example.org":    {"CNAME mail.example.org"},
	"six.example.org":      {"AAAA 2606:4700::20"},
	"empty.example.org":    {},
	"dangling.example.org": {"CNAME gone.example.org"},
	"broken.example.org":   {"SERVFAIL"},
	"lost.example.org":     {"DROP"},
	"half.example.org":     {"A 8.8.8.13", "SERVFAIL AAAA"},
	"private.example.org":  {"A 10.64.1.1"},
	"loop.example.org":     {"A 127.0.0.1", "AAAA ::1"},
	"mixed.example.org":    {"A 8.8.8.12", "A 10.64.1.2", "A 127.0.0.2", "A 169.254.1.1", "A 192.0.2.1", "A 224.0.0.1"},
	"rebind.example.org":   {"A 8.8.8.20", "---", "A 127.0.0.1", "A 8.8.8.99"},

	"example.org":       {"MX 20 private.example.org", "MX 10 mail.example.org", "MX 10 mx2.example.org"},
	"mx2.example.org":   {"A 8.8.8.14"},
	"second.example":    {"MX 5 mx2.example.org"},
	"null.example":      {"MX 0 ."},
	"nomx.example":      {"A 8.8.8.15", "AAAA 2606:4700::15"},
	"nomx-four.example": {"A 8.8.8.16"},
	"nothing.example":   {},
	"aliasmx.example":   {"MX 10 alias.example.org"},
	"moved.example":     {"CNAME second.example"},
	"ipmx.example":      {"MX 10 8.8.8.17"},
	"gonemx.example":    {"MX 10 gone.example.org", "MX 20 mx2.example.org"},
	"brokenmx.example":  {"A 8.8.8.18", "SERVFAIL MX"},
	"loopmx.example":    {"MX 10 loop.example.org"},
}

// A nameCase is a sweep of port 25 of names.
type nameCase struct {
	what    string
	args    string   // after "smtpsweep scan"
	list    string   // content of -i
	code    int      // exit code
	rows    []string // "target host address state reason: error", "-" for what is empty
	says    []string // on stderr
	dialled []string // addresses that a connection came to, once a connection
}

var nameCases = []nameCase{
	{what: "several addresses of both families", args: "mail.example.org",
		rows: []string{
			"mail.example.org mail.example.org 8.8.8.10 open syn-ack",
			"mail.example.org mail.example.org 8.8.8.11 open syn-ack",
			"mail.example.org mail.example.org 2606:4700::10 open syn-ack",
		}, dialled: []string{"8.8.8.10", "8.8.8.11", "2606:4700::10"}},
	{what: "an IPv6-only host has no need of a notice", args: "six.example.org",
		rows: []string{"six.example.org six.example.org 2606:4700::20 open syn-ack"}, dialled: []string{"2606:4700::20"}},
	{what: "a failure of the other family", args: "half.example.org -4",
		rows: []string{"half.example.org half.example.org 8.8.8.13 open syn-ack"}, dialled: []string{"8.8.8.13"}},
	{what: "one family only", args: "mail.example.org six.example.org -4",
		rows: []string{
			"mail.example.org mail.example.org 8.8.8.10 open syn-ack",
			"mail.example.org mail.example.org 8.8.8.11 open syn-ack",
			"six.example.org six.example.org - unknown dns-no-address: six.example.org has only IPv6 addresses, and -4 was given",
		}, dialled: []string{"8.8.8.10", "8.8.8.11"}},
	{what: "a name, its alias and its address are rows of their own", args: "MAIL.Example.ORG. mail.example.org alias.example.org 8.8.8.10 -4",
		rows: []string{
			"MAIL.Example.ORG. mail.example.org 8.8.8.10 open syn-ack",
			"MAIL.Example.ORG. mail.example.org 8.8.8.11 open syn-ack",
			"alias.example.org alias.example.org 8.8.8.10 open syn-ack",
			"alias.example.org alias.example.org 8.8.8.11 open syn-ack",
			"8.8.8.10 - 8.8.8.10 open syn-ack",
		}, says: []string{"Contacts 5 endpoints on 2 addresses from"}, dialled: []string{"8.8.8.10", "8.8.8.10", "8.8.8.10", "8.8.8.11", "8.8.8.11"}},
	{what: "NXDOMAIN, no address and null MX are answers", args: "gone.example.org dangling.example.org empty.example.org mx:null.example mx:gone.example mx:nothing.example",
		rows: []string{
			"gone.example.org gone.example.org - unknown dns-nxdomain: the name does not exist",
			"dangling.example.org dangling.example.org - unknown dns-nxdomain: the name is an alias of gone.example.org, which does not exist",
			"empty.example.org empty.example.org - unknown dns-no-address: the name exists and has no address",
			"mx:null.example null.example - unknown no-mail: null MX: the domain accepts no mail (RFC 7505)",
			"mx:gone.example gone.example - unknown dns-nxdomain: the name does not exist",
			"mx:nothing.example nothing.example - unknown dns-no-address: no MX record; the domain itself (RFC 5321, 5.1): the name exists and has no address",
		}, says: []string{"Contacts nobody"}},
	{what: "a failure is not absence", args: "broken.example.org lost.example.org half.example.org mx:brokenmx.example mx2.example.org", code: exitUndecided,
		rows: []string{
			"broken.example.org broken.example.org - unknown dns-error: IPv4 addresses: DNS: SERVFAIL",
			"lost.example.org lost.example.org - unknown dns-error: IPv4 addresses: DNS: no answer",
			"half.example.org half.example.org 8.8.8.13 open syn-ack",
			"half.example.org half.example.org - unknown dns-error: IPv6 addresses: DNS: SERVFAIL",
			"mx:brokenmx.example brokenmx.example - unknown dns-error: DNS: SERVFAIL",
			"mx2.example.org mx2.example.org 8.8.8.14 open syn-ack",
		}, dialled: []string{"8.8.8.13", "8.8.8.14"}},
	{what: "a typed name to a private address", args: "private.example.org",
		rows:    []string{"private.example.org private.example.org 10.64.1.1 open syn-ack"},
		says:    []string{"Notice: private.example.org leads to the private address 10.64.1.1"},
		dialled: []string{"10.64.1.1"}},
	{what: "a name in a file to a private address", args: "-i LIST", list: "private.example.org\nmx2.example.org\n",
		rows: []string{
			"private.example.org private.example.org 10.64.1.1 unknown reserved: private.example.org leads to 10.64.1.1: private use (RFC 1918), with --allow-private it is probed",
			"mx2.example.org mx2.example.org 8.8.8.14 open syn-ack",
		}, dialled: []string{"8.8.8.14"}},
	{what: "a name in a file to a private address, allowed", args: "-i LIST --allow-private", list: "private.example.org\n",
		rows:    []string{"private.example.org private.example.org 10.64.1.1 open syn-ack"},
		says:    []string{"Notice: private.example.org leads to the private address 10.64.1.1"},
		dialled: []string{"10.64.1.1"}},
	{what: "a name both typed and in a file counts as typed", args: "private.example.org -i LIST", list: "private.example.org\n",
		rows:    []string{"private.example.org private.example.org 10.64.1.1 open syn-ack"},
		says:    []string{"Notice: private.example.org leads to the private address 10.64.1.1"},
		dialled: []string{"10.64.1.1"}},
	{what: "a name to loopback, never", args: "loop.example.org mx:loopmx.example --allow-private --allow-reserved",
		rows: []string{
			"loop.example.org loop.example.org 127.0.0.1 unknown reserved: loop.example.org leads to 127.0.0.1: loopback (RFC 1122)",
			"loop.example.org loop.example.org ::1 unknown reserved: loop.example.org leads to ::1: loopback (RFC 4291)",
			"mx:loopmx.example loop.example.org 127.0.0.1 unknown reserved: loop.example.org leads to 127.0.0.1: loopback (RFC 1122)",
			"mx:loopmx.example loop.example.org ::1 unknown reserved: loop.example.org leads to ::1: loopback (RFC 4291)",
		}, says: []string{"Contacts nobody"}},
	{what: "a name to addresses of every kind", args: "mixed.example.org",
		rows: []string{
			"mixed.example.org mixed.example.org 8.8.8.12 open syn-ack",
			"mixed.example.org mixed.example.org 10.64.1.2 open syn-ack",
			"mixed.example.org mixed.example.org 127.0.0.2 unknown reserved: mixed.example.org leads to 127.0.0.2: loopback (RFC 1122)",
			"mixed.example.org mixed.example.org 169.254.1.1 unknown reserved: mixed.example.org leads to 169.254.1.1: link-local (RFC 3927)",
			"mixed.example.org mixed.example.org 192.0.2.1 unknown reserved: mixed.example.org leads to 192.0.2.1: documentation (RFC 5737), with --allow-reserved it is probed",
			"mixed.example.org mixed.example.org 224.0.0.1 unknown reserved: mixed.example.org leads to 224.0.0.1: multicast (RFC 5771)",
		}, says: []string{"Notice: mixed.example.org leads to the private address 10.64.1.2"}, dialled: []string{"8.8.8.12", "10.64.1.2"}},
	{what: "an excluded address behind a name", args: "mail.example.org -4 --exclude 8.8.8.11",
		rows: []string{
			"mail.example.org mail.example.org 8.8.8.10 open syn-ack",
			"mail.example.org mail.example.org 8.8.8.11 unknown excluded: mail.example.org leads to 8.8.8.11, which is excluded",
		}, dialled: []string{"8.8.8.10"}},
	{what: "MX hosts of equal preference, and a private one", args: "mx:example.org -4",
		rows: []string{
			"mx:example.org mail.example.org 8.8.8.10 open syn-ack",
			"mx:example.org mail.example.org 8.8.8.11 open syn-ack",
			"mx:example.org mx2.example.org 8.8.8.14 open syn-ack",
			"mx:example.org private.example.org 10.64.1.1 unknown reserved: private.example.org leads to 10.64.1.1: private use (RFC 1918), with --allow-private it is probed",
		}, dialled: []string{"8.8.8.10", "8.8.8.11", "8.8.8.14"}},
	{what: "a private MX host, allowed", args: "mx:example.org -4 --allow-private",
		rows: []string{
			"mx:example.org mail.example.org 8.8.8.10 open syn-ack",
			"mx:example.org mail.example.org 8.8.8.11 open syn-ack",
			"mx:example.org mx2.example.org 8.8.8.14 open syn-ack",
			"mx:example.org private.example.org 10.64.1.1 open syn-ack",
		}, says: []string{"Notice: private.example.org leads to the private address 10.64.1.1"}, dialled: []string{"8.8.8.10", "8.8.8.11", "8.8.8.14", "10.64.1.1"}},
	{what: "no MX record: the domain's own addresses", args: "mx:nomx.example mx:nomx-four.example",
		rows: []string{
			"mx:nomx.example nomx.example 8.8.8.15 open syn-ack",
			"mx:nomx.example nomx.example 2606:4700::15 open syn-ack",
			"mx:nomx-four.example nomx-four.example 8.8.8.16 open syn-ack",
		}, says: []string{
			"Notice: nomx.example has no MX record: its own addresses are used (RFC 5321, 5.1)",
			"Notice: nomx-four.example has no MX record: its own addresses are used (RFC 5321, 5.1)",
		}, dialled: []string{"8.8.8.15", "2606:4700::15", "8.8.8.16"}},
	{what: "an MX host that is an alias, one that is an address, one that is not there", args: "mx:aliasmx.example mx:ipmx.example mx:gonemx.example -4",
		rows: []string{
			"mx:aliasmx.example alias.example.org 8.8.8.10 open syn-ack",
			"mx:aliasmx.example alias.example.org 8.8.8.11 open syn-ack",
			"mx:ipmx.example 8.8.8.17 - unknown bad-name: the MX record points to an address; it must be a name (RFC 5321, 5.1)",
			"mx:gonemx.example gone.example.org - unknown dns-nxdomain: the name does not exist",
			"mx:gonemx.example mx2.example.org 8.8.8.14 open syn-ack",
		}, says: []string{"Notice: the MX host alias.example.org is an alias of mail.example.org, which RFC 2181, 10.3 forbids"},
		dialled: []string{"8.8.8.10", "8.8.8.11", "8.8.8.14"}},
	{what: "domains that share a host: one conversation, a row each", args: "mx:second.example mx:moved.example mx2.example.org",
		rows: []string{
			"mx:second.example mx2.example.org 8.8.8.14 open syn-ack",
			"mx:moved.example mx2.example.org 8.8.8.14 open syn-ack",
			"mx2.example.org mx2.example.org 8.8.8.14 open syn-ack",
		}, dialled: []string{"8.8.8.14"}},
}

var _ = lab.Register("name-host", serveNameHost)

// serveNameHost is a good mail server on port 25 of every address, which prints
// the address of each connection.
func serveNameHost(ctx context.Context, _ []string) error {
	zoo, err := scannertest.Start(ctx, scannertest.Config{})
	if err != nil {
		return err
	}
	defer zoo.Close()
	good, _ := scannertest.Find("good")
	l, err := net.Listen("tcp", ":25")
	if err != nil {
		return err
	}
	err = zoo.Serve(l, func(local netip.AddrPort) scannertest.Behaviour {
		fmt.Println(local.Addr().Unmap())
		return good
	})
	if err != nil {
		return err
	}
	lab.Ready()
	<-ctx.Done()
	return nil
}

// A nameHost is the process of serveNameHost.
type nameHost struct {
	proc *lab.Proc
	read int // bytes of its output that are known
}

// dialled returns the addresses that were connected to since it was asked last,
// sorted. It makes a connection of its own, behind all others: when that is
// printed, the others are, too.
func (m *nameHost) dialled(t *testing.T) []string {
	t.Helper()
	conn, err := net.Dial("tcp", netip.AddrPortFrom(marker4, 25).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	end := marker4.String() + "\n"
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		text, ok := strings.CutSuffix(m.proc.Output()[m.read:], end)
		if ok {
			m.read += len(text) + len(end)
			out := strings.Fields(text)
			slices.Sort(out)
			return out
		}
		if time.Now().After(deadline) {
			t.Fatalf("the mail host does not print: %q", m.proc.Output()[m.read:])
		}
	}
}

// nameParts is how many networks the sweeps of TestNames are dealt out to: each
// waits for seconds, for the control probe and for a DNS that is mute.
const nameParts = 5

func TestNames(t *testing.T) {
	t.Parallel()
	for part := range nameParts {
		t.Run(fmt.Sprintf("part %d of %d", part+1, nameParts), func(t *testing.T) {
			t.Parallel()
			lab.Run(t, lab.Config{AnyIP: []netip.Prefix{public4, public6}}, func(t *testing.T, l *lab.Lab) {
				os.Setenv("XDG_STATE_HOME", t.TempDir()) // of the lab's process, where this test is alone
				host := &nameHost{proc: l.Start(t, lab.Target, "name-host")}
				for i := part; i < len(nameCases); i += nameParts {
					t.Run(nameCases[i].what, func(t *testing.T) { nameCases[i].check(t, l, host) })
				}
				switch part {
				case 0:
					t.Run("resume asks nobody", func(t *testing.T) { checkResumedNames(t, l, host) })
				case 3:
					t.Run("rebinding", func(t *testing.T) { checkRebinding(t, host) })
				case 4:
					if l.IPv6() {
						t.Run("both sources", checkBothSources)
					}
					t.Run("table", func(t *testing.T) { checkNamesTable(t, l) })
				}
			})
		})
	}
}

// scanNames sweeps port 25 and returns the files it wrote.
func scanNames(t *testing.T, server netip.AddrPort, args ...string) (code int, dir, stdout, stderr string) {
	t.Helper()
	dir = t.TempDir()
	args = append([]string{"scan", "--host-interval", "0", "--subnet-rate", "0", "--resolver", server.String(),
		"-o", filepath.Join(dir, "rows.jsonl"), "-o", filepath.Join(dir, "rows.csv"), "--vantage", "lab"}, args...)
	code, stdout, stderr = invoke(t, args...)
	return code, dir, stdout, stderr
}

func (c nameCase) check(t *testing.T, l *lab.Lab, host *nameHost) {
	server := scannertest.DNS(t, namesZone)
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte(c.list), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(strings.Fields(strings.ReplaceAll(c.args, "LIST", list)), "-p", "25")
	code, dir, _, stderr := scanNames(t, server, args...)
	if code != c.code {
		t.Errorf("exit %d, want %d", code, c.code)
	}
	checkNameRows(t, l, server, filepath.Join(dir, "rows.csv"), c.rows)
	compareRows(t, rowsOfCSV(t, filepath.Join(dir, "rows.csv")), "the journal", rowsOfJournal(t, filepath.Join(dir, "rows.jsonl")))
	if got, want := host.dialled(t), withFamilies(l, c.dialled); !slices.Equal(got, want) {
		t.Errorf("connections came to %v, want %v", got, want)
	}
	for _, s := range c.says {
		if !strings.Contains(stderr, s) {
			t.Errorf("stderr does not say %q", s)
		}
	}
	if !slices.ContainsFunc(c.says, func(s string) bool { return strings.HasPrefix(s, "Notice: ") }) && strings.Contains(stderr, "Notice: ") {
		t.Error("a notice without need")
	}
	if t.Failed() {
		t.Log(stderr)
	}
}

// checkNameRows compares the rows of a CSV file with what is expected.
func checkNameRows(t *testing.T, l *lab.Lab, server netip.AddrPort, path string, want []string) {
	t.Helper()
	var got []string
	for _, r := range rowsOfCSV(t, path) {
		text := fmt.Sprintf("%s %s %s %s %s", r["target"], dash(r["host"]), dash(r["address"]), r["state"], r["reason"])
		if r["error"] != "" {
			text += ": " + strings.ReplaceAll(r["error"], server.String(), "DNS")
		}
		got = append(got, text)
		checkNameRow(t, r)
	}
	slices.Sort(got)
	if want = withFamilies(l, want); !slices.Equal(got, want) {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// checkNameRow checks what a row says beside its state.
func checkNameRow(t *testing.T, r map[string]string) {
	t.Helper()
	if r["state"] != "open" {
		if r["rtt_ms"]+r["attempts"]+r["service"]+r["banner"] != "" || r["vantage"] != "lab" || r["time"] == "" {
			t.Errorf("a row of nothing seen says %v", r)
		}
		if (r["port"] != "") != (r["address"] != "") {
			t.Errorf("port %q of address %q", r["port"], r["address"])
		}
		return
	}
	// The certificate is for mail.example.org: which name was asked for decides.
	ok := fmt.Sprint(r["host"] == scannertest.Host)
	if r["host"] == "" {
		ok = "" // no name was asked for
	}
	if r["port"] != "25" || r["service"] != "smtp" || r["starttls"] != "offered" || r["cert_name_ok"] != ok || r["attempts"] != "1" {
		t.Errorf("%s %s: port %s, service %s, STARTTLS %s, name %s (want %s), attempts %s", r["host"], r["address"],
			r["port"], r["service"], r["starttls"], r["cert_name_ok"], ok, r["attempts"])
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// withFamilies returns a sorted copy, without global IPv6 where the kernel has none.
func withFamilies(l *lab.Lab, lines []string) []string {
	lines = slices.Clone(lines)
	if !l.IPv6() {
		lines = slices.DeleteFunc(lines, func(s string) bool { return strings.Contains(s, "2606:") })
	}
	slices.Sort(lines)
	return lines
}

// checkRebinding: the second answer to the same question leads to loopback.
// It is never asked for.
func checkRebinding(t *testing.T, host *nameHost) {
	server := scannertest.StartDNS(t, namesZone)
	code, dir, _, stderr := scanNames(t, server.Addr, "rebind.example.org", "mx2.example.org", "-p", "25,2525/smtp", "-4", "--retries", "0")
	if code != 0 {
		t.Errorf("exit %d:\n%s", code, stderr)
	}
	for _, qtype := range []string{"A", "AAAA"} {
		if n := server.Queries("rebind.example.org", qtype); n != 1 {
			t.Errorf("%d queries for %s, want 1", n, qtype)
		}
	}
	for _, r := range rowsOfCSV(t, filepath.Join(dir, "rows.csv")) {
		if want := map[string]string{"rebind.example.org": "8.8.8.20", "mx2.example.org": "8.8.8.14"}[r["host"]]; r["address"] != want {
			t.Errorf("%s: %s, want %s", r["host"], r["address"], want)
		}
	}
	if got := host.dialled(t); !slices.Equal(got, []string{"8.8.8.14", "8.8.8.20"}) {
		t.Errorf("connections came to %v", got)
	}
}

// checkBothSources: where both families are contacted, both addresses are named.
func checkBothSources(t *testing.T) {
	code, _, stderr := invoke(t, "scan", "mail.example.org", "-p", "25", "--dry-run", "--resolver", scannertest.DNS(t, namesZone).String())
	if want := fmt.Sprintf(" from %s and %s as ", lab.ScannerAddr4, lab.ScannerAddr6); code != 0 || !strings.Contains(stderr, want) {
		t.Errorf("exit %d, want 0 and %q:\n%s", code, want, stderr)
	}
}

// checkResumedNames takes the rows of what was contacted out of a finished
// journal, as if the run had been killed after the look-ups, and goes on with it.
func checkResumedNames(t *testing.T, l *lab.Lab, host *nameHost) {
	server := scannertest.StartDNS(t, namesZone)
	specs := []string{"mx:example.org", "rebind.example.org", "gone.example.org", "mx:null.example", "mx:second.example", "8.8.8.30"}
	code, dir, _, stderr := scanNames(t, server.Addr, append(specs, "-p", "25", "-4")...)
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, stderr)
	}
	before, asked := rowsOfCSV(t, filepath.Join(dir, "rows.csv")), server.Queries("rebind.example.org", "A")
	dialled := host.dialled(t)
	text, err := os.ReadFile(filepath.Join(dir, "rows.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var killed strings.Builder
	for line := range strings.Lines(string(text)) {
		contacted := strings.HasPrefix(line, `{"type":"result"`) && !strings.Contains(line, `"state":"unknown"`)
		if !contacted && !strings.HasPrefix(line, `{"type":"end"`) {
			killed.WriteString(line)
		}
	}
	path := filepath.Join(dir, "killed.jsonl")
	if err := os.WriteFile(path, []byte(killed.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = invoke(t, "scan", "--resume", path, "-o", filepath.Join(dir, "again.csv"))
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, stderr)
	}
	if strings.Contains(stderr, "are done") {
		t.Errorf("says that something was contacted before:\n%s", stderr)
	}
	if n := server.Queries("rebind.example.org", "A"); n != asked || n != 1 {
		t.Errorf("%d queries before, %d after", asked, n)
	}
	if n := server.Queries("example.org", "MX"); n != 1 {
		t.Errorf("%d queries for the MX records, want 1", n)
	}
	if n := server.Queries("gone.example.org", "A"); n != 1 {
		t.Errorf("%d queries for a name that does not exist, want 1", n)
	}
	if again := host.dialled(t); !slices.Equal(again, dialled) {
		t.Errorf("connections came to %v, and to %v the first time", again, dialled)
	}
	after := rowsOfCSV(t, filepath.Join(dir, "again.csv"))
	identity := func(rows []map[string]string) (out []string) {
		for _, r := range rows {
			out = append(out, strings.Join([]string{r["target"], r["host"], r["address"], r["port"], r["state"], r["reason"], r["error"], r["cert_sha256"]}, " "))
		}
		return out
	}
	if !slices.Equal(identity(before), identity(after)) {
		t.Errorf("rows\n%q\nwant\n%q", identity(after), identity(before))
	}
}

// checkNamesTable compares the whole table with what a person should see.
func checkNamesTable(t *testing.T, l *lab.Lab) {
	server := scannertest.DNS(t, namesZone)
	code, _, stdout, stderr := scanNames(t, server, "mx:example.org", "mx:null.example", "gone.example.org", "broken.example.org", "-p", "25", "-4", "--show", "all")
	if code != exitUndecided {
		t.Errorf("exit %d, want %d:\n%s", code, exitUndecided, stderr)
	}
	got := strings.ReplaceAll(regexp.MustCompile(` in [0-9.]+ s\n`).ReplaceAllString(stdout, " in 2 s\n"), server.String(), "192.0.2.53:53")
	if got != namesTable[1:] {
		t.Errorf("the table is\n%s\nwant\n%s", got, namesTable)
	}
	for _, want := range []string{"Contacts 3 addresses x 25 = 3 endpoints from 10.20.9.7", "rows.csv (7 rows)"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr does not say %q:\n%s", want, stderr)
		}
	}
}

const namesTable = `
ADDRESS             PORT  STATE    REASON        ANSWERS  ENCRYPTION                    NOTE
8.8.8.10              25  open     syn-ack       Postfix  STARTTLS 1.3, unknown issuer  mail.example.org
8.8.8.11              25  open     syn-ack       Postfix  STARTTLS 1.3, unknown issuer  mail.example.org
8.8.8.14              25  open     syn-ack       Postfix  STARTTLS 1.3, unknown issuer  mx2.example.org; certificate is for mail.example.org and 3 more
10.64.1.1             25  unknown  reserved                                             private.example.org; private use (RFC 1918), with --allow-private it is probed
mx:null.example           unknown  no-mail                                              null MX: the domain accepts no mail (RFC 7505)
gone.example.org          unknown  dns-nxdomain                                         the name does not exist
broken.example.org        unknown  dns-error                                            IPv4 addresses: 192.0.2.53:53: SERVFAIL
3 open, 0 closed, 0 filtered, 3 not probed, 1 undecided = 7 of 7 in 2 s
Look at: 8.8.8.14:25 (mx2.example.org) certificate is for another name: smtpsweep explain cert-name-mismatch
`

// A DNS server that leads whatever does not exist to a machine of its own is told
// of, and what it says of such a name is no fact about the name.
func TestALyingResolverIsNotBelieved(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	server := scannertest.DNS(t, scannertest.DNSZone{"*": {"A 127.0.0.1"}, "mail.example.org": {"A 10.0.0.1"}})
	dir := t.TempDir()
	list := filepath.Join(dir, "list")
	if err := os.WriteFile(list, []byte("gone.example.org\nmail.example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Both addresses are never contacted behind a name of a list.
	rows, journal := filepath.Join(dir, "rows.csv"), filepath.Join(dir, "run.jsonl")
	code, _, said := invoke(t, "scan", "-i", list, "-o", journal, "-o", rows, "--resolver", server.String(), "-p", "25")
	if code != exitUndecided || !strings.Contains(said, "Notice: the DNS server "+server.String()+" answers 127.0.0.1 for names that do not exist") {
		t.Errorf("exit %d, want %d, and: %s", code, exitUndecided, said)
	}
	var got []string
	for _, row := range rowsOfCSV(t, rows) {
		got = append(got, strings.Join([]string{row["host"], row["state"], row["reason"], row["address"]}, " "))
	}
	slices.Sort(got)
	if want := []string{"gone.example.org unknown dns-error ", "mail.example.org unknown reserved 10.0.0.1"}; !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	if text, err := os.ReadFile(journal); err != nil || !strings.Contains(string(text), `"resolver-invents"`) {
		t.Errorf("the journal has no note of it (%v):\n%s", err, text)
	}
}
