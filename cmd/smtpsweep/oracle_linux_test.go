package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"math/bits"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// What nmap scans of what the sweeps of TestTruth scan.
var (
	oracle6 = netip.MustParsePrefix("fd64::100/122")
	linkGap = netip.MustParsePrefix("10.30.0.100/31") // one host, and nobody beside it
	atNmaps = netip.MustParsePrefix("10.64.32.5/32")  // one address of class port-unreach
)

// dtd is nmap's document type, in Debian's nmap-common.
const dtd = "/usr/share/nmap/nmap.dtd"

// weKnowMore are the answers that nmap words otherwise, or does not tell apart.
// All others must be equal, word by word.
var weKnowMore = []struct{ ours, nmap, why string }{
	{"closed conn-refused", "closed reset",
		"the same TCP reset: nmap sees the segment, and we what the kernel makes of it in our connect"},
	{"filtered no-neighbor", "host down",
		"nmap drops a host without ARP answer and reports no port; we say of each port why it did not answer"},
}

// An oracle is what other programs say of the network of TestTruth.
type oracle struct {
	routed                      netip.Prefix // of routed4, what nmap scans of it
	ipv4, ipv6, onLink, connect *nmapScan    // nil without nmap
	seen                        map[int]int  // how often each of weKnowMore was met
}

// startOracle starts nmap, if it is installed.
func startOracle(t *testing.T, l *lab.Lab) *oracle {
	t.Helper()
	addresses := lab.Count(t, 256, 256, 2048) // all that the sweep has
	o := &oracle{seen: map[int]int{}, routed: netip.PrefixFrom(routed4.Addr(), 33-bits.Len(uint(addresses)))}
	nmap, err := exec.LookPath("nmap")
	if err != nil {
		return o
	}
	o.ipv4 = startNmap(t, l, nmap, "-sS", o.routed.String())
	o.onLink = startNmap(t, l, nmap, "-sS", linkGap.String())
	o.connect = startNmap(t, l, nmap, "-sT", atNmaps.String())
	if l.IPv6() {
		o.ipv6 = startNmap(t, l, nmap, "-6", "-sS", oracle6.String())
	}
	return o
}

// check compares what was said with what the sweeps say of the same endpoints.
func (o *oracle) check(t *testing.T, l *lab.Lab, routed, overIPv6, onLink *labScan) {
	t.Run("nmap agrees", func(t *testing.T) {
		needNmap(t, o.ipv4)
		o.compare(t, o.ipv4.ports(t), routed.ports(t), addressesOf(o.routed))
	})
	t.Run("nmap agrees over IPv6", func(t *testing.T) {
		needNmap(t, o.ipv4)
		if !l.IPv6() {
			cannotTest(t, "the kernel has no IPv6")
		}
		o.compare(t, o.ipv6.ports(t), overIPv6.ports(t), addressesOf(oracle6))
	})
	t.Run("nmap agrees on-link", func(t *testing.T) {
		needNmap(t, o.onLink)
		o.compare(t, o.onLink.ports(t), onLink.ports(t), addressesOf(linkGap))
	})
	t.Run("nmap differs as listed", func(t *testing.T) {
		needNmap(t, o.ipv4)
		for i, w := range weKnowMore {
			t.Logf("%d rows: %s, nmap says %s: %s", o.seen[i], w.ours, w.nmap, w.why)
			if o.seen[i] == 0 {
				t.Errorf("%s never was %s to nmap: it need not be listed", w.ours, w.nmap)
			}
		}
	})
	t.Run("nmap -sT takes port-unreachable for closed", func(t *testing.T) {
		needNmap(t, o.connect)
		checkPortUnreachable(t, o.connect.ports(t), routed)
	})
	t.Run("XML is valid", func(t *testing.T) {
		checkXML(t, routed, onLink)
	})
}

func needNmap(t *testing.T, s *nmapScan) {
	t.Helper()
	if s == nil {
		cannotTest(t, "nmap is missing: .ci/programs installs it on Debian 12")
	}
}

// An nmapScan is a run of nmap in the lab, by its root.
type nmapScan struct {
	cmd  *exec.Cmd
	path string // of its XML
	said bytes.Buffer
	done bool
}

