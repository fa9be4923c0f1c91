package journal

import (
	"bytes"
	"hash/crc32"
)

// castagnoli is the table of CRC-32C (RFC 3720, appendix B.4), which
// processors compute by themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	crcKey  = `,"crc":"`
	crcTail = len(crcKey) + 8 + len(`"}`) // what stands for the final brace of a record
	trailer = crcTail                     // how much a line is longer than its record: newline added, brace replaced
	hexes   = "0123456789abcdef"
)

// appendFrame appends rec, a JSON object, as a line with its checksum.
func appendFrame(dst, rec []byte, sum uint32) []byte {
	dst = append(dst, rec[:len(rec)-1]...)
	dst = append(dst, crcKey...)
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, hexes[sum>>shift&15])
	}
	return append(dst, '"', '}', '\n')
}

// AppendLine appends a record, a JSON object, as a line of a journal: with its
// checksum and the newline.
func AppendLine(dst, rec []byte) []byte { return appendFrame(dst, rec, checksum(rec)) }

// checksum returns the CRC-32C of a record as its line carries it: of all its
// bytes but the final brace.
func checksum(rec []byte) uint32 { return crc32.Checksum(rec[:len(rec)-1], castagnoli) }

// Reasons why a line is not a record.
const (
	whyTorn   = "the record is cut short"
	whyNoCRC  = "the record has no checksum: it was edited, or smtpsweep did not write it"
	whyBadCRC = "the checksum is wrong"
	whyLong   = "the record is longer than 1 MiB"
)

// unframe checks a line, newline included, and returns its record: the JSON
// object without the checksum. The record uses the memory of line, whose bytes
// it changes. why is empty if the line is good.
func unframe(line []byte) (rec []byte, why string) {
	if len(line) == 0 || line[len(line)-1] != '\n' {
		return nil, whyTorn
	}
	n := len(line) - 1 - crcTail // length of what is summed
	if n < 1 || line[0] != '{' || !bytes.HasPrefix(line[n:], []byte(crcKey)) || string(line[len(line)-3:]) != "\"}\n" {
		return nil, unsealed(line)
	}
	var sum uint32
	for _, c := range line[n+len(crcKey) : n+len(crcKey)+8] {
		d := bytes.IndexByte([]byte(hexes), c)
		if d < 0 {
			return nil, whyBadCRC
		}
		sum = sum<<4 | uint32(d)
	}
	if sum != crc32.Checksum(line[:n], castagnoli) {
		return nil, whyBadCRC
	}
	line[n] = '}'
	return line[:n+1], ""
}

// unsealed says why a whole line has no checksum. One that is an object all the
// same was not cut short: holes that a power cut leaves are zeros.
func unsealed(line []byte) string {
	object := len(line) > 2 && line[0] == '{' && line[len(line)-2] == '}'
	if object && !bytes.Contains(line, []byte(crcKey)) && bytes.IndexByte(line, 0) < 0 {
		return whyNoCRC
	}
	return whyTorn
}
