package main

import (
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A serverLog is what a server says to syslog.
type serverLog struct {
	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed at the next line; nil if nobody waits
}

// collect listens where the server's syslog(3) sends to, until t ends.
func (g *serverLog) collect(t *testing.T, path string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		conn.Close()
		wg.Wait()
	})
	wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			g.add(string(buf[:n]))
		}
	})
}

// add adds one message, without its priority and time: "<22>Nov 21 10:00:00 exim4[7]: ...".
func (g *serverLog) add(line string) {
	if _, rest, ok := strings.Cut(line, ">"); ok && len(rest) > len(time.Stamp) {
		line = rest[len(time.Stamp)+1:]
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, strings.TrimRight(line, "\n"))
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// await returns the log when it is complete, or as it is after 20 s: servers
// write their last line when the client has gone already.
func (g *serverLog) await(complete func(lines []string) bool) []string {
	end := time.After(20 * time.Second)
	for {
		g.mu.Lock()
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed, lines := g.changed, slices.Clone(g.lines)
		g.mu.Unlock()
		if complete(lines) {
			return lines
		}
		select {
		case <-changed:
		case <-end:
			return lines
		}
	}
}

func (g *serverLog) all() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.lines)
}

// complaints are what servers log of clients without manners: that they spoke
// before the greeting or several commands at once, went without QUIT, hung, or came too
// often. Also what servers say of their own faults, so that no row rests on one.
var complaints = regexp.MustCompile(`(?i)pregreet|pipelin|synchroni|lost (connection|input)|hangup|time-?out|timed out|` +
	`too (many|fast)|rate limit|concurrency|non-?smtp|bare newline|command (count|length|time)|improper|unexpected|reject|refus|` +
	`attack|dropped|blocked|unrecognized|syntax|protocol (error|violation)|: --- [45]\d\d|warning|fatal|panic`)

// ownReply is a reply of success that Sendmail logs at this level; others are
// complaints.
var ownReply = regexp.MustCompile(`: --- 2\d\d[ -].*`)

// checkLog reads the log of a server: every conversation ended as it should,
// and nobody complains. conversations are their numbers by port.
func (s *mailServer) checkLog(t *testing.T, conversations map[string]int) {
	want := s.goodbyes(conversations)
	lines := s.log.await(func(lines []string) bool { return maps.Equal(countLines(lines, want), want) })
	if got := countLines(lines, want); !maps.Equal(got, want) {
		t.Errorf("lines in the log: got %v, want %v", got, want)
	}
	for _, line := range lines {
		if complaints.MatchString(ownReply.ReplaceAllString(line, "")) {
			t.Errorf("in the log: %s", line)
		}
	}
}

// goodbyes returns parts of lines that a server logs when a client leaves as
// RFC 5321 wants it, with their number in the whole log.
func (s *mailServer) goodbyes(n map[string]int) map[string]int {
	all, startTLS := n["25"]+n["465"]+n["587"], n["25"]+n["587"]
	switch s.name {
	case "postfix":
		return map[string]int{": connect from ": all, ": disconnect from ": all,
			" ehlo=2 starttls=1 quit=1 commands=4": startTLS, " ehlo=1 quit=1 commands=2": n["465"]}
	case "postscreen":
		return map[string]int{": CONNECT from ": n["25"], ": PASS NEW ": n["25"],
			": disconnect from ": n["25"], " ehlo=2 starttls=1 quit=1 commands=4": n["25"]}
	case "deepscreen": // and its tlsproxy, which is not told where the connection leads to
		return map[string]int{" to [": n["25"], ": CONNECT from [": 2 * n["25"], ": DISCONNECT [": 2 * n["25"]}
	case "exim":
		return map[string]int{"(TCP/IP connection count": all, "closed by QUIT": all,
			"C=EHLO,STARTTLS,EHLO,QUIT": startTLS, "C=EHLO,QUIT": n["465"]}
	case "sendmail":
		return map[string]int{": connect from ": all, ": <-- EHLO ": all + startTLS, ": <-- STARTTLS": startTLS, ": <-- QUIT": all,
			"STARTTLS=server, relay=": all}
	}
	// OpenSMTPD notes its own fault, an error of its TLS library, for every TLS session.
	return map[string]int{" smtp connected ": all, " smtp disconnected ": all, "disconnected reason=quit": n["25"],
		`disconnected reason="io-error: error:`: n["465"] + n["587"]}
}

// countLines counts the lines that have each part.
func countLines(lines []string, parts map[string]int) map[string]int {
	n := make(map[string]int, len(parts))
	for part := range parts {
		n[part] = 0
		for _, line := range lines {
			if strings.Contains(line, part) {
				n[part]++
			}
		}
	}
	return n
}
