package lab

import (
	"errors"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Path is a network with three routers in a row:
//
//	sc (the test)         r1                    r2                    r3                   tg (servers)
//	192.168.1.7   sc0 --- 192.168.1.1
//	2a10:1::7             2a10:1::1
//	                      100.64.0.2    --- 100.64.0.1
//	                      2a10:2::2         2a10:2::1
//	                                        62.20.3.2    --- 62.20.3.1
//	                                        2a10:3::2        2a10:3::1
//	                                                         62.20.4.1    --- tg0 62.20.4.2, 62.30.0.0/16, PathConfig.AnyIP
//	                                                         2a10:4::1            2a10:4::2, 2a10:30::/32
//
// The inner link of a router is in0, the outer one out0. What r3 has no route to it
// drops without a word, as the dark parts of the Internet do. Of the methods of a Lab,
// Truth and HostAddrs have no meaning here.
type Path struct {
	*Lab
	path PathConfig
}

// RunPath is like Run, with a path for a network. One can be shared by many
// subtests, which change its filters.
func RunPath(t *testing.T, cfg PathConfig, fn func(t *testing.T, p *Path)) {
	t.Helper()
	switch os.Getenv(childEnv) {
	case "":
		runOutside(t, Config{Binary: cfg.Binary})
	case t.Name():
		p, err := buildPath(t, cfg)
		if err != nil {
			unavailable(t, "build the network", err)
		}
		fn(t, p)
	default:
		t.Fatal("lab.RunPath inside a lab: labs do not nest")
	}
}

// buildPath makes the network around this process.
func buildPath(t *testing.T, cfg PathConfig) (*Path, error) {
	l, err := enclose(t, Config{Ports: cfg.Ports, ICMPLimits: cfg.ICMPLimits, Serve: cfg.Serve}.withDefaults(), R1, R2, R3, Target)
	if err != nil {
		return nil, err
	}
	p := &Path{Lab: l, path: cfg}
	for _, step := range []func() error{l.sysctls, p.links, p.routes, l.rules, l.serve, p.awaitUp} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// pathRouters are the routers in their order.
var pathRouters = [3]string{R1, R2, R3}

// links joins each namespace to the next, and gives the addresses.
func (p *Path) links() error {
	chain := [5]string{Scanner, R1, R2, R3, Target}
	var err error
	for ns := range p.namespaces {
		err = errors.Join(err, p.setLink(ns, "lo", true))
	}
	for i, ns := range chain[:4] {
		near, far := "out0", "in0"
		if ns == Scanner {
			near = "sc0"
		}
		if i == 3 {
			far = "tg0"
		}
		err = errors.Join(err, p.veth(ns, near, chain[i+1], far))
	}
	for i, ns := range pathRouters {
		err = errors.Join(err,
			p.address(ns, "in0", PathHops4[i], 24), p.address(ns, "in0", PathHops6[i], 64),
			p.address(ns, "out0", pathOuter4[i], 24), p.address(ns, "out0", pathOuter6[i], 64))
	}
	err = errors.Join(err,
		p.address(Scanner, "sc0", PathClient4, 24), p.address(Scanner, "sc0", PathClient6, 64),
		p.address(Target, "tg0", PathServer4, 24), p.address(Target, "tg0", PathServer6, 64))
	for _, addr := range p.path.Clients {
		err = errors.Join(err, p.address(Scanner, "sc0", addr, addr.BitLen()))
	}
	return err
}

// routes leads everything outwards by default, and each network of the near side back.
func (p *Path) routes() error {
	all4, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	err := errors.Join(
		p.via(Scanner, all4, PathHops4[0]), p.via(Scanner, all6, PathHops6[0]),
		p.via(R1, all4, PathHops4[1]), p.via(R1, all6, PathHops6[1]),
		p.via(R2, all4, PathHops4[2]), p.via(R2, all6, PathHops6[2]),
		p.route(R3, all4, &netlink.Route{Type: unix.RTN_BLACKHOLE}), p.route(R3, all6, &netlink.Route{Type: unix.RTN_BLACKHOLE}),
		p.via(Target, all4, pathOuter4[2]), p.via(Target, all6, pathOuter6[2]),
	)
	for _, near := range []netip.Prefix{
		netip.PrefixFrom(PathClient4, 24), netip.PrefixFrom(PathClient6, 64),
		netip.PrefixFrom(pathOuter4[0], 24), netip.PrefixFrom(pathOuter6[0], 64),
	} {
		err = errors.Join(err, p.back(R3, near, 1))
	}
	err = errors.Join(err, p.back(R2, netip.PrefixFrom(PathClient4, 24), 0), p.back(R2, netip.PrefixFrom(PathClient6, 64), 0))
	for _, addr := range p.path.Clients {
		host := netip.PrefixFrom(addr, addr.BitLen())
		err = errors.Join(err, p.back(R3, host, 1), p.back(R2, host, 0), p.onLink(R1, host, "in0"))
	}
	for _, anyIP := range append([]netip.Prefix{PathServers4, PathServers6}, p.path.AnyIP...) {
		server := PathServer4
		if anyIP.Addr().Is6() {
			server = PathServer6
		}
		err = errors.Join(err, p.anyIP(Target, anyIP), p.via(R3, anyIP, server))
	}
	return err
}

// back routes a prefix by the outer address of a nearer router.
func (p *Path) back(ns string, to netip.Prefix, router int) error {
	if to.Addr().Is6() {
		return p.via(ns, to, pathOuter6[router])
	}
	return p.via(ns, to, pathOuter4[router])
}

// onLink routes a prefix to a link, without a gateway.
func (p *Path) onLink(ns string, to netip.Prefix, link string) (err error) {
	var index int
	err = p.namespaces[ns].do(func() error {
		index, err = linkIndex(link)
		return err
	})
	if err != nil {
		return err
	}
	return p.route(ns, to, &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK})
}

// awaitUp returns when the servers answer over all routers: see Lab.awaitUp.
func (p *Path) awaitUp() error {
	for _, d := range []netip.Addr{PathServer4, PathServer6} {
		if d.Is6() && !p.ip6 {
			continue
		}
		if err := awaitClosed(netip.AddrPortFrom(d, 1), time.Now().Add(time.Minute)); err != nil {
			return err
		}
	}
	return nil
}

// Splice starts a transparent proxy in a router, on a port that a filter with DoRedirect leads
// to: it connects to where a connection was to go, and passes on the bytes both ways as they are.
func (p *Path) Splice(t *testing.T, ns string, port uint16) *Proc {
	t.Helper()
	return p.Start(t, ns, spliceFunc, strconv.Itoa(int(port)))
}
