package path

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A dialler begins connections and says what answers. It is the seam between the
// search and the network.
type dialler interface {
	// dial begins one connection, waits for its answer, and ends it. The error is
	// errUnable, or a fault of this machine, or the cause of ctx's end.
	dial(ctx context.Context, a attempt) (answer, error)
	method() Method // how TTLs of answers are learned; empty: they are not
	here() bool     // whether the host is this machine
	close()
}

// errUnable says that this kernel does not let us do what an attempt asks for.
var errUnable = errors.New("not possible on this system without privilege")

// An attempt is what is special about one connection. The zero values are what is ordinary.
type attempt struct {
	port   uint16
	ttl    int // of what is sent
	minTTL int // what comes with less is dropped; never together with ttl, nor for a router's answer
	filter filter
	counts bool // what this machine sends meanwhile is counted
}

// A filter is what a socket drops of what comes for it.
type filter uint8

const (
	filterNone   filter = iota
	filterOwn           // resets that come by the loopback interface
	filterSYNACK        // SYN-ACKs: so that the server never sees a connection
	filterMark          // resets without the DSCP that the SYN has
)

// An answer is what came of an attempt.
type answer struct {
	heard  heard
	icmp   scanner.ICMP // if expired or rejected
	header *Header      // of the reset or SYN-ACK, if the method is raw
	rtt    time.Duration
	own    Fact // the reset came by the loopback interface; raw, or counted
}

// heard is what kind of answer came.
type heard uint8

const (
	silence  heard = iota // nothing, to two SYNs
	refused               // a reset
	accepted              // a SYN-ACK
	expired               // a router said that the TTL was over
	rejected              // another ICMP message
	dropped               // the socket dropped what came, as it was told
)

var heardNames = [...]string{"nothing answers", "a reset", "it accepts connections", "a TTL was over", "an ICMP message", "it was dropped"}

// A measurement finds the figures of a refusal.
type measurement struct {
	Refusal
	dialler
	f     Figures
	last  time.Time // when the last connection was begun
	over  bool      // nothing more is to be found out
	lossy bool      // nothing came where something had to: packets are lost, or limited
}

const (
	defaultPatience = 2500 * time.Millisecond
	freeConnects    = 6 // that are made without an interval
	mostCounted     = 4 // connects whose packets are counted
	usuallyClosed   = 61453
)

// measure finds the figures of a refusal, as far as they can be had.
func measure(ctx context.Context, r Refusal, d dialler) (Figures, error) {
	if r.Interval == 0 && targets.IsPublic(r.Port.Addr()) {
		r.Interval = time.Second
	}
	if r.Closed == 0 {
		r.Closed = usuallyClosed
	}
	m := &measurement{Refusal: r, dialler: d}
	m.f.Control, m.f.Method = r.Control, d.method()
	for _, step := range []func(context.Context) error{m.refusal, m.resetTTL, m.begin, m.distance, m.ackTTL, m.marks} {
		if m.over {
			break
		}
		if err := step(ctx); err != nil {
			m.f.Interrupted = ctx.Err() != nil
			return m.f, err
		}
	}
	return m.f, nil
}

// try begins a connection when it is time, and keeps what is learned by the way.
func (m *measurement) try(ctx context.Context, a attempt) (answer, error) {
	if ctx.Err() != nil {
		return answer{}, context.Cause(ctx)
	}
	if m.f.Connects >= MostConnects {
		return answer{}, nil
	}
	if wait := time.Until(m.last.Add(m.Interval)); wait > 0 && m.f.Connects >= freeConnects {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return answer{}, context.Cause(ctx)
		case <-timer.C:
		}
	}
	begun := time.Now()
	ans, err := m.dial(ctx, a)
	if err != nil {
		return ans, err
	}
	m.last = begun
	m.f.Connects++
	if ans.heard == expired {
		m.f.routerAt(a.ttl, ans.icmp.From)
	}
	m.keep(a, ans)
	return ans, nil
}

// keep notes the headers and the times of answers. When what was dropped came is not known exactly,
// unless its packet was seen.
func (m *measurement) keep(a attempt, ans answer) {
	if m.f.Raw == nil && ans.header != nil {
		m.f.Raw = &Headers{}
	}
	isReset, isAck := ans.heard == refused, ans.heard == accepted
	if ans.header != nil {
		isReset, isAck = ans.header.Flags&tcpRST != 0, ans.header.Flags&tcpRST == 0
	}
	switch {
	case isReset && a.port == m.Port.Port():
		m.f.ResetRTT = shorter(m.f.ResetRTT, ans.rtt)
		if ans.header != nil {
			m.f.Raw.Reset = ans.header
		}
	case isAck && a.port == m.Control:
		m.f.AckRTT = shorter(m.f.AckRTT, ans.rtt)
		if ans.header != nil {
			m.f.Raw.SYNACK = ans.header
		}
	}
}

// Flags of the TCP header (RFC 9293, 3.1).
const (
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
)

func shorter(old Millis, d time.Duration) Millis {
	if rtt := millis(d); old == 0 || rtt < old {
		return rtt
	}
	return old
}

