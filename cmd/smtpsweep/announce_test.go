package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
)

var announcedZone = scannertest.DNSZone{
	"one.example.org": {"A 8.8.8.10"}, "two.example.org": {"A 8.8.8.10"}, "three.example.org": {"A 9.9.9.9"}, "bad.example.org": {"SERVFAIL"},
	"net.example.org": {"A 8.8.8.1", "A 8.8.8.2", "A 8.8.8.3", "A 8.8.8.4", "A 8.8.8.5", "A 8.8.8.6", "A 8.8.8.7", "A 8.8.8.8", "A 8.8.8.9", "A 8.8.8.10"},
}

// What a run says before it begins is true: how much, and how long.
func TestAnnouncementIsTrue(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	server := scannertest.DNS(t, announcedZone)
	for _, c := range []struct{ what, args, want string }{
		{"a block", "10.20.30.16/28", "16 addresses x 25,465,587 = 48 endpoints"},
		{"a block with host bits", "10.20.30.17/28", "16 addresses x 25,465,587 = 48 endpoints"},
		{"two families", "10.0.0.1 fd00::/127", "3 addresses x 25,465,587 = 9 endpoints"},
		{"exclusions", "10.0.0.0/28 --exclude 10.0.0.0/29,10.9.9.9", "8 addresses x 25,465,587 = 24 endpoints"},
		{"one address", "10.0.0.1 -p 25", "1 address x 25 = 1 endpoint"},
		{"many ports", "10.0.0.1 -p 1-100", "1 address x 100 ports = 100 endpoints"},

		{"a port of its own", "10.0.0.1:2525 -p 25", "1 address x 2525 = 1 endpoint"},
		{"ports of their own, as many as -p has", "10.0.0.1:1 10.0.0.1:2 10.0.0.1:3", "1 address x 1,2,3 = 3 endpoints"},
		{"one with a port of its own", "10.0.0.1:2525 10.0.0.2 -p 25", "2 endpoints on 2 addresses"},
		{"names with ports of their own", "three.example.org:2525 -p 25", "1 address x 2525 = 1 endpoint"},

		{"a name", "one.example.org -p 25", "1 address x 25 = 1 endpoint"},
		{"two names of one address", "one.example.org two.example.org -p 25", "2 endpoints on 1 address"},
		{"a name that cannot be asked for", "one.example.org bad.example.org -p 25", "1 address x 25 = 1 endpoint"},
		{"a name and its address", "8.8.8.10 one.example.org -p 25", "2 endpoints on 1 address"},
		{"a name and another port of its address", "8.8.8.10:2525 one.example.org -p 25", "2 endpoints on 1 address"},

		{"a part of ports", "10.0.0.0/24 --shard 2/3", "256 endpoints on 256 addresses"},
		{"a part of addresses", "10.0.0.0/24 --shard 1/8", "96 endpoints on 96 addresses"},
		{"a part that is one more than others", "10.0.0.0/28 --shard 1/5", "10 endpoints on 10 addresses"},
		{"a part with exclusions", "10.0.0.0/28 -p 25 --shard 1/2 --exclude 10.0.0.0,10.0.0.2,10.0.0.4", "5 endpoints on 5 addresses"},
		{"a large part", "10.0.0.0/8 --shard 1/4", "about 12,582,912 endpoints on 12,582,912 addresses"},
		{"a large half", "10.0.0.0/9 --shard 1/2", "about 12,582,912 endpoints on 8,388,608 addresses"},
	} {
		t.Run(c.what, func(t *testing.T) {
			line := firstAnnounced(t, c.args, server)
			if got, _, _ := strings.Cut(line, " from 127.0.0.1 as mon1.example.org; "); got != "Contacts "+c.want {
				t.Errorf("says %s\nwant %s", line, c.want)
			}
		})
	}
}

