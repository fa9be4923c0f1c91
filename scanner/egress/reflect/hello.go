package reflect

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// maxHello bounds a ClientHello; crypto/tls takes one of 64 KiB.
const maxHello = 64 << 10

// A helloHash hashes the first handshake message of a stream of TLS records
// (RFC 8446, 4 and 5.1), which is the ClientHello, as its bytes pass. It is the
// same however the message is cut into records.
type helloHash struct {
	hash   hash.Hash
	header []byte // of the record begun, at most 5 bytes
	record int    // bytes left of the record
	begin  []byte // of the message: type and length, at most 4 bytes
	left   int    // bytes left of the message; valid when begin is whole
	size   int    // bytes hashed
	state  helloState
}

type helloState uint8

const (
	helloOpen  helloState = iota
	helloDone             // the message is whole
	helloOther            // this is not a ClientHello
)

// Write takes bytes of the stream. It never fails.
func (h *helloHash) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && h.state == helloOpen {
		if h.record == 0 {
			p = h.readHeader(p)
			continue
		}
		part := p[:min(len(p), h.record)]
		h.record -= len(part)
		p = p[len(part):]
		h.message(part)
	}
	return n, nil
}

// readHeader takes bytes of a record's header.
func (h *helloHash) readHeader(p []byte) (rest []byte) {
	part := p[:min(len(p), 5-len(h.header))]
	h.header = append(h.header, part...)
	if len(h.header) == 5 {
		const handshake = 22
		h.record = int(h.header[3])<<8 | int(h.header[4])
		if h.header[0] != handshake || h.header[1] != 3 || h.record == 0 {
			h.state = helloOther
		}
		h.header = h.header[:0]
	}
	return p[len(part):]
}

// message takes bytes of the message.
func (h *helloHash) message(p []byte) {
	if h.hash == nil {
		h.hash = sha256.New()
	}
	for len(p) > 0 && len(h.begin) < 4 {
		h.begin = append(h.begin, p[0])
		h.hash.Write(p[:1])
		h.size++
		p = p[1:]
		if len(h.begin) == 4 {
			const clientHello = 1
			h.left = int(h.begin[1])<<16 | int(h.begin[2])<<8 | int(h.begin[3])
			if h.begin[0] != clientHello || h.left > maxHello {
				h.state = helloOther
				return
			}
		}
	}
	part := p[:min(len(p), h.left)]
	h.hash.Write(part)
	h.size += len(part)
	h.left -= len(part)
	if len(h.begin) == 4 && h.left == 0 {
		h.state = helloDone
	}
}

// sum returns the hash of a whole ClientHello, or "".
func (h *helloHash) sum() string {
	if h.state != helloDone {
		return ""
	}
	return hex.EncodeToString(h.hash.Sum(nil))
}

// maxRecord is the longest TLS record that a far end takes: crypto/tls makes room
// for a whole one when its first bytes are there, and thousands may begin one. A
// ClientHello has 2 KB, a command 1.4.
const maxRecord = 4 << 10

// A recordGuard finds the first record of a stream that is too long.
type recordGuard struct {
	header [5]byte
	have   int // bytes of the header
	left   int // bytes left of the record
}

// pass takes bytes of the stream, and reports whether all records so far are short enough.
func (g *recordGuard) pass(p []byte) bool {
	for len(p) > 0 {
		if g.left > 0 {
			n := min(len(p), g.left)
			g.left -= n
			p = p[n:]
			continue
		}
		n := copy(g.header[g.have:], p)
		g.have += n
		p = p[n:]
		if g.have == len(g.header) {
			g.have, g.left = 0, int(g.header[3])<<8|int(g.header[4])
			if g.left > maxRecord {
				return false
			}
		}
	}
	return true
}
