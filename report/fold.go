package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A foldKey says which rows are counted together.
type foldKey struct {
	state, reason  string
	icmpFrom, icmp string
	cure           string // flag that has them probed
	ports          string // "25,465"; "" if it is all ports of each host, or any
}

// itself stands for the sender of an ICMP message about itself: a host whose own
// firewall rejects.
const itself = "the address itself"

// A fold counts rows, and knows where they are.
type fold struct {
	foldKey
	endpoints, hosts uint64   // rows, and places they are at: an address counts once
	typed            ranges   // addresses that no name led to, the first maxRuns ranges
	names            []named  // the first maxRuns names
	beyond           uint64   // places that are in neither list
	nowhere          bool     // a name has no address
	last             string   // the place of the rows that came last
	on               []string // ports of the first host; of all, if they vary
	varied           bool     // the hosts have different ports
}

// A named is a name, and the addresses that it led to.
type named struct {
	name string
	at   ranges
}

const (
	maxFolds = 200 // lines of counts; what a stranger can vary (the sender of an ICMP) must not fill the memory
	maxRuns  = 24  // ranges or names in a line
	maxPorts = 8   // ports in a line, beyond that their number
)

// fold counts the rows of one host; whole says that none of its rows is listed.
func (l *listing) fold(rest []line, whole bool) {
	for len(rest) > 0 {
		key := rest[0].foldKey()
		same, other := splitFold(rest, key)
		// What was cut off in the middle has any set of ports: they say nothing.
		if (!whole || len(other) > 0) && key.reason != "interrupted" {
			key.ports = portList(portsOf(same))
		}
		whole = whole && len(other) == 0
		l.foldOf(key).add(same)
		rest = other
	}
}

// splitFold divides rows into those that are counted under a key and the others.
func splitFold(rest []line, key foldKey) (same, other []line) {
	n := 0
	for n < len(rest) && rest[n].foldKey() == key {
		n++
	}
	if n == len(rest) {
		return rest, nil // as nearly always
	}
	for _, ln := range rest {
		if ln.foldKey() == key {
			same = append(same, ln)
		} else {
			other = append(other, ln)
		}
	}
	return same, other
}

// foldKey returns what the row is counted under. Who sent an ICMP message counts
// where it is evidence: it is none of a probe that was broken off, and that nobody
// answers ARP is what our own kernel says.
func (ln *line) foldKey() foldKey {
	key := foldKey{state: ln.state, reason: ln.reason, cure: ln.cure}
	if ln.state == "filtered" && ln.reason != "no-neighbor" {
		key.icmpFrom, key.icmp = ln.icmpFrom, ln.icmp
	}
	if key.icmpFrom != "" && key.icmpFrom == ln.address {
		key.icmpFrom = itself
	}
	return key
}

// portsOf returns the ports of some rows.
func portsOf(lines []line) []string {
	ports := make([]string, len(lines))
	for i := range lines {
		ports[i] = lines[i].port
	}
	return ports
}

// portList writes ports: "25,465".
func portList(ports []string) string {
	if len(ports) > maxPorts {
		return strconv.Itoa(len(ports)) + " ports"
	}
	return strings.Join(ports, ",")
}

// comparePorts compares the ports of a host with those of the first one, which
// it returns, and reports whether any host had others so far.
func comparePorts(first []string, lines []line, varied bool) ([]string, bool) {
	if first == nil {
		return portsOf(lines), varied
	}
	varied = varied || len(lines) != len(first)
	for i := 0; i < len(lines) && !varied; i++ {
		varied = lines[i].port != first[i]
	}
	return first, varied
}

// foldOf returns the fold of a key. When there are too many, what differs only
// in ICMP sender or ports is counted together.
func (l *listing) foldOf(key foldKey) *fold {
	if f := l.byKey[key]; f != nil {
		return f
	}
	if len(l.folds) >= maxFolds {
		key = foldKey{state: key.state, reason: key.reason, ports: "some ports"}
		if f := l.byKey[key]; f != nil {
			return f
		}
	}
	if l.byKey == nil {
		l.byKey = make(map[foldKey]*fold)
	}
	f := &fold{foldKey: key}
	l.byKey[key] = f
	l.folds = append(l.folds, f)
	return f
}

// add counts rows of one host.
func (f *fold) add(lines []line) {
	f.endpoints += uint64(len(lines))
	if lines[0].port != "" {
		f.on, f.varied = comparePorts(f.on, lines, f.varied)
		if f.varied && len(f.on) <= maxPorts {
			f.on = unite(f.on, lines)
		}
	}
	key := lines[0].hostKey
	place := key.place()
	addr, err := netip.ParseAddr(key.address)
	known := f.has(addr, place) // the same address under another name
	if !known {
		f.hosts++
	}
	f.last = place
	switch {
	case err != nil:
		f.nowhere = true
		f.addName(place, addr)
	case key.host != "":
		f.addName(key.host, addr)
	case !known && !f.typed.add(addr):
		f.beyond++
	}
}

// unite returns ports with those of some rows, in order.
func unite(ports []string, lines []line) []string {
	if !slices.ContainsFunc(lines, func(ln line) bool { return !slices.Contains(ports, ln.port) }) {
		return ports // as nearly always
	}
	all := slices.Concat(ports, portsOf(lines))
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	return slices.Compact(all)
}

