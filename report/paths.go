package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A traced host is what the rows of one address say together.
type tracedHost struct {
	vantage, source, target, host, address string
	ports                                  []*tracedPort
}

// A tracedPort is what they say of one port.
type tracedPort struct {
	head HopRow // any row of it
	hops map[int][]HopRow
	last int // TTL of the farthest
}

func (p *tracedPort) cell(col HopColumn) string { return p.head.Cells[col] }

// number returns a cell as a number; 0 if it is none.
func (p *tracedPort) number(col HopColumn) int {
	n, _ := strconv.Atoi(p.cell(col))
	return n
}

func (p *tracedPort) fate() scanner.Fate { return scanner.Fate(p.cell(HopFate)) }

// most hops that a table has: a TTL is a byte.
const mostHops = 255

// tracedHosts puts rows together by vantage, source, target and address, in the order in which they come.
func tracedHosts(rows []HopRow) (hosts []*tracedHost) {
	for _, row := range rows {
		c := &row.Cells
		id := tracedHost{vantage: c[HopVantage], source: c[HopSource], target: c[HopTarget], host: c[HopHost], address: c[HopAddress]}
		i := slices.IndexFunc(hosts, func(h *tracedHost) bool {
			return h.vantage == id.vantage && h.source == id.source && h.target == id.target && h.host == id.host && h.address == id.address
		})
		if i < 0 {
			i = len(hosts)
			hosts = append(hosts, &id)
		}
		hosts[i].add(row)
	}
	return hosts
}

func (h *tracedHost) add(row HopRow) {
	port := row.Cells[HopPort]
	i := slices.IndexFunc(h.ports, func(p *tracedPort) bool { return p.cell(HopPort) == port })
	if i < 0 {
		i = len(h.ports)
		h.ports = append(h.ports, &tracedPort{head: row, hops: map[int][]HopRow{}})
	}
	p := h.ports[i]
	if ttl, err := strconv.Atoi(row.Cells[HopTTL]); err == nil && ttl > 0 && ttl <= mostHops {
		p.hops[ttl] = append(p.hops[ttl], row)
		p.last = max(p.last, ttl)
	}
}

// hopAddress returns who answered at a hop that the TTL was over, with its name; "" if nobody did.
func (h *tracedHost) hopAddress(ttl int) string {
	for _, p := range h.ports {
		for _, row := range p.hops[ttl] {
			if row.Cells[HopAnswer] != string(scanner.TimeExceeded) {
				continue
			}
			if name := row.Cells[HopName]; name != "" {
				return row.Cells[HopFrom] + ", " + name
			}
			return row.Cells[HopFrom]
		}
	}
	return ""
}

// distance returns how far the host is; 0 if it is not known.
func (h *tracedHost) distance() (far int) {
	for _, p := range h.ports {
		far = max(far, p.number(HopDistance))
	}
	return far
}

// hopText names a hop: "hop 2 (100.64.0.1)".
func (h *tracedHost) hopText(ttl int) string {
	text := "hop " + strconv.Itoa(ttl)
	if ttl == h.distance() {
		return text + ", which is the host itself"
	}
	if who := h.hopAddress(ttl); who != "" {
		return text + " (" + who + ")"
	}
	return text + ", which answers nothing"
}

// where says in which interval of hops something happens: "after hop 2 (…), no later than hop 3 (…)".
func (h *tracedHost) where(p *tracedPort) string {
	after, before := p.number(HopAfter), p.number(HopNoLater)
	from := "between this machine and "
	if after > 0 {
		from = "after " + h.hopText(after) + " and "
	}
	switch {
	case before > 0 && after > 0:
		return from + "no later than " + h.hopText(before)
	case before > 0:
		return from + h.hopText(before) + ", at that at the latest"
	case after > 0:
		return "somewhere after " + h.hopText(after)
	}
	return "somewhere after this machine"
}

// sentence says in plain words what became of the SYNs to a port.
func (h *tracedHost) sentence(p *tracedPort) string {
	port, control := p.cell(HopPort), p.cell(HopControl)
	beside := ""
	if control != "" {
		beside = "; port " + control + " of the same host answers"
	}
	switch p.fate() {
	case scanner.Reached:
		return "Port " + port + " " + h.reached(p)
	case scanner.Lost:
		if control == "" {
			return "Port " + port + ": nothing answers " + h.where(p) + ", and no other port of the host does: it may be down, or all that goes to it is dropped"
		}
		return "Port " + port + " IS LOST without a word " + h.where(p) + beside
	case scanner.Rejected:
		who := p.cell(HopStoppedBy)
		if hop := p.cell(HopStoppedHop); hop != "" {
			who += " (hop " + hop + ")"
		}
		return "Port " + port + " IS REJECTED by " + who + ": ICMP " + p.cell(HopStoppedICMP) + ", " + p.cell(HopReason) + beside
	case scanner.Cut:
		return "Port " + port + " IS REFUSED in the host's name (TCP reset) " + h.where(p) + beside
	case scanner.Interposed:
		return "Port " + port + " IS ANSWERED in the host's name " + h.where(p) + ": something on the way takes the connections" + beside
	}
	return "Port " + port + " could not be traced: " + firstOf(p.cell(HopError), p.cell(HopReason))
}

// reached says how a host answered a port.
func (h *tracedHost) reached(p *tracedPort) string {
	text := "reaches the host"
	if d := p.number(HopDistance); d > 0 {
		text += ", hop " + strconv.Itoa(d)
	}
	switch p.cell(HopState) {
	case scanner.Open.String():
		return text + ": open"
	case scanner.Closed.String():
		return text + ": refused, by the host or by a filter right before it"
	}
	return text + " now and then: something limits it, or loses packets"
}

