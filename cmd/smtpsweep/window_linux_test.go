package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/connect"
	"github.com/smtpsweep/smtpsweep/scanner/pace"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
	"github.com/smtpsweep/smtpsweep/targets"
)

// Addresses of servers whose TCP window is kept small on the way (B75), in their
// last byte.
var (
	openWindow  = netip.MustParseAddr("10.64.1.1")
	smallWindow = netip.MustParseAddr("10.64.1.2") // a few bytes at a time
	zeroWindow  = netip.MustParseAddr("10.64.1.3") // greets, and takes nothing: a tarpit of iptables
	zeroAndMute = netip.MustParseAddr("10.64.1.4") // LaBrea
)

var _ = lab.Register("windows", serveWindows)

// serveWindows is the process of these servers.
func serveWindows(ctx context.Context, _ []string) error {
	zoo, err := scannertest.Start(context.Background(), scannertest.Config{})
	if err != nil {
		return err
	}
	defer zoo.Close()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", ":25")
	if err != nil {
		return err
	}
	good, _ := scannertest.Find("good")
	mute, _ := scannertest.Find("mute")
	err = zoo.Serve(l, func(local netip.AddrPort) scannertest.Behaviour {
		if local.Addr() == zeroAndMute {
			return mute
		}
		return good
	})
	if err != nil {
		return err
	}
	lab.Ready()
	<-ctx.Done()
	return nil
}

// shrinkWindow overwrites the window in everything that an address sends, as a
// tarpit does.
func shrinkWindow(t *testing.T, l *lab.Lab, addr netip.Addr, window uint16) {
	t.Helper()
	l.Rules(t, lab.Router, func(c *nftables.Conn) error {
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: fmt.Sprintf("window%d", addr.As4()[3])})
		chain := c.AddChain(&nftables.Chain{Table: table, Name: "shrink", Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}, // source
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr.AsSlice()},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}, // source port
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 25}},
			&expr.Immediate{Register: 1, Data: []byte{byte(window >> 8), byte(window)}},
			&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 14, Len: 2,
				CsumType: expr.CsumTypeInet, CsumOffset: 16},
		}})
		return nil
	})
}

// A server whose window is closed takes nothing of what we say, and would keep
// what was not sent in this machine's memory for minutes after the end.
func TestTarpitOfClosedWindows(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{}, func(t *testing.T, l *lab.Lab) {
		l.Start(t, lab.Target, "windows")
		shrinkWindow(t, l, smallWindow, 1)
		shrinkWindow(t, l, zeroWindow, 0)
		shrinkWindow(t, l, zeroAndMute, 0)
		rows := sweepWindows(t, openWindow, smallWindow, zeroWindow, zeroAndMute)
		for addr, want := range map[netip.Addr]scanner.Kind{openWindow: scanner.KindSMTP, smallWindow: scanner.KindSMTP, zeroWindow: scanner.KindSMTP, zeroAndMute: scanner.KindMute} {
			r := rows[addr]
			if r == nil || r.State != scanner.Open || r.Service.Kind != want {
				t.Errorf("%s: %+v, want %s", addr, r, want)
				continue
			}
			talked := r.Service.TLS != nil && r.Service.TLS.Err == "" && len(r.Service.EHLOTLS) > 0
			if talks := addr == openWindow || addr == smallWindow; talked != talks {
				t.Errorf("%s: %s, TLS %+v, want a whole conversation: %t", addr, r.Service.Err, r.Service.TLS, talks)
			}
		}
		if got := rows[zeroWindow].Service; got.Err != "no answer to EHLO in 3 s" || len(got.Findings) != 0 {
			t.Errorf("said of a closed window: %q, %q", got.Err, got.Findings)
		}
		if left := unsent(t); left != "" {
			t.Errorf("this machine still tries to send:\n%s", left)
		}
	})
}

// sweepWindows scans port 25 of some addresses.
func sweepWindows(t *testing.T, addrs ...netip.Addr) map[netip.Addr]*scanner.Result {
	t.Helper()
	next := 0
	queue := pace.New(pace.Config{}, func() (to targets.Target, ok bool) {
		if next == len(addrs) {
			return to, false
		}
		next++
		return targets.Target{Index: uint64(next - 1), Addr: addrs[next-1], Port: 25}, true
	})
	engine := &connect.Engine{Banner: true, GreetingTimeout: time.Second, Patience: 3 * time.Second}
	run := scanner.Scanner{Engine: engine, Prober: &smtp.Prober{Helo: "client.example.org", Deadline: 3 * time.Second}}
	var mu sync.Mutex
	rows := map[netip.Addr]*scanner.Result{}
	err := run.Run(t.Context(), queue, func(r *scanner.Result) {
		mu.Lock()
		defer mu.Unlock()
		row := *r
		rows[row.Target.Addr] = &row
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// unsent returns the lines of this namespace's TCP sockets with something in
// their send queue (the fifth field of /proc/thread-self/net/tcp begins with its length).
func unsent(t *testing.T) (lines string) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && strings.Contains(f[4], ":") && !strings.HasPrefix(f[4], "00000000:") {
			lines += line
		}
	}
	return lines
}
