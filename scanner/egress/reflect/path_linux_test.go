package reflect

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// These tests hold sessions over a path of three routers, from a process without
// privileges, through what stands in real paths.

var (
	_ = lab.Register("reflect-far", serveFar)
	_ = lab.Register("reflect-probe", probeFar)
	_ = lab.Register("reflect-meddle", meddle)
	_ = lab.Register("reflect-own", serveOwn)
)

// pathKey is the far end's key on a path.
var pathKey = ed25519.NewKeyFromSeed([]byte("the far end of the paths in test"))

// serveFar is the far end, on ports 25, 587 and (TLS) 465 of all addresses.
func serveFar(ctx context.Context, _ []string) error {
	srv := &Server{Key: pathKey, Name: "far.example.org"}
	var listeners []Listener
	for _, port := range []uint16{25, 465, 587} {
		ln, err := Listen(ctx, fmt.Sprintf(":%d", port), ImplicitTLS(port))
		if err != nil {
			return err
		}
		listeners = append(listeners, ln)
	}
	lab.Ready()
	return srv.Serve(ctx, listeners...)
}

// A pathProbe is what probeFar is to do.
type pathProbe struct {
	Addr    netip.AddrPort
	Options Options
}

// probeFar holds a session and prints the report.
func probeFar(ctx context.Context, args []string) error {
	var p pathProbe
	if err := json.Unmarshal([]byte(args[0]), &p); err != nil {
		return err
	}
	lab.Ready()
	r, err := Probe(ctx, p.Addr, PinOf(pathKey), p.Options)
	if err != nil {
		return err
	}
	text, err := json.Marshal(r)
	fmt.Println(string(text))
	return err
}

// meddle is a transparent proxy of a router, on port 2599, that masks STARTTLS
// and speaks in its own name.
func meddle(ctx context.Context, _ []string) error {
	ln, err := net.Listen("tcp", ":2599")
	if err != nil {
		return err
	}
	p := &proxy{
		down: replaced("EHLO", "STARTTLS", "XXXXXXXA"),
		up: func(line string) (string, string) {
			if strings.HasPrefix(line, "EHLO") {
				return "EHLO gateway.example.net\r\n", ""
			}
			return line, ""
		},
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		p.listen(ctx, ln, func(c net.Conn) (string, error) {
			to, err := lab.OriginalDst(c.(*net.TCPConn))
			return to.String(), err
		}, &wg)
	})
	lab.Ready()
	<-ctx.Done()
	ln.Close()
	wg.Wait()
	return nil
}

// serveOwn is a mail server of the audited network: it greets on port 25, and
// accepts on 465.
func serveOwn(ctx context.Context, _ []string) error {
	var wg sync.WaitGroup
	for _, port := range []int{25, 465} {
		ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { ln.Close() })
		defer stop()
		wg.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				if port == 25 {
					io.WriteString(conn, "220 own.example.net ESMTP\r\n")
				}
				conn.Close()
			}
		})
	}
	lab.Ready()
	<-ctx.Done()
	wg.Wait()
	return nil
}

// over holds a session as somebody without privileges.
func over(t *testing.T, p *lab.Path, port uint16, ip6 bool, o Options) *Report {
	t.Helper()
	return begin(t, p, port, ip6, o)()
}

// begin begins a session; what it returns waits for the end.
func begin(t *testing.T, p *lab.Path, port uint16, ip6 bool, o Options) func() *Report {
	t.Helper()
	addr := lab.PathServer4
	if ip6 {
		addr = lab.PathServer6
	}
	job, err := json.Marshal(pathProbe{netip.AddrPortFrom(addr, port), o})
	if err != nil {
		t.Fatal(err)
	}
	proc := p.StartNobody(t, lab.Scanner, "reflect-probe", string(job))
	return func() *Report {
		t.Helper()
		if err := proc.Wait(); err != nil {
			t.Fatalf("%v: %s", err, proc.Output())
		}
		r := new(Report)
		if err := json.NewDecoder(strings.NewReader(proc.Output())).Decode(r); err != nil {
			t.Fatalf("%v: %s", err, proc.Output())
		}
		return r
	}
}

