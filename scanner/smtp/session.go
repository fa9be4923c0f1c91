package smtp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

const (
	// quitLimit bounds the wait for the answer to QUIT (RFC 5321, 4.1.4: do
	// not wait long), and closeLimit the one for the peer's own close after it.
	quitLimit  = 1500 * time.Millisecond
	closeLimit = 500 * time.Millisecond
	// longPause is a greeting that many scanners would have missed.
	longPause = 5 * time.Second
)

// A session is one conversation under way.
type session struct {
	p   *Prober
	w   *wire
	obs *scanner.Observation
	svc *scanner.Service
	buf *buffers
	in  lineReader
	tls *tls.Conn // nil outside TLS
	log transcript

	connected time.Time
	helo      string
	domain    string   // first line of the last EHLO reply
	replies   []string // replies that are neither greeting nor capabilities
	lost      bool     // nothing more can be said
	certAsked bool     // the server asked for a client certificate
	heard     bool     // a line came inside TLS
	plain     []byte   // what came instead of TLS, if it is text
}

func newSession(p *Prober, w *wire, obs *scanner.Observation, svc *scanner.Service, b *buffers) *session {
	connected := obs.Connected
	if connected.IsZero() {
		connected = time.Now()
	}
	if !obs.At.Before(connected) { // since then the peer waited for us
		w.queued = time.Since(obs.At)
	}
	return &session{
		p: p, w: w, obs: obs, svc: svc, buf: b, in: newLineReader(w, b),
		connected: connected, helo: p.heloName(w.Conn, obs), log: transcript{start: connected},
	}
}

// run holds the conversation.
func (s *session) run() {
	defer s.finish()
	if s.obs.Target.Role == targets.SMTPS && !s.implicitTLS() {
		return
	}
	if !s.greeting() {
		return
	}
	if s.svc.Kind == scanner.KindSMTP && s.p.Mode == Full && s.hello() && s.wantsTLS() && s.startTLS() {
		s.helloTLS()
	}
	s.quit()
}

// wantsTLS reports whether STARTTLS is to be tried.
func (s *session) wantsTLS() bool {
	return s.tls == nil && s.svc.StartTLS == scanner.StartTLSOffered
}

// finish puts together what was learned, also of a conversation cut short.
func (s *session) finish() {
	s.svc.Transcript = s.log.lines
	if s.interrupted() {
		s.svc.Err = interrupted
	}
	if s.svc.Software != "" || len(s.svc.Banner) == 0 {
		return
	}
	ehlo := s.svc.EHLO
	if s.svc.EHLOTLS != nil {
		ehlo = s.svc.EHLOTLS
	}
	s.svc.Software = Software(string(s.svc.Banner), s.svc.Code, s.domain, ehlo, s.replies)
}

// resetAtClose makes the end of the connection a reset, where we waited for the
// peer in vain. It may have closed its window, as a tarpit does: what we said
// would stay in this machine's memory for minutes after an orderly close.
func (s *session) resetAtClose() {
	if c, ok := s.w.Conn.(interface{ SetLinger(seconds int) error }); ok && !s.interrupted() {
		c.SetLinger(0) // of a connection that is gone already, it fails
	}
}

// interrupted is the error of a conversation that we cut short.
const interrupted = "interrupted"

// interrupted reports whether we cut the conversation short: then nothing that
// failed says anything of the peer.
func (s *session) interrupted() bool { return s.w.ctx.Err() != nil }

// find adds a finding, once.
func (s *session) find(code string) {
	if !slices.Contains(s.svc.Findings, code) {
		s.svc.Findings = append(s.svc.Findings, code)
	}
}

// hello says EHLO, and HELO if that is not understood, and reports whether the
// capabilities are known.
func (s *session) hello() bool {
	s.svc.StartTLS = scanner.StartTLSUnknown // until EHLO was answered
	c, r, whole := s.ehlo()
	if c != nil {
		s.learn(c)
		if !whole && s.svc.StartTLS == scanner.StartTLSAbsent {
			s.svc.StartTLS = scanner.StartTLSUnknown // it may have been about to come
		}
		return whole
	}
	if whole && !r.mixed {
		switch r.code {
		case 500, 502, 504, 550: // RFC 5321, 3.2 and 4.1.4
			s.command("HELO", s.helo)
		}
	}
	return false
}

