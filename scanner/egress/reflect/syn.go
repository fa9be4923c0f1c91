package reflect

import (
	"encoding/binary"
	"errors"
)

// A SYN is what the first packet of a connection says of who sent it.
type SYN struct {
	TTL        uint8  `json:"ttl"`        // or hop limit, as it arrived
	Window     uint16 `json:"window"`     // as sent: the SYN's is not scaled (RFC 7323, 2.2)
	MSS        uint16 `json:"mss"`        // 0 if not sent
	Scale      int    `json:"scale"`      // window scale; -1 if not sent
	SACK       bool   `json:"sack"`       // permitted
	Timestamps bool   `json:"timestamps"` // sent
	Order      []byte `json:"order"`      // kinds of the options, in order
}

var errSYN = errors.New("not a SYN")

// parseSYN reads the network and transport headers of a SYN, as the kernel saved
// them (RFC 791, 3.1; RFC 8200, 3; RFC 9293, 3.1).
func parseSYN(p []byte) (*SYN, error) {
	s := &SYN{Scale: -1}
	var at int
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		at = int(p[0]&15) * 4
		s.TTL = p[8]
	case len(p) >= 40 && p[0]>>4 == 6:
		at = 40 // the kernel leaves extension headers between; they are rare
		s.TTL = p[7]
		if p[6] != 6 {
			return nil, errSYN
		}
	default:
		return nil, errSYN
	}
	if at < 20 || len(p) < at+20 {
		return nil, errSYN
	}
	tcp := p[at:]
	size := int(tcp[12]>>4) * 4
	if size < 20 || size > len(tcp) {
		return nil, errSYN
	}
	s.Window = binary.BigEndian.Uint16(tcp[14:])
	s.options(tcp[20:size])
	return s, nil
}

// options reads the options of a SYN (RFC 9293, 3.2; RFC 7323; RFC 2018).
func (s *SYN) options(p []byte) {
	const end, nop, mss, scale, sack, timestamps = 0, 1, 2, 3, 4, 8
	for len(p) > 0 && p[0] != end {
		s.Order = append(s.Order, p[0])
		if p[0] == nop {
			p = p[1:]
			continue
		}
		if len(p) < 2 || p[1] < 2 || int(p[1]) > len(p) {
			return
		}
		value := p[2:p[1]]
		switch {
		case p[0] == mss && len(value) == 2:
			s.MSS = binary.BigEndian.Uint16(value)
		case p[0] == scale && len(value) == 1:
			s.Scale = int(value[0])
		case p[0] == sack:
			s.SACK = true
		case p[0] == timestamps:
			s.Timestamps = true
		}
		p = p[p[1]:]
	}
}
