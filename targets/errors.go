package targets

import (
	"errors"
	"strconv"
	"strings"
)

// ErrNothingLeft says that the exclusions took away every target. Exit code 2.
var ErrNothingLeft = errors.New("nothing left to scan: every target is excluded")

// A SpecError says what is wrong with something the user wrote: a target, an
// exclusion, a port list, a shard. Exit code 2, nothing was sent.
type SpecError struct {
	Where  string // "hosts.txt:7", or empty if it was typed on the command line
	What   string // "target", "exclusion", "ports", "shard"
	Spec   string // the part in question, as written; may be empty
	Reason string // what is wrong
	Hint   string // what to write instead; may be empty
}

// Error returns where, what and why in one line, and what to do.
func (e *SpecError) Error() string {
	return sentence(e.Where, "bad "+e.What, e.Spec, e.Reason, e.Hint)
}

// A RefusedError says that targets are well written and will not be probed:
// special addresses, or too many. Exit code 6, nothing was sent.
type RefusedError struct {
	Where  string // as in SpecError
	Spec   string // the target as written; empty if it is about all of them
	Reason string
	Hint   string
}

// Error returns where, what and why in one line, and what to do.
func (e *RefusedError) Error() string {
	return sentence(e.Where, "refused", e.Spec, e.Reason, e.Hint)
}

func sentence(where, what, spec, reason, hint string) string {
	var b strings.Builder
	if where != "" {
		b.WriteString(where + ": ")
	}
	b.WriteString(what)
	if spec != "" {
		b.WriteString(" " + quote(spec))
	}
	b.WriteString(": " + reason)
	if hint != "" {
		b.WriteString("; " + hint)
	}
	return b.String()
}

// quote makes foreign text safe and short enough for one line of an error.
func quote(s string) string {
	const most = 80 // what a person can still compare with the input
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return strconv.QuoteToGraphic(s)
}

// maxMistakes is how many mistakes of a list are told. What follows is counted up
// to maxMore, where reading ends: the list may have no end.
const (
	maxMistakes = 10
	maxMore     = 1000
)

// A ListError says what is wrong with a list, if it is more than one thing.
type ListError struct {
	Mistakes []error // the first ones, *SpecError and *RefusedError with their places
	more     int     // how many follow
}

// Error returns the mistakes, a line each.
func (e *ListError) Error() string {
	var lines []string
	for _, err := range e.Mistakes {
		lines = append(lines, err.Error())
	}
	if rest := e.Rest(); rest != "" {
		lines = append(lines, rest)
	}
	return strings.Join(lines, "\n")
}

// Rest says how many mistakes there are beyond those of Mistakes: "and 3 more",
// or nothing.
func (e *ListError) Rest() string {
	switch e.more {
	case 0:
		return ""
	case maxMore:
		return "and " + strconv.Itoa(maxMore) + " more at least: the rest was not read"
	}
	return "and " + strconv.Itoa(e.more) + " more"
}

// Unwrap returns the mistakes.
func (e *ListError) Unwrap() []error { return e.Mistakes }

// add takes a mistake, and fills in its place.
func (e *ListError) add(err error, where string) {
	if len(e.Mistakes) == maxMistakes {
		e.more++
		return
	}
	switch e := err.(type) {
	case *SpecError:
		e.Where = where
	case *RefusedError:
		e.Where = where
	}
	e.Mistakes = append(e.Mistakes, err)
}

// err returns nil if there is no mistake, and a single one as it is.
func (e *ListError) err() error {
	switch len(e.Mistakes) {
	case 0:
		return nil
	case 1:
		return e.Mistakes[0]
	}
	return e
}
