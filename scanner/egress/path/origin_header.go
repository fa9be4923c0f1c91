package path

import "encoding/binary"

// parseHeader reads the headers of a TCP segment in an IP packet without extension headers, of which
// more may be cut off, and the port that it is for (RFC 791, RFC 8200, RFC 9293).
func parseHeader(p []byte) (h Header, to uint16, ok bool) {
	const tcp = 6
	if len(p) < 20 {
		return h, 0, false
	}
	size := 40
	switch {
	case p[0]>>4 == 4 && p[9] == tcp && p[0]&15 >= 5:
		size = int(p[0]&15) * 4
		h = Header{TTL: int(p[8]), ID: binary.BigEndian.Uint16(p[4:]), DF: p[6]&0x40 != 0, DSCP: p[1] >> 2}
	case p[0]>>4 == 6 && p[6] == tcp:
		h = Header{TTL: int(p[7]), DSCP: uint8(binary.BigEndian.Uint16(p) >> 6 & 0x3f)}
	default:
		return h, 0, false
	}
	if len(p) < size+20 {
		return Header{}, 0, false
	}
	h.Flags, h.Window = p[size+13], binary.BigEndian.Uint16(p[size+14:])
	return h, binary.BigEndian.Uint16(p[size+2:]), true
}
