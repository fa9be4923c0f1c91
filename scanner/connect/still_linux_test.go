package connect

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A program that is stopped right before it sends a SYN listens for the answer
// as long as for any other.
func TestADialIsListenedForThoughTheLoopStoodStillBeforeIt(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Classes: true}, func(t *testing.T, l *lab.Lab) {
		var once sync.Once
		e := &Engine{Timeout: 1500 * time.Millisecond}
		e.Permit = func(targets.Target) bool {
			once.Do(func() { time.Sleep(e.Timeout + standstill + time.Second) }) // in the place of a SIGSTOP
			return true
		}
		o := scan(t, e, endpoints([]uint16{25}, netip.MustParseAddr("10.64.0.2"))...).all[0]
		check(t, o, scanner.Filtered, scanner.NoResponse)
		if o.Attempts < 2 {
			t.Errorf("%d SYN: the dial was over before the second", o.Attempts)
		}
	})
}

func TestAStandstillIsNoSlownessOfThePeer(t *testing.T) {
	var got []scanner.Observation
	l := newTestLoop(t, &Engine{Banner: true, GreetingTimeout: time.Minute, Patience: time.Hour}, simple{},
		func(o scanner.Observation) { got = append(got, o) })
	defer l.close()
	l.acquire()
	l.now = time.Now()
	l.dial(scanner.Job{Target: serve(t, mute)})
	for l.slots.oldest(greeting) == nobody {
		if _, err := l.poll(time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	s := l.slots.at(l.slots.oldest(greeting))
	// All that was a day ago, and so was the loop's last look at the clock.
	const day = 24 * time.Hour
	s.since -= int64(day)
	s.learned.Connected = s.learned.Connected.Add(-day)
	l.now = l.now.Add(-day)
	if _, err := l.poll(0); err != nil {
		t.Fatal(err)
	}
	l.expire()
	if l.slots.oldest(greeting) == nobody {
		t.Error("the connection was parked or given up after a standstill")
	} else if silent := time.Since(s.learned.Connected); silent > time.Hour {
		t.Errorf("the peer counts as mute for %v", silent)
	}
	if len(got) > 0 {
		t.Errorf("emitted %+v", got[0])
	}
	l.abort()
}

// A redialled is a queue that counts what it gets back.
type redialled struct {
	simple
	back []scanner.Job
}

func (q *redialled) Retry(job scanner.Job, _ time.Duration) { q.back = append(q.back, job) }

func TestADialThatEndedWhileWeStoodStillIsMadeAgain(t *testing.T) {
	for _, c := range []struct {
		took  time.Duration
		dials uint8
		again bool
	}{
		{4 * time.Second, 0, false},
		{time.Minute, 0, true},
		{time.Minute, redials - 1, true},
		{time.Minute, redials, false},
	} {
		q := &redialled{}
		var got []scanner.Observation
		p := &pool{ctx: t.Context(), run: newRun(&Engine{Portable: true}, q, func(o scanner.Observation) { got = append(got, o) })}
		p.acquire()
		p.begin()
		job := scanner.Job{Target: endpoints([]uint16{25}, netip.MustParseAddr("127.0.0.9"))[0], Dials: c.dials, Attempts: 1}
		p.failed(job, t.Context(), os.ErrDeadlineExceeded, c.took)
		if again := len(q.back) == 1; again != c.again || len(q.back)+len(got) != 1 {
			t.Errorf("after %v, dial %d: put back %v, emitted %v", c.took, c.dials+1, q.back, got)
		}
	}
}

// What came while a deadline passed is a greeting, and not silence.
func TestAGreetingBehindThePortableDeadlineIsHeard(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if _, err := peer.Write([]byte("220 hi")); err != nil {
		t.Fatal(err)
	}
	p := &pool{ctx: t.Context(), run: newRun(&Engine{Portable: true, GreetingTimeout: time.Second}, simple{}, nil)}
	for { // the bytes are here when a read of them would succeed; the deadline is not looked at by this
		if n, err := unread(conn.(*net.TCPConn)); err != nil || n > 0 {
			break
		}
	}
	if peeked, spoke, _ := p.await(conn.(*net.TCPConn), time.Now().Add(-time.Hour)); !spoke || string(peeked) != "2" {
		t.Errorf("peeked %q, spoke %v", peeked, spoke)
	}
}

// unread returns how many bytes wait in a connection.
func unread(conn *net.TCPConn) (n int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n, errors.Join(failed, err)
}

// The kernel went on while we stood still: a SYN may have been repeated, and a
// neighbour have failed.
func TestADialIsAsOldAsItIsForTheKernel(t *testing.T) {
	l := newTestLoop(t, &Engine{}, simple{}, func(scanner.Observation) {})
	defer l.close()
	_, s := l.slots.take(dialing)
	l.now = time.Now().Add(-time.Hour)
	s.since = int64(l.now.Sub(l.base))
	l.tick(0)
	if age := l.age(s); age < time.Hour {
		t.Errorf("it is %v old, want an hour", age)
	}
	if _, left := l.due(dialing); left < l.timeout/2 {
		t.Errorf("it has %v left of %v", left, l.timeout)
	}
	_, later := l.slots.take(dialing)
	for int64(l.now.Sub(l.base)) <= l.backAt {
		l.tick(0)
	}
	later.since = int64(l.now.Sub(l.base))
	if age := l.age(later); age > time.Minute {
		t.Errorf("a dial of now is %v old", age)
	}
}
