package connect

import "time"

// mostAsleep is how long a loop with connections sleeps, so that it notices a standstill.
const mostAsleep = time.Second

// tick looks at the clock, for the first time since the loop meant to sleep for
// so long.
func (l *loop) tick(meant time.Duration) {
	now := time.Now()
	if lost := now.Sub(l.now) - meant; lost > standstill {
		l.stoodStill(lost, now)
	}
	l.now = now
}

// stoodStill gives every connection the time back in which nobody looked at it:
// none is over by it, and none is said to have been slow. Without this a dial
// whose SYN is sent after the standstill, and counted from before it, would be
// over before its answer can come.
func (l *loop) stoodStill(lost time.Duration, now time.Time) {
	for p := dialing; p < phases; p++ {
		for i := l.slots.oldest(p); i != nobody; {
			s := l.slots.at(i)
			s.since += int64(lost)
			if p != dialing {
				s.learned.Connected = s.learned.Connected.Add(lost)
			}
			i = s.next
		}
	}
	l.backAt, l.lost = int64(now.Sub(l.base)), lost
	l.noteEldest()
}

// age returns how long ago a dial was made. For the kernel, which repeats SYNs
// and asks for neighbours, a standstill of ours is time like any other.
func (l *loop) age(s *slot) time.Duration {
	age := l.now.Sub(l.base) - time.Duration(s.since)
	if s.since <= l.backAt {
		age += l.lost
	}
	return age
}

// sleep returns how long the loop may sleep, at most wait.
func (l *loop) sleep(wait time.Duration) time.Duration {
	if l.slots.count > 0 {
		wait = min(wait, mostAsleep)
	}
	return min(wait, l.nextDeadline())
}
