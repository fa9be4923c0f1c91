package main

import (
	"bytes"
	"os"
	"strings"
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
		p.Filter(t, lab.Filter{At: lab.R2, Ports: []uint16{25}})
		r := runTraced(t, p, state, "trace", "--resolver", dns, "mail.example.org")
		t.Logf("%d\n%s\n%s", r.code, r.stdout, r.stderr)
		r = runTraced(t, p, state, "trace", "--resolver", dns, "mail.example.org", "-4", "-f", "md")
		t.Logf("%d\n%s\n%s", r.code, r.stdout, r.stderr)
		_ = strings.Contains
	})
}
