package path

import (
	"os"
	"strconv"
	"strings"
)

// A count is how many packets this machine has sent.
type count struct {
	loopback int // by the loopback interface; -1: not known
	all      int // IP packets that got past the firewall, by whatever interface; -1: not known
}

// countSent reads the counts of this thread's network namespace. The order of reading is such
// that packets of others can only add to what is sent elsewhere than to the loopback interface.
func countSent(after bool) (c count) {
	if after {
		c.loopback = loopbackSent()
		c.all = packetsSent()
	} else {
		c.all = packetsSent()
		c.loopback = loopbackSent()
	}
	return c
}

// own says whether a reset that came between two counts is this machine's own.
func (before count) own(after count) Fact {
	loopback := after.loopback - before.loopback
	switch {
	case before.loopback < 0 || after.loopback < 0:
		return Unseen
	case loopback == 0:
		return No
	case before.all < 0 || after.all < 0 || after.all-before.all > loopback:
		return Unseen // others send too
	}
	return Yes
}

// loopbackSent reads /proc/net/dev (proc(5)).
func loopbackSent() int {
	const sent = 9 // column, after the name
	text, _ := os.ReadFile("/proc/thread-self/net/dev")
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); strings.TrimSpace(name) == "lo" && len(f) > sent {
			return counter(f[sent])
		}
	}
	return -1
}

// packetsSent adds OutTransmits of IPv4 and IPv6 (Linux 6.7 and later).
func packetsSent() int {
	text, _ := os.ReadFile("/proc/thread-self/net/snmp")
	n, names := -1, []string(nil)
	for line := range strings.Lines(string(text)) { // a line of names, and one of numbers
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "Ip:" {
			continue
		}
		for i := range names {
			if names[i] == "OutTransmits" && i < len(f) {
				n = counter(f[i])
			}
		}
		names = f
	}
	text, _ = os.ReadFile("/proc/thread-self/net/snmp6")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Ip6OutTransmits" && n >= 0 {
			n += max(counter(f[1]), 0)
		}
	}
	return n
}

// counter reads a number of /proc, or -1.
func counter(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}
