package connect

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	outagePatience = time.Minute            // how long dials wait for this machine's network to come back
	firstPause     = 250 * time.Millisecond // between two tries of it; doubled up to lastPause
	lastPause      = 4 * time.Second
	mostGains      = 200 // links, addresses and routes that come back
	mostOutages    = 20  // that are waited for; a network that comes and goes must not keep a run for ever
)

// An outage is what becomes of a run whose machine loses a link, an address or a route
// that it had. What was silent at that moment is dialled again, and while dials fail
// for that reason nobody dials, but now and then to try: no target is blamed for it. If the
// network is not back in time, such dials are local errors.
type outage struct {
	patience time.Duration
	links    map[int]bool // by index: those that had an address and worked when the run began
	wake     func()
	hear     func() // hears what the kernel has said until now

	reading sync.Mutex // guards following
	buf     [1 << 15]byte

	lost  atomic.Int64   // when something was lost last: ns since the run's base; 0 = never
	came  atomic.Int64   // when something came after that: perhaps the same
	until atomic.Int64   // nobody dials before
	never [2]atomic.Bool // dials failed like that before anything was lost; IPv4 and IPv6

	mu     sync.Mutex // guards following
	losses int
	gains  int
	mends  int
	since  time.Duration // of the first dial that failed for it; 0 = none
	pause  time.Duration
	over   bool // patience is
}

func newOutage() *outage {
	return &outage{patience: outagePatience, links: map[int]bool{}, wake: func() {}, hear: func() {}}
}

// lose says that something was lost.
func (o *outage) lose(now time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.losses++; o.losses <= mostOutages {
		o.lost.Store(int64(max(now, 1)))
	}
}

// mend says that something came, perhaps what was lost: patience begins anew.
func (o *outage) mend(now time.Duration) {
	o.mu.Lock()
	if o.losses > 0 && o.gains < mostGains {
		o.gains++
		o.came.Store(int64(now))
	}
	mended := o.since != 0 && o.mends < mostOutages
	if mended {
		o.mends++
		o.since, o.pause, o.over = 0, 0, false
		o.until.Store(0)
	}
	o.mu.Unlock()
	if mended {
		o.wake()
	}
}

// fault says that a dial failed for want of a network after something was lost, and
// returns how long the job is to wait. ok is false if that has been so for too long, or was
// so from the beginning.
func (o *outage) fault(ip6 bool, now time.Duration) (wait time.Duration, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since == 0 {
		o.since = now
	}
	o.over = o.over || now-o.since > o.patience
	if o.over || o.never[familyIndex(ip6)].Load() {
		return 0, false
	}
	until := time.Duration(o.until.Load())
	if now >= until {
		o.pause = min(max(2*o.pause, firstPause), lastPause)
		until = now + o.pause
		o.until.Store(int64(until))
	}
	return until - now, true
}

// wait returns how long nobody may dial.
func (o *outage) wait(now time.Duration) time.Duration {
	return time.Duration(o.until.Load()) - now
}

// waits puts a job back whose dial was silent while something was lost, or until it came back,
// because SYN or answer may have been lost with it, or failed since for want of a network. It reports
// false if the dial is to be judged by its evidence.
func (l *loop) waits(i int32, s *slot, e evidence, syns int) bool {
	o, ip6 := l.env.outage, s.target.Addr.Is6()
	fault := networkFault(e.errno, ip6)
	if fault {
		o.hear() // it fails at once
	}
	lost := o.lost.Load()
	switch silent := e.errno == unix.ETIMEDOUT; {
	case lost == 0 && fault:
		o.never[familyIndex(ip6)].Store(true)
		return false
	case lost == 0:
		return false
	case silent && max(lost, o.came.Load()) >= s.since:
		l.putBack(i, s, syns, firstPause)
		return true
	case fault, silent && e.passage == passageHeld, e.neighbor != neighborUnsaid && l.env.linkIsDown(s.target.Addr):
		return l.postpone(i, s)
	}
	return false
}

// postpone puts a job back whose dial failed for want of a network that was there
// before: no SYN left. It reports false if it is not to be waited for.
func (l *loop) postpone(i int32, s *slot) bool {
	o := l.env.outage
	if o.hear(); o.lost.Load() == 0 {
		return false
	}
	wait, ok := o.fault(s.target.Addr.Is6(), l.now.Sub(l.base))
	if ok {
		l.putBack(i, s, 0, wait)
	}
	return ok
}

func (l *loop) putBack(i int32, s *slot, syns int, wait time.Duration) {
	job := s.job()
	job.Attempts += uint16(syns)
	l.drop(i, s)
	l.retry(job, wait)
	l.note("network-lost", "this machine lost a network link, an address or a route while it scanned: probes waited for it to come back, and were repeated")
}

// networkFault reports whether an errno of connect says that there is no way out.
func networkFault(errno syscall.Errno, ip6 bool) bool {
	switch errno {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.ENODEV, unix.ENXIO, unix.EINVAL:
		return true
	case unix.EADDRNOTAVAIL:
		return ip6 // no source address; IPv4 lacks a port
	}
	return false
}

// networkGroups are what the kernel is asked to tell of.
const networkGroups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// watch hears what the kernel says of links, addresses and routes, until stop is called.
// Where it says nothing, nothing is known to be lost.
func (o *outage) watch(base time.Time) (stop func()) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return func() {}
	}
	file := os.NewFile(uintptr(fd), "netlink")
	conn, err := file.SyscallConn()
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: networkGroups})
	}
	if err != nil {
		file.Close()
		return func() {}
	}
	o.hear = func() { o.drain(fd, base) }
	var wg sync.WaitGroup
	wg.Go(func() {
		conn.Read(func(uintptr) bool { o.hear(); return false }) // until it is closed
	})
	return func() { file.Close(); wg.Wait() }
}

// drain reads all that the kernel has said.
func (o *outage) drain(fd int, base time.Time) {
	o.reading.Lock()
	defer o.reading.Unlock()
	for {
		n, _, err := unix.Recvfrom(fd, o.buf[:], 0)
		now := time.Since(base)
		if err == unix.ENOBUFS { // more than fit: who knows what
			o.lose(now)
			continue
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		messages, _ := syscall.ParseNetlinkMessage(o.buf[:n])
		for _, m := range messages {
			switch lost, came := o.judge(m); {
			case lost:
				o.lose(now)
			case came:
				o.mend(now)
			}
		}
	}
}

// judge says whether a message tells of something lost, or of something that came.
func (o *outage) judge(m syscall.NetlinkMessage) (lost, came bool) {
	switch m.Header.Type {
	case unix.RTM_DELADDR:
		return true, false
	case unix.RTM_NEWADDR:
		return false, true
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) < unix.SizeofIfInfomsg {
			return false, false
		}
		link := nl.DeserializeIfInfomsg(m.Data)
		up := m.Header.Type == unix.RTM_NEWLINK && link.Flags&unix.IFF_UP != 0 && link.Flags&unix.IFF_RUNNING != 0
		return o.links[int(link.Index)] && !up, up
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			return false, false
		}
		route := nl.DeserializeRtMsg(m.Data)
		leads := route.Type == unix.RTN_UNICAST || route.Type == unix.RTN_LOCAL // and is no black hole
		add := m.Header.Type == unix.RTM_NEWROUTE
		if route.Flags&unix.RTM_F_CLONED != 0 {
			return false, false
		}
		return add != leads, add == leads
	}
	return false, false
}
