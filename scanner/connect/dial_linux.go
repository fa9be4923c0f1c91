package connect

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/recverr"
)

// firstRepeat is when the first repetition of a SYN may have been sent; before
// it, one SYN was sent for certain.
const firstRepeat = 900 * time.Millisecond

// dial starts a connection for a job that may be dialled now. A place within the
// limit of connections was acquired for it, and one among the neighbours.
func (l *loop) dial(job scanner.Job) {
	i, s := l.slots.take(dialing)
	s.target, s.attempts, s.dials, s.fd = job.Target, job.Attempts, job.Dials, -1
	s.since = int64(l.now.Sub(l.base))
	if job.Reason != "" {
		s.learned = &scanner.Observation{ICMP: job.ICMP, Reason: job.Reason, RTT: job.RTT}
	}
	if !l.permitted(job.Target) {
		l.vacate(i, s)
		l.giveBack()
		l.finish(job, excluded(job, l.now))
		return
	}
	l.begin()
	errno, err := l.connectOnce(s)
	switch {
	case err != nil && errnoIn(err) == unix.EADDRNOTAVAIL && l.postpone(i, s): // Source is gone
	case err != nil:
		l.failed(i, s, errnoIn(err), 0)
	case errno != 0: // no way to the target, so nothing was sent
		l.tick(0)
		if errno != unix.EADDRNOTAVAIL || !networkFault(errno, s.target.Addr.Is6()) || !l.postpone(i, s) {
			l.failed(i, s, errno, 0)
		}
	case !l.glance(i, s):
		if l.watch(i, s) != 0 {
			l.failed(i, s, unix.ENOMEM, 1) // or ENOSPC, too many watched: another shortage
		}
	}
}

// connectOnce is connect, or connectAlone for a dial that must be alone.
func (l *loop) connectOnce(s *slot) (errno syscall.Errno, err error) {
	switch {
	case !l.guardless.Load():
		return l.connect(s)
	case s.suspect():
		return l.connectAlone(s)
	}
	l.alone.RLock()
	defer l.alone.RUnlock()
	return l.connect(s)
}

// connect sends the first SYN of a dial, from a socket of an earlier one if there
// is any: a socket costs more than a SYN. err says that there is no socket, and
// errno that no connection can come of it.
func (l *loop) connect(s *slot) (errno syscall.Errno, err error) {
	ip6 := s.target.Addr.Is6()
	used := l.reuse(s, ip6)
	for {
		if !used {
			fd, err := l.socket(ip6)
			if err != nil {
				return 0, err
			}
			s.fd = int32(fd)
		}
		l.guard(s)
		errno = l.sendSYN(int(s.fd), s.target.AddrPort())
		if errno == unix.EINPROGRESS || errno == unix.EINTR {
			errno = 0
		}
		if errno == 0 || !used {
			return errno, nil
		}
		used = false // a new socket tells whether it is the way or the socket
		l.closeSocket(s)
	}
}

// sendSYN is connect(2).
func (l *loop) sendSYN(fd int, to netip.AddrPort) syscall.Errno {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], to.Port())
	sa, size := unsafe.Pointer(&l.sa4), unsafe.Sizeof(l.sa4)
	if a := to.Addr(); a.Is4() {
		l.sa4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: binary.NativeEndian.Uint16(port[:]), Addr: a.As4()}
	} else {
		l.sa6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: binary.NativeEndian.Uint16(port[:]), Addr: a.As16(), Scope_id: zoneID(a.Zone())}
		sa, size = unsafe.Pointer(&l.sa6), unsafe.Sizeof(l.sa6)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(sa), size)
	return errno
}

// glance looks for an answer that is there when connect returns, as it is within
// one machine, and reports whether the dial is over by it. Where answers take
// their time it looks but now and then.
func (l *loop) glance(i int32, s *slot) bool {
	if l.misses > mostMisses && l.misses%mostMisses != 0 && !l.guardless.Load() {
		l.misses++
		return false
	}
	fd := int(s.fd)
	if l.opens { // the last answer was an open port: so may this one be
		if state, repeated := tcpInfo(fd, &l.info); state == tcpEstablished || state == tcpCloseWait {
			l.tick(0)
			l.misses = 0
			l.established(i, s, 1+repeated, unix.EPOLLOUT, false)
			return true
		}
	}
	errno := socketError(fd)
	if errno == 0 {
		l.misses++
		return false
	}
	l.tick(0)
	l.misses = 0
	l.opens = false
	l.atOnce = true
	l.settle(i, s, errno, unix.EPOLLERR)
	l.atOnce = false
	return s.phase != dialing
}

