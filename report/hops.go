package report

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A HopColumn is the place of a cell in a HopRow: an index of Hops.Fields.
type HopColumn int

// The columns of a trace, in the order of files.
const (
	HopTime HopColumn = iota
	HopVantage
	HopSource
	HopTarget
	HopHost
	HopAddress
	HopPort
	HopTTL
	HopAnswer
	HopFrom
	HopName
	HopNetwork
	HopRTT
	HopICMP
	HopSent
	HopAnswered
	HopState
	HopReason
	HopFate
	HopControl
	HopDistance
	HopLast
	HopAfter
	HopNoLater
	HopStoppedBy
	HopStoppedICMP
	HopStoppedHop
	HopError
	NumHopColumns // how many there are
)

// Hops is the schema of a trace. A column is one line here and one in Traced.Rows.
var Hops = Schema{Name: "hops", Version: SchemaVersion, Fields: []Field{
	HopTime:        {"time", "when the trace ended, RFC 3339 in UTC", Text},
	HopVantage:     {"vantage", "label of where we looked from", Text},
	HopSource:      {"source", "our address on this path", Text},
	HopTarget:      {"target", "as the user typed it", Text},
	HopHost:        {"host", "name that the address came from", Text},
	HopAddress:     {"address", "address that was traced", Text},
	HopPort:        {"port", "TCP port", Number},
	HopTTL:         {"ttl", "how many hops the SYNs could go", Number},
	HopAnswer:      {"answer", "time-exceeded: a router; syn-ack, conn-refused: as the host; another ICMP message; no-response", Text},
	HopFrom:        {"from", "who answered", Text},
	HopName:        {"name", "its name in the DNS", Text},
	HopNetwork:     {"network", "private, shared, link-local, loopback, special or public", Text},
	HopRTT:         {"rtt_ms", "from the SYN to the answer, in milliseconds", Number},
	HopICMP:        {"icmp", "type/code of the ICMP answer", Text},
	HopSent:        {"sent", "SYNs to this port that could go so far", Number},
	HopAnswered:    {"answered", "how many of them were answered like this", Number},
	HopState:       {"state", "of the port, by ordinary SYNs: open, closed, filtered or unknown", Text},
	HopReason:      {"reason", "the evidence for the state", Text},
	HopFate:        {"fate", "of the SYNs to the port: reached, lost, rejected, cut, interposed or untraced", Text},
	HopControl:     {"control", "port of the same host that it was compared with", Number},
	HopDistance:    {"distance", "hops at which SYNs to the port were answered as by the host", Number},
	HopLast:        {"last_hop", "last hop that answered to a SYN to the port", Number},
	HopAfter:       {"after_hop", "where they are stopped: after the TTL was counted down at this hop", Number},
	HopNoLater:     {"no_later_than", "and at this hop at the latest; empty if it is not known", Number},
	HopStoppedBy:   {"stopped_by", "who said so in an ICMP message", Text},
	HopStoppedICMP: {"stopped_icmp", "its type/code", Text},
	HopStoppedHop:  {"stopped_hop", "the hop that this address is", Number},
	HopError:       {"error", "our words for what went wrong", Text},
}}

// A HopRow is what one port saw of one hop, by one answer, as text, and what is concluded of the
// port. A port of which no hop is known has one row without a ttl.
type HopRow struct{ Cells [NumHopColumns]string }

// A Traced is the trace of one host.
type Traced struct {
	At      time.Time
	Vantage string
	Source  netip.Addr
	Target  targets.Target // its port does not matter
	Paths   []scanner.Path
	Hops    []scanner.Hop
	Names   map[netip.Addr]string // of those who answered, as the DNS has them
}

// Rows returns the rows of a trace, by port and hop. This is where names, which come from strangers,
// become text of ours.
func (t *Traced) Rows() (rows []HopRow) {
	for _, p := range t.Paths {
		base := t.base(&p)
		found := false
		for _, h := range t.Hops {
			if h.Port != p.Port {
				continue
			}
			found = true
			rows = append(rows, t.hop(base, &h)...)
		}
		if !found {
			rows = append(rows, base)
		}
	}
	return rows
}

