package connect

import (
	"net/netip"
	"sync"
	"testing"
	"time"

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