// Each time has the 4 s of a time-out in it; the slow ones are the same everywhere.
func TestAnnouncedTimeIsThatOfTheNarrowestLimit(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	server := scannertest.DNS(t, announcedZone)
	for _, c := range []struct{ what, args, want string }{
		{"private: the rate", "10.0.0.0/20", "7 s"},
		{"public: the rate", "8.8.0.0/20", "66 s"},
		{"public: one subnet", "8.8.8.0/24", "43 s"},
		{"public: one host after the other", "8.8.8.8", "6 s"},
		{"public: addresses in subnets of their own", "8.1.0.0 8.2.0.0 8.3.0.0 8.4.0.0 8.5.0.0 8.6.0.0 8.7.0.0 8.8.0.0 8.9.0.0 8.10.0.0", "6 s"},
		{"public: a subnet of IPv6 has a /48", "2a00::/118", "3 min"},
		{"public: a host with more ports than the others", "8.1.0.0/24 8.8.8.8:1 8.8.8.8:2 8.8.8.8:3 8.8.8.8:4 -p 25 --subnet-rate 0", "7 s"},
		{"public: names in one subnet", "net.example.org -p 1-20 --host-interval 0", "14 s"},
		{"public: one of eight parts", "8.8.8.0/24 --shard 1/8", "9 s"},
	} {
		t.Run(c.what, func(t *testing.T) {
			line := firstAnnounced(t, c.args, server)
			if _, got, _ := strings.Cut(line, "mon1.example.org; "); got != c.want+", slow ones +62 s." {
				t.Errorf("says %s\nwant %s", got, c.want)
			}
		})
	}
}

func firstAnnounced(t *testing.T, args string, server netip.AddrPort) string {
	t.Helper()
	stderr, _ := announced(t, append(strings.Fields(args), "--resolver", server.String())...)
	line, _, _ := strings.Cut(stderr, "\n")
	return line
}

// announced returns what a run says before it begins, which contacts nobody but
// a resolver.
func announced(t *testing.T, args ...string) (stderr string, s *sweep) {
	t.Helper()
	var errs strings.Builder
	u, f := newUI(strings.NewReader(""), io.Discard, &errs), &scanFlags{}
	cmd := newScanCommand(u, f, nil)
	if err := cmd.ParseFlags(append([]string{"--source", "127.0.0.1", "--helo", "mon1.example.org"}, args...)); err != nil {
		t.Fatal(err)
	}
	s = &sweep{u: u, f: f, flags: cmd.Flags(), specs: cmd.Flags().Args(), noted: map[string]bool{}}
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.announce()
	return errs.String(), s
}