// ehlo says EHLO and returns the capabilities, nil if the answer does not say
// them, and whether there was a whole answer: of one that broke off there are
// those that came.
func (s *session) ehlo() (c *capabilities, r reply, whole bool) {
	r, whole = s.command("EHLO", s.helo)
	switch {
	case r.mixed:
		s.svc.Err = "the answer to EHLO contradicts itself"
	case r.class() == 2:
		c = parseEHLO(&r)
	case whole:
		s.refused(ehloRefused, &r)
	}
	return c, r, whole
}

// learn notes the capabilities of the first EHLO.
func (s *session) learn(c *capabilities) {
	s.domain = c.domain
	s.svc.EHLO, s.svc.Size = c.keywords, c.size
	inTLS := s.tls != nil
	if inTLS {
		s.svc.AuthTLS = c.auth
	} else {
		s.svc.Auth = c.auth
	}
	if !inTLS && (slices.Contains(c.auth, "PLAIN") || slices.Contains(c.auth, "LOGIN")) {
		s.find(authWithoutTLS) // RFC 4954, 4: not without protection
	}
	switch {
	case c.startTLS && inTLS: // RFC 3207, 4.2
		s.svc.StartTLS = scanner.StartTLSOffered
		s.find(startTLSInsideTLS)
	case c.startTLS:
		s.svc.StartTLS = scanner.StartTLSOffered
	case c.masked:
		s.svc.StartTLS = scanner.StartTLSMasked
		s.find(startTLSMasked)
	default:
		s.svc.StartTLS = scanner.StartTLSAbsent
	}
}

// startTLS asks for TLS and reports whether the session is inside it.
func (s *session) startTLS() bool {
	r, ok := s.command("STARTTLS", "")
	if !ok {
		return false
	}
	if r.code != 220 {
		s.svc.StartTLS = scanner.StartTLSRefused
		s.refused(startTLSRefused, &r)
		return false
	}
	// RFC 3207, 4.2: nothing that came in the clear may be taken for an answer
	// of the protected session. What came with the 220 was put there by
	// someone who hopes for that.
	if n := s.discard(); n > 0 {
		s.find(plaintextAfter220)
		s.log.remark(fmt.Sprintf("%d bytes after the 220 discarded", n))
	}
	if s.handshake() {
		return true
	}
	s.lost = true
	if s.plain != nil {
		s.plainAfter220()
	}
	if s.svc.Err == "" {
		s.svc.Err = "STARTTLS: " + s.svc.TLS.Err
	}
	return false
}

// plainAfter220 keeps text that came in the place of the server's part of the
// handshake. A refusal is of a server that took our ClientHello for a command;
// an answer of success was put there by someone.
func (s *session) plainAfter220() {
	s.log.add('S', s.plain)
	if code, _, ok := parseLine(firstLine(s.plain)); ok && code < 400 {
		s.find(plaintextAfter220)
	}
}

// helloTLS says EHLO inside TLS, after STARTTLS: what was learned before is
// forgotten (RFC 3207, 4.2) as soon as the new answer is there, and the
// difference kept.
func (s *session) helloTLS() {
	c, _, _ := s.ehlo()
	if c == nil {
		return
	}
	s.domain = c.domain
	s.svc.EHLOTLS, s.svc.AuthTLS, s.svc.Size = c.keywords, c.auth, c.size
	if c.startTLS {
		s.find(startTLSInsideTLS)
	}
}

// maxQuote bounds what is quoted of a reply.
const maxQuote = 200

// refused notes a refusal of one of our commands.
func (s *session) refused(finding string, r *reply) {
	s.find(finding)
	if quotesMask(r) {
		s.find(commandMasked)
	}
	if s.svc.Err == "" {
		line := r.lines[0]
		s.svc.Err = fmt.Sprintf("the server said %q", line[:min(len(line), maxQuote)])
	}
}

// discard forgets what was received and not asked for, but for the transcript,
// and returns how much that was.
func (s *session) discard() int {
	rest := s.in.drop()
	if len(rest) > 0 {
		s.log.add('S', rest)
	}
	return len(rest)
}

// unasked discards what came before a command: it cannot be its answer.
func (s *session) unasked() {
	if s.discard() > 0 {
		s.find(replyMalformed)
		s.log.remark("came unasked; discarded")
	}
}

