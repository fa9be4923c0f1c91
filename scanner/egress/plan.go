package egress

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/smtpsweep/smtpsweep/targets"
)

// DefaultControl is the port that shows whether an operator is there, if none is named.
const DefaultControl = 443

// MailPorts are the ports that an audit is about.
func MailPorts() []uint16 { return []uint16{25, 465, 587, 2525} }

// Documentation addresses belong to nobody and must stay silent (RFC 5737, RFC
// 3849). The first of a family is asked on all ports, the others on 25.
var silentAddrs = []netip.Addr{
	netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("203.0.113.1"),
	netip.MustParseAddr("2001:db8::1"),
}

// A Found is what a host's name led to: addresses that may be contacted.
type Found struct {
	Addrs []netip.Addr
	Why   targets.Unprobed // why there are none, or none of the family that is missing
	Err   string           // our words for it
}

// A Request is what an audit is asked to find out.
type Request struct {
	Operators []Operator
	Ports     []uint16              // nil means MailPorts
	Control   uint16                // 0 means DefaultControl
	Families  []Family              // that are tested, if this machine has them; nil means both
	Absent    map[Family]Cause      // families that this machine has no way out for
	Hosts     map[string]Found      // by the host of a door or control
	Excluded  func(netip.Addr) bool // nil means that nothing is
	Reflector string                // host of a far end of one's own; empty means none
}

// A Missing is a host that is not contacted in a family.
type Missing struct {
	Operator string
	Host     string
	Family   Family
	Ports    []uint16
	Why      targets.Unprobed
	Err      string
}

// A Plan is whom an audit contacts.
type Plan struct {
	Ports     []uint16 // mail ports, in the order of the request
	Control   uint16
	Families  []Family
	Absent    map[Family]Cause
	Operators []Operator
	Contacts  []Contact
	Far       []FarEnd // sessions with the reflector
	Missing   []Missing
}

// A FarEnd is a port of the reflector: a far end of the user's own that says, signed,
// what arrived there.
type FarEnd struct {
	Addr netip.Addr
	Port uint16
}

// NewPlan says whom to contact. Each operator's door is asked at one address a
// family, on each of its ports once, and so are its control host and the
// addresses that must stay silent.
func NewPlan(r Request) *Plan {
	p := &Plan{Ports: r.Ports, Control: cmp.Or(r.Control, DefaultControl), Families: r.Families, Absent: r.Absent, Operators: r.Operators}
	if p.Ports == nil {
		p.Ports = MailPorts()
	}
	p.Ports = slices.DeleteFunc(slices.Clone(p.Ports), func(port uint16) bool { return port == p.Control })
	if p.Families == nil {
		p.Families = []Family{IPv4, IPv6}
	}
	for _, family := range p.Families {
		if p.Absent[family] == "" {
			p.addFamily(&r, family)
		}
	}
	return p
}

// addFamily adds the contacts of a family.
func (p *Plan) addFamily(r *Request, family Family) {
	if r.Reflector != "" {
		p.addReflector(r, family)
	}
	for i := range p.Operators {
		op := &p.Operators[i]
		for _, door := range op.Doors {
			p.addHost(r, family, op, door.Host, door.Ports, Mail)
		}
		if control := op.controlHost(); control != "" {
			p.addHost(r, family, op, control, []uint16{p.Control}, Control)
		}
	}
	if !slices.ContainsFunc(p.Contacts, func(c Contact) bool { return c.Family() == family }) {
		return // nobody is asked, so there is nothing to compare with
	}
	ports := append(slices.Clone(p.Ports), p.Control)
	for _, addr := range silentAddrs {
		if FamilyOf(addr) == family && (r.Excluded == nil || !r.Excluded(addr)) {
			for _, port := range ports {
				p.Contacts = append(p.Contacts, contact("", false, Negative, addr, "", port))
			}
			ports = []uint16{25}
			if !slices.Contains(p.Ports, 25) {
				break
			}
		}
	}
}

