package scannertest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"time"
)

// maxCommand is the longest command line that a server here reads, with its
// line ending (RFC 5321, 4.5.3.1.4).
const maxCommand = 512

// errLongCommand says that a client sent a line longer than maxCommand.
var errLongCommand = errors.New("command line too long")

// A session is the server's side of one connection. It holds little, because
// there may be ten thousand.
type session struct {
	z    *Zoo
	raw  net.Conn // as accepted
	conn net.Conn // raw, or the TLS connection over it
	end  time.Time
	eol  string // ends every line that is sent
	drip bool   // every byte is sent on its own

	buf  [maxCommand]byte
	r, w int // buf[r:w] was received and not yet used
}

// newSession returns a session on a plain connection.
func newSession(conn net.Conn, z *Zoo) *session {
	return &session{z: z, raw: conn, conn: conn, end: time.Now().Add(z.cfg.Life), eol: "\r\n"}
}

// A turn says what the client did while a server listened.
type turn uint8

const (
	quiet  turn = iota // nothing
	talked             // it sent something, which is kept to be read
	left               // it closed the connection
)

// listen waits d for the client to do something.
func (s *session) listen(d time.Duration) turn {
	if s.r < s.w {
		return talked
	}
	if d <= 0 {
		return quiet
	}
	until := time.Now().Add(d)
	if until.After(s.end) {
		until = s.end
	}
	s.conn.SetReadDeadline(until)
	n, err := s.conn.Read(s.buf[:])
	s.r, s.w = 0, n
	s.conn.SetReadDeadline(s.end)
	switch {
	case n > 0:
		return talked
	case errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(s.end):
		return quiet
	}
	return left
}

// pause listens d for a client that talks before its turn, and counts it. It
// reports whether the client waited.
func (s *session) pause(d time.Duration) bool {
	switch s.listen(d) {
	case quiet:
		return true
	case talked:
		s.z.count(func(c *Counts) { c.Pregreets++ })
	}
	return false
}

// beforeGreeting is how long a server without a greet pause listens.
func (s *session) beforeGreeting() time.Duration {
	if s.z.cfg.Turn == 0 {
		return time.Millisecond
	}
	return s.z.cfg.Turn
}

// command reads a command line. It counts what came too early behind it, and
// the commands that a scanner has no business with.
func (s *session) command() (verb, arg string, err error) {
	line, err := s.readLine()
	if err != nil {
		return "", "", err
	}
	if s.listen(s.z.cfg.Turn) == talked {
		s.z.count(func(c *Counts) { c.Pipelined++ })
	}
	verb, arg, _ = strings.Cut(strings.TrimSpace(line), " ")
	verb = strings.ToUpper(verb)
	switch verb {
	case "MAIL", "RCPT", "DATA", "BDAT", "AUTH", "VRFY", "EXPN":
		s.z.count(func(c *Counts) { c.Mail++ })
	}
	return verb, strings.TrimSpace(arg), nil
}

// readLine reads to the next line feed, and returns the line without its ending.
func (s *session) readLine() (string, error) {
	for {
		if i := bytes.IndexByte(s.buf[s.r:s.w], '\n'); i >= 0 {
			line := s.buf[s.r : s.r+i]
			s.r += i + 1
			return string(bytes.TrimSuffix(line, []byte("\r"))), nil
		}
		if s.r > 0 {
			s.w = copy(s.buf[:], s.buf[s.r:s.w])
			s.r = 0
		}
		if s.w == len(s.buf) {
			return "", errLongCommand
		}
		n, err := s.conn.Read(s.buf[s.w:])
		s.w += n
		if n == 0 && err != nil {
			return "", err
		}
	}
}

// send sends lines, all in one segment if they fit, and reports whether that worked.
func (s *session) send(lines ...string) bool {
	return s.write(s.expand(strings.Join(lines, s.eol) + s.eol))
}

// write sends text as it is.
func (s *session) write(text string) bool {
	if !s.drip {
		_, err := s.conn.Write([]byte(text))
		return err == nil
	}
	for i := range len(text) {
		if _, err := s.conn.Write([]byte{text[i]}); err != nil {
			return false
		}
	}
	return true
}

// expand puts the date and the client's address where a text names them.
func (s *session) expand(text string) string {
	if !strings.Contains(text, "{") {
		return text
	}
	client := "127.0.0.1"
	if a := addrPort(s.conn.RemoteAddr()).Addr(); a.IsValid() {
		client = a.String()
	}
	return strings.NewReplacer("{date}", time.Now().Format(time.RFC1123Z), "{client}", client).Replace(text)
}

// handshake takes the connection into TLS. What the client sent before was
// in plain text and too early: it is counted and dropped (RFC 3207, 4.2).
func (s *session) handshake(o tlsOptions) bool {
	if s.r < s.w {
		s.r, s.w = 0, 0
	}
	cfg, err := s.z.tlsConfig(o)
	if err != nil {
		return false
	}
	conn := tls.Server(s.conn, cfg)
	if err := conn.Handshake(); err != nil {
		return false
	}
	s.conn = conn
	return true
}

// drain reads, and forgets, until the client leaves or the connection's time is up.
func (s *session) drain() {
	s.r, s.w = 0, 0
	for {
		if _, err := s.conn.Read(s.buf[:]); err != nil {
			return
		}
	}
}

// resetOnClose makes a TCP connection end by a reset instead of an orderly close.
func resetOnClose(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
}
