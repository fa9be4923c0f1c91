package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/egress/reflect"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// TestEgressInterception has a proxy on the way change one thing at a time; each has its
// own code, on the ports where it can be done, and nothing is said of the others.
func TestEgressInterception(t *testing.T) {
	t.Parallel()
	inCI(t)
	tests := []struct {
		mode  string
		word  egress.Word
		codes []string
		proof string // what a reflector proves of it
		ports []uint16
	}{
		{"mask", egress.Downgraded, []string{egress.StartTLSMasked}, reflect.StartTLSMasked, []uint16{25, 587}},
		{"remove", egress.Downgraded, []string{egress.StartTLSRemoved}, reflect.StartTLSRemoved, []uint16{25, 587}},
		{"454", egress.Downgraded, []string{egress.StartTLSRefused}, reflect.StartTLSRefused, []uint16{25, 587}},
		{"502", egress.Downgraded, []string{egress.StartTLSRefused}, reflect.StartTLSRefused, []uint16{25, 587}},
		{"hello", egress.Downgraded, []string{egress.TLSCut}, reflect.TLSCut, []uint16{25, 465, 587}},
		{"certificate", egress.Intercepted, []string{egress.CertificateForeign}, reflect.TLSOpened, []uint16{25, 465, 587}},
		{"banner", egress.Intercepted, []string{egress.BannerForeign, egress.SameGreeting}, reflect.Rewritten, []uint16{25, 587}},
		{"stars", egress.Intercepted, []string{egress.BannerMasked}, reflect.Rewritten, []uint16{25, 587}},
		{"mta", egress.Intercepted, []string{egress.AnswersForAll, egress.BannerForeign, egress.SameEHLO, egress.SameGreeting, egress.StartTLSRemoved}, reflect.Impostor, []uint16{25, 587}},
		// What changes nothing is seen by nobody, but that a reflector sees whose connection it is.
		{"nothing", egress.Allowed, nil, reflect.Proxied, []uint16{25, 587}},
	}
	var clients []netip.Addr
	for i := range tests {
		clients = append(clients, client(i, egress.IPv4))
	}
	lab.RunPath(t, lab.PathConfig{Binary: true, Clients: clients}, func(t *testing.T, p *lab.Path) {
		l := newEgressLab(t, p)
		pin := filepath.Join(l.folder, "pin")
		p.Start(t, lab.R3, "egress.reflector", pin)
		fingerprint, err := os.ReadFile(pin)
		if err != nil {
			t.Fatal(err)
		}
		results := make([]*audited, 2*len(tests)) // without a reflector, and with one
		var group errgroup.Group
		for i, test := range tests {
			port := uint16(2700 + i)
			p.Start(t, lab.R2, "egress.interceptor", portArg(port), test.mode)
			from := client(i, egress.IPv4)
			f := lab.Filter{At: lab.R2, Family: 4, From: netip.PrefixFrom(from, 32), Ports: test.ports, Do: lab.DoRedirect(port)}
			if test.mode != "mta" { // like a device that looks into connections, and makes none
				f.To = lab.PathServers4
				p.Filter(t, f)
				f.To = netip.PrefixFrom(reflectorAddr, 32)
			}
			p.Filter(t, f)
			group.Go(func() error {
				results[i] = l.audit(t, "--source", from.String())
				return nil
			})
			group.Go(func() error {
				results[len(tests)+i] = l.audit(t, "--source", from.String(), "--reflector", reflectorAddr.String()+"#"+string(fingerprint))
				return nil
			})
		}
		group.Wait()
		for i, test := range tests {
			a := results[i]
			for _, port := range []uint16{25, 465, 587, 2525} {
				word, codes := egress.Allowed, []string(nil)
				if slices.Contains(test.ports, port) {
					word, codes = test.word, test.codes
				}
				if v := a.of(t, egress.IPv4, port); v.Word != word || !slices.Equal(codesOf(v), codes) {
					t.Errorf("%s: %d is %s %v %v, want %s %v\n%s", test.mode, port, v.Word, codesOf(v), v.Evidence, word, codes, a.stdout)
				}
				proven := results[len(tests)+i]
				v := proven.of(t, egress.IPv4, port)
				tampered := slices.Contains(test.ports, port)
				if tampered && (!v.Bad() || !v.Has(test.proof)) || !tampered && (v.Word != egress.Allowed || !v.Reflected) {
					t.Errorf("%s with a reflector: %d is %s %v, want %s\n%s", test.mode, port, v.Word, codesOf(v), test.proof, proven.stdout)
				}
			}
		}
	})
}