// cellText says what a port saw of a hop, by an answer.
func cellText(row *HopRow) string {
	c := &row.Cells
	ms := ""
	if f, err := strconv.ParseFloat(c[HopRTT], 64); err == nil {
		ms = strconv.FormatFloat(f, 'f', 0, 64) + " ms"
		if f < 0.1 {
			ms = "<0.1 ms"
		} else if f < 9.95 {
			ms = strconv.FormatFloat(f, 'f', 1, 64) + " ms"
		}
	}
	switch scanner.Reason(c[HopAnswer]) {
	case scanner.TimeExceeded:
		return ms
	case scanner.NoResponse:
		return "nothing"
	case scanner.SynAck:
		return ms + ", open"
	case scanner.ConnRefused:
		return ms + ", refused"
	}
	return "rejects " + c[HopICMP]
}

// networkText says for people whose a hop may be.
func networkText(ttl int, from, network string) string {
	addr, err := netip.ParseAddr(from)
	switch {
	case err == nil && network == targets.NetPrivate && ttl == 1 && !addr.IsLoopback():
		return "your router (private address)"
	case network == targets.NetPrivate:
		return "private address"
	case network == targets.NetShared:
		return "provider (shared address space, CGNAT)"
	case network == targets.NetPublic, network == "":
		return ""
	}
	return network + " address"
}

// A pathLine is a line of the table of hops.
type pathLine struct {
	hop, from string
	cells     []string
	notes     []string
}

// lines returns the table of hops.
func (h *tracedHost) lines() (out []pathLine) {
	last := 0
	for _, p := range h.ports {
		last = max(last, p.last)
	}
	for ttl := 1; ttl <= last; ttl++ {
		out = append(out, h.linesAt(ttl)...)
	}
	return out
}

// linesAt returns the lines of a hop: one for each sender, and one if there is none.
func (h *tracedHost) linesAt(ttl int) (out []pathLine) {
	var senders, others []string // routers at this hop, and who else answers
	networks, names := map[string]string{}, map[string]string{}
	for _, p := range h.ports {
		for _, row := range p.hops[ttl] {
			from, list := row.Cells[HopFrom], &others
			if row.Cells[HopAnswer] == string(scanner.TimeExceeded) {
				list = &senders
			}
			if from != "" && !slices.Contains(*list, from) {
				*list = append(*list, from)
			}
			networks[from], names[from] = row.Cells[HopNetwork], firstOf(names[from], row.Cells[HopName])
		}
	}
	for _, from := range others {
		if !slices.Contains(senders, from) {
			senders = append(senders, from)
		}
	}
	if len(senders) == 0 {
		senders = []string{""}
	}
	for i, from := range senders {
		ln := pathLine{from: firstOf(from, "?")}
		if i == 0 {
			ln.hop = strconv.Itoa(ttl)
		}
		for _, p := range h.ports {
			ln.cells = append(ln.cells, p.at(ttl, from, i == 0))
		}
		if names[from] != "" {
			ln.notes = append(ln.notes, names[from])
		}
		if from != h.address {
			if text := networkText(ttl, from, networks[from]); text != "" {
				ln.notes = append(ln.notes, text)
			}
		}
		if i == 0 {
			ln.notes = append(ln.notes, h.marks(ttl)...)
		}
		out = append(out, ln)
	}
	return out
}

// at is the cell of a port in the line of a sender, the first one of its hop or not.
func (p *tracedPort) at(ttl int, from string, first bool) string {
	rows := p.hops[ttl]
	for i := range rows {
		if rows[i].Cells[HopFrom] == from {
			return cellText(&rows[i])
		}
	}
	if first && len(rows) > 0 && rows[0].Cells[HopFrom] == "" {
		return cellText(&rows[0])
	}
	return ""
}

// marks say what happens to ports from a hop on.
func (h *tracedHost) marks(ttl int) (marks []string) {
	words := map[scanner.Fate]string{scanner.Lost: "lost", scanner.Rejected: "rejected", scanner.Cut: "refused", scanner.Interposed: "taken"}
	byWord := map[string][]string{}
	for _, p := range h.ports {
		if word := words[p.fate()]; word != "" && p.number(HopAfter)+1 == ttl {
			byWord[word] = append(byWord[word], p.cell(HopPort))
		}
	}
	for _, word := range []string{"lost", "rejected", "refused", "taken"} {
		if ports := byWord[word]; len(ports) > 0 {
			marks = append(marks, "<- "+strings.Join(ports, ", ")+" "+word+" from here on")
		}
	}
	return marks
}

// pathBlock writes the table of hops: PATH, as the screens of trace and egress have it. A note that has no room
// within width stands in a line of its own; width 0 is no limit.
func (h *tracedHost) pathBlock(b *strings.Builder, width int) {
	lines := h.lines()
	head := pathLine{hop: "PATH", from: "to " + h.address}
	for _, p := range h.ports {
		head.cells = append(head.cells, "port "+p.cell(HopPort))
	}
	fromWidth, widths := columns.StringWidth(head.from), make([]int, len(h.ports))
	for _, ln := range append(lines, head) {
		fromWidth = max(fromWidth, columns.StringWidth(ln.from))
		for i, cell := range ln.cells {
			widths[i] = max(widths[i], columns.StringWidth(cell))
		}
	}
	for _, ln := range append([]pathLine{head}, lines...) {
		text := fmt.Sprintf("%4s  %s", ln.hop, columns.FillRight(ln.from, fromWidth))
		for i, cell := range ln.cells {
			text += "  " + columns.FillRight(cell, widths[i])
		}
		for _, note := range ln.notes {
			if width > 0 && columns.StringWidth(text)+2+columns.StringWidth(note) > width {
				b.WriteString(strings.TrimRight(text, " ") + "\n")
				text = "    "
			}
			text += "  " + note
		}
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
}
