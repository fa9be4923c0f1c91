package main

import (
	"bytes"
	"errors"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

var update = flag.Bool("update", false, "write the golden files anew")

// policyFolder has a policy of twelve lines, and what reports make of it.
const policyFolder = "testdata/policy"

// The vantages of the policy, by the name of the segment that each is in. Nobody
// looks from the segment "cameras".
var policyVantages = map[string]netip.Addr{
	"relays": netip.MustParseAddr("10.1.2.3"), "users": netip.MustParseAddr("10.20.0.7"), "guests": netip.MustParseAddr("10.30.0.7"),
}

// TestPolicy has three vantages behind one firewall look at seven servers, each
// from an address and to a journal of its own, and judges the three journals.
func TestPolicy(t *testing.T) {
	t.Parallel()
	cfg := lab.PathConfig{Serve: true, Binary: true}
	for _, source := range policyVantages {
		cfg.Clients = append(cfg.Clients, source)
	}
	lab.RunPath(t, cfg, func(t *testing.T, p *lab.Path) {
		setPolicyFilters(t, p)
		dir := t.TempDir()
		scanVantages(t, p, dir)
		policy, err := os.ReadFile(filepath.Join(policyFolder, "policy.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(policy, []byte("\n")); n != 12 {
			t.Errorf("the policy has %d lines", n)
		}
		if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), policy, 0o600); err != nil {
			t.Fatal(err)
		}
		journals := []string{"relays.jsonl", "users.jsonl", "guests.jsonl"}
		checkGolden(t, p, dir, exitBad, []string{"policy.txt", "policy.csv", "policy.jsonl", "policy.json", "policy.md", "policy.junit"}, append(journals, "--policy", "policy.yaml")...)
		checkGolden(t, p, dir, exitDone, []string{"matrix.txt", "matrix.csv", "matrix.md"}, append(journals, "--matrix")...)
		checkGolden(t, p, dir, exitBad, []string{"relays.csv"}, "relays.jsonl", "--policy", "policy.yaml")
		checkGolden(t, p, dir, exitUndecided, []string{"absent.csv"}, "--policy", "policy.yaml")
	})
}

// setPolicyFilters is a firewall that does not do what the policy says. Its third
// router is at 62.20.3.1.
func setPolicyFilters(t *testing.T, p *lab.Path) {
	t.Helper()
	prefix := func(s string) netip.Prefix { return netip.MustParsePrefix(s) }
	guests, users, relays := prefix("10.30.0.0/16"), prefix("10.20.0.0/16"), prefix("10.1.2.0/28")
	for _, f := range []lab.Filter{
		{At: lab.R1, From: users, To: prefix("62.30.0.1/32"), Ports: []uint16{25}},                                        // as it must be
		{At: lab.Target, To: prefix("62.30.0.2/32")},                                                                      // a server that is down
		{At: lab.R1, From: guests, To: prefix("62.30.0.3/32"), Ports: []uint16{25}},                                       // the exception is not theirs
		{At: lab.R1, From: users, To: prefix("62.30.0.4/32"), Ports: []uint16{25}},                                        // nor this one
		{At: lab.R1, From: users, To: prefix("62.30.0.5/32"), Ports: []uint16{25}},                                        // and guests are forgotten
		{At: lab.R2, From: relays, To: prefix("62.30.0.6/32"), Ports: []uint16{25}},                                       // what must be open
		{At: lab.R3, Family: 4, From: guests, To: prefix("62.30.0.6/32"), Ports: []uint16{25}, Do: lab.DoReject(13)},      // the router says so
		{At: lab.R1, From: users, To: prefix("62.30.0.6/31"), Ports: []uint16{25}, Do: lab.DoReset()},                     // somebody refuses
		{At: lab.R3, Family: 4, From: guests, To: prefix("62.30.0.1/32"), Ports: []uint16{25, 587}, Do: lab.DoReject(13)}, // 587 is no matter of the policy
		{At: lab.R3, Family: 4, From: guests, To: prefix("62.30.0.7/32"), Ports: []uint16{25}, Do: lab.DoReject(1)},
	} {
		p.Filter(t, f)
	}
}

// scanVantages sweeps the servers from each vantage, at the same time.
func scanVantages(t *testing.T, p *lab.Path, dir string) {
	t.Helper()
	type run struct {
		cmd  *exec.Cmd
		said bytes.Buffer
	}
	runs := map[string]*run{}
	for name, source := range policyVantages {
		r := &run{cmd: lab.NoCaps(p.Command(lab.Scanner, lab.Binary(t), "scan", "62.30.0.1-7", "-p", "25,587", "--probe", "port",
			"--timeout", "2s", "--rate", "1000", "--subnet-rate", "0", "--host-interval", "0s", "--source", source.String(), "--vantage", name, "-o", name+".jsonl"))}
		r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = dir, &r.said, &r.said
		if err := r.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		runs[name] = r
	}
	for name, r := range runs {
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("scan from %s: %v\n%s", name, err, r.said.String())
		}
	}
}

// varies are the parts of a report that differ from run to run, and what stands
// for them in the golden files.
var varies = []struct {
	is    *regexp.Regexp
	seems string
}{
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+Z)?`), "TIME"},
	{regexp.MustCompile(`"crc":"[0-9a-f]{8}"`), `"crc":"CRC"`},
}

// checkGolden compares the files that a report writes with golden files.
func checkGolden(t *testing.T, p *lab.Path, dir string, code int, files []string, args ...string) {
	t.Helper()
	args = append([]string{"report", "-f", "csv"}, args...)
	for _, name := range files {
		args = append(args, "-o", name)
	}
	cmd := lab.NoCaps(p.Command(lab.Scanner, lab.Binary(t), args...))
	var said bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &said
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() != code || !ok && (err != nil || code != 0) {
		t.Errorf("%s: %v, want exit code %d\n%s", strings.Join(args, " "), err, code, said.String())
	}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got := string(text)
		for _, v := range varies {
			got = v.is.ReplaceAllString(got, v.seems)
		}
		path := filepath.Join(policyFolder, name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-update writes it anew): %s", path, diff)
		}
	}
}
