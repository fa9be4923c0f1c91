package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A family is what rules need to know of IPv4 or IPv6 headers.
type family struct {
	table    nftables.TableFamily
	src, dst uint32 // offsets of the addresses in the header
	size     uint32 // of an address
	ip6      bool
}

var (
	family4 = family{table: nftables.TableFamilyIPv4, src: 12, dst: 16, size: 4}
	family6 = family{table: nftables.TableFamilyIPv6, src: 8, dst: 24, size: 16, ip6: true}
)

func (l *Lab) families() []family {
	if l.ip6 {
		return []family{family4, family6}
	}
	return []family{family4}
}

// Priorities of the chains: counting before everything, raw before conntrack.
const (
	countPriority = -310
	rawPriority   = -300
	dstnat        = -100
	filter        = 0
)

// rulesIn calls f with a connection to the rules of a namespace, and commits.
func (l *Lab) rulesIn(ns string, f func(*nftables.Conn) error) error {
	n := l.namespaces[ns]
	if n == nil {
		return fmt.Errorf("no namespace %q", ns)
	}
	var c *nftables.Conn
	// A lasting connection opens its socket at once, in the namespace of the thread.
	err := n.do(func() (err error) {
		c, err = nftables.New(nftables.AsLasting())
		return err
	})
	if err != nil {
		return fmt.Errorf("rules in %s: %w", ns, err)
	}
	defer c.CloseLasting()
	if err := errors.Join(f(c), c.Flush()); err != nil {
		return fmt.Errorf("rules in %s: %w", ns, err)
	}
	return nil
}

// Rules changes the packet rules of a namespace; f need not flush.
func (l *Lab) Rules(t *testing.T, ns string, f func(*nftables.Conn) error) {
	t.Helper()
	if err := l.rulesIn(ns, f); err != nil {
		t.Fatal(err)
	}
}

// rules sets the lab's own tables: counters, and the classes if wanted.
func (l *Lab) rules() error {
	for ns := range l.namespaces {
		if ns == Scanner {
			continue
		}
		if err := l.rulesIn(ns, l.addCounters); err != nil {
			return err
		}
	}
	if !l.cfg.Classes {
		return nil
	}
	err := l.rulesIn(Target, func(c *nftables.Conn) error {
		for _, fam := range l.families() {
			l.addRedirect(c, fam)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.rulesIn(l.cfg.RejectAt, func(c *nftables.Conn) error {
		hook := nftables.ChainHookInput
		if l.cfg.RejectAt == Router {
			hook = nftables.ChainHookForward
		}
		for _, fam := range l.families() {
			l.addClasses(c, fam, hook)
		}
		return nil
	})
}

// chain adds a table with one base chain to it, or a chain to the table of that name.
func chain(c *nftables.Conn, fam nftables.TableFamily, table, name string, typ nftables.ChainType, hook *nftables.ChainHook, prio int32) *nftables.Chain {
	t := c.AddTable(&nftables.Table{Family: fam, Name: table})
	return c.AddChain(&nftables.Chain{Table: t, Name: name, Type: typ, Hooknum: hook,
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(prio))})
}

func rule(c *nftables.Conn, ch *nftables.Chain, exprs ...[]expr.Any) {
	r := &nftables.Rule{Table: ch.Table, Chain: ch}
	for _, e := range exprs {
		r.Exprs = append(r.Exprs, e...)
	}
	c.AddRule(r)
}

// addClasses sets what happens to classes reset to port-unreachable.
func (l *Lab) addClasses(c *nftables.Conn, fam family, hook *nftables.ChainHook) {
	ch := chain(c, fam.table, "classes", "reject", nftables.ChainTypeFilter, hook, filter)
	for _, port := range l.cfg.Ports {
		for class := Reset; class <= PortUnreach; class++ {
			rule(c, ch, dport(port), classIs(fam, class), carryOut(class, fam.ip6))
		}
	}
}

// addRedirect leads class redirect to its port. Nothing else is tracked: the table
// of connections is the whole machine's, and a million hosts would fill it.
func (l *Lab) addRedirect(c *nftables.Conn, fam family) {
	in := chain(c, fam.table, "redirect", "untracked-in", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, rawPriority)
	out := chain(c, fam.table, "redirect", "untracked-out", nftables.ChainTypeFilter, nftables.ChainHookOutput, rawPriority)
	nat := chain(c, fam.table, "redirect", "nat", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, dstnat)
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	to := []expr.Any{
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, l.cfg.Redirect)},
		&expr.Redir{RegisterProtoMin: 1},
	}
	for _, port := range l.cfg.Ports {
		rule(c, in, dport(port), classIs(fam, Redirect), accept)
		rule(c, nat, dport(port), classIs(fam, Redirect), to)
	}
	rule(c, in, []expr.Any{&expr.Notrack{}})
	rule(c, out, sport(l.cfg.Redirect), accept)
	rule(c, out, []expr.Any{&expr.Notrack{}})
}

// carryOut is the end of a rule that does to a packet what a class says.
func carryOut(class Class, ip6 bool) []expr.Any {
	switch class {
	case Reset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	case AdminProhibited, HostUnreach, PortUnreach:
		_, code := class.icmp(ip6)
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}}
	}
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
}