// addReflector adds the sessions with the far end.
func (p *Plan) addReflector(r *Request, family Family) {
	found := r.Hosts[r.Reflector]
	for _, addr := range found.Addrs {
		if FamilyOf(addr) != family {
			continue
		}
		for _, port := range p.Ports {
			p.Far = append(p.Far, FarEnd{addr.Unmap(), port})
		}
		return
	}
	p.Missing = append(p.Missing, Missing{"reflector", r.Reflector, family, p.Ports, found.Why, found.Err})
}

// controlHost returns the host that is asked on the control port.
func (op *Operator) controlHost() string {
	if op.Control == "" && len(op.Doors) > 0 {
		return op.Doors[0].Host
	}
	return op.Control
}

// addHost adds the contacts of one host, or says why there are none.
func (p *Plan) addHost(r *Request, family Family, op *Operator, host string, ports []uint16, kind Kind) {
	found := r.Hosts[host]
	at := slices.IndexFunc(found.Addrs, func(a netip.Addr) bool { return FamilyOf(a) == family })
	if at < 0 {
		why, err := found.Why, found.Err
		if why == "" {
			why, err = targets.DNSNoAddress, "it has no "+family.String()+" address"
		}
		p.Missing = append(p.Missing, Missing{op.Name, host, family, ports, why, err})
		return
	}
	for _, port := range ports {
		if kind == Mail && !slices.Contains(p.Ports, port) {
			continue
		}
		c := contact(op.Name, op.Listed, kind, found.Addrs[at].Unmap(), host, port)
		if other := p.leadsTo(c.Target.Addr); other != "" && other != op.Name {
			p.Missing = append(p.Missing, Missing{op.Name, host, family, []uint16{port}, targets.DNSError,
				fmt.Sprintf("its name leads to %s, and so does that of %s: they are not two destinations", c.Target.Addr, other)})
			continue
		}
		again := slices.ContainsFunc(p.Contacts, func(o Contact) bool { return o.Target.AddrPort() == c.Target.AddrPort() })
		if !again { // two doors may lead to one machine
			p.Contacts = append(p.Contacts, c)
		}
	}
}

// leadsTo returns the operator that an address is contacted for, or "".
func (p *Plan) leadsTo(addr netip.Addr) string {
	i := slices.IndexFunc(p.Contacts, func(c Contact) bool { return c.Target.Addr == addr })
	if i < 0 {
		return ""
	}
	return p.Contacts[i].Operator
}

// NewContact makes a contact that no list of operators is behind: one of a policy.
func NewContact(operator string, kind Kind, addr netip.Addr, host string, port uint16) Contact {
	return contact(operator, false, kind, addr, host, port)
}

// contact makes a contact. A typed address has no name to ask for.
func contact(operator string, listed bool, kind Kind, addr netip.Addr, host string, port uint16) Contact {
	t := targets.Target{Index: targets.NoIndex, Addr: addr, Port: port, Role: targets.RoleOf(port)}
	if _, err := netip.ParseAddr(host); host != "" && err != nil {
		t.From = &targets.Origin{Spec: host, Host: host}
	}
	if kind == Control {
		t.Role = targets.SMTPS // nobody greets there: a connection is all that is wanted
	}
	return Contact{Operator: operator, Listed: listed, Kind: kind, Target: t}
}

// Hosts returns the names and addresses that a request with these operators needs.
func Hosts(operators []Operator) (hosts []string) {
	for i := range operators {
		op := &operators[i]
		for _, door := range op.Doors {
			hosts = append(hosts, door.Host)
		}
		hosts = append(hosts, op.controlHost())
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// operator returns an operator by its name.
func (p *Plan) operator(name string) *Operator {
	i := slices.IndexFunc(p.Operators, func(op Operator) bool { return op.Name == name })
	if i < 0 {
		return &Operator{Name: name}
	}
	return &p.Operators[i]
}
