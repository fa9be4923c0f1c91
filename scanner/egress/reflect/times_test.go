package reflect

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// These tests run on a clock that jumps when all wait.

// inSession holds a session with a far end over a pipe, and returns how the session
// ended and how long it lasted.
func inSession(t *testing.T, client func(conn net.Conn, in *bufio.Reader)) (end string, lasted time.Duration) {
	t.Helper()
	srv := &Server{Key: fuzzKey, Name: "far.example.org"}
	if err := srv.prepare(); err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	s := newSession(srv, far, false)
	done := make(chan struct{})
	began := time.Now()
	go func() { // ends with the session
		defer close(done)
		s.run()
		lasted = time.Since(began)
	}()
	in := bufio.NewReader(near)
	in.ReadString('\n') // the greeting
	client(near, in)
	go io.Copy(io.Discard, near) // ends with the session
	<-done
	near.Close()
	return s.end, lasted
}

func TestSessionsEndInTime(t *testing.T) {
	t.Parallel()
	nonce := strings.Repeat("A", 43)
	for _, c := range []struct {
		name   string
		client func(net.Conn, *bufio.Reader)
		want   time.Duration
	}{
		{"says nothing", func(net.Conn, *bufio.Reader) {}, waitTime},
		{"begins a line", func(c net.Conn, _ *bufio.Reader) { io.WriteString(c, "EHL") }, lineTime},
		{"drips", func(c net.Conn, _ *bufio.Reader) {
			for range 1000 {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(10 * time.Second) // on a clock that jumps
			}
		}, lineTime},
		{"speaks now and then", func(c net.Conn, in *bufio.Reader) {
			for {
				if _, err := io.WriteString(c, "NOOP\r\n"); err != nil {
					return
				}
				in.ReadString('\n')
				time.Sleep(30 * time.Second) // on a clock that jumps
			}
		}, totalTime},
		{"does not begin its handshake", func(c net.Conn, in *bufio.Reader) {
			io.WriteString(c, "STARTTLS\r\n")
			in.ReadString('\n')
		}, tlsTime},
		{"does not read", func(c net.Conn, _ *bufio.Reader) {
			io.WriteString(c, "NOOP\r\n")
			time.Sleep(2 * writeTime) // on a clock that jumps
		}, writeTime},
		{"is an auditor, and quiet for an hour", func(c net.Conn, in *bufio.Reader) {
			io.WriteString(c, "NOOP XREFLECT "+nonce+" 1\r\n")
			for line := "250-"; strings.HasPrefix(line, "250-"); {
				line, _ = in.ReadString('\n')
			}
			time.Sleep(time.Hour) // on a clock that jumps
			io.WriteString(c, "NOOP\r\n")
			if line, err := in.ReadString('\n'); !strings.HasPrefix(line, "250 ") {
				t.Errorf("after an hour: %q, %v", line, err)
			}
		}, time.Hour + auditIdle},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end, lasted := inSession(t, c.client)
				if lasted != c.want || !strings.Contains(end, "nothing came in time") {
					t.Errorf("it lasted %v and ended: %s; want %v, and that nothing came in time", lasted, end, c.want)
				}
			})
		})
	}
}
