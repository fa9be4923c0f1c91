package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Lab is the network of a test. Its methods may be used until the test ends.
type Lab struct {
	cfg        Config
	namespaces map[string]*namespace
	ip6        bool
	servers    []*Proc
	wire       *Proc        // nil without Config.Wire
	tables     atomic.Int32 // number of rule tables made, for their names
}

// IPv6 reports whether this machine's kernel has IPv6; the lab then has it too.
func (l *Lab) IPv6() bool { return l.ip6 }

// Config returns the configuration, defaults filled in.
func (l *Lab) Config() Config { return l.cfg }

// build makes the network around this process.
func build(t *testing.T, cfg Config) (*Lab, error) {
	names := append([]string{Router, Target}, cfg.Hosts...)
	if len(cfg.OnLink) > 0 {
		names = append(names, OnLink)
	}
	if cfg.Wire {
		names = append(names, Middle)
	}
	l, err := enclose(t, cfg, names...)
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{l.sysctls, l.links, l.hosts, l.routes, l.rules, l.serve, l.perfectWire, l.awaitUp} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// enclose makes a lab of this process and fresh namespaces, not joined yet.
func enclose(t *testing.T, cfg Config, names ...string) (*Lab, error) {
	if err := errors.Join(cutOff(), cfg.valid()); err != nil {
		return nil, err
	}
	_, err := os.Stat("/proc/sys/net/ipv6")
	l := &Lab{cfg: cfg, ip6: err == nil, namespaces: map[string]*namespace{Scanner: {name: Scanner, pidfd: -1}}}
	t.Cleanup(func() { l.close(t) })
	for _, name := range names {
		if l.namespaces[name] != nil {
			return nil, fmt.Errorf("two namespaces are named %q", name)
		}
		n, err := newNamespace(name)
		if err != nil {
			return nil, err
		}
		l.namespaces[name] = n
	}
	return l, nil
}

// close ends the wire, the built-in servers and the namespaces.
func (l *Lab) close(t *testing.T) {
	if err := l.stopWire(); err != nil {
		t.Error(err)
	}
	for _, p := range l.servers {
		if err := p.Stop(); err != nil {
			t.Errorf("built-in server: %v\n%s", err, p.Output())
		}
	}
	for _, n := range l.namespaces {
		n.close()
	}
}

// cutOff makes sure that this process has no network: a test that is told by
// its environment that it is in a lab, and is not, must not build one here.
func cutOff() error {
	here, err := os.Readlink(ownNetwork)
	if err != nil {
		return err
	}
	if outside := os.Getenv(outsideEnv); outside == "" || outside == here {
		return fmt.Errorf("this is not a network namespace of a lab: is %s set by hand?", childEnv)
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Flags&net.FlagLoopback == 0 && link.Flags&net.FlagUp != 0 {
			return fmt.Errorf("interface %s is up: this is not a fresh network namespace", link.Name)
		}
	}
	return nil
}

// Sysctl sets a kernel parameter of a namespace: "net/ipv4/tcp_syncookies", "0".
func (l *Lab) Sysctl(t *testing.T, ns, key, value string) {
	t.Helper()
	if err := l.sysctl(ns, key, value); err != nil {
		t.Fatal(err)
	}
}

func (l *Lab) sysctl(ns, key, value string) error {
	n := l.namespaces[ns]
	if n == nil {
		return fmt.Errorf("no namespace %q", ns)
	}
	return n.do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0)
	})
}

