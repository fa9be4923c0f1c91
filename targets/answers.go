package targets

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"net/netip"
	"sync"
)

// Answers keeps what the DNS said of a plan's names in little memory: 4 bytes a
// name, and those of its addresses. Put may be called from several goroutines,
// At not beside it.
type Answers struct {
	plan *Plan
	mu   sync.Mutex // guards following
	at   []uint32   // by number of the name: where its answer begins, plus 1; 0 if there is none
	text []byte
}

// NewAnswers returns an empty store for the names of a plan.
func NewAnswers(p *Plan) *Answers {
	return &Answers{plan: p, at: make([]uint32, p.NameCount())}
}

// odd begins an answer that says more than addresses: its length as a uvarint
// and its JSON follow. Another byte is the number of IPv4 addresses, the next
// one that of IPv6 addresses, and they follow.
const odd = 255

// Put keeps the answer for name i, as Plan.Names numbers them, in place of the
// one that was there. Beyond 4 GiB of answers it is a *RefusedError.
func (s *Answers) Put(i int, a Answer) error {
	text, plain := appendPlain(nil, s.plan.Name(i), a)
	if !plain {
		a.Name = ""                // the plan has it
		said, _ := json.Marshal(a) // strings, numbers and addresses: no error is possible
		text = append(binary.AppendUvarint([]byte{odd}, uint64(len(said))), said...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.at[i]; old > 0 && len(text) <= size(s.text[old-1:]) {
		copy(s.text[old-1:], text) // a name that is asked for again mostly has as much to say
		return nil
	}
	if uint64(len(s.text)+len(text)) >= math.MaxUint32 {
		return &RefusedError{Reason: "the names lead to more than can be kept (4 GiB)", Hint: "sweep in several runs"}
	}
	s.at[i] = uint32(len(s.text) + 1)
	s.text = append(s.text, text...)
	return nil
}

// size returns the length of the answer that text begins with.
func size(text []byte) int {
	if text[0] != odd {
		return 2 + 4*int(text[0]) + 16*int(text[1])
	}
	said, n := binary.Uvarint(text[1:])
	return 1 + n + int(said)
}

// At returns name i and its answer; ok is false if none was kept.
func (s *Answers) At(i int) (name Name, a Answer, ok bool) {
	if s.at[i] == 0 {
		return name, a, false
	}
	name = s.plan.Name(i)
	text := s.text[s.at[i]-1:]
	if text[0] == odd {
		size, n := binary.Uvarint(text[1:])
		_ = json.Unmarshal(text[1+n:][:size], &a) // Put wrote it
	} else {
		a = plainAnswer(name, text)
	}
	a.Name = name.Text
	return name, a, true
}

// Endpoints returns the rows that name i leads to: none if it has no answer.
func (s *Answers) Endpoints(i int) []Endpoint {
	name, a, ok := s.At(i)
	if !ok {
		return nil
	}
	return s.plan.Endpoints(name, a)
}

// appendPlain writes an answer that has the addresses of the name itself, IPv4
// first, and nothing else. Most are such.
func appendPlain(text []byte, name Name, a Answer) (_ []byte, plain bool) {
	if len(a.Hosts) != 1 || a.Why != "" || a.Err != "" || len(a.CNAME) > 0 {
		return nil, false
	}
	h := a.Hosts[0]
	if host, _ := name.isMX(); h.Host != host || h.Preference != 0 || h.Why != "" || h.Err != "" || h.Failed != 0 || len(h.Addrs) == 0 {
		return nil, false
	}
	four := 0
	for four < len(h.Addrs) && h.Addrs[four].Is4() {
		four++
	}
	six := h.Addrs[four:]
	if four >= odd || len(six) >= odd {
		return nil, false
	}
	text = append(text, byte(four), byte(len(six)))
	for i, addr := range h.Addrs {
		if i >= four && addr.Is4() || addr.Zone() != "" {
			return nil, false
		}
		text = append(text, addr.AsSlice()...)
	}
	return text, true
}

// plainAnswer is the inverse of appendPlain.
func plainAnswer(name Name, text []byte) Answer {
	host, _ := name.isMX()
	h := HostAnswer{Host: host}
	four, six, rest := int(text[0]), int(text[1]), text[2:]
	for i := range four + six {
		size := 4
		if i >= four {
			size = 16
		}
		addr, _ := netip.AddrFromSlice(rest[:size])
		h.Addrs, rest = append(h.Addrs, addr), rest[size:]
	}
	return Answer{Hosts: []HostAnswer{h}}
}
