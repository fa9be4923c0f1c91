package reflect

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

const (
	maxExchanges = 32      // that a summary lists; an auditor's session has some 15
	maxTalk      = 4 << 10 // bytes of text in them
	maxCommand   = 200     // bytes of a command that it lists
	maxReply     = 1200    // bytes of a reply that it lists
)

// An Exchange is a command and its reply, as one end saw them. The greeting is
// the reply to an empty command.
type Exchange struct {
	// Command is the line without its end, at most 200 bytes of it.
	Command []byte `json:"command,omitempty"`
	// Length is that of the whole line, its end included.
	Length int `json:"length,omitempty"`
	// Reply is what was sent or came, lines joined by LF without CR; at most
	// 1,200 bytes. It is empty for a reply that is a summary.
	Reply []byte `json:"reply,omitempty"`
	// TLS says that the command came inside TLS.
	TLS bool `json:"tls,omitempty"`
	// Summary says that the reply is a summary, whole or not.
	Summary bool `json:"summary,omitempty"`
}

// newExchange notes a command of so many bytes, its end included.
func newExchange(line []byte, length int, inTLS bool) Exchange {
	return Exchange{Command: append([]byte(nil), line[:min(len(line), maxCommand)]...), Length: length, TLS: inTLS}
}

// answer notes the reply.
func (e *Exchange) answer(reply []byte) {
	e.Reply = append([]byte(nil), reply[:min(len(reply), maxReply)]...)
}

// A Tally is how many bytes went one way, and their SHA-256.
type Tally struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// A tally counts and hashes as bytes pass.
type tally struct {
	bytes int64
	hash  hash.Hash // nil until something passed
}

func (t *tally) add(p []byte) {
	if t.hash == nil {
		t.hash = sha256.New()
	}
	t.bytes += int64(len(p))
	t.hash.Write(p)
}

// sum returns what passed so far.
func (t *tally) sum() Tally {
	if t.hash == nil {
		t.hash = sha256.New()
	}
	return Tally{Bytes: t.bytes, SHA256: hex.EncodeToString(t.hash.Sum(nil))}
}

// tallies are the four ways of a session: to the far end and back, in the clear
// and inside TLS. Replies that are summaries are not counted.
type tallies struct{ upClear, upTLS, downClear, downTLS tally }

func (t *tallies) up(inTLS bool, p []byte)   { choose(inTLS, &t.upTLS, &t.upClear).add(p) }
func (t *tallies) down(inTLS bool, p []byte) { choose(inTLS, &t.downTLS, &t.downClear).add(p) }

func (t *tallies) sums() Tallies {
	return Tallies{UpClear: t.upClear.sum(), UpTLS: t.upTLS.sum(), DownClear: t.downClear.sum(), DownTLS: t.downTLS.sum()}
}

func choose(first bool, a, b *tally) *tally {
	if first {
		return a
	}
	return b
}

// Tallies are the bytes of a session, each way. Those of one end equal those of
// the other if and only if nothing was altered.
type Tallies struct {
	UpClear   Tally `json:"up_clear"`   // to the far end
	UpTLS     Tally `json:"up_tls"`     // to the far end, inside TLS
	DownClear Tally `json:"down_clear"` // back
	DownTLS   Tally `json:"down_tls"`   // back, inside TLS
}
