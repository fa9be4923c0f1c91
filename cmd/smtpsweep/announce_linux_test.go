package main

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

func TestAnnouncementSaysThatThereIsNoRoute(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Binary: true}, func(t *testing.T, l *lab.Lab) {
		alone := func(args ...string) string {
			p := &process{ended: make(chan struct{})}
			p.Cmd = execCommand(t, append([]string{"scan", "--dry-run", "-p", "25"}, args...)...)
			p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} // not even loopback is up there
			p.Stdout, p.Stderr = &p.out, &p.err
			p.start(t)
			return p.mustEnd(t, 0).err.String()
		}
		for _, helo := range []string{"", "mon1.example.org"} {
			if said, want := alone("10.64.0.1", "--helo", helo), "Contacts 1 address x 25 = 1 endpoint, to which this machine has no route; "; !strings.HasPrefix(said, want) {
				t.Errorf("it says %q, want %q", said, want)
			}
		}
		os.Setenv("XDG_STATE_HOME", t.TempDir()) // of the lab's process, where this test is alone
		name, as := interfaceOf(t, lab.ScannerAddr4), "[10.20.9.7]"
		if full := (&commonFlags{}).heloName(); full != "" {
			as = full
		}
		_, _, said := invoke(t, "scan", "--dry-run", "-p", "25", "10.64.0.1", "--source", name)
		if want := " from " + name + " as " + as + "; "; !strings.Contains(said, want) {
			t.Errorf("it says %q, want %q", said, want)
		}
		if !l.IPv6() {
			_, _, said := invoke(t, "scan", "--dry-run", "-p", "25", "10.64.0.1", "fd64::1", "--helo", "a.example.org")
			if want := " from 10.20.9.7 as a.example.org (no route to fd64::1); "; !strings.Contains(said, want) {
				t.Errorf("it says %q, want %q", said, want)
			}
		}
	})
}

// interfaceOf returns the name of the interface that has an address.
func interfaceOf(t *testing.T, addr netip.Addr) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if slices.ContainsFunc(networks(i.Addrs()), func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return i.Name
		}
	}
	t.Fatalf("no interface has %s", addr)
	return ""
}