// base returns what all rows of a port have.
func (t *Traced) base(p *scanner.Path) (row HopRow) {
	var buf [64]byte
	c := &row.Cells
	if !t.At.IsZero() {
		c[HopTime] = string(appendTime(buf[:0], t.At))
	}
	c[HopVantage] = Clean(t.Vantage)
	c[HopSource] = addrText(t.Source)
	c[HopTarget], c[HopHost] = Clean(t.Target.Spec()), Clean(t.Target.Host())
	c[HopAddress] = addrText(t.Target.Addr)
	c[HopPort] = strconv.Itoa(int(p.Port))
	c[HopState], c[HopReason], c[HopFate] = p.State.String(), string(p.Reason), string(p.Fate)
	number := func(col HopColumn, n int) {
		if n > 0 {
			c[col] = strconv.Itoa(n)
		}
	}
	number(HopControl, int(p.Control))
	number(HopDistance, p.Distance)
	number(HopLast, p.LastHop)
	if p.Fate != scanner.Reached && p.Fate != scanner.Untraced {
		c[HopAfter] = strconv.Itoa(p.After)
		number(HopNoLater, p.NoLaterThan)
	}
	if p.By.From.IsValid() {
		c[HopStoppedBy], c[HopStoppedICMP] = addrText(p.By.From), string(appendICMP(buf[:0], p.By))
		number(HopStoppedHop, p.ByHop)
	}
	c[HopError] = Clean(p.Err)
	return row
}

// hop returns the rows of a hop: one an answer, or one of silence.
func (t *Traced) hop(base HopRow, h *scanner.Hop) (rows []HopRow) {
	var buf [64]byte
	base.Cells[HopTTL], base.Cells[HopSent] = strconv.Itoa(h.TTL), strconv.Itoa(h.Sent)
	if len(h.Answers) == 0 {
		base.Cells[HopAnswer] = string(scanner.NoResponse)
		return []HopRow{base}
	}
	for _, a := range h.Answers {
		row := base
		c := &row.Cells
		c[HopAnswer], c[HopFrom] = string(a.Reason), addrText(a.From)
		c[HopName], c[HopNetwork] = Clean(t.Names[a.From]), targets.Network(a.From)
		c[HopRTT] = string(appendMillis(buf[:0], a.RTT))
		if a.ICMP.From.IsValid() {
			c[HopICMP] = string(appendICMP(buf[:0], a.ICMP))
		}
		c[HopAnswered] = strconv.Itoa(a.Count)
		rows = append(rows, row)
	}
	return rows
}

// HopType is the "type" of a HopRow in the journal.
const HopType = "hop"

// AppendJSON appends the row as one JSON object without a line break: {"type":"hop","time":…}.
// Empty cells are absent, numbers are numbers.
func (r *HopRow) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"type":"`+HopType+`"`...)
	for i, cell := range r.Cells {
		if cell == "" {
			continue
		}
		dst = append(dst, `,"`+Hops.Fields[i].Name+`":`...)
		if Hops.Fields[i].Kind == Number && numberLen(cell) == len(cell) {
			dst = append(dst, cell...)
		} else {
			dst = appendString(dst, cell)
		}
	}
	return append(dst, '}')
}

// ParseHopRow reads a record that AppendJSON wrote, with or without its checksum. What it does not know it
// leaves out; what it reads it cleans, because files come from anywhere.
func ParseHopRow(record []byte) (HopRow, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(record, &members); err != nil {
		return HopRow{}, fmt.Errorf("a hop record: %w", err)
	}
	var row HopRow
	for i, f := range Hops.Fields {
		value, ok := members[f.Name]
		if !ok {
			continue
		}
		text := string(value)
		if strings.HasPrefix(text, `"`) {
			if err := json.Unmarshal(value, &text); err != nil {
				return HopRow{}, fmt.Errorf("a hop record: %s: %w", f.Name, err)
			}
		} else if numberLen(text) != len(text) {
			return HopRow{}, fmt.Errorf("a hop record: %s is neither text nor a number", f.Name)
		}
		row.Cells[i] = Clean(text)
	}
	return row, nil
}
