package smtp

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// greeting reads the first reply to its last line, with the pauses that servers
// make on purpose, and reports whether the peer speaks SMTP.
func (s *session) greeting() bool {
	r, err := s.firstReply()
	s.svc.Banner, s.svc.Code = r.joined(maxBanner), r.code
	if len(r.lines) > 0 && maskedBanner(r.lines[0]) {
		s.find(bannerMasked)
	}
	switch name := classify(s.in.head); {
	case name == protoTLS:
		s.svc.Kind, s.svc.Code = scanner.KindWrongMode, 0
		s.svc.Err = "TLS where plain text was expected"
		return false
	case name != "":
		s.other(name, "instead of SMTP")
		if name != "FTP" && name != "NNTP" { // those know QUIT
			return false
		}
		return err == nil
	case err != nil:
		s.noGreeting(err)
		return false
	}
	s.greeted(&r)
	return r.class() != 3
}

// other notes that another protocol answers, by its name if the program does not
// say its own.
func (s *session) other(name, instead string) {
	s.svc.Kind, s.svc.Err = scanner.KindOther, name+" "+instead
	s.svc.Software = cmp.Or(Software(string(s.svc.Banner), s.svc.Code, "", nil, nil), name)
}

// firstReply reads the greeting. Its first line must be of a reply: anything
// else is another protocol, and nothing is gained by waiting for more of it.
func (s *session) firstReply() (r reply, err error) {
	for {
		line, err := s.in.line()
		if err != nil {
			return s.cut(r, line, err)
		}
		last := r.add(s.log.add('S', line))
		s.heard = s.tls != nil
		switch {
		case last:
			return r, nil
		case r.code == 0:
			return r, errNotReply
		}
	}
}

// greeted judges a complete greeting.
func (s *session) greeted(r *reply) {
	pause := time.Since(s.connected) - s.w.queued
	s.svc.GreetingIn = pause
	if pause > longPause {
		s.find(greetingPause)
	}
	switch r.class() {
	case 2:
		s.svc.Kind = scanner.KindSMTP
	case 3: // nobody greets so
		s.svc.Kind, s.svc.Err = scanner.KindOther, fmt.Sprintf("greeted with %d", r.code)
		s.find(replyMalformed)
		return
	default:
		s.svc.Kind = scanner.KindRefusing
	}
	// postscreen's teaser is a 220-, and its verdict may be a 521: no fault.
	teaser := r.class() > 3 && bytes.HasPrefix(r.lines[0], []byte("220-"))
	if r.malformed && !teaser {
		s.find(replyMalformed)
	}
}

// noGreeting says why there is no complete greeting.
func (s *session) noGreeting(err error) {
	s.lost = true
	if isTimeout(err) || errors.Is(err, errDrip) {
		s.resetAtClose()
	}
	if s.interrupted() {
		return
	}
	waited := seconds(time.Since(s.connected) - s.w.queued)
	began := len(s.in.head) > 0
	switch {
	case s.turnedAway(err):
		s.alerted(err)
	case s.tls != nil && isFault(err):
		s.broke(err, "before a greeting")
	case errors.Is(err, errNotReply):
		s.svc.Kind, s.svc.Err = scanner.KindOther, "what came is not an SMTP greeting"
		s.find(replyMalformed)
	case errors.Is(err, errTooLong), errors.Is(err, errTooMuch):
		s.svc.Kind, s.svc.Err = scanner.KindTarpit, "the greeting never ends: "+err.Error()
		s.find(bannerTooLong)
	case errors.Is(err, errDrip), isTimeout(err) && began:
		s.svc.Kind, s.svc.Err = scanner.KindTarpit, "the greeting did not end in "+waited
	case isTimeout(err):
		s.svc.Kind, s.svc.Err = scanner.KindMute, "no greeting in "+waited
	case began:
		s.svc.Kind, s.svc.Err = scanner.KindClosing, "the peer "+closing(err)+" in the middle of its greeting"
	default:
		s.svc.Kind, s.svc.Err = scanner.KindClosing, "the peer "+closing(err)+" before a greeting"
	}
	s.log.remark(s.svc.Err)
}
