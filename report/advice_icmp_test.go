package report

import (
	"fmt"
	"strings"
	"testing"
)

// A told is a filtered endpoint: who told, after how many SYNs, or nobody.
type told struct {
	address, port, from string
	attempts            int
}

// adviceOnICMP returns what the advice says of limited ICMP.
func adviceOnICMP(rows []told) (lines []string) {
	var a Advisor
	for _, r := range rows {
		cells := map[Column]string{ColAddress: r.address, ColPort: r.port, ColState: "filtered", ColReason: "no-response", ColAttempts: fmt.Sprint(r.attempts)}
		if r.from != "" {
			cells[ColReason], cells[ColICMP], cells[ColICMPFrom] = "admin-prohibited", "3/13", r.from
		}
		row := rowOf(cells)
		a.Add(&row)
	}
	for _, line := range a.Lines() {
		if strings.Contains(line, icmpLimited) {
			lines = append(lines, line)
		}
	}
	return lines
}

// rejects returns rows of a network of 20 hosts, of which a router told of some on a port.
func rejects(network, port, from string, tellsOf, attempts int) (rows []told) {
	for i := range 20 {
		r := told{fmt.Sprint(network, i), port, "", 4}
		if i < tellsOf {
			r.from, r.attempts = from, attempts
		}
		rows = append(rows, r)
	}
	return rows
}

func TestAdviceSaysThatARouterLimitsItsICMP(t *testing.T) {
	const router, other = "198.51.100.1", "198.51.100.2"
	var many []told
	for i := range 5 { // one message a network, as in a sweep of a large one
		many = append(many, rejects(fmt.Sprintf("192.0.%d.", i), "25", router, 1, 5)...)
	}
	for name, tt := range map[string]struct {
		rows []told
		want string
	}{
		"it tells of six, and not each time": {rejects("192.0.2.", "25", router, 6, 5),
			"192.0.2.0/24: 198.51.100.1 rejects there and does not say so each time, so 14 silent endpoints may be rejected, too: smtpsweep explain icmp-limited"},
		"in many networks of one": {many,
			"192.0.0.0/24 and 4 more networks: 198.51.100.1 rejects there and does not say so each time, so 95 silent endpoints may be rejected, too: smtpsweep explain icmp-limited"},
		"IPv6": {rejects("2001:db8::", "25", "2001:db8:1::1", 3, 5),
			"2001:db8::/64: 2001:db8:1::1 rejects there and does not say so each time, so 17 silent endpoints may be rejected, too: smtpsweep explain icmp-limited"},
		"two routers, the one with more silence first": {append(rejects("192.0.2.", "25", other, 6, 5), rejects("192.0.3.", "25", router, 5, 5)...),
			"192.0.3.0/24: 198.51.100.1 rejects there and does not say so each time, so 15 silent endpoints may be rejected, too: smtpsweep explain icmp-limited\n" +
				"192.0.2.0/24: 198.51.100.2 rejects there and does not say so each time, so 14 silent endpoints may be rejected, too: smtpsweep explain icmp-limited"},
		"two ports of a network": {append(rejects("192.0.2.", "25", router, 6, 5), rejects("192.0.2.", "465", router, 6, 5)...),
			"192.0.2.0/24: 198.51.100.1 rejects there and does not say so each time, so 28 silent endpoints may be rejected, too: smtpsweep explain icmp-limited"},
		"it tells each time":                  {rejects("192.0.2.", "25", router, 6, 2), ""},
		"it told of two only":                 {rejects("192.0.2.", "25", router, 2, 5), ""},
		"nobody is silent":                    {rejects("192.0.2.", "25", router, 20, 5), ""},
		"the silent ones are on another port": {append(rejects("192.0.2.", "25", router, 20, 5), rejects("192.0.2.", "465", "", 0, 0)...), ""},
		"the silent ones are elsewhere":       {append(rejects("192.0.2.", "25", router, 20, 5), rejects("192.0.3.", "25", "", 0, 0)...), ""},
		"each address tells of itself":        {append(rejects("192.0.2.", "25", "", 0, 0), told{"192.0.2.30", "25", "192.0.2.30", 5}, told{"192.0.2.31", "25", "192.0.2.31", 5}, told{"192.0.2.32", "25", "192.0.2.32", 5}), ""},
		"most are told of each time (a loss)": {append(rejects("192.0.2.", "25", router, 6, 2), rejects("192.0.2.", "25", router, 5, 5)...), ""},
		"a single endpoint":                   {[]told{{"192.0.2.1", "25", router, 5}}, ""},
	} {
		if got := strings.Join(adviceOnICMP(tt.rows), "\n"); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, tt.want)
		}
	}
}

// TestAdviceOnICMPIsBounded: strangers send from as many addresses as they like.
func TestAdviceOnICMPIsBounded(t *testing.T) {
	var l icmpLimits
	for i := range 100_000 {
		row := rowOf(map[Column]string{ColAddress: "192.0.2.1", ColPort: fmt.Sprint(i % 65536), ColState: "filtered", ColReason: "no-response"})
		l.add(&row)
		row.Cells[ColReason], row.Cells[ColICMPFrom] = "admin-prohibited", fmt.Sprintf("198.18.%d.%d", i>>8&255, i&255)
		l.add(&row)
	}
	if len(l.senders) > maxSenders || len(l.told) > maxSenders || len(l.silent) > maxSenders {
		t.Errorf("keeps %d senders, %d rejections, %d ports", len(l.senders), len(l.told), len(l.silent))
	}
}