func errnoIn(err error) (errno syscall.Errno) {
	errors.As(err, &errno)
	return errno
}

// failed sees to a dial that failed before an answer: syns is how many SYNs left.
func (l *loop) failed(i int32, s *slot, errno syscall.Errno, syns int) {
	if errno == unix.ECONNREFUSED || errno == unix.ECONNRESET {
		l.settle(i, s, errno, unix.EPOLLERR)
		return
	}
	if scarce(errno) {
		job := s.job()
		job.Attempts += uint16(syns)
		l.closeSocket(s)
		l.closeIdle()
		if l.starve(job, errno) {
			l.vacate(i, s)
			return
		}
	}
	l.conclude(i, s, evidence{errno: errno}, syns)
}

// timeIsOver takes the place of the events of a dial that has had its time. An
// answer may have come all the same, and not been told yet: it counts.
const timeIsOver = unix.EPOLLERR | 1<<31

// answer sees to an event of a dial, or to the end of its time.
func (l *loop) answer(i int32, s *slot, events uint32) {
	errno := syscall.Errno(0)
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		errno = socketError(int(s.fd))
	}
	l.settle(i, s, errno, events)
}

// settle decides what became of a dial. SO_ERROR was read before: it is 0 on a
// dead socket once the error queue was read, so open is what TCP_INFO calls
// established, and never the lack of an error.
func (l *loop) settle(i int32, s *slot, errno syscall.Errno, events uint32) {
	fd := int(s.fd)
	var icmp scanner.ICMP
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		icmp = l.errs.Last(fd)
	}
	refused := errno == unix.ECONNREFUSED && !icmp.From.IsValid()
	if refused && l.age(s) < firstRepeat && l.believes(s) && !s.suspect() {
		l.refused(i, s)
		return
	}
	state, repeated := tcpInfo(fd, &l.info)
	switch {
	case refused && s.suspect() && l.guardless.Load():
		l.judgeAlone(i, s, 1+repeated)
	case refused && s.suspect():
		l.conclude(i, s, evidence{passage: passageRefused}, 1+repeated)
	case refused && !l.believes(s):
		l.again(i, s, 1+repeated)
	case state == tcpEstablished, state == tcpCloseWait:
		l.opens = true
		l.established(i, s, 1+repeated, events, false)
	case errno == unix.ECONNRESET, errno == unix.EPIPE:
		l.established(i, s, 1+repeated, events, true) // and reset before we looked
	case recverr.Reason(icmp) != "":
		l.unreachable(i, s, icmp, 1+repeated)
	case errno != 0 && state != tcpSynSent && !icmp.From.IsValid():
		l.conclude(i, s, evidence{errno: errno}, 1+repeated)
	case events == timeIsOver:
		l.conclude(i, s, evidence{errno: unix.ETIMEDOUT}, 1+repeated)
	case state == tcpSynSent:
		// Nothing yet: the event was for an error that is over.
	default:
		l.conclude(i, s, evidence{errno: 0}, 1+repeated)
	}
}

// refused sees to a reset in answer to the only SYN: what conclude would do, and
// the socket is good for the next dial.
func (l *loop) refused(i int32, s *slot) {
	obs := scanner.Observation{
		Target: s.target, State: scanner.Closed, Reason: scanner.ConnRefused, At: l.now,
		Attempts: int(s.attempts) + 1, RTT: l.now.Sub(l.base) - time.Duration(s.since),
		Source: l.source(s), Err: l.doubt(s),
	}
	l.vouch(s)
	job := s.job()
	l.shelve(s)
	l.drop(i, s)
	l.finish(job, obs)
}

