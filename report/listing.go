package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A listing decides which rows a person sees one by one and which are counted:
// the table and Markdown are two renderings of it. It keeps at most the rows of
// one host, the first autoRows rows, and the folds.
type listing struct {
	show Show
	emit func([]line) error // the lines of one host

	held     [][]line // hosts whose fate is not decided yet: the first autoRows rows, or the first host
	heldRows int
	small    bool // Close came before there were more than autoRows rows or a second host
	big      bool
	group    []line // the host that rows are arriving for
	key      hostKey
	folds    []*fold
	byKey    map[foldKey]*fold
}

// autoRows is how many endpoints --show auto lists one by one (DESIGN.md, 2).
const autoRows = 64

// A hostKey says which rows belong to one host: the same address reached by two
// names is two hosts (two certificates to judge).
type hostKey struct{ address, host, target string }

// A line is what a person sees of a row.
type line struct {
	hostKey
	port, state, reason, icmpFrom, icmp string
	answers, encryption, note           string
	name                                string // name behind an address, as the server says
}

// add takes one row.
func (l *listing) add(r *Row) error {
	c := &r.Cells
	key := hostKey{address: c[ColAddress], host: c[ColHost]}
	if key.address == "" {
		key.target = c[ColTarget]
	}
	if len(l.group) > 0 && key != l.key {
		if err := l.endGroup(); err != nil {
			return err
		}
	}
	l.key = key
	l.group = append(l.group, lineOf(r, key))
	return nil
}

// endGroup decides about the host whose rows are complete, or holds it.
func (l *listing) endGroup() error {
	group := l.group
	l.group = nil
	if l.big || l.show != ShowAuto {
		l.group = group[:0] // to be used again: decide keeps nothing of it
		return l.decide(group)
	}
	l.held = append(l.held, group)
	l.heldRows += len(group)
	if l.heldRows <= autoRows || len(l.held) == 1 {
		return nil
	}
	l.big = true
	return l.release()
}

// release decides about the hosts that were held.
func (l *listing) release() error {
	held := l.held
	l.held = nil
	for _, g := range held {
		if err := l.decide(g); err != nil {
			return err
		}
	}
	return nil
}

// close decides about what is left.
func (l *listing) close() error {
	if len(l.group) > 0 {
		if err := l.endGroup(); err != nil {
			return err
		}
	}
	l.small = !l.big
	if len(l.held) == 1 { // one host: everything, silence too
		l.show = ShowAll
	}
	return l.release()
}

// decide emits or folds the rows of one host.
func (l *listing) decide(group []line) error {
	if l.show == ShowAll {
		return l.emit(group)
	}
	if l.show == ShowAuto {
		reason, all := oneReason(group)
		asked := l.small && group[0].host != "" // who names a host wants to read of that host
		if all && !asked && (reason == "no-response" || reason == "no-neighbor") {
			l.fold(group, true)
			return nil
		}
		if l.small {
			return l.emit(group)
		}
	}
	show := l.show
	if show == ShowAuto {
		show = ShowOpen
	}
	var shown, rest []line
	switch n := countShown(group, show); n {
	case 0:
		rest = group
	case len(group):
		shown = group
	default:
		for _, ln := range group {
			if show.has(ln.state) {
				shown = append(shown, ln)
			} else {
				rest = append(rest, ln)
			}
		}
	}
	l.fold(rest, len(shown) == 0)
	if len(shown) == 0 {
		return nil
	}
	return l.emit(shown)
}

// countShown returns how many of the rows of one host are listed one by one.
func countShown(group []line, show Show) (n int) {
	for i := range group {
		if show.has(group[i].state) {
			n++
		}
	}
	return n
}

// oneReason reports whether all rows have one reason.
func oneReason(group []line) (string, bool) {
	for _, ln := range group {
		if ln.reason != group[0].reason {
			return "", false
		}
	}
	return group[0].reason, true
}

// A foldKey says which rows are counted together.
type foldKey struct {
	state, reason, icmpFrom, icmp string
	ports                         string // "25,465", or "" if it is all ports of each host
}

// A fold counts rows, and knows where they are.
type fold struct {
	foldKey
	endpoints, hosts uint64   // rows, and places they are at: an address counts once
	runs             []run    // the first maxRuns ranges of addresses
	beyond           uint64   // addresses in later ranges
	last             string   // the place of the rows that came last
	names            []string // the first maxRuns names that have no address
}

