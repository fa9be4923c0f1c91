package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
)

func TestQuietDemoSaysNothingButErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "zoo.csv")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	code := run([]string{"demo", "-q", "-o", path}, newUI(strings.NewReader(""), &out, &said))
	if code != exitUsage || !strings.HasPrefix(said.String(), "smtpsweep: ") {
		t.Errorf("exit code %d, said %q, want the one error that the file exists", code, said.String())
	}
}

func TestDemoJudgesItself(t *testing.T) {
	at := func(port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	is := func(name string) *resident {
		b, ok := scannertest.Find(name)
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		return &resident{behaviour: b}
	}
	residents := map[netip.AddrPort]*resident{at(1): is("good"), at(2): is("bare-lf"), at(3): is("client-rejected"), at(4): is("self-signed")}
	for _, r := range residents {
		want := r.behaviour.Want
		row := &scanner.Result{Observation: scanner.Observation{State: scanner.Open}, Service: &scanner.Service{
			Kind: want.Service, Code: want.Code, Software: want.Software, StartTLS: want.StartTLS, Size: want.Size, Findings: want.Findings,
		}}
		if want.Version != 0 {
			row.Service.TLS = &scanner.TLS{Version: want.Version, Trust: want.Trust}
		}
		r.compare(want, row)
	}
	var said bytes.Buffer
	if err := judgeDemo(newUI(nil, nil, &said), residents, scannertest.Counts{}); err != nil {
		t.Errorf("all are right, and the demo fails: %v", err)
	}
	want := `Odd servers whose rows look good, and are right (a wrong name shows only where a name is scanned):
      2  Ends lines with LF alone, which RFC 5321 forbids and clients accept.
4 of 4 rows say what the server really is. Breaches of etiquette that the zoo counted: 0.
`
	if said.String() != want {
		t.Errorf("said\n%swant\n%s", said.String(), want)
	}

	residents[at(3)].compare(residents[at(3)].behaviour.Want, &scanner.Result{Observation: scanner.Observation{State: scanner.Closed}})
	residents[at(4)].seen = false
	said.Reset()
	if err := judgeDemo(newUI(nil, nil, &said), residents, scannertest.Counts{}); err == nil {
		t.Error("two rows are wrong, and the demo does not fail")
	}
	for _, line := range []string{"WRONG 127.0.0.1:3 is client-rejected: state is closed, want open; service was not looked at, want refusing\n", "WRONG 127.0.0.1:4 is self-signed: there is no row of it\n", "2 of 4 rows"} {
		if !strings.Contains(said.String(), line) {
			t.Errorf("%q is not in\n%s", line, said.String())
		}
	}
	if err := judgeDemo(newUI(nil, nil, &said), map[netip.AddrPort]*resident{}, scannertest.Counts{NoQuit: 1}); err == nil {
		t.Error("the sweep was rude, and the demo does not fail")
	}
}

// Issue 2: at least 12 different services and findings.
func TestDemoShowsManyKindsOfTrouble(t *testing.T) {
	kinds := map[string]bool{}
	for _, b := range scannertest.Behaviours() {
		kinds[string(b.Want.Service)] = true
		for _, f := range b.Want.Findings {
			kinds[f] = true
		}
	}
	if len(kinds) < 12 {
		t.Errorf("the zoo shows %d services and findings, want at least 12", len(kinds))
	}
}
