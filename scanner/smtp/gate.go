package smtp

import "sync"

// A gate lets so many handshakes compute at a time. One that has begun goes before
// one that has not: else, where there is more to compute than CPUs can, all that
// may begin would have begun, each with the stack and the state of half a handshake,
// and their peers would wait in the middle of it.
type gate struct {
	mu      sync.Mutex // guards following
	free    int
	begun   []chan struct{} // who waits, in the middle of a handshake; the first goes first
	waiting []chan struct{} // the same, before it
}

func newGate(slots int) *gate { return &gate{free: slots} }

// enter takes a slot, if there is one. If not, it returns a channel that is
// closed when it was given one.
func (g *gate) enter(begun bool) (given <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.free > 0 {
		g.free--
		return nil
	}
	c := make(chan struct{})
	if begun {
		g.begun = append(g.begun, c)
	} else {
		g.waiting = append(g.waiting, c)
	}
	return c
}

// leave gives a slot back, or to the next who waits.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	queue := &g.begun
	if len(*queue) == 0 {
		queue = &g.waiting
	}
	if len(*queue) == 0 {
		g.free++
		return
	}
	close((*queue)[0])
	(*queue)[0] = nil
	*queue = (*queue)[1:]
}
