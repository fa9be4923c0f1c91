package reflect

import (
	"container/list"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

const (
	maxSources = 8192 // that are remembered
	maxTrails  = 1024 // sessions that an auditor may ask about later

	perSource   = 16 // sessions of one source at a time
	burst       = 60 // sessions of one source at once, or one after the other
	reverseRate = 1.0 / 60
	reverseMost = 6 // requests to connect back, of one source at once
)

// sourceOf is what counts as one source: an IPv4 address, or the /64 of an IPv6 one.
func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, _ := a.Prefix(64)
	return p.Addr()
}

// A source is what is remembered of one.
type source struct {
	sessions int
	rate     *rate.Limiter
	reverse  *rate.Limiter // nil until it asked
}

// idle reports whether forgetting the source changes nothing.
func (s *source) idle() bool {
	full := func(l *rate.Limiter) bool { return l == nil || l.Tokens() >= float64(l.Burst()) }
	return s.sessions == 0 && full(s.rate) && full(s.reverse)
}

// A door lets sessions in: so many of a source, and so many in all. When all
// places are taken the oldest session goes whose client has not shown that it is
// an auditor; if all have, the oldest.
type door struct {
	most      int
	perSource int
	perMinute float64

	mu      sync.Mutex // guards following
	sources map[netip.Addr]*source
	unknown list.List // of *session, oldest first
	known   list.List // of *session that gave a nonce, oldest first
	trails  map[string]*trail
	order   []string // of the trails, a ring
	next    int
}

// A refusal says why a client is not let in, for the log; "" lets it in.
type refusal string

// enter asks for a place for a session, and returns a session that has to go for it.
func (d *door) enter(s *session) (why refusal, goes *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	src := d.source(s.client.Addr())
	switch {
	case src == nil:
		return "too many sources", nil
	case src.sessions >= d.perSource:
		return "too many connections of this source", nil
	case !src.rate.Allow():
		return "this source connects too often", nil
	}
	if d.unknown.Len()+d.known.Len() >= d.most {
		goes = d.oldest()
	}
	src.sessions++
	s.place, s.inList = d.unknown.PushBack(s), &d.unknown
	return "", goes
}

// oldest takes a session off the lists. There is one.
func (d *door) oldest() *session {
	from := &d.unknown
	if from.Len() == 0 {
		from = &d.known
	}
	s := from.Remove(from.Front()).(*session)
	s.place = nil
	return s
}

// source returns what is remembered of a source, or nil if there is no room.
func (d *door) source(from netip.Addr) *source {
	key := sourceOf(from)
	if src := d.sources[key]; src != nil {
		return src
	}
	if len(d.sources) >= maxSources {
		d.forget()
	}
	if len(d.sources) >= maxSources {
		return nil
	}
	src := &source{rate: rate.NewLimiter(rate.Limit(d.perMinute/60), burst)}
	d.sources[key] = src
	return src
}

// forget forgets the sources that need not be remembered, and if all need to be,
// those that have no session.
func (d *door) forget() {
	for key, src := range d.sources {
		if src.idle() {
			delete(d.sources, key)
		}
	}
	if len(d.sources) < maxSources {
		return
	}
	for key, src := range d.sources {
		if src.sessions == 0 {
			delete(d.sources, key)
		}
	}
}

// leave gives a place back.
func (d *door) leave(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.place != nil {
		s.inList.Remove(s.place)
		s.place = nil
	}
	if src := d.sources[sourceOf(s.client.Addr())]; src != nil {
		src.sessions--
	}
}

// knows notes that a session is an auditor's, and keeps its trail.
func (d *door) knows(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.place != nil {
		s.inList.Remove(s.place)
		s.place, s.inList = d.known.PushBack(s), &d.known
	}
	if len(d.order) < maxTrails {
		d.order = append(d.order, s.nonce)
	} else {
		delete(d.trails, d.order[d.next])
		d.order[d.next] = s.nonce
		d.next = (d.next + 1) % maxTrails
	}
	d.trails[s.nonce] = s.trail
}

// trailOf returns what is known of the session of a nonce.
func (d *door) trailOf(nonce string) Earlier {
	d.mu.Lock()
	t := d.trails[nonce]
	d.mu.Unlock()
	if t == nil {
		return Earlier{}
	}
	return t.read()
}

// mayReverse asks whether a source may have its ports connected to now.
func (d *door) mayReverse(from netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	src := d.source(from)
	if src == nil {
		return false
	}
	if src.reverse == nil {
		src.reverse = rate.NewLimiter(reverseRate, reverseMost)
	}
	return src.reverse.Allow()
}

// A trail is what is kept of a session for those who ask later.
type trail struct {
	mu sync.Mutex // guards following
	e  Earlier
}

func (t *trail) change(f func(*Earlier)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.e)
}

func (t *trail) read() Earlier {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.e
}