// startNmap starts nmap on the mail ports, with time-outs that suit a network
// within one machine, and repetitions enough for one that is busy.
func startNmap(t *testing.T, l *lab.Lab, nmap string, args ...string) *nmapScan {
	t.Helper()
	s := &nmapScan{path: filepath.Join(t.TempDir(), "nmap.xml")}
	flags := []string{"-n", "-Pn", "-v", "-p", "25,465,587", "--max-retries", "5", "--initial-rtt-timeout", "300ms",
		"--min-hostgroup", "256", "--min-rate", "500", "-oX", s.path}
	s.cmd = l.Command(lab.Scanner, nmap, append(flags, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.done {
			s.cmd.Process.Kill()
			s.cmd.Wait()
		}
	})
	return s
}

// ports returns what nmap found.
func (s *nmapScan) ports(t *testing.T) map[netip.AddrPort]portFact {
	t.Helper()
	if !s.done {
		s.done = true
		if err := s.cmd.Wait(); err != nil {
			t.Fatalf("nmap: %v\n%s", err, s.said.String())
		}
	}
	return portsOfXML(t, s.path)
}

// ports returns what a sweep found, by its XML.
func (s *labScan) ports(t *testing.T) map[netip.AddrPort]portFact {
	t.Helper()
	s.wait(t)
	return portsOfXML(t, s.file("xml"))
}

// A portFact is what nmap's XML says of a port.
type portFact struct {
	state, reason string
	from          netip.Addr // who sent the ICMP message
}

func (f portFact) String() string { return f.state + " " + f.reason }

// hostDown is what is said of the ports of a host that is down: nothing.
var hostDown = portFact{state: "host", reason: "down"}

// portsOfXML reads nmap's XML: its own and ours.
func portsOfXML(t *testing.T, path string) map[netip.AddrPort]portFact {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var run struct {
		Hosts []struct {
			Status struct {
				State string `xml:"state,attr"`
			} `xml:"status"`
			Address []struct {
				Addr string `xml:"addr,attr"`
				Type string `xml:"addrtype,attr"`
			} `xml:"address"`
			Ports []struct {
				ID    uint16 `xml:"portid,attr"`
				State struct {
					State  string `xml:"state,attr"`
					Reason string `xml:"reason,attr"`
					From   string `xml:"reason_ip,attr"`
				} `xml:"state"`
			} `xml:"ports>port"`
		} `xml:"host"`
	}
	if err := xml.Unmarshal(text, &run); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	found := map[netip.AddrPort]portFact{}
	for _, h := range run.Hosts {
		addr, err := netip.ParseAddr(h.Address[0].Addr)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if len(h.Ports) == 0 && h.Status.State == "down" {
			for _, port := range mailPorts {
				found[netip.AddrPortFrom(addr, port)] = hostDown
			}
		}
		for _, p := range h.Ports {
			key, fact := netip.AddrPortFrom(addr, p.ID), portFact{state: p.State.State, reason: p.State.Reason}
			switch {
			case p.State.From != "":
				fact.from = netip.MustParseAddr(p.State.From)
			case strings.HasSuffix(fact.reason, "-unreach"), strings.HasSuffix(fact.reason, "-prohibited"):
				fact.from = addr // nmap names the sender only where it is another
			}
			if _, twice := found[key]; twice {
				t.Errorf("%s: %s is there twice", path, key)
			}
			found[key] = fact
		}
	}
	return found
}

// compare compares row by row: states, reasons, and who sent ICMP messages.
func (o *oracle) compare(t *testing.T, nmaps, ours map[netip.AddrPort]portFact, addrs []netip.Addr) {
	t.Helper()
	same := 0
	for _, addr := range addrs {
		for _, port := range mailPorts {
			key := netip.AddrPortFrom(addr, port)
			our, ok := ours[key]
			nmap, nmapOK := nmaps[key]
			if !ok || !nmapOK {
				t.Errorf("%s: in our file: %v, in nmap's: %v", key, ok, nmapOK)
				continue
			}
			if nmap != hostDown && our.from != nmap.from {
				t.Errorf("%s: %s is from %v, nmap says %s from %v", key, our, our.from, nmap, nmap.from)
			}
			if our.String() == nmap.String() {
				same++
				continue
			}
			if !o.explained(our, nmap) {
				t.Errorf("%s: %s, nmap says %s", key, our, nmap)
			}
		}
	}
	t.Logf("%d of %d equal, the others explained", same, len(addrs)*len(mailPorts))
}

