package pace

import (
	"net/netip"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A host is an address that is being dialled, or has jobs waiting, or rests
// between two dials. Any other host has no state.
type host struct {
	addr    netip.Addr
	net     *subnet
	active  int  // jobs handed out
	waiting list // jobs kept back
	resting bool // HostInterval is not over: it is among the timers
	queued  bool // it is among the ready hosts of its net
	next    *host
}

// A subnet is a /24 or /48 with such a host, or one that rests between two dials.
// Without a subnet rate, all hosts share one that never rests.
type subnet struct {
	prefix  netip.Prefix
	bucket  bucket
	hosts   int // hosts with state
	ready   hostList
	resting bool // it is among the timers
	queued  bool // it is among the ready subnets
	next    *subnet
}

// A space holds the state of hosts and subnets. ready lists the subnets that do
// not rest and have a host that may be dialled.
type space struct {
	hosts     hosts
	nets      map[netip.Prefix]*subnet
	ready     netList
	all       subnet // of all hosts, if there is no subnet rate
	freeHosts *host
	freeNets  *subnet
}

// hosts finds hosts by address. A large sweep has one for each connection, nearly
// always of IPv4: those have keys of 4 bytes instead of 24.
type hosts struct {
	four map[[4]byte]*host
	rest map[netip.Addr]*host
}

func newHosts() hosts {
	return hosts{four: make(map[[4]byte]*host), rest: make(map[netip.Addr]*host)}
}

func (hs *hosts) of(addr netip.Addr) *host {
	if addr.Is4() {
		return hs.four[addr.As4()]
	}
	return hs.rest[addr]
}

func (hs *hosts) add(h *host) {
	if h.addr.Is4() {
		hs.four[h.addr.As4()] = h
	} else {
		hs.rest[h.addr] = h
	}
}

func (hs *hosts) remove(h *host) {
	if h.addr.Is4() {
		delete(hs.four, h.addr.As4())
	} else {
		delete(hs.rest, h.addr)
	}
}

func (hs *hosts) count() int { return len(hs.four) + len(hs.rest) }

type hostList struct{ head, tail *host }
type netList struct{ head, tail *subnet }

func (l *hostList) push(h *host) {
	h.next, h.queued = nil, true
	if l.head == nil {
		l.head = h
	} else {
		l.tail.next = h
	}
	l.tail = h
}

func (l *hostList) pop() *host {
	h := l.head
	l.head, h.next, h.queued = h.next, nil, false
	return h
}

func (l *netList) push(n *subnet) {
	n.next, n.queued = nil, true
	if l.head == nil {
		l.head = n
	} else {
		l.tail.next = n
	}
	l.tail = n
}

func (l *netList) pop() *subnet {
	n := l.head
	l.head, n.next, n.queued = n.next, nil, false
	return n
}

// hostOf returns the state of an address, making it if there is none.
func (s *Scheduler) hostOf(addr netip.Addr) *host {
	sp := &s.space
	if h := sp.hosts.of(addr); h != nil {
		return h
	}
	h := sp.freeHosts
	if h != nil {
		sp.freeHosts = h.next
	} else {
		h = new(host)
	}
	*h = host{addr: addr, net: s.netOf(addr), waiting: emptyList}
	h.net.hosts++
	sp.hosts.add(h)
	return h
}

func (s *Scheduler) netOf(addr netip.Addr) *subnet {
	sp := &s.space
	if s.cfg.SubnetRate <= 0 {
		return &sp.all
	}
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	prefix, _ := addr.Prefix(bits) // fails only for an invalid address: all those share a bucket
	if n := sp.nets[prefix]; n != nil {
		return n
	}
	n := sp.freeNets
	if n != nil {
		sp.freeNets = n.next
	} else {
		n = new(subnet)
	}
	*n = subnet{prefix: prefix, bucket: bucket{at: s.last, every: period(s.cfg.SubnetRate), lag: int64(slack)}}
	sp.nets[prefix] = n
	return n
}

// clear reports whether a new target of the host may be dialled at once, before
// no other one that waits.
func (s *Scheduler) clear(h *host) bool {
	return s.able(h) && h.waiting.head == none && !h.net.resting && h.net.ready.head == nil
}

// able reports whether the host itself may be dialled.
func (s *Scheduler) able(h *host) bool {
	return !h.resting && (s.cfg.HostLimit <= 0 || h.active < s.cfg.HostLimit)
}

// hold keeps a job back until its host and subnet may be dialled.
func (s *Scheduler) hold(h *host, n int32) {
	s.push(&h.waiting, n)
	s.settle(h)
}

// settle puts a host whose state changed where it belongs: among the ready ones
// of its subnet, or away if it is idle.
func (s *Scheduler) settle(h *host) {
	if h.queued {
		return
	}
	if h.waiting.head != none {
		if s.able(h) {
			h.net.ready.push(h)
			s.space.settleNet(h.net)
		}
		return
	}
	if h.active > 0 || h.resting {
		return
	}
	s.space.hosts.remove(h)
	h.net.hosts--
	s.space.settleNet(h.net)
	h.next, s.space.freeHosts = s.space.freeHosts, h
}

// settleNet is settle for a subnet.
func (sp *space) settleNet(n *subnet) {
	if n.queued || n.resting {
		return
	}
	if n.ready.head != nil {
		sp.ready.push(n)
	} else if n.hosts == 0 && n != &sp.all {
		delete(sp.nets, n.prefix)
		n.next, sp.freeNets = sp.freeNets, n
	}
}

// takeReady returns the job that waited longest of the next ready host of the
// next ready subnet: subnets take turns, and hosts within them.
func (s *Scheduler) takeReady(t int64) (scanner.Job, bool) {
	for s.space.ready.head != nil {
		sub := s.space.ready.pop()
		h := sub.ready.pop()
		n := s.pop(&h.waiting)
		if n != none {
			s.grant(h, t)
		}
		s.settle(h) // may free h and sub
		if sub.hosts > 0 {
			s.space.settleNet(sub)
		}
		if n != none {
			return s.drop(n), true
		}
	}
	return scanner.Job{}, false
}

// grant counts a dial of the host at t.
func (s *Scheduler) grant(h *host, t int64) {
	h.active++
	if s.cfg.HostInterval > 0 {
		h.resting = true
		s.due.push(timer{at: t + int64(s.cfg.HostInterval), host: h})
	}
	sub := h.net
	sub.bucket.spend(t)
	if sub.bucket.at > t {
		sub.resting = true
		s.due.push(timer{at: sub.bucket.at, net: sub})
	}
}
