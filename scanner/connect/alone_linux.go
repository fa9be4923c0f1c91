package connect

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner/outgoing"
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

// connectAlone is connect while no other loop dials. It counts what leaves meanwhile.
func (l *loop) connectAlone(s *slot) (errno syscall.Errno, err error) {
	l.alone.Lock()
	defer l.alone.Unlock()
	l.before = outgoing.Read(false)
	errno, err = l.connect(s)
	l.after = outgoing.Read(true)
	return errno, err
}

// judgeAlone sees to a dial alone that was refused, after so many SYNs. Where the
// kernel does not count, or others send all the time, nobody can tell whose reset it was.
func (l *loop) judgeAlone(i int32, s *slot, syns int) {
	before, after := l.before, l.after
	counted := before.All >= 0 && before.Loopback >= 0 && !l.noCounts
	elsewhere := after.All - before.All - (after.Loopback - before.Loopback)
	switch {
	case !l.atOnce, counted && after.Loopback == before.Loopback:
		l.networks.set(s.target, l.now.Sub(l.base)+vouchedFor)
		l.conclude(i, s, evidence{errno: unix.ECONNREFUSED}, syns)
	case !counted, elsewhere > 0 && s.dials >= mostAlone:
		l.networks.set(s.target, unsure)
		l.conclude(i, s, evidence{errno: unix.ECONNREFUSED}, syns)
	case elsewhere == 0 && s.dials >= aloneTwice:
		l.conclude(i, s, evidence{passage: passageRefused}, syns)
	default:
		l.again(i, s, syns)
	}
}
