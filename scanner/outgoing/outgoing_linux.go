package outgoing

import (
	"os"
	"strconv"
	"strings"
)

// Read reads the counts of this thread's network namespace, before or after what is
// counted. The order of reading is such that packets of others can only add to what
// is sent elsewhere than to the loopback interface.
func Read(after bool) (c Count) {
	if after {
		c.Loopback = loopback()
		c.All = all()
	} else {
		c.All = all()
		c.Loopback = loopback()
	}
	return c
}

// loopback reads /proc/net/dev (proc(5)).
func loopback() int {
	const sent = 9 // column, after the name
	text, _ := os.ReadFile("/proc/thread-self/net/dev")
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); strings.TrimSpace(name) == "lo" && len(f) > sent {
			return number(f[sent])
		}
	}
	return -1
}

// all adds OutTransmits of IPv4 and IPv6 (Linux 6.7 and later).
func all() int {
	text, _ := os.ReadFile("/proc/thread-self/net/snmp")
	n, names := -1, []string(nil)
	for line := range strings.Lines(string(text)) { // a line of names, and one of numbers
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "Ip:" {
			continue
		}
		for i := range names {
			if names[i] == "OutTransmits" && i < len(f) {
				n = number(f[i])
			}
		}
		names = f
	}
	text, _ = os.ReadFile("/proc/thread-self/net/snmp6")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Ip6OutTransmits" && n >= 0 {
			n += max(number(f[1]), 0)
		}
	}
	return n
}

// number reads a number of /proc, or -1.
func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}
