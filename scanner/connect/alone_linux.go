package connect

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Some kernels allow no guard without privilege. There, a reset that is there when connect
// returns is suspicious: one of our own always is, one of another machine hardly
// ever. Such a dial is repeated once while nobody else of the run dials, and the packets that
// leave are counted: of a reset of our own, by the loopback interface alone.
//
// A packet that another process sends by the loopback interface may be counted there a moment
// after it was counted as sent. Between the two it makes our own SYN disappear from the counts, so
// it takes two dials to say that none left.
const (
	mostAlone  = 4 // dials of a job, when others than us send packets too
	aloneTwice = 2 // dials of a job before the last one, when nothing seems to leave
)

// A count is how many packets were sent by this machine.
type count struct {
	sent     int // IP packets that got past the firewall, to whatever interface
	loopback int // of these, to the loopback interface
	ok       bool
}

// countSent reads the counts. The order of reading is such that packets of others can only
// add to what is sent elsewhere than to the loopback interface.
func countSent(after bool) (c count) {
	var a, b bool
	if after {
		c.loopback, a = loopbackSent()
		c.sent, b = packetsSent()
	} else {
		c.sent, b = packetsSent()
		c.loopback, a = loopbackSent()
	}
	c.ok = a && b
	return c
}

// packetsSent returns OutTransmits of IPv4 and IPv6 (Linux 6.7 and later).
func packetsSent() (n int, ok bool) {
	text, _ := os.ReadFile("/proc/thread-self/net/snmp")
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "Ip:" {
			continue
		}
		for i := range names {
			if names[i] == "OutTransmits" && i < len(f) {
				n, _ = strconv.Atoi(f[i])
				ok = true
			}
		}
		names = f
	}
	text, _ = os.ReadFile("/proc/thread-self/net/snmp6")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Ip6OutTransmits" {
			n6, _ := strconv.Atoi(f[1])
			n += n6
		}
	}
	return n, ok
}

// loopbackSent returns how many packets the loopback interface was given.
func loopbackSent() (n int, ok bool) {
	const sent = 9 // column of /proc/net/dev, after the name
	text, _ := os.ReadFile("/proc/thread-self/net/dev")
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); strings.TrimSpace(name) == "lo" && len(f) > sent {
			n, err := strconv.Atoi(f[sent])
			return n, err == nil
		}
	}
	return 0, false
}

// connectAlone is connect while no other loop dials. It counts what leaves meanwhile.
func (l *loop) connectAlone(s *slot) (errno syscall.Errno, err error) {
	l.alone.Lock()
	defer l.alone.Unlock()
	l.before = countSent(false)
	errno, err = l.connect(s)
	l.after = countSent(true)
	return errno, err
}

// judgeAlone sees to a dial alone that was refused, after so many SYNs. Where the
// kernel does not count, or others send all the time, nobody can tell whose reset it was.
func (l *loop) judgeAlone(i int32, s *slot, syns int) {
	before, after := l.before, l.after
	before.ok = before.ok && !l.noCounts
	elsewhere := after.sent - before.sent - (after.loopback - before.loopback)
	switch {
	case !l.atOnce, before.ok && after.loopback == before.loopback:
		l.networks.set(s.target, l.now.Sub(l.base)+vouchedFor)
		l.conclude(i, s, evidence{errno: unix.ECONNREFUSED}, syns)
	case !before.ok, elsewhere > 0 && s.dials >= mostAlone:
		l.networks.set(s.target, unsure)
		l.conclude(i, s, evidence{errno: unix.ECONNREFUSED}, syns)
	case elsewhere == 0 && s.dials >= aloneTwice:
		l.conclude(i, s, evidence{passage: passageRefused}, syns)
	default:
		l.again(i, s, syns)
	}
}
