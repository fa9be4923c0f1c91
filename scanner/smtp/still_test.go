package smtp_test

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A still is a connection before whose n-th read or write the process stands
// still for a while: the deadline passes, and what the peer sends lies there.
type still struct {
	net.Conn
	n       int
	pause   time.Duration
	happens *bool
}

func (s *still) stand() {
	if s.n--; s.n == 0 {
		*s.happens = true
		time.Sleep(s.pause)
	}
}

func (s *still) Read(p []byte) (int, error)  { s.stand(); return s.Conn.Read(p) }
func (s *still) Write(p []byte) (int, error) { s.stand(); return s.Conn.Write(p) }

// A program that was stopped (SIGSTOP, a suspended machine) in the middle of a
// conversation goes on with it, wherever that was and however long: the time is
// not the peer's.
func TestTimeInWhichWeStandStillIsNotThePeers(t *testing.T) {
	const script = `
		S: 220-mail.example.org ESMTP
		wait 2s
		S: 220 mail.example.org ESMTP
		C: EHLO client.example.org
		S: 250-mail.example.org
		S: 250 STARTTLS
		C: STARTTLS
		S: 220 go ahead
		TLS
		C: EHLO client.example.org
		S: 250-mail.example.org
		S: 250 SIZE 2000
		C: QUIT
		S: 221 bye`
	for _, c := range []struct {
		deadline, pause time.Duration
		script          string
	}{
		{0, 30 * time.Second, script},
		{0, time.Hour, script},
		{2 * time.Second, 3 * time.Second, strings.Replace(script, "wait 2s", "", 1)}, // a short one, at the end of a deadline
	} {
		places := 0
		for happens := true; happens; places++ {
			happens = false
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				server := &player{conn: theirs, tls: serverTLS(t)}
				go server.play(c.script) // ends with the pipe
				obs := &scanner.Observation{Target: port25, State: scanner.Open, Connected: time.Now(), At: time.Now()}
				p := client()
				p.Deadline = c.deadline
				s := p.Probe(t.Context(), &still{ours, places + 1, c.pause, &happens}, obs)
				ours.Close()
				if s.Kind != scanner.KindSMTP || s.Size != 2000 || s.TLS == nil || s.TLS.Err != "" || s.Err != "" {
					t.Errorf("%v before read or write %d: %q, size %d, TLS %+v, error %q\n%s", c.pause, places+1, s.Kind, s.Size, s.TLS, s.Err, transcript(s))
				}
				if s.GreetingIn > 7*time.Second || strings.Contains(strings.Join(s.Findings, ";"), "greeting-pause") {
					t.Errorf("%v before read or write %d: the greeting took %v", c.pause, places+1, s.GreetingIn)
				}
			})
		}
		if places < 12 {
			t.Errorf("the conversation has only %d places", places)
		}
	}
}

// Silence is silence all the same: a peer that never answers is given its time
// from when we are back, and no more.
func TestAMutePeerIsMuteThoughWeStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		happens := false
		start := time.Now()
		obs := &scanner.Observation{Target: port25, State: scanner.Open, Connected: start, At: start}
		s := client().Probe(t.Context(), &still{ours, 1, time.Minute, &happens}, obs)
		ours.Close()
		if took := time.Since(start); s.Kind != scanner.KindMute || took < 86*time.Second || took > 92*time.Second {
			t.Errorf("%q after %v, want mute after 30 s and the minute", s.Kind, took)
		}
	})
}