// refusal sees that the port does refuse, by a reset that is not our own.
func (m *measurement) refusal(ctx context.Context) error {
	a := attempt{port: m.Port.Port(), ttl: mostHops, filter: filterOwn}
	if m.f.IsHere = m.here(); m.f.IsHere {
		a.filter = filterNone
	}
	ans, err := m.try(ctx, a)
	if errors.Is(err, errUnable) {
		a.filter = filterNone
		ans, err = m.try(ctx, a)
	}
	if err == nil && ans.heard == silence {
		m.lossy = true
		ans, err = m.try(ctx, a)
	}
	if err != nil {
		return err
	}
	m.f.Refused = ans.heard == refused || ans.heard == dropped
	switch {
	case m.f.IsHere:
	case ans.heard == dropped, ans.own == Yes:
		m.f.Own = Yes
	case ans.heard == refused && (a.filter == filterOwn || ans.own == No):
		m.f.Own = No
	case ans.heard == refused:
		err = m.counted(ctx, a)
	}
	switch {
	case m.f.Refused:
	case ans.heard == expired, ans.heard == rejected:
		m.f.Instead = fmt.Sprintf("%s says so by an ICMP message (%d/%d)", ans.icmp.From, ans.icmp.Type, ans.icmp.Code)
	default:
		m.f.Instead = heardNames[ans.heard]
	}
	m.over = !m.f.Refused || m.f.Own == Yes || m.f.IsHere
	return err
}

// counted finds out whether a reset is our own where the kernel allows no filter: those of our own
// firewall are sent by the loopback interface, and the SYN is not sent at all. What others send in
// the meantime is counted too, so that it may take more than one connect.
func (m *measurement) counted(ctx context.Context, a attempt) error {
	a.counts = true
	for range mostCounted {
		ans, err := m.try(ctx, a)
		if err != nil || ans.heard != refused {
			return err
		}
		if m.f.Own = ans.own; ans.own != Unseen {
			return nil
		}
	}
	return nil
}

// resetTTL finds the TTL with which resets come.
func (m *measurement) resetTTL(ctx context.Context) (err error) {
	if m.f.Method == MethodRaw {
		if m.f.Raw != nil && m.f.Raw.Reset != nil {
			m.f.Reset = Span{m.f.Raw.Reset.TTL, m.f.Raw.Reset.TTL}
			return nil
		}
		m.note("the raw socket did not see the reset")
		m.f.Method = MethodMinTTL
	}
	var guesses []int
	if m.Begin > 0 {
		guesses = ttlsFrom(m.Begin, m.Begin-1)
	}
	m.f.Reset, err = m.searchTTL(ctx, m.Port.Port(), refused, guesses)
	return err
}

// ackTTL finds the TTL with which the control port's SYN-ACKs come.
func (m *measurement) ackTTL(ctx context.Context) (err error) {
	if !m.f.Distance.known() {
		return nil
	}
	if m.f.Method == MethodRaw {
		if m.f.Raw.SYNACK == nil { // the distance is from a trace
			a := attempt{port: m.Control, filter: filterSYNACK}
			if _, err = m.control(ctx, &a, mostHops); err != nil {
				return err
			}
		}
		if m.f.Raw.SYNACK != nil {
			m.f.SYNACK = Span{m.f.Raw.SYNACK.TTL, m.f.Raw.SYNACK.TTL}
			return nil
		}
		m.note("the raw socket did not see the SYN-ACK")
	}
	guesses := ttlsFrom(m.f.Distance.Min)
	if m.f.Reset.exact() {
		guesses = append(guesses, m.f.Reset.Min, m.f.Reset.Min) // twice as likely
	}
	m.f.SYNACK, err = m.searchTTL(ctx, m.Control, accepted, guesses)
	return err
}

// ttlsFrom returns the TTLs of packets from so many hops away.
func ttlsFrom(hops ...int) (ttls []int) {
	for _, h := range hops {
		for _, class := range []int{64, 128, 255} {
			if ttl := class - h + 1; h > 0 && ttl > 0 {
				ttls = append(ttls, ttl)
			}
		}
	}
	return ttls
}

// searchTTL finds the TTL with which a port's answers come, by connects that drop those
// that come with less.
func (m *measurement) searchTTL(ctx context.Context, port uint16, want heard, guesses []int) (Span, error) {
	s := &search{Span: Span{1, mostTTL}, weight: ttlWeight(guesses...), left: ttlQuestions}
	for {
		least, ok := s.next()
		if !ok {
			return s.Span, nil
		}
		ans, err := m.try(ctx, attempt{port: port, minTTL: least})
		switch {
		case errors.Is(err, errUnable):
			return Span{}, nil
		case err != nil:
			return Span{}, err
		case ans.heard != want && ans.heard != dropped:
			m.lossy = true
			m.note("port %d did not answer any more while the TTL of its answers was looked for: %s", port, heardNames[ans.heard])
			if s.left == ttlQuestions {
				return Span{}, nil
			}
			return s.Span, nil
		}
		s.learn(least, ans.heard == want)
	}
}