// command sends one command and waits for its whole reply. If ok is false, the
// reply is what came of it, and the session says why.
func (s *session) command(verb, arg string) (r reply, ok bool) {
	s.unasked()
	started := s.w.now()
	err := s.send(verb, arg)
	if err == nil {
		r, err = s.reply(time.Time{})
		if err == nil && r.code == 220 && verb != "STARTTLS" {
			s.find(replyMalformed) // a second greeting; the answer comes after it
			r, err = s.reply(time.Time{})
		}
	}
	if r.malformed {
		s.find(replyMalformed)
	}
	if err != nil {
		s.fail(verb, err, s.w.now().Sub(started))
		return r, false
	}
	if verb != "EHLO" || r.class() != 2 {
		s.replies = append(s.replies, string(r.joined(maxBanner)))
	}
	if r.code == 421 { // RFC 5321, 3.8: it is about to close
		s.svc.Err = "the peer ended the session after " + verb + " (421)"
		return r, verb == "STARTTLS"
	}
	return r, true
}

// send writes one command in one piece.
func (s *session) send(verb, arg string) error {
	b := append(s.buf.out[:0], verb...)
	if arg != "" {
		b = append(append(b, ' '), arg...)
	}
	s.log.add('C', b)
	b = append(b, '\r', '\n')
	var err error
	if s.tls != nil {
		_, err = s.tls.Write(b)
	} else {
		_, err = s.w.Write(b)
	}
	return err
}

// reply reads a whole reply, by a soft limit unless that is zero.
func (s *session) reply(by time.Time) (r reply, err error) {
	s.in.by = by
	for {
		line, err := s.in.line()
		if err != nil {
			return s.cut(r, line, err)
		}
		last := r.add(s.log.add('S', line))
		s.heard = s.tls != nil
		if last {
			return r, nil
		}
		if r.malformed && s.in.by.IsZero() {
			s.in.by = s.w.now().Add(strayLimit)
		}
	}
}

// cut ends a reply that broke off. A last line without its end, before a close,
// still counts: "421 Too many connections".
func (s *session) cut(r reply, line []byte, err error) (reply, error) {
	if len(line) == 0 {
		return r, err
	}
	kept := s.log.add('S', line)
	if isTimeout(err) || errors.Is(err, errDrip) || errors.Is(err, errNotReply) {
		r.lines = append(r.lines, kept) // who knows what it would have become
		return r, err
	}
	last := r.add(kept)
	r.malformed = true
	if last && errors.Is(err, io.EOF) && len(line) > 3 {
		return r, nil
	}
	return r, err
}

// fail says why a command got no answer. What was learned before stays.
func (s *session) fail(verb string, err error, waited time.Duration) {
	s.lost = true
	if isTimeout(err) || errors.Is(err, errDrip) {
		s.resetAtClose()
	}
	switch {
	case s.interrupted():
		return
	case errors.Is(err, errNotReply):
		s.find(replyMalformed)
		s.svc.Err = "the answer to " + verb + " is not an SMTP reply"
		s.lost = false
	case errors.Is(err, errDrip):
		s.svc.Kind = scanner.KindTarpit
		s.svc.Err = "the answer to " + verb + " drips and never ends"
	case errors.Is(err, errTooLong), errors.Is(err, errTooMuch):
		s.find(replyMalformed)
		s.svc.Err = "the answer to " + verb + " is too long: " + err.Error()
	case isTimeout(err):
		s.svc.Err = fmt.Sprintf("no answer to %s in %s", verb, seconds(waited))
	case s.turnedAway(err):
		s.alerted(err)
	case s.tls != nil && isFault(err):
		s.broke(err, "after "+verb)
	default:
		s.svc.Err = "the peer " + closing(err) + " after " + verb
	}
	s.log.remark(s.svc.Err)
}

// quit ends the session as the protocol wants it, and closes TLS. The
// connection itself is its owner's to close.
func (s *session) quit() {
	if s.lost || s.interrupted() {
		return
	}
	limit := time.Now().Add(quitLimit)
	if limit.Before(s.w.end) {
		s.w.setEnd(limit)
	}
	s.unasked()
	if s.send("QUIT", "") != nil {
		return
	}
	r, err := s.reply(time.Time{})
	if r.code != 0 {
		s.replies = append(s.replies, string(r.joined(maxBanner)))
	}
	if err != nil {
		return
	}
	if s.tls != nil {
		s.tls.CloseWrite()
	}
	// The peer closes first: no port of ours stays in TIME_WAIT, and its
	// close_notify does not meet a reset.
	s.w.limitRead(time.Now().Add(closeLimit))
	for range 8 {
		if _, err := s.w.Read(s.buf.in[:]); err != nil {
			return
		}
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// closing says in words how a connection ended.
func closing(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		return "closed the connection"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset the connection"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return "lost the connection (" + err.Error() + ")"
}

// seconds writes a duration in whole seconds.
func seconds(d time.Duration) string {
	return fmt.Sprintf("%d s", int(d.Round(time.Second)/time.Second))
}
