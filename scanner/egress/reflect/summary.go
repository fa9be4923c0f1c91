package reflect

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

const (
	maxSummaryLines = 200
	maxSummary      = 48 << 10 // bytes of the JSON
	summaryChunk    = 400      // characters of base64 in a line
)

// Why a summary is not taken.
var (
	// ErrNoSummary: the reply is another.
	ErrNoSummary = errors.New("the answer is no summary")
	// ErrTruncated: lines are missing, or are not what a summary consists of.
	ErrTruncated = errors.New("the summary is not whole")
	// ErrForged: the signature is not by the far end's key.
	ErrForged = errors.New("the summary is not signed by the far end's key, or was altered")
	// ErrReplayed: it is signed, and of another session or of another request.
	ErrReplayed = errors.New("the summary is signed, and is of another session or request")
)

// A Summary is what a far end saw of a session so far.
type Summary struct {
	Version int    `json:"v"`
	Auditor string `json:"auditor"` // nonce
	FarEnd  string `json:"far_end"` // nonce, as in the greeting
	Seq     int    `json:"seq"`     // of the request in this session, from 1

	Source netip.AddrPort `json:"source"`         // of the connection, as it came in
	Local  netip.AddrPort `json:"local"`          // our own end of it
	SYN    *SYN           `json:"syn,omitempty"`  // nil where the kernel does not keep it
	RTTus  int64          `json:"rtt_us"`         // least round trip so far, in µs; 0 if not known
	Bytes  Tallies        `json:"bytes"`          // up to and with the request
	Talk   []Exchange     `json:"talk,omitempty"` // the last is the request
	Cut    bool           `json:"cut,omitempty"`  // there were more than are listed
	TLS    TLSSeen        `json:"tls"`

	Earlier      *Earlier   `json:"earlier,omitempty"` // valid iff it was asked for
	Reverse      []Reversed `json:"reverse,omitempty"` // one a port that was asked for
	ReverseError string     `json:"reverse_error,omitempty"`
}

// TLSSeen is what a far end saw of TLS.
type TLSSeen struct {
	Asked    bool   `json:"asked,omitempty"`    // STARTTLS came, or the port begins with TLS
	Injected int    `json:"injected,omitempty"` // bytes that came with STARTTLS, before the answer; discarded
	Hello    string `json:"hello,omitempty"`    // SHA-256 of the ClientHello; empty if none came whole
	Done     bool   `json:"done,omitempty"`     // the handshake stands
	Version  uint16 `json:"version,omitempty"`  // crypto/tls's number
	Cipher   uint16 `json:"cipher,omitempty"`   // crypto/tls's number
	Cert     string `json:"cert,omitempty"`     // SHA-256 of the certificate that was sent
	Err      string `json:"error,omitempty"`    // why the handshake failed
}

// An Earlier is what became of a session that broke off, or that seems so to its auditor.
type Earlier struct {
	Found   bool           `json:"found"`           // else nothing is known of it
	Source  netip.AddrPort `json:"source,omitzero"` // as it came in
	Open    bool           `json:"open,omitempty"`  // it is still there, as far as the far end can tell
	End     string         `json:"end,omitempty"`   // how it ended
	Command []byte         `json:"last,omitempty"`  // the last that came, at most 200 bytes of it
	Count   int            `json:"count,omitempty"` // commands that came
	Bytes   Tallies        `json:"bytes"`
	TLS     TLSSeen        `json:"tls"`
}

// A Reversed is one of our own ports, as the far end found it.
type Reversed struct {
	Port     uint16 `json:"port"`
	State    string `json:"state"`              // open, closed or filtered, as in a row
	Err      string `json:"error,omitempty"`    // what the connection failed with
	Greeting []byte `json:"greeting,omitempty"` // first line, at most 200 bytes
}

// encodeSummary returns the lines of a summary, without codes.
func encodeSummary(s *Summary, key ed25519.PrivateKey) ([]string, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if len(text) > maxSummary {
		return nil, fmt.Errorf("a summary of %d bytes", len(text))
	}
	signature := ed25519.Sign(key, append([]byte(summaryContext), text...))
	var lines []string
	for rest := base64.StdEncoding.EncodeToString(text); rest != ""; {
		n := min(len(rest), summaryChunk)
		lines = append(lines, rest[:n])
		rest = rest[n:]
	}
	return append(lines, base64.StdEncoding.EncodeToString(signature)), nil
}

// decodeSummary reads the lines of a reply, without codes, and takes the summary
// only if the pinned key signed it for this session and request.
func decodeSummary(lines [][]byte, pin Pin, auditor string, seq int) (*Summary, error) {
	if len(lines) < 2 || len(lines) > maxSummaryLines {
		return nil, ErrNoSummary
	}
	last := len(lines) - 1
	encoded := bytes.Join(lines[:last], nil)
	if base64.StdEncoding.DecodedLen(len(encoded)) > maxSummary+2 {
		return nil, ErrNoSummary
	}
	text, err := base64.StdEncoding.Strict().AppendDecode(nil, encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: it is not base64", ErrTruncated)
	}
	signature, err := base64.StdEncoding.Strict().AppendDecode(nil, lines[last])
	if err != nil || len(signature) != ed25519.SignatureSize {
		return nil, fmt.Errorf("%w: its signature is missing", ErrTruncated)
	}
	if !ed25519.Verify(pin[:], append([]byte(summaryContext), text...), signature) {
		return nil, ErrForged
	}
	s := new(Summary)
	if err := json.Unmarshal(text, s); err != nil || s.Version != 1 {
		return nil, fmt.Errorf("the far end speaks another version of the protocol: use the same smtpsweep at both ends")
	}
	if s.Auditor != auditor || s.Seq != seq {
		return nil, fmt.Errorf("%w (it is number %d for %.8s, asked for was number %d for %.8s)", ErrReplayed, s.Seq, s.Auditor, seq, auditor)
	}
	return s, nil
}
