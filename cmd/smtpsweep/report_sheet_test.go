package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
)

// loopbackJournal sweeps two ports of this machine, of which the first is open
// and the second is not.
func loopbackJournal(t *testing.T) (path string, open, closed uint16) {
	t.Helper()
	listen := func() *net.TCPListener {
		ln, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	here, gone := listen(), listen()
	t.Cleanup(func() { here.Close() })
	open, closed = here.Addr().(*net.TCPAddr).AddrPort().Port(), gone.Addr().(*net.TCPAddr).AddrPort().Port()
	gone.Close()
	path = filepath.Join(t.TempDir(), "here.jsonl")
	if code, _, said := invoke(t, "scan", "127.0.0.1", "-p", fmt.Sprintf("%d,%d", open, closed), "--probe", "port", "--vantage", "here", "-o", path); code != exitDone {
		t.Fatalf("exit code %d: %s", code, said)
	}
	return path, open, closed
}

// policyFile writes a policy.
func policyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPolicyExitCodes(t *testing.T) {
	t.Parallel()
	path, open, closed := loopbackJournal(t)
	for _, c := range []struct {
		policy string
		code   int
		want   string
	}{
		{fmt.Sprintf("allow: [{from: all, to: any, ports: [%d]}]\n", open), exitDone, "KEPT: the one row is as "},
		{fmt.Sprintf("deny: [{from: all, to: any, ports: [%d]}]\n", open), exitBad, "VIOLATED: 1 of 1 row is not as "},
		{fmt.Sprintf("deny: [{from: all, to: any, ports: [%d]}]\n", closed), exitUndecided, "NOT DECIDED: of "},
		{fmt.Sprintf("deny: [{from: all, to: any, ports: [%d, %d]}]\n", open, closed), exitBad, "VIOLATED: 1 of 2 rows is not as "},
		{fmt.Sprintf("segments: {here: [192.0.2.0/24], away: [198.51.100.0/24]}\nallow: [{from: here, to: 127.0.0.1, ports: [%d]}, {from: away, to: any, ports: [25]}]\n", open), exitUndecided, "NOT DECIDED: 1 of 2 rows is untested"},
		{fmt.Sprintf("deny: [{from: all, to: any, ports: [%d]}]\nexceptions: [{from: all, to: 127.0.0.1, ports: [%d], owner: me, until: 2020-01-01}]\n", open, open), exitBad, "1 expired (open by an exception that is over)"},
	} {
		file := policyFile(t, c.policy)
		code, stdout, stderr := invoke(t, "report", "--policy", file, path, "-o", strings.TrimSuffix(file, "yaml")+"csv")
		if code != c.code || !strings.Contains(strings.ReplaceAll(stdout, "\n", " "), c.want) {
			t.Errorf("%sexit code %d, want %d:\n%s%s", c.policy, code, c.code, stdout, stderr)
		}
		if !strings.Contains(stderr, "Wrote ") || strings.Contains(c.want, "expired") != strings.Contains(stderr, "Notice: "+file+":2:14: the exception all to 127.0.0.1") {
			t.Errorf("%s: stderr is %s", c.policy, stderr)
		}
	}
}

func TestSheetsRefuseWhatIsNotTheirs(t *testing.T) {
	t.Parallel()
	path, open, _ := loopbackJournal(t)
	good := policyFile(t, fmt.Sprintf("allow: [{from: all, to: any, ports: [%d]}]\n", open))
	bad := policyFile(t, "deny: [{from: nobody, to: any, ports: [99999]}]\nalow: []\n")
	damaged := filepath.Join(t.TempDir(), "damaged.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(damaged, []byte(strings.Replace(string(text), `"state":"open"`, `"state":"shut"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out := func(name string) string { return filepath.Join(t.TempDir(), name) }
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--policy", good, "--matrix", path}, exitUsage, "--policy and --matrix make two sheets"},
		{[]string{"--matrix"}, exitUsage, "no journal"},
		{[]string{"--policy", out("none.yaml"), path}, exitUsage, "none.yaml: no such file"},
		{[]string{"--policy", t.TempDir(), path}, exitUsage, ": is a directory"},
		{[]string{"--policy", bad, path}, exitUsage, bad + ":1:15: from: unknown segment \"nobody\""},
		{[]string{"--policy", bad, path}, exitUsage, "\nsmtpsweep: " + bad + ":1:40: ports: port \"99999\" is not between"},
		{[]string{"--policy", bad, path}, exitUsage, "\nsmtpsweep: " + bad + ":2:1: unknown key \"alow\""},
		{[]string{"--policy", good, path, "-f", "xml"}, exitUsage, `-f: no format "xml"; there are table, csv, jsonl, json, md, junit`},
		{[]string{"--policy", good, path, "-o", out("x.xml")}, exitUsage, `no format has the ending ".xml"`},
		{[]string{"--matrix", path, "-f", "junit"}, exitUsage, `-f: no format "junit"; there are table, csv, md`},
		{[]string{path, "-f", "junit"}, exitUsage, "smtpsweep report --policy FILE"},
		{[]string{path, "-o", out("x.junit")}, exitUsage, "smtpsweep report --policy FILE"},
		{[]string{"--policy", good, out("none.jsonl")}, exitUsage, "none.jsonl: no such file"},
		{[]string{"--policy", good, damaged}, exitJournal, "report --salvage"},
		{[]string{"--matrix", damaged}, exitJournal, "report --salvage"},
	} {
		code, stdout, stderr := invoke(t, append([]string{"report"}, c.args...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("report %s: exit code %d, want %d; stdout %q, stderr:\n%swant %s", strings.Join(c.args, " "), code, c.code, stdout, stderr, c.want)
		}
	}
	if code, stdout, stderr := invoke(t, "report", "--salvage", "--policy", good, damaged); code != exitUndecided || !strings.Contains(stderr, "Lost: 1 damaged record") {
		t.Errorf("--salvage: exit code %d\n%s%s", code, stdout, stderr)
	}
}

// Runs of one plan, from several sources of one vantage, are not one run.
func TestSheetsKeepSourcesOfAVantageApart(t *testing.T) {
	t.Parallel()
	if !canUse("127.0.0.2") {
		t.Skip("this machine has no 127.0.0.2")
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var journals []string
	for _, source := range []string{"127.0.0.1", "127.0.0.2"} {
		path := filepath.Join(t.TempDir(), "j.jsonl")
		if code, _, said := invoke(t, "scan", ln.Addr().String(), "--seed", "1", "--probe", "port", "--vantage", "box", "--source", source, "-o", path); code != exitDone {
			t.Fatalf("exit code %d: %s", code, said)
		}
		journals = append(journals, path)
	}
	_, matrix, _ := invoke(t, append([]string{"report", "--matrix", "-f", "csv"}, journals...)...)
	want := "vantage,source," + ln.Addr().String() + "\r\nbox,127.0.0.1,open\r\nbox,127.0.0.2,open\r\n"
	if matrix != want {
		t.Errorf("got\n%swant\n%s", matrix, want)
	}
	file := policyFile(t, "segments: {a: [127.0.0.1], b: [127.0.0.2]}\nallow: [{from: a, to: any, ports: [1-65535]}]\ndeny: [{from: b, to: any, ports: [1-65535]}]\n")
	code, stdout, _ := invoke(t, append([]string{"report", "--policy", file}, journals...)...)
	if code != exitBad || !strings.Contains(stdout, "box 127.0.0.2") || !strings.Contains(stdout, "1 fail-open, 1 pass = 2") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
}

// A journal may say that a far end is a reflector of ours, and where a path ends:
// then a refusal is a block.
func TestPolicyReadsWhatAnAuditKnows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	w, err := journal.Create(path, journal.Run{Vantage: "users"})
	if err != nil {
		t.Fatal(err)
	}
	const row = `{"type":"result","time":"2026-11-25T12:00:00.000Z","vantage":"users","source":"10.20.0.7","target":"%s","address":"%[1]s","port":%d,"state":"%s","reason":"%s"%s}`
	for _, record := range []string{
		fmt.Sprintf(row, "198.51.100.7", 25, "closed", "conn-refused", `,"stopped_at":"hop 2-3"`),
		fmt.Sprintf(row, "198.51.100.7", 587, "open", "syn-ack", `,"reflector":"Jb3lR5nTqV"`),
		fmt.Sprintf(row, "198.51.100.8", 25, "closed", "conn-refused", ""),
		fmt.Sprintf(row, "198.51.100.8", 587, "open", "syn-ack", ""),
	} {
		if err := w.Append([]byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(journal.End{Reason: endDone}); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := invoke(t, "report", "--policy", policyFile(t, "deny: [{from: all, to: any, ports: [25]}]\n"), path, "-f", "csv")
	want := []string{
		"users,10.20.0.7,IPv4,198.51.100.7,25,deny all to any 25,blocked,closed,conn-refused,hop 2-3,pass,,,2026-11-25T12:00:00.000Z," + path + ",,\"refused, while 198.51.100.7 answers on 587 from here\"",
		"users,10.20.0.7,IPv4,198.51.100.8,25,deny all to any 25,blocked,closed,conn-refused,,untested,,,2026-11-25T12:00:00.000Z," + path + ",,\"refused, and the far end is no reflector of ours: it may have refused by itself\"",
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(stdout, "\r\n", "\n")), "\n")
	if code != exitUndecided || len(lines) != 3 || lines[1] != want[0] || lines[2] != want[1] {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// canUse reports whether an address is this machine's.
func canUse(addr string) bool {
	ln, err := net.Listen("tcp4", addr+":0")
	if err == nil {
		ln.Close()
	}
	return err == nil
}