// TestEgressWithoutIPv6 takes IPv6 from the machine: that is no fault of the network, and no verdict.
func TestEgressWithoutIPv6(t *testing.T) {
	t.Parallel()
	inCI(t)
	lab.RunPath(t, lab.PathConfig{Binary: true}, func(t *testing.T, p *lab.Path) {
		l := newEgressLab(t, p)
		if !p.IPv6() {
			t.Skip("this kernel has no IPv6")
		}
		p.Sysctl(t, lab.Scanner, "net/ipv6/conf/sc0/disable_ipv6", "1")
		a := l.audit(t)
		for _, port := range egress.MailPorts() {
			v4, v6 := a.of(t, egress.IPv4, port), a.of(t, egress.IPv6, port)
			if v4.Word != egress.Allowed || v6.Word != egress.NotTested || v6.Cause != egress.CauseNoIPv6 {
				t.Errorf("%d: IPv4 %s, IPv6 %s %s", port, v4.Word, v6.Word, v6.Cause)
			}
		}
		toldInOrder(t, a.stdout, []string{"PORT IPv4 WHAT WAS SEEN", "IPv6 is not tested: this machine has no IPv6."})
		if a.code != exitDone {
			t.Errorf("exit %d, want 0", a.code)
		}
		if a = l.audit(t, "-6"); a.code != exitUndecided || !strings.Contains(a.stderr, "Contacts nobody: this machine has no IPv6.") {
			t.Errorf("-6: exit %d\n%s%s", a.code, a.stderr, a.stdout)
		}
	})
}

// TestEgressReflector holds sessions through a NAT, leaves them quiet, and has our own ports
// looked at from outside.
func TestEgressReflector(t *testing.T) {
	t.Parallel()
	inCI(t)
	lab.RunPath(t, lab.PathConfig{Binary: true}, func(t *testing.T, p *lab.Path) {
		l := newEgressLab(t, p)
		pin := filepath.Join(l.folder, "pin")
		p.Start(t, lab.R3, "egress.reflector", pin)
		fingerprint, err := os.ReadFile(pin)
		if err != nil {
			t.Fatal(err)
		}
		far := reflectorAddr.String() + "#" + string(fingerprint)
		a := l.audit(t, "-4", "--reflector", far, "--idle", "1s,2s", "--reverse")
		toldInOrder(t, a.stdout, []string{"ALLOWED", "25 allowed", "proven by the reflector", "2 s of silence pass"})
		for _, want := range []string{"our own port 25 is closed from outside", "our own port 587 is closed from outside"} {
			if !strings.Contains(strings.Join(strings.Fields(a.stdout), " "), want) {
				t.Errorf("%q is not there:\n%s", want, a.stdout)
			}
		}
		for _, port := range egress.MailPorts() {
			if v := a.of(t, egress.IPv4, port); v.Public != lab.PathClient4.String() || !v.Reflected {
				t.Errorf("%d: seen as %s, reflected %v", port, v.Public, v.Reflected)
			}
		}
		p.Filter(t, lab.Filter{At: lab.R1, Family: 4, Do: lab.DoMasquerade()})
		a = l.audit(t, "-4", "--reflector", far)
		if v := a.of(t, egress.IPv4, 25); v.Word != egress.Allowed || v.Public == lab.PathClient4.String() || !v.Reflected {
			t.Errorf("behind a NAT: %s, seen as %s, reflected %v\n%s", v.Word, v.Public, v.Reflected, a.stdout)
		}
		// Of one far end that is one's own, a single port that is dropped is known to be.
		p.Filter(t, lab.Filter{At: lab.R2, Family: 4, To: netip.PrefixFrom(reflectorAddr, 32), Ports: []uint16{25}})
		p.Filter(t, lab.Filter{At: lab.R2, Family: 4, To: lab.PathServers4, Ports: []uint16{25}})
		a = l.audit(t, "-4", "--reflector", far)
		if v := a.of(t, egress.IPv4, 25); v.Word != egress.Blocked || a.code != exitBad {
			t.Errorf("dropped: %s %s, exit %d\n%s", v.Word, v.Cause, a.code, a.stdout)
		}
	})
	for _, args := range [][]string{{"--idle", "1s"}, {"--reverse"}, {"--reflector", "far.example.org"}, {"--reflector", "far.example.org#x"}, {"--control", "25"}, {"10.0.0.0/8"}, {"-f", "xml"}, {"--watch", "1ms"}} {
		if code, _, said := invoke(t, append([]string{"egress"}, args...)...); code != exitUsage || strings.Count(said, "\n") > 2 {
			t.Errorf("%v: exit %d: %s", args, code, said)
		}
	}
}