// unreachable sees to an ICMP message. It is provisional: it may be about a
// moment (RFC 1122, 4.2.3.9), or forged; so the first one is answered by another
// dial a second later. ARP that failed needs none: the kernel asked three times.
func (l *loop) unreachable(i int32, s *slot, icmp scanner.ICMP, syns int) {
	e := evidence{icmp: icmp, own: l.env.isOwn(icmp.From, localAddr(int(s.fd), &l.name).Addr())}
	if e.own {
		e.neighbor = l.neighbor(s, true)
	} else {
		l.vouch(s)
	}
	_, reason := classify(e)
	if e.own && (reason == scanner.LocalError && recverr.Reason(icmp) == scanner.HostUnreach || reason == scanner.NoNeighbor && l.env.linkIsDown(s.target.Addr)) && l.postpone(i, s) {
		return
	}
	if reason == scanner.NoNeighbor || s.learned != nil && !s.suspect() {
		l.conclude(i, s, e, syns)
		return
	}
	job := s.job()
	job.Dials++
	job.Attempts += uint16(syns)
	job.ICMP, job.Reason, job.RTT = icmp, reason, l.now.Sub(l.base)-time.Duration(s.since)
	l.drop(i, s)
	l.retry(job, icmpRetry)
}

// neighbor says what the kernel knows of a slot's target, if it is on-link.
// message says that an ICMP message of our own told that it is unreachable.
func (l *loop) neighbor(s *slot, message bool) neighbor {
	a := s.target.Addr
	if !l.env.onLink(a) {
		return neighborUnsaid
	}
	n := l.env.neighborOf(a, l.age(s), message)
	if n == neighborMissing && (l.Interface != "" || len(l.env.paths) == 0) {
		return neighborUnsaid // who knows which way the SYNs went
	}
	return n
}

// conclude ends a dial that did not succeed, after so many SYNs.
func (l *loop) conclude(i int32, s *slot, e evidence, syns int) {
	obs := scanner.Observation{Target: s.target, At: l.now, Attempts: int(s.attempts) + syns, ICMP: e.icmp}
	if e.errno == unix.ETIMEDOUT {
		l.judgeSilence(s, &e)
	}
	if l.waits(i, s, e, syns) {
		return
	}
	switch {
	case e.passage != passageUnsaid && l.doubts(s, e.passage):
		l.repeat(i, s, e.passage)
		return
	case e.passage != passageUnsaid:
		obs.Attempts -= syns // none of them left, as far as we know
		if e.passage != passageCrowded {
			l.networks.stop(s.target)
		}
	case e.errno == unix.ECONNREFUSED, e.errno == unix.ETIMEDOUT && l.info.Retrans > 0:
		l.vouch(s)
	}
	obs.State, obs.Reason = classify(e)
	if obs.Reason == "" {
		obs.Reason = scanner.LocalError
	}
	if s.fd >= 0 {
		if a := localAddr(int(s.fd), &l.name).Addr(); !a.IsUnspecified() {
			obs.Source = a
		}
	}
	if obs.State == scanner.Closed || e.icmp.From.IsValid() {
		obs.RTT = l.now.Sub(l.base) - time.Duration(s.since)
	}
	if obs.State != scanner.Closed && obs.Reason != scanner.NoNeighbor && !e.icmp.From.IsValid() && s.learned != nil && !s.suspect() {
		// The later dial had no answer: the ICMP message of the earlier one is it.
		obs.ICMP, obs.Reason, obs.RTT = s.learned.ICMP, s.learned.Reason, s.learned.RTT
		obs.State = scanner.Filtered
		if obs.Reason == scanner.LocalError {
			obs.State = scanner.Unknown
		}
	}
	if obs.State == scanner.Closed {
		obs.Err = l.doubt(s)
	}
	if obs.Reason == scanner.LocalError {
		obs.Err = localSentence(e.errno, s.target.Addr.Is6())
		if obs.ICMP.From.IsValid() {
			obs.Err = ownICMPSentence(recverr.Reason(obs.ICMP))
		} else if e.neighbor == neighborUnsaid && e.passage != passageUnsaid {
			obs.Err = passageSentence(e.passage)
		}
	}
	job := s.job()
	l.drop(i, s)
	l.finish(job, obs)
}

