package path

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// The attributor answers for an ordinary user: a Refusal in JSON is a question, an answered its
// answer. It says whether that user may give a socket a filter.
var _ = lab.Register("attributor", func(ctx context.Context, _ []string) error {
	l, err := net.Listen("unix", attributor)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	fmt.Println(mayFilter())
	lab.Ready()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil
		}
		wg.Go(func() {
			defer conn.Close()
			var r Refusal
			if err := json.NewDecoder(conn).Decode(&r); err != nil {
				fmt.Println(err)
				return
			}
			var a answered
			a.Attribution, err = Origin(ctx, r)
			if err != nil {
				a.Err = err.Error()
			}
			if err := json.NewEncoder(conn).Encode(a); err != nil {
				fmt.Println(err)
			}
		})
	}
})

// attributor is where it listens, in its network namespace: nothing is sent by an interface, which
// an attribution may have to count.
const attributor = "@attributor"

// mayFilter reports whether this process may give a socket a filter.
func mayFilter() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	keep := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &keep}) == nil
}

type answered struct {
	Attribution Attribution
	Err         string
}

// An asker finds out who sent a reset, as some user.
type asker struct {
	name    string
	method  Method
	filters bool // it may give a socket a filter
	ask     func(context.Context, Refusal) (Attribution, error)
}