func TestOverAPathItIsProvenWhatHappened(t *testing.T) {
	t.Parallel()
	lab.RunPath(t, lab.PathConfig{}, func(t *testing.T, p *lab.Path) {
		p.Start(t, lab.Target, "reflect-far")
		for _, ip6 := range []bool{false, true} {
			if ip6 && !p.IPv6() {
				continue
			}
			family := map[bool]string{false: "IPv4", true: "IPv6"}[ip6]
			t.Run(family, func(t *testing.T) { testPath(t, p, ip6) })
		}
		t.Run("reverse", func(t *testing.T) { testReverse(t, p) })
		t.Run("silence", func(t *testing.T) { testSilences(t, p) })
	})
}

func testPath(t *testing.T, p *lab.Path, ip6 bool) {
	client, r2 := lab.PathClient4, "100.64.0.0/10"
	family := 4
	if ip6 {
		client, r2 = lab.PathClient6, "2a10::/16"
		family = 6
	}
	t.Run("a clean path", func(t *testing.T) {
		for _, port := range []uint16{25, 465} {
			r := over(t, p, port, ip6, Options{ImplicitTLS: ImplicitTLS(port), LongLine: true})
			wantCodes(t, r, Intact)
			if r.Summary.Source.Addr() != client || r.Summary.SYN == nil || int(r.Summary.SYN.TTL) != r.TTL-3 || r.Summary.SYN.Scale != r.Scale {
				t.Errorf("source %s, SYN %+v; want %s and the TTL %d less three hops, scale %d", r.Summary.Source, r.Summary.SYN, client, r.TTL, r.Scale)
			}
		}
	})
	t.Run("NAT", func(t *testing.T) {
		for _, at := range []string{lab.R1, lab.R3} {
			nat := p.Filter(t, lab.Filter{At: at, Family: family, Do: lab.DoMasquerade()})
			r := over(t, p, 25, ip6, Options{})
			wantCodes(t, r, Intact, NAT)
			if r.Summary.Source.Addr() == client || !r.Conclusions[0].Proven || at == lab.R1 && !netip.MustParsePrefix(r2).Contains(r.Summary.Source.Addr()) {
				t.Errorf("NAT at %s: source %s, %+v", at, r.Summary.Source, r.Conclusions)
			}
			nat.Off(t)
		}
	})
	t.Run("a proxy that forwards", func(t *testing.T) {
		for _, at := range []string{lab.R1, lab.R3} {
			splice := p.Splice(t, at, 2599)
			to := p.Filter(t, lab.Filter{At: at, Family: family, Ports: []uint16{25, 465}, Do: lab.DoRedirect(2599)})
			for _, port := range []uint16{25, 465} {
				r := over(t, p, port, ip6, Options{ImplicitTLS: ImplicitTLS(port)})
				wantCodes(t, r, Intact, Proxied)
			}
			wantCodes(t, over(t, p, 587, ip6, Options{}), Intact)
			to.Off(t)
			splice.Stop()
		}
	})
	t.Run("a reset", func(t *testing.T) {
		filter := p.Filter(t, lab.Filter{At: lab.R2, Family: family, Ports: []uint16{25}, Do: lab.DoReset()})
		r := over(t, p, 25, ip6, Options{})
		wantCodes(t, r, Blocked)
		if r.Step != StepConnect || r.End != EndRefused {
			t.Errorf("ended at %s by %s, want %s by %s", r.Step, r.End, StepConnect, EndRefused)
		}
		filter.Off(t)
	})
	t.Run("a proxy that rewrites", func(t *testing.T) {
		meddler := p.Start(t, lab.R2, "reflect-meddle")
		to := p.Filter(t, lab.Filter{At: lab.R2, Family: family, Ports: []uint16{25}, Do: lab.DoRedirect(2599)})
		nat := p.Filter(t, lab.Filter{At: lab.R1, Family: family, Do: lab.DoMasquerade()})
		r := over(t, p, 25, ip6, Options{})
		wantCodes(t, r, Proxied, StartTLSMasked, Rewritten)
		for _, c := range r.Conclusions {
			if !c.Proven {
				t.Errorf("not proven: %+v", c)
			}
		}
		wantCodes(t, over(t, p, 587, ip6, Options{}), Intact, NAT)
		nat.Off(t)
		to.Off(t)
		meddler.Stop()
	})
}

