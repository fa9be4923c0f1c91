package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/muesli/termenv"
	"golang.org/x/term"

	"github.com/smtpsweep/smtpsweep/report"
)

// A ui is the only code that writes to the terminal. stdout (out) is the
// report and nothing else; everything for the person goes to stderr (err).
type ui struct {
	in       io.Reader
	out      io.Writer
	err      io.Writer
	outTTY   bool
	errTTY   bool
	outWidth int // columns of the terminal; 0 if stdout is none
	quiet    bool
	verbose  bool
	noColor  bool
}

func newUI(in io.Reader, out, err io.Writer) *ui {
	u := &ui{in: in, out: out, err: err}
	u.outTTY, u.outWidth = terminal(out)
	u.errTTY, _ = terminal(err)
	return u
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
	if u.noColor || os.Getenv("NO_COLOR") != "" || !u.outTTY {
		return false
	}
	return termenv.NewOutput(u.out).EnvColorProfile() != termenv.Ascii
}

// say prints a line for the person, unless --quiet.
func (u *ui) say(format string, args ...any) {
	if !u.quiet {
		fmt.Fprintf(u.err, format+"\n", args...)
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
			u.say("stdout was closed; %s", oneLine(hint))
		}
		return exitPipe
	}
	fmt.Fprintf(u.err, "smtpsweep: %s\n", oneLine(err.Error()))
	if hint != "" {
		fmt.Fprintf(u.err, "smtpsweep: hint: %s\n", oneLine(hint))
	}
	return code
}

// oneLine makes a message safe for the terminal: it may quote what a file, a
// server or a resolver said.
func oneLine(s string) string {
	return report.Clean(strings.TrimSpace(strings.ReplaceAll(s, "\n", "; ")))
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