// askers are an ordinary user without capabilities; one as where the kernel allows him socket
// filters, if this one does not; and this process, which has all that the lab gives.
func askers(t *testing.T, p *lab.Path) []asker {
	t.Helper()
	filters, err := strconv.ParseBool(strings.TrimSpace(p.StartNobody(t, lab.Scanner, "attributor").Output()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("an ordinary user may use socket filters here: %t", filters)
	nobody := func(ctx context.Context, r Refusal) (a Attribution, err error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", attributor)
		if err != nil {
			return a, err
		}
		defer conn.Close()
		var got answered
		if err := errors.Join(json.NewEncoder(conn).Encode(r), json.NewDecoder(conn).Decode(&got)); err != nil {
			return a, err
		}
		if got.Err != "" {
			err = errors.New(got.Err)
		}
		return got.Attribution, err
	}
	withFilters := func(ctx context.Context, r Refusal) (Attribution, error) {
		r.Unprivileged = true
		return Origin(ctx, r)
	}
	return []asker{
		{"nobody", MethodMinTTL, filters, nobody},
		{"nobody with socket filters", MethodMinTTL, true, withFilters},
		{"raw", MethodRaw, true, Origin},
	}
}

// A setting is the initial TTLs of a network, those that are not 64, its NAT, and what its
// control port does.
type setting struct {
	name    string
	ttls    map[string]int // by namespace
	nat     string         // the router that masquerades
	control controlIs
	tier    int // 0: of the usual tier; 1: of .ci/run
}

var settings = []setting{
	{name: "as usual"},
	{name: "routers 255", ttls: map[string]int{lab.R1: 255, lab.R2: 255, lab.R3: 255}},
	{name: "routers 128", ttls: map[string]int{lab.R1: 128, lab.R2: 128, lab.R3: 128}, tier: 1},
	{name: "server 255", ttls: map[string]int{lab.Target: 255}, tier: 1},
	{name: "server 128", ttls: map[string]int{lab.Target: 128}},
	{name: "equal TTLs", ttls: map[string]int{lab.R1: 61, lab.R2: 62, lab.R3: 63}},
	{name: "NAT in router 1", nat: lab.R1},
	{name: "NAT in router 3", nat: lab.R3, tier: 1},
	{name: "no control port", control: controlNone},
	{name: "the control port is closed", control: controlClosed},
	{name: "the control port is silent", control: controlSilent, tier: 1},
}

// A culprit is who refuses, on a port of its own, so that all can at the same time.
type culprit struct {
	at    string // a router; Target: its firewall; empty: its stack
	hop   int
	early bool
	port  uint16
}

var culprits = []culprit{
	{lab.R1, 1, false, 2511}, {lab.R1, 1, true, 2512},
	{lab.R2, 2, false, 2521}, {lab.R2, 2, true, 2522},
	{lab.R3, 3, false, 2531}, {lab.R3, 3, true, 2532},
	{lab.Target, 4, false, 2541}, {lab.Target, 4, true, 2542},
	{"", 4, false, 2540},
}

// Ports of the lab: the server accepts on one, and drops what comes to another.
const (
	openPort   = 587
	silentPort = 588
)

// TestOriginInALab attributes the resets of everybody who may send one, in networks of all kinds, as an
// ordinary user and with raw sockets.
func TestOriginInALab(t *testing.T) {
	t.Parallel()
	lab.RunPath(t, lab.PathConfig{Serve: true, Ports: []uint16{openPort}}, func(t *testing.T, p *lab.Path) {
		who := askers(t, p)
		for _, c := range culprits {
			if c.at != "" {
				p.Filter(t, lab.Filter{At: c.at, Early: c.early, Ports: []uint16{c.port}, Do: lab.DoReset()})
			}
		}
		p.Filter(t, lab.Filter{At: lab.Target, Ports: []uint16{silentPort}, Do: lab.DoDrop()})
		cases := checkSetting(t, p, settings[0], who)
		open := openFiles(t) // those of the runtime are there now
		for _, s := range settings[1:] {
			if s.tier <= lab.Count(t, 0, 1, 1) {
				cases += checkSetting(t, p, s, who)
			}
		}
		for _, a := range who {
			cases += checkOwn(t, p, a)
		}
		checkOdd(t, p, who)
		checkPolite(t, p, who)
		if n := openFiles(t); n > open {
			t.Errorf("%d files are open, %d were before", n, open)
		}
		lab.Proof(t, "%d refusals attributed", cases)
	})
}

// openFiles counts the open files of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// serverAddrs are two addresses of the server, of either family.
func serverAddrs(p *lab.Path) []netip.Addr {
	if p.IPv6() {
		return []netip.Addr{lab.PathServers4.Addr().Next(), lab.PathServers6.Addr().Next()}
	}
	return []netip.Addr{lab.PathServers4.Addr().Next()}
}

// checkSetting asks about every culprit in a setting, all at the same time.
func checkSetting(t *testing.T, p *lab.Path, s setting, who []asker) (cases int) {
	t.Helper()
	for ns, ttl := range s.ttls {
		setTTL(t, p, ns, ttl)
		defer setTTL(t, p, ns, 64)
	}
	if s.nat != "" {
		defer p.Filter(t, lab.Filter{At: s.nat, Do: lab.DoMasquerade()}).Off(t)
	}
	var wg sync.WaitGroup
	for _, a := range who {
		for _, addr := range serverAddrs(p) {
			for _, c := range culprits {
				cases++
				wg.Go(func() {
					r := Refusal{Port: netip.AddrPortFrom(addr, c.port), Control: s.controlPort(), Interval: -1}
					got, err := a.ask(t.Context(), r)
					if problem := s.check(c, a, got); err != nil || problem != "" {
						t.Errorf("%s, %+v, %s as %s: %v, %s\ngot %s (lean %s), hops %d to %d, hop %d: %s\n%+v",
							s.name, c, r.Port, a.name, err, problem, got.By, got.Lean, got.From, got.To, got.Hop, got.Why, got.Figures)
					}
				})
			}
		}
	}
	wg.Wait()
	return cases
}

// setTTL sets the TTL that packets of a namespace begin with.
func setTTL(t *testing.T, p *lab.Path, ns string, ttl int) {
	t.Helper()
	p.Sysctl(t, ns, "net/ipv4/ip_default_ttl", fmt.Sprint(ttl))
	link := "in0"
	if ns == lab.Target {
		link = "tg0"
	}
	if p.IPv6() {
		p.Sysctl(t, ns, "net/ipv6/conf/"+link+"/hop_limit", fmt.Sprint(ttl))
	}
}

func (s setting) controlPort() uint16 {
	return map[controlIs]uint16{controlOpen: openPort, controlClosed: 589, controlSilent: silentPort}[s.control]
}

// ttlOf is the TTL with which packets of a namespace, so many hops away, come.
func (s setting) ttlOf(ns string, hop int) int {
	ttl, ok := s.ttls[ns]
	if !ok {
		ttl = 64
	}
	return ttl - hop + 1
}

// check says what is wrong with an attribution and its figures. What is undecidable, and why, is at Judge.
func (s setting) check(c culprit, who asker, got Attribution) string {
	const host = 4
	begin := c.hop
	if !c.early && c.hop < host {
		begin++
	}
	ns := c.at
	if ns == "" {
		ns = lab.Target
	}
	reset, ack := s.ttlOf(ns, c.hop), s.ttlOf(lab.Target, host)
	by, lean := Undecidable, Undecidable
	from, to, hop := max(begin-1, 1), begin, 0
	switch {
	case s.control == controlNone: // the distance of the host is not known
	case s.control != controlOpen && begin == host: // nor here: no router is seen behind the culprit
	case s.control != controlOpen:
		by, hop = Hop, c.hop
	case reset == ack && begin < host: // it may be the host, whose packets to this port take a shorter way
	case reset == ack && !who.filters: // nobody can look how the reset is made
		lean = Host
	case reset == ack && c.at == "":
		by, from, to = Host, 0, 0
	case reset == ack: // not as the host makes its own: the host's firewall, or the router before it
	case begin == host:
		by, hop, to = Hop, c.hop, host-1
	default:
		by, hop = Hop, c.hop
	}
	if s.name == "equal TTLs" && s.control == controlOpen && c.hop < host && by == Hop {
		return "a culprit with the TTL of the host cannot be told from it"
	}
	f := got.Figures
	switch {
	case got.By != by || got.Lean != lean || got.From != from || got.To != to || got.Hop != hop:
		return fmt.Sprintf("want %s (lean %s), hops %d to %d, hop %d", by, lean, from, to, hop)
	case f.Method != who.method || f.Connects > MostConnects || f.Own != No:
		return fmt.Sprintf("method %s, %d connects, own firewall %q", f.Method, f.Connects, f.Own)
	case f.Begin != Span{begin, begin} || f.Reset != Span{reset, reset}:
		return fmt.Sprintf("want refusals from TTL %d on, with TTL %d", begin, reset)
	case s.control == controlOpen && (f.Distance != Span{host, host} || f.SYNACK != Span{ack, ack}):
		return fmt.Sprintf("want the control port at %d, with TTL %d", host, ack)
	case f.ResetRTT <= 0 || s.control == controlOpen && f.AckRTT <= 0:
		return "no round trip times"
	case (who.method == MethodRaw) != (f.Raw != nil):
		return "headers as raw sockets see them"
	}
	return ""
}

// checkOwn: a rule of this machine's own firewall refuses. Nobody else sends packets meanwhile, because
// an ordinary user may have to count them.
func checkOwn(t *testing.T, p *lab.Path, who asker) (cases int) {
	t.Helper()
	defer p.Filter(t, lab.Filter{At: lab.Scanner, Ports: []uint16{2501}, Do: lab.DoReset()}).Off(t)
	for _, addr := range serverAddrs(p) {
		for _, control := range []uint16{openPort, 0} {
			r := Refusal{Port: netip.AddrPortFrom(addr, 2501), Control: control, Interval: -1}
			got, err := who.ask(t.Context(), r)
			if err != nil || got.By != Self {
				t.Errorf("own firewall, %s as %s: got %s, %v: %s\n%+v", r.Port, who.name, got.By, err, got.Why, got.Figures)
			}
			cases++
		}
	}
	return cases
}

// checkOdd looks at what is not a host behind routers that refuses.
func checkOdd(t *testing.T, p *lab.Path, who []asker) {
	t.Helper()
	server := lab.PathServers4.Addr().Next()
	defer p.Start(t, lab.R1, "listen", "192.168.1.1:587").Stop()
	p.Filter(t, lab.Filter{At: lab.R2, Family: 4, Ports: []uint16{2550}, Do: lab.DoReject(13)})
	defer p.Splice(t, lab.R2, 2599).Stop()
	p.Filter(t, lab.Filter{At: lab.R2, Ports: []uint16{2551}, Do: lab.DoRedirect(2599)})
	for _, c := range []struct {
		name    string
		r       Refusal
		by      Party
		lean    Party
		why     string
		connect int // at most; 0: not looked at
	}{
		{"it accepts", Refusal{Port: netip.AddrPortFrom(server, openPort)}, Undecidable, 0, "it accepts connections", 1},
		{"a message", Refusal{Port: netip.AddrPortFrom(server, 2550), Control: openPort}, Undecidable, 0, "100.64.0.1 says so by an ICMP message (3/13)", 2},
		{"the next router itself", Refusal{Port: netip.AddrPortFrom(lab.PathHops4[0], 2560), Control: openPort}, Host, 0, "next to this machine", 0},
		{"this machine itself", Refusal{Port: netip.AddrPortFrom(lab.PathClient4, 2560), Control: openPort}, Host, 0, "one of this machine", 1},
		{"loopback", Refusal{Port: netip.MustParseAddrPort("127.0.0.1:2560")}, Host, 0, "one of this machine", 1},
		{"a proxy accepts", Refusal{Port: netip.AddrPortFrom(server, 2560), Control: 2551}, Undecidable, 0, "another machine than the host accepts there", 0},
		{"as a trace found", Refusal{Port: netip.AddrPortFrom(server, 2521), Control: openPort, Begin: 3, Distance: 4}, Hop, 0, "hop 2 (of 2 to 3)", 14},
		{"from an address", Refusal{Port: netip.AddrPortFrom(server, 2521), Control: openPort, Source: lab.PathClient4, Interface: "sc0"}, Hop, 0, "hop 2 (of 2 to 3)", 0},
	} {
		for _, a := range who {
			c.r.Interval = -1
			got, err := a.ask(t.Context(), c.r)
			if err != nil || got.By != c.by || got.Lean != c.lean || !strings.Contains(got.Why, c.why) || c.connect > 0 && got.Figures.Connects > c.connect {
				t.Errorf("%s as %s: got %s, %v: %s\n%+v", c.name, a.name, got.By, err, got.Why, got.Figures)
			}
		}
	}
	for _, r := range []Refusal{
		{Port: netip.AddrPortFrom(server, 2521), Source: netip.MustParseAddr("192.0.2.9")},
		{Port: netip.AddrPortFrom(server, 2521), Interface: "none0"},
		{Port: netip.AddrPortFrom(server, 2521), Control: 2521},
		{Port: netip.AddrPortFrom(server, 0)},
		{},
	} {
		for _, a := range who {
			if got, err := a.ask(t.Context(), r); err == nil {
				t.Errorf("%+v as %s: no error, got %+v", r, a.name, got)
			}
		}
	}
}

// checkPolite: where sockets may have filters, the control port's server never sees a
// connection; elsewhere a few.
func checkPolite(t *testing.T, p *lab.Path, who []asker) {
	t.Helper()
	control := netip.AddrPortFrom(lab.PathServers4.Addr().Next(), 2570)
	for _, a := range who {
		server := p.Start(t, lab.Target, "listen", control.String())
		r := Refusal{Port: netip.AddrPortFrom(control.Addr(), 2521), Control: control.Port(), Interval: -1}
		if got, err := a.ask(t.Context(), r); err != nil || got.By != Hop {
			t.Errorf("as %s: got %s, %v: %s", a.name, got.By, err, got.Why)
		}
		// Connections are accepted in their order: those before this one have been.
		conn, err := net.Dial("tcp", control.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		conn.Close()
		server.Stop()
		n := strings.Count(server.Output(), "accepted") - 1
		if a.method == MethodRaw && n != 0 || a.method != MethodRaw && (n < 1 || n > 2*ttlQuestions) {
			t.Errorf("as %s: the server of the control port accepted %d connections", a.name, n)
		}
		t.Logf("as %s: %d connections were established", a.name, n)
	}
}

// listen accepts connections and says nothing.
var _ = lab.Register("listen", func(ctx context.Context, args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	lab.Ready()
	for {
		conn, err := l.Accept()
		if err != nil {
			return nil
		}
		fmt.Println("accepted")
		conn.Close()
	}
})

// TestOriginStops: what is cancelled ends, also while nobody answers.
func TestOriginStops(t *testing.T) {
	t.Parallel()
	lab.RunPath(t, lab.PathConfig{}, func(t *testing.T, p *lab.Path) {
		drop := p.Filter(t, lab.Filter{At: lab.R1, Do: lab.DoDrop()})
		defer drop.Off(t)
		sent := p.Capture(t, lab.R1, "in0")
		ctx, cancel := context.WithCancelCause(t.Context())
		stopped := errors.New("stopped")
		done := make(chan error, 1)
		go func() {
			_, err := Origin(ctx, Refusal{Port: netip.AddrPortFrom(lab.PathServer4, 25), Patience: time.Hour})
			done <- err
		}()
		time.AfterFunc(50*time.Millisecond, func() { cancel(stopped) })
		if err := <-done; err != stopped {
			t.Errorf("got %v", err)
		}
		if _, err := Origin(ctx, Refusal{Port: netip.AddrPortFrom(lab.PathServer4, 25)}); err != stopped {
			t.Errorf("cancelled before: got %v", err)
		}
		if n := len(lab.Connections(sent.Stop(t))); n > 1 {
			t.Errorf("%d connections were begun, want one at most", n)
		}
	})
}

// TestOriginBearsLimits: routers say only now and then that a TTL is over.
func TestOriginBearsLimits(t *testing.T) {
	t.Parallel()
	runs := lab.Count(t, 0, 1, 4)
	if runs == 0 {
		t.Skip("of .ci/run")
	}
	lab.RunPath(t, lab.PathConfig{Serve: true, Ports: []uint16{openPort}, ICMPLimits: true}, func(t *testing.T, p *lab.Path) {
		who := askers(t, p)
		for _, c := range culprits {
			if c.at != "" {
				p.Filter(t, lab.Filter{At: c.at, Early: c.early, Ports: []uint16{c.port}, Do: lab.DoReset()})
			}
		}
		for range runs {
			checkSetting(t, p, settings[0], who)
		}
	})
}