// A list of names must not fill the screen, and what it says must not silence
// what the run finds out.
func TestNoticesOfNamesAreBounded(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	const names = 1100
	zone := scannertest.DNSZone{}
	var list strings.Builder
	for i := range names {
		name := fmt.Sprintf("h%d.example.org", i)
		zone[name] = []string{"A 10.0.0.1"}
		fmt.Fprintln(&list, name)
	}
	path := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(path, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	stderr, s := announced(t, "-i", path, "--allow-private", "--resolver", scannertest.DNS(t, zone).String())
	if n := strings.Count(stderr, "Notice: "); n != maxNotices+1 || !strings.Contains(stderr, "Notice: and 1,080 more like these") {
		t.Errorf("%d notices:\n%.2000s", n, stderr)
	}
	s.note("locally-intercepted", "somebody answers for others")
	if !s.noted["locally-intercepted"+"somebody answers for others"] {
		t.Error("a note of the run is lost behind notices")
	}
}

// What is not contacted is no surprise either: how much, why, and with which
// flag it would be.
func TestAnnouncementSaysWhatIsNotContacted(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	server := scannertest.DNS(t, scannertest.DNSZone{
		"a.example.org": {"A 10.0.0.1"}, "b.example.org": {"A 10.0.0.2", "A 127.0.0.1"}, "doc.example.org": {"A 192.0.2.7"},
		"public.example.org": {"A 8.8.8.8"}, "bad.example.org": {"SERVFAIL"}, "empty.example.org": {}, "null.example.org": {"MX 0 ."},
	}).String()
	path := filepath.Join(t.TempDir(), "list")
	for _, c := range []struct{ list, args, want string }{
		{"a.example.org b.example.org", "-p 25,587", `Contacts nobody: no name leads to an address that may be contacted.
2 endpoints are not contacted: names lead to addresses that are never contacted behind a name.
4 endpoints are not contacted: names of a file or MX lead to private addresses; --allow-private contacts them.
`},
		{"a.example.org public.example.org", "-p 25 --exclude 8.8.8.0/24", `Contacts nobody: no name leads to an address that may be contacted.
1 endpoint is not contacted: names lead to excluded addresses.
1 endpoint is not contacted: names of a file or MX lead to private addresses; --allow-private contacts them.
`},
		{"doc.example.org", "-p 25", `Contacts nobody: no name leads to an address that may be contacted.
1 endpoint is not contacted: names lead to special addresses; --allow-reserved contacts them.
`},
		{"gone.example.org lost.example.org bad.example.org empty.example.org mx:null.example.org a..b", "", `Contacts nobody: no name leads to an address that may be contacted.
1 name is not contacted: it is no name of a host.
1 name is not contacted: the DNS could not be asked.
1 name is not contacted: the domain accepts no mail (null MX).
1 name is not contacted: there is no address.
2 names are not contacted: no such name exists.
`},
		{"a.example.org", "10.0.0.9 -p 25", `1 endpoint is not contacted: names of a file or MX lead to private addresses; --allow-private contacts them.
`},
		{"a.example.org", "10.0.0.9 -p 25 --allow-private", `Notice: a.example.org leads to the private address 10.0.0.1
`},
	} {
		if err := os.WriteFile(path, []byte(c.list), 0o600); err != nil {
			t.Fatal(err)
		}
		stderr, _ := announced(t, append(strings.Fields(c.args), "-i", path, "--resolver", server)...)
		if !strings.HasSuffix(stderr, c.want) {
			t.Errorf("%s: it says\n%swant\n%s", c.list, stderr, c.want)
		}
	}
}

func TestAnnouncementSaysWhoEHLOSays(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	own := "[127.0.0.1]"
	if name := (&commonFlags{}).heloName(); name != "" {
		own = name // of a machine that has a full name
	}
	for args, want := range map[string]string{
		"":                         " from 127.0.0.1 as " + own + "; ",
		"--source 127.0.0.1":       " from 127.0.0.1 as " + own + "; ",
		"--helo mon1.example.org":  " from 127.0.0.1 as mon1.example.org; ",
		"--probe port":             " from 127.0.0.1; ",
		"--probe banner --helo me": " from 127.0.0.1; ",
	} {
		_, _, stderr := invoke(t, append(strings.Fields(args), "scan", "127.0.0.1", "-p", "25", "--dry-run")...)
		if !strings.Contains(stderr, want) {
			t.Errorf("%s: it says %s, want %q", args, stderr, want)
		}
	}
	for addr, want := range map[string]string{"192.0.2.1": "[192.0.2.1]", "2001:db8::1": "[IPv6:2001:db8::1]", "fe80::1%eth0": "[IPv6:fe80::1]"} {
		if got := smtp.AddressLiteral(netip.MustParseAddr(addr)); got != want {
			t.Errorf("the literal of %s is %s, want %s", addr, got, want)
		}
	}
}

// Somebody else's network gets the polite pace, also where a flag was needed to
// scan it at all: only what is private or loopback is one's own.
func TestOnlyPrivateAddressesGetTheFastPace(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	server := scannertest.DNS(t, scannertest.DNSZone{"lab.example.org": {"A 198.18.0.1"}, "own.example.org": {"A 10.0.0.1"}}).String()
	const polite, fast = "Pace: 200 probes per second in all, 20 ", "Pace: 5000 probes per second in all, unlimited "
	for args, want := range map[string]string{
		"10.0.0.1 127.0.0.1 fd00::1": fast, "8.8.8.8": polite, "10.0.0.1 8.8.8.8": polite, "own.example.org": fast,
		"100.64.0.1": polite, "198.18.0.0/30": polite, "192.0.2.1 10.0.0.1": polite, "lab.example.org": polite,
	} {
		stderr, _ := announced(t, append(strings.Fields(args), "-v", "--allow-reserved", "--resolver", server)...)
		if !strings.Contains(stderr, want) {
			t.Errorf("%s: it says %s, want %q", args, stderr, want)
		}
	}
}
