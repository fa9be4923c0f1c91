package scannertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A TB is what this package needs of a testing.TB. It is an interface of its
// own so that a program can use a zoo without the package testing.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

const (
	patience = 30 * time.Second // how long a dialogue lasts at most
	grace    = 5 * time.Second  // how long a client has to leave when the test is over
)

// MailServer plays the server's part of a dialogue on a loopback port until
// the test ends, once for every connection, and fails the test where a client
// departs from its part, or if nobody played the dialogue to its end.
//
//	S: 220 mail.example.org ESMTP     sent with CRLF; lines that follow one another leave in one segment
//	C: EHLO *                         the line that must come now; a final * stands for anything
//	S\ "250-half a line\x00"          sent as it is; a Go string literal
//	* wait 50ms                       the client must be silent for so long; also parts two segments
//	* starttls                        TLS handshake, with a good certificate of a zoo of its own
//	* eof                             the client must close the connection now
//	* reset                           the connection ends by a reset
//
// At the end of the script the server closes the connection. Empty lines and
// lines that begin with # mean nothing.
func MailServer(tb TB, script string) netip.AddrPort {
	tb.Helper()
	steps, err := parseScript(script)
	if err != nil {
		tb.Fatalf("mail server: %v", err)
	}
	z, err := Start(context.Background(), Config{Life: patience})
	if err != nil {
		tb.Fatalf("mail server: %v", err)
	}
	d := &dialogue{steps: steps}
	addr, err := z.Listen("127.0.0.1:0", Behaviour{Name: "dialogue", Serve: d.serve})
	if err != nil {
		tb.Fatalf("mail server: %v", err)
	}
	tb.Cleanup(func() {
		z.closeWithin(grace)
		if err := d.verdict(); err != nil {
			tb.Errorf("mail server: %v", err)
		}
	})
	return addr
}

// A step is one line of a script, or several that are sent together.
type step struct {
	line int    // in the script, from 1
	do   string // "send", "expect", "wait", "starttls", "eof", "reset"
	text string // what to send, or the line to expect
	wait time.Duration
}

// parseScript reads a script.
func parseScript(script string) ([]step, error) {
	var steps []step
	for i, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		st, err := parseStep(line)
		if err != nil {
			return nil, fmt.Errorf("script line %d: %w", i+1, err)
		}
		st.line = i + 1
		if last := len(steps) - 1; st.do == "send" && last >= 0 && steps[last].do == "send" {
			steps[last].text += st.text
			continue
		}
		steps = append(steps, st)
	}
	return steps, nil
}

// parseStep reads one line of a script.
func parseStep(line string) (step, error) {
	who, text, _ := strings.Cut(line, " ")
	text = strings.TrimSpace(text)
	switch who {
	case "S:":
		return step{do: "send", text: text + "\r\n"}, nil
	case "S\\":
		raw, err := strconv.Unquote(text)
		return step{do: "send", text: raw}, err
	case "C:":
		return step{do: "expect", text: text}, nil
	case "*":
		if d, ok := strings.CutPrefix(text, "wait "); ok {
			wait, err := time.ParseDuration(d)
			return step{do: "wait", wait: wait}, err
		}
		if text == "starttls" || text == "eof" || text == "reset" {
			return step{do: text}, nil
		}
	}
	return step{}, fmt.Errorf("%q is not a step: want S:, S\\, C: or *", line)
}

// A dialogue is played to every client, and remembers how it went.
type dialogue struct {
	steps []step

	mu     sync.Mutex
	played int     // connections that came to the end
	faults []error // where others departed from the script
}

// serve plays the dialogue to one client.
func (d *dialogue) serve(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	var err error
	for _, st := range d.steps {
		if err = s.play(st); err != nil {
			err = fmt.Errorf("script line %d: %w", st.line, err)
			break
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.faults = append(d.faults, err)
		return
	}
	d.played++
}

// verdict says how the dialogue went, over all connections.
func (d *dialogue) verdict() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.played == 0 && len(d.faults) == 0 {
		return errors.New("nobody called")
	}
	return errors.Join(d.faults...)
}

// play does one step.
func (s *session) play(st step) error {
	switch st.do {
	case "send":
		if !s.write(st.text) {
			return errors.New("the client left while it was talked to")
		}
	case "expect":
		return s.expect(st.text)
	case "wait":
		if t := s.listen(st.wait); t != quiet {
			return fmt.Errorf("the client did not wait: it sent %q, or left", s.buf[s.r:s.w])
		}
	case "starttls":
		if s.r < s.w {
			return fmt.Errorf("the client sent %q before the handshake", s.buf[s.r:s.w])
		}
		if !s.handshake(tlsOptions{}) {
			return errors.New("the TLS handshake failed")
		}
	case "eof":
		return s.expectEOF()
	case "reset":
		resetOnClose(s.raw)
	}
	return nil
}

// expect reads the line that must come now, and sees that none came with it.
func (s *session) expect(want string) error {
	line, err := s.readLine()
	if err != nil {
		return fmt.Errorf("want %q, but: %w", want, err)
	}
	prefix, wild := strings.CutSuffix(want, "*")
	if line != want && !(wild && strings.HasPrefix(line, prefix)) {
		return fmt.Errorf("the client sent %q, want %q", line, want)
	}
	return nil
}

// expectEOF sees that the client closes the connection, in whatever way.
func (s *session) expectEOF() error {
	if s.r < s.w {
		return fmt.Errorf("the client sent %q, want it to leave", s.buf[s.r:s.w])
	}
	n, err := s.conn.Read(s.buf[:])
	switch {
	case n > 0:
		return fmt.Errorf("the client sent %q, want it to leave", s.buf[:n])
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
		return errors.New("the client stayed, want it to leave")
	case err == nil:
		return io.ErrNoProgress
	}
	return nil
}
