package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// A sweep of public addresses asks a documentation address too: nobody has it,
// so whoever answers there answers for others. 8.8.8.0/24 exists here only
// inside the namespaces of the lab.
func TestControlProbeFindsALocalInterceptor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		anyIP    []netip.Prefix
		exclude  string
		wantNote bool
	}{
		{"documentation addresses are silent", []netip.Prefix{netip.MustParsePrefix("8.8.8.0/24")}, "198.51.100.1", false},
		{"somebody answers for them", []netip.Prefix{netip.MustParsePrefix("8.8.8.0/24"), netip.MustParsePrefix("192.0.2.0/24")}, "198.51.100.1", true},
		{"the control is excluded", []netip.Prefix{netip.MustParsePrefix("8.8.8.0/24"), netip.MustParsePrefix("192.0.2.0/24")}, "192.0.2.0/24", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			lab.Run(t, lab.Config{Serve: true, AnyIP: test.anyIP, Binary: true}, func(t *testing.T, l *lab.Lab) {
				excluded := test.exclude == "192.0.2.0/24"
				if !test.wantNote && !excluded {
					l.DropOut(t, lab.Scanner, netip.MustParsePrefix("192.0.2.0/24"), 0)
				}
				journal := filepath.Join(t.TempDir(), "run.jsonl")
				cmd := l.Command(lab.Scanner, lab.Binary(t), "scan", "8.8.8.8", "-p", "25", "-o", journal, "--timeout", "500ms", "--exclude", test.exclude)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("scan: %v\n%s", err, out)
				}
				if got := strings.Contains(string(out), "Control: 192.0.2.1 must stay silent."); got == excluded {
					t.Errorf("the control probe is announced: %v, excluded: %v\n%s", got, excluded, out)
				}
				if got := strings.Contains(string(out), "locally-intercepted"); got != test.wantNote {
					t.Errorf("locally-intercepted said: %v, want %v\n%s", got, test.wantNote, out)
				}
				rows, err := os.ReadFile(journal)
				if err != nil {
					t.Fatal(err)
				}
				if n := strings.Count(string(rows), `{"type":"result"`); n != 1 {
					t.Errorf("the journal has %d rows, want 1: a control is no row\n%s", n, rows)
				}
			})
		})
	}
}
