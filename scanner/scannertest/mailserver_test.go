package scannertest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A fakeTB is a test that writes down its faults, and ends when it is told to.
type fakeTB struct {
	faults []string
	clean  []func()
}

// A fatal is what Fatalf panics with.
type fatal string

func (f *fakeTB) Helper()           {}
func (f *fakeTB) Cleanup(do func()) { f.clean = append(f.clean, do) }
func (f *fakeTB) Errorf(format string, args ...any) {
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}
func (f *fakeTB) Fatalf(format string, args ...any) { panic(fatal(fmt.Sprintf(format, args...))) }

// end runs the clean-up and returns the faults.
func (f *fakeTB) end() string {
	for _, do := range f.clean {
		do()
	}
	return strings.Join(f.faults, "; ")
}

// calls plays a client: it sends each text after a line was received.
func calls(t *testing.T, addr netip.AddrPort, texts ...string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(conn)
	for _, text := range texts {
		r.ReadString('\n')
		io.WriteString(conn, text)
	}
	r.ReadString('\n')
}

const polite = `
	# a dialogue as in RFC 5321, D.1
	S: 220 mail.example.org ESMTP
	C: EHLO *
	S: 250 mail.example.org
	C: QUIT
	S: 221 Bye
`

func TestDialogue(t *testing.T) {
	tests := []struct {
		name, script string
		says         []string
		fault        string // begins with
	}{
		{"as written", polite, []string{"EHLO client.example.org\r\n", "QUIT\r\n"}, ""},
		{"another word", polite, []string{"HELO client.example.org\r\n"},
			`mail server: script line 4: the client sent "HELO client.example.org", want "EHLO *"`},
		{"leaves early", polite, []string{"EHLO client.example.org\r\n"}, `mail server: script line 6: want "QUIT", but:`},
		{"does not wait", "S: 220-one\n* wait 5s\nS: 220 two", []string{"EHLO a\r\n"},
			`mail server: script line 2: the client did not wait: it sent "EHLO a\r\n", or left`},
		{"waits", "S: 220 one\n* wait 20ms\nS: 250 two\nC: QUIT", []string{"", "QUIT\r\n"}, ""},
		{"closes", "S: 220 one\n* eof", nil, ""},
		{"talks, and should close", "S: 220 one\n* eof", []string{"QUIT\r\n"}, `mail server: script line 2: the client sent "QUIT\r\n", want it to leave`},
		{"is reset", "S: 220 one\nC: QUIT\n* reset", []string{"QUIT\r\n"}, ""},
		{"raw bytes", "S\\ \"220 \\x00\\n\"\nC: QUIT", []string{"QUIT\r\n"}, ""},
		{"plain text where a handshake should be", "S: 220 one\nC: STARTTLS\n* starttls", []string{"STARTTLS\r\nNOOP\r\n"},
			`mail server: script line 3: the client sent "NOOP\r\n" before the handshake`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var tb fakeTB
			calls(t, MailServer(&tb, test.script), test.says...)
			got := tb.end()
			if !strings.HasPrefix(got, test.fault) || (test.fault == "") != (got == "") {
				t.Errorf("fault %q, want %q", got, test.fault)
			}
		})
	}
}

func TestDialogueThatNobodyHeardIsAFault(t *testing.T) {
	var tb fakeTB
	MailServer(&tb, polite)
	if got := tb.end(); got != "mail server: nobody called" {
		t.Errorf("fault %q", got)
	}
}

func TestDialogueWithTLS(t *testing.T) {
	addr := MailServer(t, `
		S: 220 go ahead
		* starttls
		C: QUIT
		S: 221 Bye
		* eof
	`)
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "220 go ahead\r\n" {
		t.Fatal(line, err)
	}
	inside := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	io.WriteString(inside, "QUIT\r\n")
	if line, err := bufio.NewReader(inside).ReadString('\n'); line != "221 Bye\r\n" {
		t.Errorf("inside TLS: %q, %v", line, err)
	}
}

func TestScriptWithAMistakeIsRefused(t *testing.T) {
	for script, want := range map[string]string{
		"S: 220 x\n\nX: what": `mail server: script line 3: "X: what" is not a step: want S:, S\, C: or *`,
		"* wait long":         `mail server: script line 1: time: invalid duration "long"`,
		"* dance":             `mail server: script line 1: "* dance" is not a step: want S:, S\, C: or *`,
		"S\\ unquoted":        `mail server: script line 1: invalid syntax`,
	} {
		func() {
			defer func() {
				if got := recover(); got != fatal(want) {
					t.Errorf("%q: %v, want %q", script, got, want)
				}
			}()
			MailServer(&fakeTB{}, script)
		}()
	}
}

// FuzzParseScript sees that no script, however odd, does more than be refused.
func FuzzParseScript(f *testing.F) {
	for _, s := range []string{polite, "", "S\\ \"\\x00\"\n* eof", "S:", "C:\n*", "* wait 1h\n* starttls\n* reset", "S\\ '"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script string) {
		steps, err := parseScript(script)
		if err != nil {
			return
		}
		for i, st := range steps {
			if st.line < 1 || st.do == "" || i > 0 && st.do == "send" && steps[i-1].do == "send" {
				t.Errorf("step %d: %+v", i, st)
			}
		}
	})
}

// FuzzServers sends what a client should not to every server that reads.
func FuzzServers(f *testing.F) {
	for _, s := range []string{"EHLO a\r\nSTARTTLS\r\n\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "\n\n\r\n", "QUIT", strings.Repeat("x", 600), "EHLO\r\nHELO\r\nSTARTTLS\r\nMAIL\r\nQUIT\r\n"} {
		f.Add(s, uint8(0))
	}
	var serving []Behaviour
	for _, b := range Behaviours() {
		if b.Want.Service != "mute" && b.Want.Service != "tarpit" {
			serving = append(serving, b)
		}
	}
	z, err := Start(f.Context(), Config{GreetPause: time.Millisecond, Drip: time.Millisecond, Turn: -1, Life: 20 * time.Millisecond})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(z.Close)
	f.Fuzz(func(t *testing.T, said string, which uint8) {
		here, there := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			go io.WriteString(here, said)
			io.Copy(io.Discard, here)
		}()
		z.ServeConn(there, serving[int(which)%len(serving)])
		here.Close()
		<-done
	})
}