// sysctls sets what every namespace needs, before links come up.
func (l *Lab) sysctls() error {
	needed := map[string]string{
		// The machine may filter by reverse path; a target that is a /12 has none.
		"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
	}
	if l.ip6 {
		// No duplicate address detection: an address is usable at once.
		needed["net/ipv6/conf/default/accept_dad"] = "0"
		needed["net/ipv6/conf/default/disable_ipv6"] = "0"
		needed["net/ipv6/conf/all/disable_ipv6"] = "0"
		needed["net/ipv6/conf/default/accept_ra"] = "0"
	}
	for ns := range l.namespaces {
		for key, value := range needed {
			if ns == Middle && strings.HasSuffix(key, "/disable_ipv6") {
				value = "1" // it is a wire: its kernel says nothing
			}
			if err := l.sysctl(ns, key, value); err != nil {
				return fmt.Errorf("namespace %s: %w", ns, err)
			}
		}
		if err := l.backlog(ns); err != nil {
			return err
		}
		if !l.cfg.ICMPLimits && ns != Scanner {
			if err := l.unlimitICMP(ns); err != nil {
				return err
			}
		}
	}
	for _, ns := range []string{Router, R1, R2, R3} {
		if err := l.forward(ns); err != nil {
			return err
		}
	}
	return nil
}

// forward makes a namespace a router, if there is one of this name.
func (l *Lab) forward(ns string) error {
	if l.namespaces[ns] == nil {
		return nil
	}
	err := l.sysctl(ns, "net/ipv4/conf/all/forwarding", "1")
	if l.ip6 {
		err = errors.Join(err, l.sysctl(ns, "net/ipv6/conf/all/forwarding", "1"))
	}
	return err
}

// backlog lets a burst of thousands of connects find room. Kernels on which these belong
// to the whole machine do not show them here.
func (l *Lab) backlog(ns string) error {
	for _, key := range []string{"net/core/somaxconn", "net/ipv4/tcp_max_syn_backlog"} {
		if err := l.sysctl(ns, key, "65535"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unlimitICMP lifts the limits on ICMP errors: the one to a peer and the one in
// all, which older kernels keep for the whole machine. A type outside the mask
// is subject to neither (icmp(7); Linux ip-sysctl.rst, icmp_ratemask).
func (l *Lab) unlimitICMP(ns string) error {
	limits := map[string]string{"net/ipv4/icmp_ratelimit": "0", "net/ipv4/icmp_ratemask": "0"}
	if l.ip6 {
		limits["net/ipv6/icmp/ratelimit"] = "0"
		limits["net/ipv6/icmp/ratemask"] = "127" // a list of types; an empty one cannot be written
	}
	for key, value := range limits {
		if err := l.sysctl(ns, key, value); err != nil {
			return fmt.Errorf("namespace %s: %w", ns, err)
		}
	}
	return nil
}

// handle opens a netlink socket in a namespace.
func (l *Lab) handle(ns string) (h *netlink.Handle, err error) {
	err = l.namespaces[ns].do(func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	return h, err
}

// links joins the namespaces by veth pairs and gives the addresses.
func (l *Lab) links() error {
	for ns := range l.namespaces {
		if err := l.setLink(ns, "lo", true); err != nil {
			return err
		}
	}
	err := errors.Join(
		l.nearLink(),
		l.veth(Router, "rt1", Target, "tg0"),
		l.address(Scanner, "sc0", ScannerAddr4, 24), l.address(Scanner, "sc0", ScannerAddr6, 64),
		l.address(Router, "rt0", RouterAddr4, 24), l.address(Router, "rt0", RouterAddr6, 64),
		l.address(Router, "rt1", routerInner4, 24), l.address(Router, "rt1", routerInner6, 64),
		l.address(Target, "tg0", TargetAddr4, 24), l.address(Target, "tg0", TargetAddr6, 64),
	)
	if err != nil || len(l.cfg.OnLink) == 0 {
		return err
	}
	err = errors.Join(
		l.veth(Scanner, "ln0", OnLink, "sc1"),
		l.address(Scanner, "ln0", OnLinkAddr4, 24), l.address(Scanner, "ln0", OnLinkAddr6, 64),
	)
	for _, addr := range l.cfg.OnLink {
		bits := 24
		if addr.Is6() {
			bits = 64
		}
		err = errors.Join(err, l.address(OnLink, "sc1", addr, bits))
	}
	return err
}

// nearLink joins the scanner and the router, by way of the wire if there is one.
func (l *Lab) nearLink() error {
	if !l.cfg.Wire {
		return l.veth(Scanner, "sc0", Router, "rt0")
	}
	return errors.Join(l.veth(Scanner, "sc0", Middle, wireNear), l.veth(Router, "rt0", Middle, wireFar))
}

// HostAddrs returns the addresses of one of Config.Hosts: 10.20.20.2 and
// fd20:20::2 for the first, 10.20.21.2 and fd20:21::2 for the second. The router has .1.
func (l *Lab) HostAddrs(name string) (addr4, addr6 netip.Addr) {
	i := slices.Index(l.cfg.Hosts, name)
	return hostAddr4(i, 2), hostAddr6(i, 2)
}

func hostAddr4(i int, end byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 20, byte(20 + i), end})
}

func hostAddr6(i int, end byte) netip.Addr {
	n := byte(20 + i)
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x20, 3: n/10<<4 | n%10, 15: end}) // 21 is written :21:
}