// A run is a range of addresses.
type run struct{ from, to netip.Addr }

const (
	maxFolds = 200 // lines of counts; what a stranger can vary (the sender of an ICMP) must not fill the memory
	maxRuns  = 24  // ranges in a line
	maxPorts = 8   // ports in a line, beyond that their number
)

// fold counts the rows of one host; whole says that none of its rows is listed.
func (l *listing) fold(rest []line, whole bool) {
	for len(rest) > 0 {
		key := rest[0].foldKey()
		same, other := splitFold(rest, key)
		// What was cut off in the middle has any set of ports: they say nothing.
		if (!whole || len(other) > 0) && key.reason != "interrupted" {
			key.ports = portList(same)
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

// foldKey returns what the row is counted under.
func (ln *line) foldKey() foldKey {
	return foldKey{state: ln.state, reason: ln.reason, icmpFrom: ln.icmpFrom, icmp: ln.icmp}
}

// portList writes the ports of some rows: "25,465".
func portList(lines []line) string {
	if len(lines) > maxPorts {
		return strconv.Itoa(len(lines)) + " ports"
	}
	ports := make([]string, len(lines))
	for i, ln := range lines {
		ports[i] = ln.port
	}
	return strings.Join(ports, ",")
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
	place := firstOf(lines[0].address, lines[0].host, lines[0].target)
	addr, err := netip.ParseAddr(lines[0].address)
	if f.has(addr, place) {
		return // the same address under another name
	}
	f.last = place
	f.hosts++
	if err != nil {
		if len(f.names) < maxRuns {
			f.names = append(f.names, place)
		} else {
			f.beyond++
		}
		return
	}
	if n := len(f.runs); n > 0 {
		last := &f.runs[n-1]
		if last.to.Next() == addr {
			last.to = addr
			return
		}
	}
	if len(f.runs) < maxRuns {
		f.runs = append(f.runs, run{addr, addr})
		return
	}
	f.beyond++
}

// has reports whether a place is in the list already. Of those that are beyond
// the list it knows the last one.
func (f *fold) has(addr netip.Addr, place string) bool {
	if place == f.last {
		return true
	}
	if !addr.IsValid() {
		return slices.Contains(f.names, place)
	}
	return slices.ContainsFunc(f.runs, func(r run) bool { return r.from.Compare(addr) <= 0 && addr.Compare(r.to) <= 0 })
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
		switch {
		case a.endpoints > b.endpoints:
			return -1
		case a.endpoints < b.endpoints:
			return 1
		}
		return 0
	})
	var out []string
	for _, f := range folds {
		out = append(out, f.String())
	}
	return out
}

// silent reports whether the fold is of hosts that never answered on any port.
func (f *fold) silent() bool { return f.ports == "" && f.reason == "no-response" }

// String says the count in words.
func (f *fold) String() string {
	hosts := counted(f.hosts, "address", "addresses")
	if len(f.names) > 0 {
		hosts = counted(f.hosts, "host", "hosts")
	}
	switch {
	case f.silent():
		return fmt.Sprintf("%s silent on all ports: %s (no host, or dropped: not decidable from here)", hosts, f.where())
	case f.ports == "" && f.reason == "no-neighbor":
		return fmt.Sprintf("%s that nobody uses now (no answer to ARP or ND): %s", hosts, f.where())
	}
	s := counted(f.endpoints, "endpoint", "endpoints") + " " + f.state + " " + f.reason
	if f.ports != "" {
		s += " on " + f.ports
	}
	if f.hosts != f.endpoints {
		s += " (" + hosts + ")"
	}
	if f.icmpFrom != "" {
		s += ", ICMP " + f.icmp + " from " + f.icmpFrom
	}
	return s + ": " + f.where()
}

// counted writes a number and what it counts.
func counted(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// where writes the places: "10.20.30.16-17,20,22-23".
func (f *fold) where() string {
	var b strings.Builder
	var last netip.Addr
	for _, r := range f.runs {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		writeRun(&b, r, last)
		last = r.to
	}
	for _, n := range f.names {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(n)
	}
	if f.beyond > 0 {
		b.WriteString(" and " + thousands(f.beyond) + " more (--show all lists them)")
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