// addName adds a name, and the address that it led to, if it led to any.
func (f *fold) addName(name string, addr netip.Addr) {
	i := slices.IndexFunc(f.names, func(n named) bool { return n.name == name })
	if i < 0 {
		if i = len(f.names); i == maxRuns {
			f.beyond++
			return
		}
		f.names = append(f.names, named{name: name})
	}
	at := &f.names[i].at
	if addr.IsValid() && !at.has(addr) && !at.add(addr) {
		f.beyond++
	}
}

// has reports whether a place is in the list already. Of those that are beyond
// the list it knows the last one.
func (f *fold) has(addr netip.Addr, place string) bool {
	switch {
	case place == f.last || addr.IsValid() && f.typed.has(addr):
		return true
	case addr.IsValid():
		return slices.ContainsFunc(f.names, func(n named) bool { return n.at.has(addr) })
	}
	return slices.ContainsFunc(f.names, func(n named) bool { return n.name == place })
}

// foldLines returns the counts, one line each: silence first, then the most frequent.
func (l *listing) foldLines() []string {
	folds := slices.Clone(l.folds)
	slices.SortStableFunc(folds, func(a, b *fold) int {
		if a.silent() != b.silent() {
			if a.silent() {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.endpoints, a.endpoints)
	})
	var out []string
	for _, f := range folds {
		out = append(out, f.say(l.mixed))
	}
	return out
}

// silent reports whether the fold is of hosts that never answered on any port.
func (f *fold) silent() bool { return f.ports == "" && f.reason == "no-response" }

// say says the count in words. mixed: the hosts of the run have different ports,
// so that "all ports" would say nothing.
func (f *fold) say(mixed bool) string {
	hosts := counted(f.hosts, "address", "addresses")
	if f.nowhere {
		hosts = counted(f.hosts, "host", "hosts")
	}
	on := f.ports
	if on == "" && mixed && len(f.on) > 0 {
		on = portList(f.on)
		if f.varied {
			on = "some of " + on
		}
	}
	switch {
	case f.silent():
		return fmt.Sprintf("%s silent on %s: %s (no host, or dropped: not decidable from here)", hosts, firstOf(on, "all ports"), f.where())
	case f.ports == "" && f.reason == "no-neighbor":
		return fmt.Sprintf("%s that nobody uses now (no answer to ARP or ND): %s", hosts, f.where())
	}
	s := counted(f.endpoints, "endpoint", "endpoints") + " " + f.state + " " + f.reason
	if on != "" {
		s += " on " + on
	}
	if f.hosts != f.endpoints {
		s += " (" + hosts + ")"
	}
	if f.icmpFrom != "" {
		s += ", ICMP " + f.icmp + " from " + f.icmpFrom
	}
	s += ": " + f.where()
	if f.cure != "" {
		s += "; probed with " + f.cure
	}
	return s
}

// counted writes a number and what it counts.
func counted(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// where writes the places: "10.20.30.16-17,20,22-23, mx2.example.org (192.0.2.7)".
func (f *fold) where() string {
	var places []string
	if len(f.typed) > 0 {
		places = append(places, f.typed.String())
	}
	for _, n := range f.names {
		if len(n.at) > 0 {
			n.name += " (" + n.at.String() + ")"
		}
		places = append(places, n.name)
	}
	s := strings.Join(places, ", ")
	if f.beyond > 0 {
		s += " and " + thousands(f.beyond) + " more (--show all lists them)"
	}
	return s
}

// ranges are ranges of addresses, at most maxRuns.
type ranges []run

// A run is a range of addresses.
type run struct{ from, to netip.Addr }

// add adds an address that they do not have, and reports whether there was room.
func (rs *ranges) add(addr netip.Addr) bool {
	n := len(*rs)
	switch {
	case n > 0 && (*rs)[n-1].to.Next() == addr:
		(*rs)[n-1].to = addr
	case n < maxRuns:
		*rs = append(*rs, run{addr, addr})
	default:
		return false
	}
	return true
}

// has reports whether an address is in one of the ranges.
func (rs ranges) has(addr netip.Addr) bool {
	return slices.ContainsFunc(rs, func(r run) bool { return r.from.Compare(addr) <= 0 && addr.Compare(r.to) <= 0 })
}

// String writes them: "10.20.30.16-17,20,22-23".
func (rs ranges) String() string {
	var b strings.Builder
	var last netip.Addr
	for _, r := range rs {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		writeRun(&b, r, last)
		last = r.to
	}
	return b.String()
}

// writeRun writes a range; of IPv4 addresses in the /24 of the one before only
// the last number.
func writeRun(b *strings.Builder, r run, before netip.Addr) {
	from := r.from.String()
	if same24(before, r.from) {
		from = strconv.Itoa(int(r.from.As4()[3]))
	}
	b.WriteString(from)
	switch {
	case r.from == r.to:
	case same24(r.from, r.to):
		b.WriteString("-" + strconv.Itoa(int(r.to.As4()[3])))
	default:
		b.WriteString("-" + r.to.String())
	}
}

// same24 reports whether two addresses are IPv4 and in one /24.
func same24(a, b netip.Addr) bool {
	if !a.Is4() || !b.Is4() {
		return false
	}
	x, y := a.As4(), b.As4()
	return [3]byte(x[:3]) == [3]byte(y[:3])
}
