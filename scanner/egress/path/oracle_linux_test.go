package path

import (
	"encoding/xml"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// systemProgram finds a program that the test compares with.
func systemProgram(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/usr/bin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	if tier := os.Getenv("SMTPSWEEP_LAB"); tier == "require" || tier == "long" {
		t.Fatalf("%s is required and not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// sendersOf returns who answered a port, by TTL, up to the host's distance; silence is "*".
func sendersOf(tr *Trace, port uint16) (out []string) {
	for _, h := range tr.Hops {
		if h.Port != port {
			continue
		}
		var from []string
		for _, a := range h.Answers {
			from = append(from, a.From.String())
		}
		if len(from) == 0 {
			from = []string{"*"}
		}
		out = append(out, strings.Join(from, " "))
	}
	return out
}

// compareWithTraceroute has traceroute -T look at port 25 of every host of a scenario.
func compareWithTraceroute(t *testing.T, p *lab.Path, all []scenario, traces []*Trace) {
	program := systemProgram(t, "traceroute")
	outputs, errs := make([]string, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	places := make(chan struct{}, 8)
	for i, s := range all {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			out, err := p.Command(lab.Scanner, program, "-n", "-T", "-p", "25", "-q", "2", "-m", "4", "-w", "2", s.filter.To.Addr().String()).CombinedOutput()
			outputs[i], errs[i] = string(out), err
		})
	}
	wg.Wait()
	for i, s := range all {
		want := tracerouteSenders(outputs[i])
		if got := sendersOf(traces[i], 25); !slices.Equal(got, want) || errs[i] != nil {
			t.Errorf("%s: got %q, want %q as traceroute says (%v):\n%s", s.name, got, want, errs[i], outputs[i])
		}
	}
}

// tracerouteSenders reads what traceroute -n prints.
func tracerouteSenders(text string) (out []string) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if ttl, err := strconv.Atoi(fields[0]); err != nil || ttl != len(out)+1 {
			continue
		}
		var from []string
		for _, f := range fields[1:] {
			if _, err := netip.ParseAddr(f); err == nil && !slices.Contains(from, f) {
				from = append(from, f)
			}
		}
		if len(from) == 0 {
			from = []string{"*"}
		}
		out = append(out, strings.Join(from, " "))
	}
	return out
}

// compareWithNmap has nmap --traceroute look at port 587, which every host answers.
func compareWithNmap(t *testing.T, p *lab.Path, all []scenario, traces []*Trace) {
	args := []string{"-n", "-Pn", "-sS", "-p", "587", "--traceroute", "-oX", "-"}
	if all[0].filter.Family == 6 {
		args = append(args, "-6")
	}
	for _, s := range all {
		args = append(args, s.filter.To.Addr().String())
	}
	out, err := p.Command(lab.Scanner, systemProgram(t, "nmap"), args...).Output()
	if err != nil {
		t.Fatalf("nmap: %v\n%s", err, out)
	}
	var doc struct {
		Hosts []struct {
			Address struct {
				Addr string `xml:"addr,attr"`
			} `xml:"address"`
			Hops []struct {
				TTL  int    `xml:"ttl,attr"`
				Addr string `xml:"ipaddr,attr"`
			} `xml:"trace>hop"`
		} `xml:"host"`
	}
	if err := xml.Unmarshal(out, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Hosts) != len(all) {
		t.Fatalf("nmap traced %d hosts, want %d", len(doc.Hosts), len(all))
	}
	for _, host := range doc.Hosts {
		i := slices.IndexFunc(all, func(s scenario) bool { return s.filter.To.Addr().String() == host.Address.Addr })
		if i < 0 {
			t.Fatalf("nmap traced %s", host.Address.Addr)
		}
		var want []string
		for _, h := range host.Hops {
			want = append(want, fmt.Sprintf("%d %s", h.TTL, h.Addr))
		}
		var got []string
		for n, from := range sendersOf(traces[i], 587) {
			got = append(got, fmt.Sprintf("%d %s", n+1, from))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q as nmap says", host.Address.Addr, got, want)
		}
	}
}
