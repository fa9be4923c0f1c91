package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// srcnat is the priority of chains that change the source.
const srcnat = 100

// A Switch is a filter that can be turned off and on again.
type Switch struct {
	path   *Path
	filter Filter
	table  string
	on     bool
}

// Filter sets a filter until t ends, or it is turned off. Of several filters in one place
// the later ones are asked first. A connection that NAT has begun with keeps its addresses.
func (p *Path) Filter(t *testing.T, f Filter) *Switch {
	t.Helper()
	if err := f.valid(); err != nil {
		t.Fatal(err)
	}
	s := &Switch{path: p, filter: f, table: fmt.Sprintf("filter%d", p.tables.Add(1))}
	s.On(t)
	t.Cleanup(func() { s.Off(t) })
	return s
}

// On turns the filter on.
func (s *Switch) On(t *testing.T) {
	t.Helper()
	if s.on {
		return
	}
	s.on = true
	s.path.Rules(t, s.filter.At, func(c *nftables.Conn) error {
		for _, fam := range s.families() {
			s.add(c, fam)
		}
		return nil
	})
}

// Off turns the filter off.
func (s *Switch) Off(t *testing.T) {
	t.Helper()
	if !s.on {
		return
	}
	s.on = false
	s.path.Rules(t, s.filter.At, func(c *nftables.Conn) error {
		for _, fam := range s.families() {
			c.DelTable(&nftables.Table{Family: fam.table, Name: s.table})
		}
		return nil
	})
	if s.filter.Do.kind < actionRedirect {
		return
	}
	if err := s.path.forget(s.filter.At); err != nil {
		t.Error(err)
	}
}

// families are those of the filter which the lab has.
func (s *Switch) families() (fams []family) {
	f := s.filter
	for _, fam := range s.path.families() {
		number, other := 4, f.From.IsValid() && f.From.Addr().Is4() != !fam.ip6 || f.To.IsValid() && f.To.Addr().Is4() != !fam.ip6
		if fam.ip6 {
			number = 6
		}
		if !other && (f.Family == 0 || f.Family == number) {
			fams = append(fams, fam)
		}
	}
	return fams
}

// add adds the table of the filter, its chain and rules.
func (s *Switch) add(c *nftables.Conn, fam family) {
	f := s.filter
	hook, typ, prio := nftables.ChainHookForward, nftables.ChainTypeFilter, int32(filter-s.path.tables.Load())
	switch {
	case f.Do.kind == actionMasquerade:
		hook, typ, prio = nftables.ChainHookPostrouting, nftables.ChainTypeNAT, srcnat
	case f.Do.kind == actionRedirect:
		hook, typ, prio = nftables.ChainHookPrerouting, nftables.ChainTypeNAT, dstnat
	case f.Early:
		hook = nftables.ChainHookPrerouting
	case f.At == Scanner:
		hook = nftables.ChainHookOutput
	case f.At == Target:
		hook = nftables.ChainHookInput
	}
	ch := chain(c, fam.table, s.table, "filter", typ, hook, prio)
	ports := f.Ports
	if len(ports) == 0 {
		ports = []uint16{0}
	}
	for _, port := range ports {
		match := tcp()
		if port != 0 {
			match = dport(port)
		}
		rule(c, ch, s.link(), match, prefixAt(fam, fam.src, f.From), prefixAt(fam, fam.dst, f.To), f.Do.exprs(fam))
	}
}

// link matches what comes from, or leaves on, the side that a filter is about: a filter in a
// router sees both directions.
func (s *Switch) link() []expr.Any {
	name, key := "in0", expr.MetaKeyIIFNAME
	switch {
	case s.filter.Do.kind == actionMasquerade:
		name, key = "out0", expr.MetaKeyOIFNAME
	case s.filter.At == Scanner:
		name, key = "sc0", expr.MetaKeyOIFNAME
	case s.filter.At == Target:
		name = "tg0"
	}
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded},
	}
}

// prefixAt matches packets with an address of a prefix at an offset of the header; the zero prefix is every address.
func prefixAt(fam family, offset uint32, p netip.Prefix) []expr.Any {
	if !p.IsValid() {
		return nil
	}
	match := to(fam, p)
	match[0].(*expr.Payload).Offset = offset
	return match
}

// exprs are the end of a rule that does what the action says.
func (a Action) exprs(fam family) []expr.Any {
	switch a.kind {
	case actionReset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	case actionReject:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: a.icmp}}
	case actionLimit:
		units := map[time.Duration]expr.LimitTime{time.Second: expr.LimitTimeSecond, time.Minute: expr.LimitTimeMinute, time.Hour: expr.LimitTimeHour}
		return []expr.Any{
			&expr.Limit{Type: expr.LimitTypePkts, Rate: a.rate, Unit: units[a.unit], Burst: a.burst, Over: true},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}
	case actionRedirect:
		return []expr.Any{
			&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, a.port)},
			&expr.Redir{RegisterProtoMin: 1},
		}
	case actionMasquerade:
		return []expr.Any{&expr.Masq{}}
	}
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
}

// forget empties the table of connections of a namespace, so that NAT that is over
// is over for all.
func (l *Lab) forget(ns string) error {
	var h *netlink.Handle
	err := l.namespaces[ns].do(func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return fmt.Errorf("connections of %s: %w", ns, err)
	}
	defer h.Close()
	err = h.ConntrackTableFlush(netlink.ConntrackTable)
	if err != nil && !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("connections of %s: %w", ns, err)
	}
	return nil // where the kernel has no way to, they end by themselves
}

// Mute makes a router say nothing when a TTL is over there, until t ends.
func (p *Path) Mute(t *testing.T, ns string) {
	t.Helper()
	name := fmt.Sprintf("mute%d", p.tables.Add(1))
	set := func(c *nftables.Conn) error {
		for _, fam := range p.families() {
			// ICMP 11 (RFC 792), ICMPv6 3 (RFC 4443, 3.3)
			proto, typ := byte(unix.IPPROTO_ICMP), byte(11)
			if fam.ip6 {
				proto, typ = unix.IPPROTO_ICMPV6, 3
			}
			rule(c, chain(c, fam.table, name, "mute", nftables.ChainTypeFilter, nftables.ChainHookOutput, filter), []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{typ}},
				&expr.Verdict{Kind: expr.VerdictDrop},
			})
		}
		return nil
	}
	p.Rules(t, ns, set)
	t.Cleanup(func() {
		p.Rules(t, ns, func(c *nftables.Conn) error {
			for _, fam := range p.families() {
				c.DelTable(&nftables.Table{Family: fam.table, Name: name})
			}
			return nil
		})
	})
}