// TestEgressPolicy looks from three segments at once, of which one is as the policy says, one
// lets out too much, and one too little.
func TestEgressPolicy(t *testing.T) {
	t.Parallel()
	inCI(t)
	var clients []netip.Addr
	for i := range 3 {
		clients = append(clients, client(i, egress.IPv4))
	}
	lab.RunPath(t, lab.PathConfig{Binary: true, Clients: clients}, func(t *testing.T, p *lab.Path) {
		l := newEgressLab(t, p)
		pin := filepath.Join(l.folder, "pin")
		p.Start(t, lab.R3, "egress.reflector", pin)
		fingerprint, err := os.ReadFile(pin)
		if err != nil {
			t.Fatal(err)
		}
		far, gone := operatorAddr(10, false), netip.MustParseAddr("62.20.4.99") // nobody has it
		for i, f := range []lab.Filter{{}, {Ports: []uint16{25}, Do: lab.DoReset()}, {Ports: []uint16{587}}} {
			if len(f.Ports) > 0 {
				f.At, f.Family, f.From = lab.R1, 4, netip.PrefixFrom(clients[i], 32)
				p.Filter(t, f)
			}
		}
		policy := filepath.Join(l.folder, "policy.yaml")
		text := fmt.Sprintf(`
segments: {relays: [%s/32], users: [%s/32], guests: [%s/32]}
deny: [{from: all, to: any, ports: [25]}, {from: users, to: %s, ports: [25]}]
allow:
  - {from: relays, to: any, ports: [25]}
  - {from: all, to: any, ports: [587]}
`, clients[0], clients[1], clients[2], gone)
		if err := os.WriteFile(policy, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		state := filepath.Join(l.folder, "policy")
		if err := os.Mkdir(state, 0o777); err != nil {
			t.Fatal(err)
		}
		os.Chmod(state, 0o777)
		args := []string{"egress", "--policy", policy, "--reflector", reflectorAddr.String() + "#" + string(fingerprint), "-f", "csv", "-o", filepath.Join(state, "p.jsonl")}
		for _, c := range clients {
			args = append(args, "--source", c.String())
		}
		cmd := lab.Nobody(l.Command(lab.Scanner, lab.Binary(t), append(args, far.String())...))
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+state)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		cmd.Run() // its exit code is looked at
		rows, err := csv.NewReader(&out).ReadAll()
		if err != nil || len(rows) == 0 {
			t.Fatalf("%v\n%s", err, errs.String())
		}
		col := func(row []string, name string) string { return row[slices.Index(rows[0], name)] }
		got := map[string]string{}
		for _, row := range rows[1:] {
			got[col(row, "source")+" "+col(row, "destination")+" "+col(row, "port")] = col(row, "result")
		}
		want := map[string]string{}
		for i, results := range [][2]string{{"pass", "pass"}, {"pass", "pass"}, {"fail-open", "fail-blocked"}} {
			for _, to := range []netip.Addr{far, reflectorAddr} {
				want[fmt.Sprintf("%s %s 25", clients[i], to)] = results[0]
				want[fmt.Sprintf("%s %s 587", clients[i], to)] = results[1]
			}
		}
		// A refusal counts as a block only of the reflector, which is known to listen.
		want[fmt.Sprintf("%s %s 25", clients[1], far)] = "untested"
		want[fmt.Sprintf("%s %s 25", clients[1], gone)] = "untested"
		if !maps.Equal(got, want) || cmd.ProcessState.ExitCode() != exitBad {
			t.Errorf("exit %d\n got %v\nwant %v\n%s", cmd.ProcessState.ExitCode(), got, want, errs.String())
		}
	})
}
