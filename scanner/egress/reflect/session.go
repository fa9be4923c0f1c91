package reflect

import (
	"bytes"
	"container/list"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxLineBytes = 2048     // of a command, its end included; RFC 5321, 4.5.3.1.4, asks for 512
	maxBytes     = 64 << 10 // of commands in a session
	maxCommands  = 100      // in a session
	maxErrors    = 10       // unknown commands in a session
	maxSeq       = 16       // summaries in a session

	lineTime   = 30 * time.Second // from the first byte of a command to its last
	waitTime   = time.Minute      // for the next command
	totalTime  = 2 * time.Minute  // of a session
	tlsTime    = 20 * time.Second // of a handshake
	writeTime  = 20 * time.Second // of a reply
	auditIdle  = 65 * time.Minute // for the next command of an auditor, who may test how long silence is borne
	auditTotal = 8 * time.Hour    // of an auditor's session
)

// A session is a client's, at the far end.
type session struct {
	srv      *Server
	conn     net.Conn
	implicit bool
	began    time.Time
	client   netip.AddrPort // the client
	to       netip.AddrPort // our end
	greeted  string         // our nonce

	place  *list.Element // in the door's list inList; guarded by the door's mutex
	inList *list.List

	in      lineReader
	tls     *tls.Conn // nil outside TLS
	tallies tallies
	seen    TLSSeen
	talk    []Exchange
	text    int  // bytes in them
	cut     bool // there were more
	count   int  // commands
	errors  int
	hello   []byte
	nonce   string // the auditor's; empty until it gave one
	auditor ed25519.PublicKey
	asked   int // summaries
	syn     *SYN
	trail   *trail
	end     string

	mu   sync.Mutex // guards following
	gone string     // why it is over before its time
}

func newSession(srv *Server, conn net.Conn, implicit bool) *session {
	s := &session{srv: srv, conn: conn, implicit: implicit, began: time.Now(), trail: new(trail)}
	s.client, s.to = addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr())
	s.in = lineReader{src: conn, most: maxBytes}
	return s
}

// addrPort returns the address of an end of a TCP connection, IPv4 as IPv4.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// run holds the session.
func (s *session) run() {
	defer s.conn.Close()
	s.syn = synOf(s.conn)
	s.greeted = newNonce()
	err := s.converse()
	defer func() { s.trail.change(func(e *Earlier) { e.Open, e.End = false, s.end }) }()
	if gone := s.goneBy(); gone != "" {
		s.end = gone
		if s.seen.Asked && s.tls == nil {
			return // in the middle of a handshake no words are understood
		}
		s.reply("421 4.3.2 " + s.srv.Name + " closes the connection: " + gone) // RFC 5321, 3.8
	} else {
		s.end = endWords(err)
	}
}

var (
	errQuit     = errors.New("it said QUIT")
	errTooMuch  = errors.New("it sent too much")
	errTooLong  = errors.New("it sent a line without an end")
	errMistakes = errors.New("it made too many mistakes")
	errRecord   = errors.New("it began a TLS record of more than 4096 bytes")
)

// converse greets and answers until an error ends the session.
func (s *session) converse() error {
	if s.implicit {
		if err := s.startTLS(); err != nil {
			return err
		}
	}
	greeting := fmt.Sprintf("220 %s ESMTP %s %s %s", s.srv.Name, protocol, PinOf(s.srv.Key).id(), s.greeted)
	s.note(newExchange(nil, 0, s.tls != nil))
	if err := s.reply(greeting); err != nil {
		return err
	}
	for {
		line, err := s.command()
		if err == nil {
			err = s.answer(line)
		}
		if errors.Is(err, errTooLong) || errors.Is(err, errTooMuch) {
			s.reply("500 5.5.6 a line has at most 2048 bytes here, and a session 65536")
		}
		if err != nil {
			return err
		}
	}
}

// note adds an exchange to those that a summary lists, until there are too many.
func (s *session) note(e Exchange) {
	s.text += len(e.Command)
	if s.cut = s.cut || len(s.talk) >= maxExchanges || s.text > maxTalk; !s.cut {
		s.talk = append(s.talk, e)
	}
}

// command reads the next command, without its end.
func (s *session) command() ([]byte, error) {
	wait, total := waitTime, totalTime
	if s.nonce != "" {
		wait, total = auditIdle, auditTotal
	}
	end := s.began.Add(total)
	s.limit(earlier(end, time.Now().Add(wait)))
	line, err := s.in.line(func() { s.limit(earlier(end, time.Now().Add(lineTime))) })
	if err != nil {
		return nil, err
	}
	s.tallies.up(s.tls != nil, line)
	s.count++
	text := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	s.note(newExchange(text, len(line), s.tls != nil))
	s.mark(text)
	if s.count > maxCommands {
		return nil, errTooMuch
	}
	return text, nil
}

