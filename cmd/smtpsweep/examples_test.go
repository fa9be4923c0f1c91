package main

import (
	"os"
	"slices"
	"testing"

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