// established sees to a dial that succeeded. reset says that the peer has reset
// the connection already.
func (l *loop) established(i int32, s *slot, syns int, events uint32, reset bool) {
	fd := int(s.fd)
	if l.paths.of(s.target.Addr) == nil && localAddr(fd, &l.name) == netip.AddrPortFrom(s.target.Addr.WithZone(""), s.target.Port) {
		l.selfConnected(i, s, syns)
		return
	}
	obs := scanner.Observation{
		Target: s.target, State: scanner.Open, Reason: scanner.SynAck, Source: l.source(s),
		RTT:      l.now.Sub(l.base) - time.Duration(s.since),
		Attempts: int(s.attempts) + syns, At: l.now, Connected: l.now,
	}
	l.vouch(s)
	if !l.Banner {
		job := s.job()
		if syns > 1 || !l.shelve(s) {
			setLinger(fd, 0)
		} else {
			l.errs.Last(fd) // what came after the handshake is not about the next dial
		}
		l.drop(i, s)
		l.finish(job, obs)
		return
	}
	setConversing(fd, s.target.Addr.Is6())
	l.unguard(s)
	l.resolved(s)
	s.learned = &obs
	s.since = int64(l.now.Sub(l.base))
	l.slots.move(i, greeting)
	if reset || s.target.Role.ClientFirst() || events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		l.handOver(i, s, reset)
		return
	}
	if l.watch(i, s) != 0 {
		l.handOver(i, s, false) // its reader will see what there is
	}
}

// selfConnected sees to a dial within this machine whose source port happened to
// be the target's: TCP then connects to itself. Nothing listens there.
func (l *loop) selfConnected(i int32, s *slot, syns int) {
	job := s.job()
	job.Dials++
	job.Attempts += uint16(syns)
	setLinger(int(s.fd), 0)
	if job.Dials >= selfConnects {
		l.conclude(i, s, evidence{errno: unix.EADDRNOTAVAIL}, syns)
		return
	}
	l.drop(i, s)
	l.retry(job, 10*time.Millisecond)
}

// handOver emits an open connection. It leaves the loop.
func (l *loop) handOver(i int32, s *slot, reset bool) {
	fd := int(s.fd)
	l.unwatch(s)
	obs, job := *s.learned, s.job()
	local := localAddr(fd, &l.name)
	if !local.IsValid() || local.Port() == 0 { // reset: the port is free again
		local = netip.AddrPortFrom(obs.Source, local.Port())
	}
	l.handed.Add(1)
	l.arrived(fd, &obs)
	obs.Conn = &Conn{
		stream: file{os.NewFile(uintptr(fd), "tcp")},
		local:  tcpAddr(local), remote: tcpAddr(s.target.AddrPort()), reset: reset,
		done: func() {
			l.release()
			l.q.Done(job)
			l.handed.Done()
		},
	}
	s.fd = -1
	l.vacate(i, s)
	l.over(&job)
	l.emit(obs)
}

// jiffy is how exact the kernel is about the times that arrived asks for.
const jiffy = 10 * time.Millisecond

// arrived sets when a connection on which we sent nothing was established, and
// when the peer's last data came. The loop may notice both late, on a machine
// that is busy with conversations: the kernel knows.
func (l *loop) arrived(fd int, obs *scanner.Observation) {
	tcpInfo(fd, &l.info)
	ago := func(ms uint32) time.Time { return l.now.Add(-time.Duration(ms) * time.Millisecond) }
	if connected := ago(l.info.Last_data_sent); obs.Connected.Sub(connected) > jiffy {
		obs.Connected = connected
	}
	if obs.At = ago(l.info.Last_data_recv); obs.At.Before(obs.Connected) {
		obs.At = obs.Connected
	}
}

// park keeps a mute connection on.
func (l *loop) park(i int32) {
	l.slots.move(i, parked)
	l.parked.Add(1)
	l.noteEldest()
}

// noteEldest tells the other loops how old the park's eldest is.
func (l *loop) noteEldest() {
	since := int64(math.MaxInt64)
	if i := l.slots.oldest(parked); i != nobody {
		since = l.slots.at(i).since
	}
	l.eldest.Store(since)
}

// clearPark gives up the oldest of the parked connections while there are too
// many. Whichever loop has it does that: the others wake it.
func (l *loop) clearPark() {
	for int(l.parked.Load()) > l.mostParked() {
		l.noteParked()
		first := slices.MinFunc(l.all, func(a, b *loop) int { return cmp.Compare(a.eldest.Load(), b.eldest.Load()) })
		if first != l {
			first.wake()
			return
		}
		i := l.slots.oldest(parked)
		if i == nobody {
			return
		}
		l.giveUp(i, l.slots.at(i))
	}
}

// giveUp closes a connection that stayed mute, and says so.
func (l *loop) giveUp(i int32, s *slot) {
	obs, job := *s.learned, s.job()
	obs.At = l.now
	obs.Mute = l.now.Sub(obs.Connected)
	setLinger(int(s.fd), 0) // a tarpit would not take a FIN: it closes its window
	l.drop(i, s)
	l.finish(job, obs)
}