func (m *measurement) note(format string, args ...any) {
	m.f.Notes = append(m.f.Notes, fmt.Sprintf(format, args...))
}

// begin finds the smallest TTL at which the port refuses.
func (m *measurement) begin(ctx context.Context) (err error) {
	if m.Begin > 0 {
		m.f.Begin = Span{m.Begin, m.Begin}
		return nil
	}
	var guesses []int
	if m.f.Reset.exact() {
		hops := distance(m.f.Reset.Min)
		guesses = []int{hops, hops + 1}
	}
	m.f.Begin, err = m.searchHops(ctx, attempt{port: m.Port.Port()}, Span{1, mostHops}, 0, guesses)
	return err
}

// distance finds the smallest TTL at which the control port accepts.
func (m *measurement) distance(ctx context.Context) error {
	switch {
	case m.Control == 0:
		return nil
	case m.Distance > 0:
		m.f.Distance = Span{m.Distance, m.Distance}
		return nil
	}
	a := attempt{port: m.Control, filter: filterSYNACK}
	in, surely, guesses := Span{1, mostHops}, 0, []int(nil)
	if hop := m.f.Begin.Max; hop > 0 && hop < mostHops {
		// Even if it does not accept, a router may say here that the host is farther.
		ans, err := m.control(ctx, &a, hop)
		if err != nil {
			return err
		}
		switch ans.heard {
		case accepted:
			in.Max = hop
		case expired:
			m.f.Beyond, surely, in.Min = hop, hop, hop+1
		}
		guesses = []int{hop, hop, hop + 1}
	}
	if in.Max == mostHops {
		ans, err := m.control(ctx, &a, mostHops)
		switch {
		case err != nil:
			return err
		case ans.heard != accepted:
			m.note("port %d is no control port: %s", m.Control, heardNames[ans.heard])
			return nil
		}
	}
	var err error
	m.f.Distance, err = m.searchHops(ctx, a, in, surely, guesses)
	return err
}

// control asks the control port with a TTL; where the kernel allows no filter, without one from then on.
func (m *measurement) control(ctx context.Context, a *attempt, ttl int) (answer, error) {
	a.ttl = ttl
	ans, err := m.try(ctx, *a)
	if errors.Is(err, errUnable) {
		a.filter = filterNone
		ans, err = m.try(ctx, *a)
	}
	if ans.heard == dropped {
		ans.heard = accepted
	}
	return ans, err
}

// searchHops finds the smallest TTL at which a port answers as it does with a large one. That a
// router, or nobody, answers means that the TTL is too small. Silence may be a lost packet, or a
// limit: at the end it is asked for again, and whether the port does answer still. surely is the
// largest TTL at which somebody else is known to answer.
func (m *measurement) searchHops(ctx context.Context, a attempt, in Span, surely int, guesses []int) (Span, error) {
	s := &search{Span: in, weight: hopWeight(guesses...), left: hopQuestions - 2, sure: true}
	for {
		least, ok := s.next()
		if !ok {
			break
		}
		ans, err := m.control(ctx, &a, least-1)
		if err != nil {
			return Span{}, err
		}
		s.learn(least, !ans.port())
		if ans.heard == expired {
			surely = max(surely, least-1)
		}
	}
	if !s.exact() || surely == s.Min-1 || s.Min == 1 {
		return s.Span, nil
	}
	asks := 1
	if m.lossy {
		asks = 3
	}
	for range asks {
		again, err := m.control(ctx, &a, s.Min-1)
		switch {
		case err != nil:
			return Span{}, err
		case again.port():
			return Span{min(surely+1, s.Min-1), s.Min - 1}, nil
		case again.heard == expired:
			return s.Span, nil
		}
	}
	still, err := m.control(ctx, &a, s.Min)
	switch {
	case err != nil:
		return Span{}, err
	case !still.port():
		m.note("port %d did not answer any more while the TTL at which it does was looked for", a.port)
		return Span{}, nil
	}
	return s.Span, nil
}

// port reports whether an answer is the port's own, of whoever speaks for it.
func (ans answer) port() bool { return ans.heard == refused || ans.heard == accepted }

// marks finds out, when everything else speaks for the host, whether the reset is made as
// the host makes its own.
func (m *measurement) marks(ctx context.Context) error {
	if m.f.Begin != m.f.Distance || !m.f.Begin.exact() || compare(m.f.Reset, m.f.SYNACK).is != same {
		return nil
	}
	var err error
	if m.f.Marked, err = m.marked(ctx, m.Port.Port()); m.f.Marked != No || err != nil {
		return err
	}
	m.f.HostMarked, err = m.marked(ctx, m.Closed)
	return err
}

// marked looks whether the resets of a port carry the DSCP of what they answer.
func (m *measurement) marked(ctx context.Context, port uint16) (Fact, error) {
	ans, err := m.try(ctx, attempt{port: port, filter: filterMark})
	switch {
	case errors.Is(err, errUnable):
		return Unseen, nil
	case err != nil:
		return Unseen, err
	case ans.heard == refused:
		return Yes, nil
	case ans.heard == dropped:
		return No, nil
	}
	return Unseen, nil
}
