package report

import "strings"

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
	ports    []string // of the first host
	mixed    bool     // another host has other ports
	folds    []*fold
	byKey    map[foldKey]*fold
}

// autoRows is how many endpoints --show auto lists one by one (DESIGN.md, 2).
const autoRows = 64

// A hostKey says which rows belong to one host: the same address reached by two
// names is two hosts (two certificates to judge).
type hostKey struct{ address, host, target string }

// place returns what a person looks for: the address, or the name that led to
// none. What mx:example.org says of a domain is not said of a host.
func (k hostKey) place() string {
	if k.address == "" && k.ofDomain() {
		return k.target
	}
	return firstOf(k.address, k.host, k.target)
}

// via returns how one got to the place: the name behind an address, the domain of
// which a host without one is a mail server.
func (k hostKey) via() string {
	switch {
	case k.address != "":
		return k.host
	case k.host == "" || k.ofDomain() || !isMX(k.target):
		return ""
	}
	return "MX of " + k.target[len("mx:"):]
}

// ofDomain reports whether the target is the mx: domain of that name itself, and
// not one of which it is a mail server.
func (k hostKey) ofDomain() bool {
	if k.host == "" || !isMX(k.target) {
		return false
	}
	domain, _, _ := strings.Cut(k.target[len("mx:"):], ":") // without the port
	return strings.EqualFold(strings.TrimSuffix(domain, "."), k.host)
}

// isMX reports whether a target asks for the mail servers of a domain.
func isMX(target string) bool { return len(target) > 3 && strings.EqualFold(target[:3], "mx:") }

// A line is what a person sees of a row.
type line struct {
	hostKey
	port, state, reason, icmpFrom, icmp string
	answers, encryption, note           string
	name                                string // name behind an address, as the server says
	cure                                string // flag that has it probed, if one does
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
	if group[0].port != "" {
		l.ports, l.mixed = comparePorts(l.ports, group, l.mixed)
	}
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
