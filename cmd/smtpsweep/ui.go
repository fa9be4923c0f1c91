package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/muesli/termenv"
	"golang.org/x/term"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/egress/policy"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A ui is the only code that writes to the terminal. stdout (out) is the
// report and nothing else; everything for the person goes to stderr (err).
type ui struct {
	in       io.Reader
	out      io.Writer
	err      io.Writer
	outTTY   bool
	errTTY   bool
	outWidth int  // columns of the terminal; 0 if stdout is none
	outColor bool // stdout is a terminal that can show colours
	quiet    bool
	verbose  bool
	noColor  bool

	mu    sync.Mutex // guards following
	above io.Writer  // the lines above the progress line; nil if there is none
}

func newUI(in io.Reader, out, err io.Writer) *ui {
	u := &ui{in: in, out: stdout{out}, err: err}
	u.outTTY, u.outWidth = terminal(out)
	u.outColor = u.outTTY && termenv.NewOutput(out).EnvColorProfile() != termenv.Ascii
	u.errTTY, _ = terminal(err)
	return u
}

// A stdout says of its errors what they are about: whoever passes them on need not.
type stdout struct{ io.Writer }

func (w stdout) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = outputError("stdout", err)
	}
	return n, err
}

func terminal(w io.Writer) (bool, int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false, 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 80
	}
	return true, width
}

// color reports whether stdout is to be coloured: a terminal that can, and
// nobody said no (https://no-color.org).
func (u *ui) color() bool {
	return u.outColor && !u.noColor && os.Getenv("NO_COLOR") == ""
}

// sayAbove has all lines go above a progress line from now on; nil ends that.
func (u *ui) sayAbove(w io.Writer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.above = w
}

// print prints a line for the person. What is put into it is made safe: a name
// may have escape codes in it.
func (u *ui) print(format string, args ...any) {
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = oneLine(arg)
		case error:
			args[i] = oneLine(arg.Error())
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	w := u.err
	if u.above != nil {
		w = u.above
	}
	fmt.Fprintf(w, format+"\n", args...)
}

// say prints a line for the person, unless --quiet.
func (u *ui) say(format string, args ...any) {
	if !u.quiet {
		u.print(format, args...)
	}
}

// exit prints what went wrong, one sentence and perhaps a hint, and returns the
// exit code.
func (u *ui) exit(err error) int {
	if err == nil {
		return exitDone
	}
	var silent silentExit
	if errors.As(err, &silent) {
		return int(silent)
	}
	code, hint := exitUsage, ""
	var coded *codedError
	if errors.As(err, &coded) {
		code, hint = coded.code, coded.hint
	}
	if errors.Is(err, syscall.EPIPE) { // a reader that has enough is no error
		if hint != "" {
			u.say("stdout was closed; %s", hint)
		}
		return exitPipe
	}
	u.printError(err)
	if hint != "" {
		u.print("smtpsweep: hint: %s", hint)
	}
	return code
}

// printError prints an error, the mistakes of a list one by one.
func (u *ui) printError(err error) {
	var file *policy.FileError
	if errors.As(err, &file) {
		for _, line := range file.Lines() {
			u.print("smtpsweep: %s", line)
		}
		return
	}
	var list *targets.ListError
	if !errors.As(err, &list) {
		u.print("smtpsweep: %s", err)
		return
	}
	for _, mistake := range list.Mistakes {
		u.print("smtpsweep: %s", mistake)
	}
	if rest := list.Rest(); rest != "" {
		u.print("smtpsweep: %s", rest)
	}
}

// oneLine makes a message safe for the terminal: it may quote what a file, a
// server or a resolver said.
func oneLine(s string) string {
	return report.Clean(strings.ReplaceAll(strings.Trim(s, "\n"), "\n", "; "))
}

// clip shortens what the user typed for a message.
func clip(s string) string {
	if len(s) <= 80 {
		return s
	}
	cut := 77
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// shellWord quotes a word where a shell would read it as more than that, so that
// a command that is said can be copied.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@%+,=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	if report.Clean(s) == s {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder // what a terminal must not see; sh of POSIX 2024, bash, zsh and ksh read this
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\'' || c == '\\' {
			fmt.Fprintf(&b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return "$'" + b.String() + "'"
}