// tcp matches TCP segments.
func tcp() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
}

func dport(port uint16) []expr.Any { return portAt(2, port) }
func sport(port uint16) []expr.Any { return portAt(0, port) }

// portAt matches TCP segments with a port at an offset of the header.
func portAt(offset uint32, port uint16) []expr.Any {
	return append(tcp(),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)})
}

// syn matches the first segment of a connection: SYN set, ACK not (RFC 9293, 3.1).
func syn() []expr.Any {
	return append(tcp(),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x12}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0x02}})
}

// classIs matches packets by the class of their destination.
func classIs(fam family, class Class) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: fam.dst + fam.size - 1, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{7}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(class)}},
	}
}

// to matches packets to a prefix.
func to(fam family, p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: fam.dst, Len: fam.size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: fam.size, Mask: net.CIDRMask(p.Bits(), int(fam.size)*8), Xor: make([]byte, fam.size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// addCounters counts the SYNs that arrive, by port.
func (l *Lab) addCounters(c *nftables.Conn) error {
	ch := chain(c, nftables.TableFamilyINet, "count", "syn", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, countPriority)
	for _, port := range l.cfg.Ports {
		rule(c, ch, dport(port), syn(), []expr.Any{&expr.Counter{}})
	}
	rule(c, ch, syn(), []expr.Any{&expr.Counter{}})
	return nil
}

// CountSYN returns how many SYNs have arrived in a namespace (Router, Target or
// OnLink) since the lab was built, by port of Config.Ports; all of them, on any port, under 0.
func (l *Lab) CountSYN(t *testing.T, ns string) map[uint16]uint64 {
	t.Helper()
	counts := map[uint16]uint64{}
	l.Rules(t, ns, func(c *nftables.Conn) error {
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: "count"}
		rules, err := c.GetRules(table, &nftables.Chain{Table: table, Name: "syn"})
		if err != nil {
			return err
		}
		for i, port := range slices.Concat(l.cfg.Ports, []uint16{0}) {
			for _, e := range rules[i].Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					counts[port] = counter.Packets
				}
			}
		}
		return nil
	})
	return counts
}

// temporary sets a table of rules in a namespace and takes it away when t ends.
func (l *Lab) temporary(t *testing.T, ns string, fam nftables.TableFamily, hooks []*nftables.ChainHook, add func(*nftables.Conn, *nftables.Chain)) {
	t.Helper()
	name := fmt.Sprintf("test%d", l.tables.Add(1))
	l.Rules(t, ns, func(c *nftables.Conn) error {
		for i, hook := range hooks {
			add(c, chain(c, fam, name, fmt.Sprintf("chain%d", i), nftables.ChainTypeFilter, hook, filter-1))
		}
		return nil
	})
	t.Cleanup(func() {
		l.Rules(t, ns, func(c *nftables.Conn) error {
			c.DelTable(&nftables.Table{Family: fam, Name: name})
			return nil
		})
	})
}

// out is where packets that leave by a namespace are seen: forwarded ones in the router.
func out(ns string) []*nftables.ChainHook {
	if ns == Router {
		return []*nftables.ChainHook{nftables.ChainHookForward}
	}
	return []*nftables.ChainHook{nftables.ChainHookOutput}
}

// DropOut silently drops TCP segments to a prefix and port (0: any port) that
// leave a namespace, or pass the router, until t ends. In Scanner it is the
// machine's own firewall, in Router a provider's.
func (l *Lab) DropOut(t *testing.T, ns string, prefix netip.Prefix, port uint16) {
	t.Helper()
	l.RejectOut(t, ns, prefix, port, Drop)
}

// RejectOut is like DropOut, with an answer: Reset, AdminProhibited, HostUnreach or PortUnreach.
func (l *Lab) RejectOut(t *testing.T, ns string, prefix netip.Prefix, port uint16, how Class) {
	t.Helper()
	fam := family4
	if prefix.Addr().Is6() {
		fam = family6
	}
	match := tcp()
	if port != 0 {
		match = dport(port)
	}
	l.temporary(t, ns, fam.table, out(ns), func(c *nftables.Conn, ch *nftables.Chain) {
		rule(c, ch, match, to(fam, prefix), carryOut(how, fam.ip6))
	})
}

// DropRandom drops TCP segments at random until t ends: percent of those that
// enter a namespace and percent of those that leave it; in the router percent of those that pass, each way.
// So in any one namespace it is the loss of one direction.
func (l *Lab) DropRandom(t *testing.T, ns string, percent float64) {
	t.Helper()
	hooks := out(ns)
	if ns != Router {
		hooks = append(hooks, nftables.ChainHookInput)
	}
	const whole = 1_000_000
	limit := binary.BigEndian.AppendUint32(nil, uint32(percent*whole/100))
	l.temporary(t, ns, nftables.TableFamilyINet, hooks, func(c *nftables.Conn, ch *nftables.Chain) {
		rule(c, ch, tcp(), []expr.Any{
			&expr.Numgen{Register: 1, Modulus: whole, Type: unix.NFT_NG_RANDOM},
			&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
			&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: limit},
			&expr.Verdict{Kind: expr.VerdictDrop},
		})
	})
}
