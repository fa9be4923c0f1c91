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

// at fills in the place of an error made by a parser that does not know it.
func at(err error, where string) error {
	switch e := err.(type) {
	case *SpecError:
		e.Where = where
	case *RefusedError:
		e.Where = where
	}
	return err
}