// explained reports whether a difference is one of those we know the cause of.
func (o *oracle) explained(our, nmap portFact) bool {
	for i, w := range weKnowMore {
		if our.String() == w.ours && nmap.String() == w.nmap {
			o.seen[i]++
			return true
		}
	}
	return false
}

// checkPortUnreachable shows what our own sockets are for: an ICMP message 3/3 is
// ECONNREFUSED to an ordinary connect, so nmap -sT calls the port closed. We call
// it filtered, and name who filters it.
func checkPortUnreachable(t *testing.T, nmaps map[netip.AddrPort]portFact, routed *labScan) {
	t.Helper()
	found := 0
	for _, r := range routed.rows(t) {
		addr := atNmaps.Addr()
		if r["address"] != addr.String() {
			continue
		}
		found++
		ours := strings.Join([]string{r["state"], r["reason"], r["icmp"], r["icmp_from"]}, " ")
		if want := "filtered port-unreach 3/3 " + addr.String(); ours != want {
			t.Errorf("port %s: %q, want %q", r["port"], ours, want)
		}
	}
	if found != len(mailPorts) || len(nmaps) != len(mailPorts) {
		t.Errorf("%d rows of ours and %d of nmap's, want %d", found, len(nmaps), len(mailPorts))
	}
	for key, fact := range nmaps {
		if fact.String() != "closed conn-refused" {
			t.Errorf("nmap -sT says of %s: %s, want closed conn-refused", key, fact)
		}
	}
}

// checkXML lets xmllint compare our files with nmap's document type.
func checkXML(t *testing.T, scans ...*labScan) {
	t.Helper()
	xmllint, err := exec.LookPath("xmllint")
	if _, noDTD := os.Stat(dtd); err != nil || noDTD != nil {
		cannotTest(t, "xmllint or %s is missing: .ci/programs installs them on Debian 12", dtd)
	}
	for _, s := range scans {
		s.wait(t)
		out, err := exec.Command(xmllint, "--nonet", "--noout", "--dtdvalid", dtd, s.file("xml")).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", s.file("xml"), err, out)
		}
	}
}

// checkNdiff sweeps a small network twice. Between the sweeps a router begins to
// reset one port, and ndiff shows that and nothing else.
func checkNdiff(t *testing.T, l *lab.Lab) {
	ndiff, err := exec.LookPath("ndiff")
	if err != nil {
		cannotTest(t, "ndiff is missing: .ci/programs installs it on Debian 12")
	}
	sweep := func() *labScan {
		s := startScan(t, l, "--timeout", "1.9s", "10.64.0.0/29")
		if code := s.wait(t); code != exitDone {
			t.Fatalf("exit code %d: %s", code, s.said.String())
		}
		return s
	}
	before := sweep()
	l.RejectOut(t, lab.Router, netip.MustParsePrefix("10.64.0.7/32"), 587, lab.Reset)
	after := sweep()

	if out, err := exec.Command(ndiff, before.file("xml"), before.file("xml")).CombinedOutput(); err != nil {
		t.Errorf("a file and itself: %v\n%s", err, out)
	}
	out, err := exec.Command(ndiff, before.file("xml"), after.file("xml")).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Fatalf("two files that differ: %v\n%s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		line = strings.Join(strings.Fields(line), " ")
		said := strings.HasPrefix(strings.TrimLeft(line, "-+ "), "|") || line == "Host script results:"
		if line != "" && !said && !strings.HasPrefix(line, "-Nmap ") && !strings.HasPrefix(line, "+Nmap ") { // what was said on the ports, and the command lines
			lines = append(lines, line)
		}
	}
	want := []string{"10.64.0.7:", "PORT STATE SERVICE VERSION", "-587/tcp open submission", "+587/tcp closed submission"}
	if !slices.Equal(lines, want) {
		t.Errorf("ndiff shows %q, want %q; in full:\n%s", lines, want, out)
	}
}
