package smtp

import (
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

const (
	maxLine    = 2048 // bytes kept of a line; RFC 5321, 4.5.3.1.5 allows 512
	maxBanner  = 4096 // bytes kept of the first reply
	arenaChunk = 1024 // a usual conversation has fewer bytes
)

// A transcript keeps the lines of a conversation, both ways. What the peer says
// is bounded by the reader, what we say by us.
type transcript struct {
	start time.Time // when the connection was established
	lines []scanner.Line
	arena []byte // lines are cut from it, so that a conversation is few allocations
}

// add appends a copy of a line and returns the copy.
func (t *transcript) add(from byte, text []byte) []byte {
	if len(text) > maxLine {
		text = text[:maxLine]
	}
	if len(text) > cap(t.arena)-len(t.arena) {
		t.arena = make([]byte, 0, max(arenaChunk, len(text)))
	}
	n := len(t.arena)
	t.arena = append(t.arena, text...)
	kept := t.arena[n:len(t.arena):len(t.arena)]
	if t.lines == nil {
		t.lines = make([]scanner.Line, 0, 24)
	}
	t.lines = append(t.lines, scanner.Line{At: time.Since(t.start), From: from, Text: kept})
	return kept
}

// remark adds a remark of ours.
func (t *transcript) remark(text string) { t.add('*', []byte(text)) }