// mark keeps on the trail how far the session has come.
func (s *session) mark(text []byte) {
	if s.nonce == "" {
		return
	}
	last := slices.Clone(text[:min(len(text), maxCommand)])
	sums := s.tallies.sums()
	s.trail.change(func(e *Earlier) { e.Command, e.Count, e.Bytes = last, s.count, sums })
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// limit sets when pending reads end, unless the session is over.
func (s *session) limit(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == "" {
		s.conn.SetReadDeadline(t)
	}
}

// limitWrite sets how long pending writes may take, unless the session is over.
func (s *session) limitWrite(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == "" {
		s.conn.SetWriteDeadline(time.Now().Add(d))
	}
}

// evict ends the session because others wait for its place.
func (s *session) evict() { s.finish("others waited for its place") }

// shutDown ends the session because the far end does.
func (s *session) shutDown() { s.finish("the far end was stopped") }

// finish ends the session where it is: reads at once, a pending reply soon.
func (s *session) finish(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone == "" {
		s.gone = why
		s.conn.SetReadDeadline(time.Unix(1, 0))
		s.conn.SetWriteDeadline(time.Now().Add(farewell))
	}
}

func (s *session) goneBy() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// reply sends the lines of a reply to the last command.
func (s *session) reply(lines ...string) error {
	text := []byte(strings.Join(lines, "\r\n") + "\r\n")
	s.tallies.down(s.tls != nil, text)
	if n := len(s.talk); n > 0 && !s.cut {
		s.talk[n-1].answer([]byte(strings.Join(lines, "\n")))
		s.text += len(s.talk[n-1].Reply)
	}
	return s.write(text)
}

func (s *session) write(text []byte) error {
	s.limitWrite(writeTime)
	var w io.Writer = s.conn
	if s.tls != nil {
		w = s.tls
	}
	_, err := w.Write(text)
	return err
}

const noMail = "550 5.7.1 no mail is taken here: this is the far end of an egress audit (smtpsweep reflect)"

// answer answers a command.
func (s *session) answer(line []byte) error {
	verb, arg, _ := strings.Cut(string(line), " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		s.hello = slices.Clone(line[:min(len(line), maxCommand)])
		return s.reply(s.capabilities()...)
	case "HELO":
		s.hello = slices.Clone(line[:min(len(line), maxCommand)])
		return s.reply("250 " + s.srv.Name)
	case "NOOP":
		return s.noop(arg)
	case protocol[:len(protocol)-1]: // XREFLECT: the same as NOOP XREFLECT
		return s.noop(string(line))
	case "STARTTLS":
		return s.upgrade(arg)
	case "RSET":
		return s.reply("250 2.0.0 OK")
	case "HELP":
		return s.reply("214 2.0.0 this is the far end of an egress audit (smtpsweep reflect); it takes no mail")
	case "QUIT":
		s.reply("221 2.0.0 " + s.srv.Name + " closes the connection")
		if s.tls != nil {
			s.tls.CloseWrite()
		}
		return errQuit
	case "MAIL", "RCPT", "DATA", "BDAT", "AUTH", "VRFY", "EXPN", "ETRN", "TURN", "ATRN", "BURL", "SEND", "SOML", "SAML":
		return s.mistake(noMail)
	}
	return s.mistake("500 5.5.1 command not known")
}

// mistake refuses a command, and ends the session after too many.
func (s *session) mistake(reply string) error {
	s.errors++
	if s.errors > maxErrors {
		s.reply("421 4.7.0 " + s.srv.Name + " too many errors")
		return errMistakes
	}
	return s.reply(reply)
}

// capabilities is the reply to EHLO.
func (s *session) capabilities() []string {
	lines := []string{"250-" + s.srv.Name, "250-PIPELINING", "250-8BITMIME", "250-ENHANCEDSTATUSCODES"}
	if s.tls == nil {
		lines = append(lines, "250-STARTTLS")
	}
	return append(lines, "250 "+protocol)
}

// upgrade answers STARTTLS (RFC 3207).
func (s *session) upgrade(arg string) error {
	switch {
	case arg != "":
		return s.mistake("501 5.5.4 STARTTLS has no argument")
	case s.tls != nil:
		return s.mistake("503 5.5.1 this is inside TLS")
	}
	s.seen.Asked = true
	// RFC 3207, 4.2: what came in the clear with it is not of the protected session.
	s.seen.Injected = s.in.drop()
	if err := s.reply("220 2.0.0 ready for TLS"); err != nil {
		return err
	}
	return s.startTLS()
}

// startTLS is our side of the handshake, and hashes the ClientHello.
func (s *session) startTLS() error {
	s.seen.Asked = true
	hello := new(helloHash)
	conn := tls.Server(&tap{Conn: s.conn, hello: hello}, s.srv.config)
	s.trail.change(func(e *Earlier) { e.TLS = s.seen })
	s.limit(time.Now().Add(tlsTime))
	s.limitWrite(tlsTime)
	err := conn.HandshakeContext(context.Background())
	s.seen.Hello = hello.sum()
	if err != nil {
		s.seen.Err = endWords(err)
		s.trail.change(func(e *Earlier) { e.TLS = s.seen })
		return fmt.Errorf("TLS: %w", err)
	}
	state := conn.ConnectionState()
	s.seen.Done, s.seen.Version, s.seen.Cipher, s.seen.Cert = true, state.Version, state.CipherSuite, s.srv.certHash
	s.trail.change(func(e *Earlier) { e.TLS = s.seen })
	s.tls, s.in.src = conn, conn
	return nil
}

// A tap is a client's connection under TLS: its ClientHello is hashed, and long
// records are refused.
type tap struct {
	net.Conn
	hello *helloHash
	guard recordGuard
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.hello.Write(p[:n])
	if !t.guard.pass(p[:n]) {
		return 0, errRecord
	}
	return n, err
}

// A request is the argument of NOOP, or XREFLECT and its argument.
type request struct {
	kind    string // XREFLECT or XREVERSE
	nonce   string
	auditor ed25519.PublicKey
	seq     int
	rest    []string
}

// parseRequest reads a request; ok is false for the argument of any other NOOP.
func parseRequest(arg string) (r request, ok bool) {
	fields := strings.Fields(arg)
	if len(fields) < 3 || len(fields) > 6 {
		return r, false
	}
	r.kind, r.nonce, r.rest = strings.ToUpper(fields[0]), fields[1], fields[3:]
	if r.kind != "XREFLECT" && r.kind != "XREVERSE" {
		return r, false
	}
	if r.auditor, ok = parseNonce(r.nonce); !ok {
		return r, false
	}
	var err error
	r.seq, err = strconv.Atoi(fields[2])
	return r, err == nil && r.seq > 0 && r.seq <= maxSeq
}

// noop answers NOOP: with a summary if it is a request for one.
func (s *session) noop(arg string) error {
	r, ok := parseRequest(arg)
	if !ok || s.nonce != "" && s.nonce != r.nonce || s.asked >= maxSeq {
		return s.reply("250 2.0.0 OK")
	}
	if s.nonce == "" {
		s.nonce, s.auditor = r.nonce, r.auditor
		s.trail.change(func(e *Earlier) {
			*e = Earlier{Found: true, Source: s.client, Open: true, Count: s.count, Bytes: s.tallies.sums(), TLS: s.seen}
		})
		s.srv.door.knows(s)
	}
	s.asked++
	sum := s.summary(r.seq)
	for _, word := range r.rest {
		if nonce, ok := strings.CutPrefix(word, "EARLIER="); ok && r.kind == "XREFLECT" {
			e := s.srv.door.trailOf(nonce)
			sum.Earlier = &e
		}
	}
	if r.kind == "XREVERSE" {
		sum.Reverse, sum.ReverseError = s.reverse(r)
	}
	return s.tell(sum)
}

// summary is what was seen so far.
func (s *session) summary(seq int) *Summary {
	if len(s.talk) > 0 && !s.cut {
		s.talk[len(s.talk)-1].Summary = true
	}
	return &Summary{
		Version: 1, Auditor: s.nonce, FarEnd: s.greeted, Seq: seq, Source: s.client, Local: s.to,
		SYN: s.syn, RTTus: rttOf(s.conn).Microseconds(), Bytes: s.tallies.sums(), Talk: s.talk, Cut: s.cut, TLS: s.seen,
	}
}

// tell sends a summary.
func (s *session) tell(sum *Summary) error {
	lines, err := encodeSummary(sum, s.srv.Key)
	if err != nil {
		return s.reply("451 4.3.0 " + err.Error())
	}
	var b bytes.Buffer
	for i, line := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		b.WriteString("250" + sep + line + "\r\n")
	}
	return s.write(b.Bytes())
}

// visit is the session for the log.
func (s *session) visit() Visit {
	v := Visit{At: s.began, Lasted: time.Since(s.began), From: s.client, To: s.to, Auditor: s.nonce != "", Commands: s.count, Hello: s.hello, End: s.end}
	if s.seen.Done {
		v.TLS = tls.VersionName(s.seen.Version)
	}
	return v
}

// endWords says in words how a session, or a handshake, ended.
func endWords(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, errQuit), errors.Is(err, errTooMuch), errors.Is(err, errTooLong), errors.Is(err, errMistakes), errors.Is(err, errRecord):
		return err.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "nothing came in time"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	case errors.As(err, &op) && op.Op != "remote error" && op.Op != "local error":
		return "the connection was lost (" + op.Err.Error() + ")"
	}
	return strings.TrimPrefix(err.Error(), "TLS: ")
}