// testSilences is about packets that are lost. One takes seconds, so all wait at
// the same time.
func testSilences(t *testing.T, p *lab.Path) {
	ways := [][2]string{{"in0", "out0"}, {"out0", "in0"}} // of router 2, IPv4 and IPv6: towards the far end, and back
	for _, way := range ways[:lab.Count(t, 1, 2, 2)] {
		t.Run(strings.Join(way[:], " and "), func(t *testing.T) {
			p.Filter(t, lab.Filter{At: lab.R2, Ports: []uint16{587}})
			var lost, blocked []func() *Report
			for i, ip6 := range []bool{false, true} {
				if ip6 && !p.IPv6() {
					continue
				}
				dropLong(t, p, way[i], ip6)
				const wait = 3 * time.Second
				lost = append(lost, begin(t, p, 25, ip6, Options{Timeout: wait}), begin(t, p, 465, ip6, Options{ImplicitTLS: true, Timeout: wait}))
				blocked = append(blocked, begin(t, p, 587, ip6, Options{Timeout: wait}))
			}
			for _, end := range lost {
				r := end()
				wantCodes(t, r, LargeLost)
				if c := r.Conclusions[0]; !c.Proven {
					t.Errorf("not proven: %+v", c)
				}
			}
			for _, end := range blocked {
				r := end()
				wantCodes(t, r, Blocked)
				if r.Step != StepConnect || r.End != EndSilence {
					t.Errorf("ended at %s by %s, want %s by %s", r.Step, r.End, StepConnect, EndSilence)
				}
			}
		})
	}
}

// dropLong has router 2 drop what comes in by a link and has more than 1,300
// bytes, until t ends.
func dropLong(t *testing.T, p *lab.Path, link string, ip6 bool) {
	t.Helper()
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "long"}
	offset, most := uint32(2), uint16(1300) // of the length in the header
	if ip6 {
		table.Family, offset, most = nftables.TableFamilyIPv6, 4, 1260 // the header is not counted
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, link)
	p.Rules(t, lab.R2, func(c *nftables.Conn) error {
		c.AddTable(table)
		ch := c.AddChain(&nftables.Chain{Name: "long", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 2},
			&expr.Cmp{Op: expr.CmpOpGt, Register: 1, Data: binary.BigEndian.AppendUint16(nil, most)},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
		return nil
	})
	t.Cleanup(func() { p.Rules(t, lab.R2, func(c *nftables.Conn) error { c.DelTable(table); return nil }) })
}

func testReverse(t *testing.T, p *lab.Path) {
	p.Start(t, lab.Scanner, "reflect-own")
	r := over(t, p, 25, false, Options{Reverse: []uint16{25, 465, 587}})
	wantCodes(t, r, Intact)
	var got []string
	for _, v := range r.Reverse {
		got = append(got, fmt.Sprintf("%d %s %q", v.Port, v.State, v.Greeting))
	}
	want := []string{`25 open "220 own.example.net ESMTP"`, `465 open ""`, `587 closed ""`}
	if !slices.Equal(got, want) || r.ReverseError != "" {
		t.Errorf("own ports: %q, %q, want %q", got, r.ReverseError, want)
	}
}
