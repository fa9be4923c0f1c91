package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// The files under examples are read as the README says.
func TestExampleFilesAreUnderstood(t *testing.T) {
	f := &scanFlags{}
	cmd := newScanCommand(nil, f, nil)
	if err := applyFile(cmd.Flags(), "../../examples/config.yaml"); err != nil {
		t.Fatal(err)
	}
	if f.rate.perSecond != 50 || f.helo != "scanner.example.org" || !slices.Equal(f.exclude, []string{"192.0.2.66", "192.0.2.128/28"}) {
		t.Errorf("examples/config.yaml gives rate %v, helo %q, exclude %q", f.rate.perSecond, f.helo, f.exclude)
	}
	cfg, err := f.targetConfig()
	if err != nil {
		t.Fatal(err)
	}
	cfg.AllowReserved = true // the examples are documentation addresses
	list, err := os.Open("../../examples/targets.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	b := targets.NewBuilder(cfg)
	if err := b.ReadFile("targets.txt", list); err != nil {
		t.Fatal(err)
	}
	plan, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	if plan.NameCount() != 2 || plan.Len() != 16*3+11*3+1 {
		t.Errorf("examples/targets.txt gives %d names and %d endpoints", plan.NameCount(), plan.Len())
	}
}

func TestExamplePolicyIsUnderstood(t *testing.T) {
	t.Parallel()
	p, err := readPolicy("../../examples/policy/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if w := p.Warnings(time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)); len(p.Segments) != 3 || len(p.Rules) != 5 || len(w) != 0 {
		t.Errorf("examples/policy/policy.yaml gives %d segments, %d rules, warnings %q", len(p.Segments), len(p.Rules), w)
	}
}

// The script looks from two addresses of this machine at a third, where nobody
// listens: what refuses may do so by itself.
func TestExampleJudgesAPolicy(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil || !canUse("127.0.0.2") {
		t.Skip("this machine has no sh, or no 127.0.0.2")
	}
	script, err := filepath.Abs("../../examples/policy/judge.sh")
	if err != nil {
		t.Fatal(err)
	}
	policy := policyFile(t, "segments: {relays: [127.0.0.1], users: [127.0.0.2]}\ndeny: [{from: users, to: any, ports: [25]}]\n")
	cmd := exec.Command(sh, script, policy, "127.0.0.3")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(lab.Binary(t))+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.Stdin = strings.NewReader("relays 127.0.0.1\nusers 127.0.0.2\n")
	out, err := cmd.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != exitUndecided || !strings.Contains(string(out), "\nusers    ") || !strings.Contains(string(out), "untested  users    127.0.0.3      25  blocked  refused") {
		t.Errorf("%v\n%s", err, out)
	}
	if text, err := os.ReadFile(filepath.Join(cmd.Dir, "policy.junit")); err != nil || !strings.Contains(string(text), `<testsuite name="users" tests="1" failures="0" errors="0" skipped="1"`) {
		t.Errorf("policy.junit: %v\n%s", err, text)
	}
}
