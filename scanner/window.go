package scanner

import "time"

const (
	// leastWindow conversations may be held whatever they wait for, the first ones
	// too.
	leastWindow = 64
	// windowStep is how long a window stays as it is.
	windowStep = 250 * time.Millisecond
	// windowMemory is how many of the last conversations a window rests on.
	windowMemory = 64
)

// A window is how many conversations may be held now: as many as their peers make
// us wait for. One that waits for its turn to compute learns nothing by that, and
// has all the memory of a conversation meanwhile, in which garbage must be looked
// for; and its peer waits with it. So there are as many as would wait for us for
// half of their time (Little's law, by what the last ones did), and never more than
// twice as many as a step before.
type window struct {
	limit, size int
	since       time.Time // when it had its size
	ended       int       // conversations, since then
	took        float64   // seconds that one takes: a moving mean
	queued      float64   // the same, of the time that it waits for us
}

func newWindow(limit int, now time.Time) window {
	return window{limit: limit, size: min(leastWindow, limit), since: now}
}

// end notes how long a conversation took, and how much of that its peer waited for us.
func (w *window) end(took, queued time.Duration) {
	w.ended++
	w.took += (took.Seconds() - w.took) / windowMemory
	w.queued += (queued.Seconds() - w.queued) / windowMemory
}

// admits reports whether one more conversation may be held beside those that run.
func (w *window) admits(running int, now time.Time) bool {
	if now.Sub(w.since) >= windowStep {
		if w.ended == 0 { // they do not wait for us any more
			w.queued /= 2
		}
		w.size = min(max(w.useful(running), leastWindow), 2*w.size, w.limit)
		w.since, w.ended = now, 0
	}
	return running < w.size
}

// useful returns how many conversations would wait for us for half of their time,
// if so many do as they did.
func (w *window) useful(running int) int {
	if w.queued <= 0 || w.queued >= w.took {
		return w.limit // nothing is known yet, or nobody waits for us
	}
	return int(2 * float64(running) * (1 - w.queued/w.took))
}
