package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/smtpsweep/smtpsweep/"

// mayImport is the house: package → the packages of ours that it may depend on,
// directly or not. Data flows targets → scanner → report, imports point back.
// A package that is missing here fails the test, so that a new one is a decision.
var mayImport = map[string][]string{
	"targets":                 {},
	"scanner":                 {"targets"},
	"scanner/pace":            {"scanner", "targets"},
	"scanner/outgoing":        {},
	"scanner/recverr":         {"scanner", "targets"},
	"scanner/connect":         {"scanner", "scanner/outgoing", "scanner/recverr", "targets"},
	"scanner/smtp":            {"scanner", "targets"},
	"scanner/egress/path":     {"scanner", "scanner/connect", "scanner/outgoing", "scanner/pace", "scanner/recverr", "targets"},
	"scanner/egress":          {"scanner", "scanner/pace", "targets"},
	"scanner/egress/policy":   {"scanner", "targets"},
	"scanner/explain":         {},
	"scanner/egress/reflect":  {},
	"scanner/journal":         {"scanner", "targets"},
	"scanner/scannertest":     {"scanner", "targets"},
	"scanner/scannertest/lab": {},
	"report":                  {"scanner", "scanner/egress", "scanner/egress/policy", "scanner/journal", "scanner/pace", "targets"},
	"cmd/smtpsweep":           {"report", "scanner", "scanner/connect", "scanner/egress", "scanner/egress/path", "scanner/egress/policy", "scanner/egress/reflect", "scanner/explain", "scanner/journal", "scanner/outgoing", "scanner/pace", "scanner/recverr", "scanner/scannertest", "scanner/smtp", "targets"},
}

// mayUse lists outside modules that are let in through few places only.
var mayUse = map[string][]string{
	"github.com/projectdiscovery/mapcidr": {"targets"},
	"github.com/olekukonko/tablewriter":   {"report"},
	"github.com/miekg/dns":                {"targets", "scanner/scannertest"},
	"github.com/vishvananda/netlink":      {"scanner/connect", "scanner/scannertest/lab"},
	"github.com/google/nftables":          {"scanner/scannertest/lab"},
	"github.com/spf13/cobra":              {"cmd/smtpsweep"},
	"github.com/goccy/go-yaml":            {"cmd/smtpsweep", "scanner/egress/policy"},
	"github.com/vbauerster/mpb/v8":        {"cmd/smtpsweep"},
	"github.com/elastic/go-seccomp-bpf":   {"cmd/smtpsweep"},
	"golang.org/x/time":                   {"scanner/egress/reflect"},
	"crypto/tls":                          {"scanner/egress/reflect", "scanner/smtp", "scanner/scannertest", "report"},
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", strings.Join(args, " "), err)
	}
	return strings.Fields(string(out))
}

func TestImportsPointBackward(t *testing.T) {
	for _, pkg := range goList(t, module+"...") {
		name := strings.TrimPrefix(pkg, module)
		if strings.HasPrefix(name, "examples/") {
			continue // examples may use every public package
		}
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package %s is not in the house: add it to mayImport with what it may depend on", name)
			continue
		}
		for _, dep := range goList(t, "-deps", pkg) {
			ours, isOurs := strings.CutPrefix(dep, module)
			if isOurs && ours != name && !slices.Contains(allowed, ours) {
				t.Errorf("%s must not depend on %s", name, ours)
			}
		}
	}
}

func TestOutsideModulesComeInThroughOneDoor(t *testing.T) {
	for _, line := range goListImports(t) {
		name, dep, _ := strings.Cut(line, " ")
		name = strings.TrimPrefix(name, module)
		for outside, doors := range mayUse {
			if (dep == outside || strings.HasPrefix(dep, outside+"/")) && !slices.Contains(doors, name) && !strings.HasPrefix(name, "examples/") {
				t.Errorf("%s imports %s, which only %v may", name, dep, doors)
			}
		}
	}
}

// goListImports returns "package import" lines of the module's own packages, without their tests.
func goListImports(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{$p := .ImportPath}}{{range .Imports}}{{$p}} {{.}}{{"\n"}}{{end}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