// hosts joins the further namespaces to the router.
func (l *Lab) hosts() error {
	for i, name := range l.cfg.Hosts {
		near := fmt.Sprintf("rt%d", 20+i)
		err := errors.Join(
			l.veth(Router, near, name, "eth0"),
			l.address(Router, near, hostAddr4(i, 1), 24), l.address(Router, near, hostAddr6(i, 1), 64),
			l.address(name, "eth0", hostAddr4(i, 2), 24), l.address(name, "eth0", hostAddr6(i, 2), 64),
			l.via(name, netip.MustParsePrefix("0.0.0.0/0"), hostAddr4(i, 1)),
			l.via(name, netip.MustParsePrefix("::/0"), hostAddr6(i, 1)),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// veth joins two namespaces and brings the pair up, offloads off.
func (l *Lab) veth(ns, name, peerNS, peerName string) error {
	h, err := l.handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	pair := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: peerName,
		PeerNamespace: netlink.NsPid(l.namespaces[peerNS].pid)}
	pair.Name = name
	if err := h.LinkAdd(pair); err != nil {
		return fmt.Errorf("veth %s-%s: %w", name, peerName, err)
	}
	return errors.Join(l.setLink(ns, name, true), l.setLink(peerNS, peerName, true), l.offloadsOff(ns, name), l.offloadsOff(peerNS, peerName))
}

func (l *Lab) offloadsOff(ns, link string) error {
	return l.namespaces[ns].do(func() error {
		for _, command := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SRXCSUM, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO} {
			err := ethtool(link, command)
			if err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
				return err
			}
		}
		return nil
	})
}

// SetLink takes a link of a namespace down, or up again: sc0 in Scanner, rt0 (its other
// end) in Router. The kernel drops the IPv4 routes of a link that goes down, and its IPv6 addresses.
func (l *Lab) SetLink(t *testing.T, ns, name string, up bool) {
	t.Helper()
	if err := l.setLink(ns, name, up); err != nil {
		t.Error(err)
	}
}

func (l *Lab) setLink(ns, name string, up bool) error {
	h, err := l.handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	switch {
	case err != nil:
		return fmt.Errorf("link %s in %s: %w", name, ns, err)
	case up:
		return h.LinkSetUp(link)
	}
	return h.LinkSetDown(link)
}

// address gives a link an address; IPv6 ones only where there is IPv6.
func (l *Lab) address(ns, name string, addr netip.Addr, bits int) error {
	if addr.Is6() && !l.ip6 {
		return nil
	}
	h, err := l.handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s in %s: %w", name, ns, err)
	}
	a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, bits))}
	if addr.Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(link, a); err != nil {
		return fmt.Errorf("address %s on %s: %w", addr, name, err)
	}
	return nil
}

// ipNet returns a prefix, or an address with its prefix length, as netlink wants it.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// routes makes tg every address of its prefixes (AnyIP), and the router the way there.
func (l *Lab) routes() error {
	err := errors.Join(
		l.via(Scanner, netip.MustParsePrefix("0.0.0.0/0"), RouterAddr4),
		l.via(Scanner, netip.MustParsePrefix("::/0"), RouterAddr6),
		l.via(Target, netip.MustParsePrefix("0.0.0.0/0"), routerInner4),
		l.via(Target, netip.MustParsePrefix("::/0"), routerInner6),
	)
	for _, p := range append([]netip.Prefix{Targets4, Targets6}, l.cfg.AnyIP...) {
		if p.Addr().Is6() {
			err = errors.Join(err, l.anyIP(Target, p), l.via(Router, p, TargetAddr6))
		} else {
			err = errors.Join(err, l.anyIP(Target, p), l.via(Router, p, TargetAddr4))
		}
	}
	return err
}

// via routes a prefix through a gateway.
func (l *Lab) via(ns string, to netip.Prefix, gateway netip.Addr) error {
	return l.route(ns, to, &netlink.Route{Gw: gateway.AsSlice()})
}

// AnyIP makes a namespace every address of a prefix. Those that are on a link of it answer ARP and ND.
func (l *Lab) AnyIP(t *testing.T, ns string, to netip.Prefix) {
	t.Helper()
	if err := l.anyIP(ns, to); err != nil {
		t.Fatal(err)
	}
}

// anyIP makes every address of a prefix local.
func (l *Lab) anyIP(ns string, to netip.Prefix) error {
	return l.route(ns, to, &netlink.Route{
		LinkIndex: 1, // lo: always the first link of a namespace
		Type:      unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
	})
}

func (l *Lab) route(ns string, to netip.Prefix, r *netlink.Route) error {
	if to.Addr().Is6() && !l.ip6 {
		return nil
	}
	h, err := l.handle(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	r.Dst = ipNet(to.Masked())
	if err := h.RouteAdd(r); err != nil {
		return fmt.Errorf("route to %s in %s: %w", to, ns, err)
	}
	return nil
}

// serve starts the built-in servers.
func (l *Lab) serve() error {
	if !l.cfg.Serve {
		return nil
	}
	var args []string
	for _, p := range l.cfg.Ports {
		args = append(args, strconv.Itoa(int(p))+"="+Greeting)
	}
	where := []string{Target}
	if l.namespaces[OnLink] != nil {
		where = append(where, OnLink)
	}
	if l.cfg.Classes {
		args = append(args, strconv.Itoa(int(l.cfg.Redirect))+"="+ProxyGreeting)
	}
	for _, ns := range where {
		p, err := l.start(ns, "lab.answer", args...)
		if err != nil {
			return err
		}
		l.servers = append(l.servers, p)
	}
	return nil
}

// awaitUp returns when tg and the hosts answer over the router, or says that one does not in
// a minute. Links come up a moment after they are set up; it also fills the neighbour caches.
func (l *Lab) awaitUp() error {
	dests := []netip.Addr{TargetAddr4, TargetAddr6}
	for _, name := range l.cfg.Hosts {
		addr4, addr6 := l.HostAddrs(name)
		dests = append(dests, addr4, addr6)
	}
	for _, d := range dests {
		if d.Is6() && !l.ip6 {
			continue
		}
		if err := awaitClosed(netip.AddrPortFrom(d, 1), time.Now().Add(time.Minute)); err != nil {
			return err
		}
	}
	return nil
}

// awaitClosed waits for a reset from a port where nobody listens.
func awaitClosed(dest netip.AddrPort, until time.Time) error {
	for {
		conn, err := net.DialTimeout("tcp", dest.String(), 200*time.Millisecond)
		switch {
		case err == nil:
			conn.Close()
			return fmt.Errorf("%s is open: somebody listens on port 1", dest)
		case errors.Is(err, syscall.ECONNREFUSED):
			return nil
		case time.Now().After(until):
			return fmt.Errorf("the network did not come up: %w", err)
		case !isTimeout(err):
			time.Sleep(5 * time.Millisecond) // unreachable is said at once: do not spin
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout() || strings.Contains(err.Error(), "i/o timeout")
}
