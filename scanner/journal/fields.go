package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
)

// errOdd says that a record is not in the plain form that is read fast.
var errOdd = errors.New("not plain flat JSON")

// A cursor walks over the keys of one JSON object. It reads what we write:
// no space between tokens, keys without escapes. It does not judge the values
// that it skips; a record was checksummed when it was written.
type cursor struct {
	b  []byte
	at int
}

// next returns the next key and its value as it stands there. At the end of
// the object key is nil; if the record is odd, err is errOdd.
func (c *cursor) next() (key, value []byte, err error) {
	b := c.b
	if c.at >= len(b) {
		return nil, nil, errOdd
	}
	switch {
	case c.at == 0 && b[0] == '{', c.at > 0 && b[c.at] == ',':
		c.at++
	case c.at > 0 && b[c.at] == '}' && c.at == len(b)-1:
		return nil, nil, nil
	default:
		return nil, nil, errOdd
	}
	if c.at == 1 && len(b) == 2 && b[1] == '}' {
		return nil, nil, nil
	}
	keyEnd := stringEnd(b, c.at)
	if keyEnd < 0 || keyEnd >= len(b) || b[keyEnd] != ':' {
		return nil, nil, errOdd
	}
	key = b[c.at+1 : keyEnd-1]
	if bytes.IndexByte(key, '\\') >= 0 {
		return nil, nil, errOdd
	}
	end := valueEnd(b, keyEnd+1)
	if end < 0 {
		return nil, nil, errOdd
	}
	value, c.at = b[keyEnd+1:end], end
	return key, value, nil
}

// stringEnd returns where the string that begins at i ends, or -1.
func stringEnd(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	for i++; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n + 1
		slashes := 0
		for b[i-2-slashes] == '\\' { // ends at the opening quote at the latest
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
	return -1
}

// valueEnd returns where the value that begins at i ends, or -1.
func valueEnd(b []byte, i int) int {
	depth := 0
	for start := i; i < len(b); {
		switch b[i] {
		case '"':
			if i = stringEnd(b, i); i < 0 {
				return -1
			}
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				if i == start {
					return -1
				}
				return i // of a number or a word
			}
			if b[i] != ',' {
				if depth--; depth == 0 {
					return i + 1
				}
			}
		case ' ', '\t', '\r', '\n':
			return -1
		}
		i++
	}
	return -1
}

// A row is what a result record says about its identity and whether it is
// final. Its bytes are the record's where that has no escapes.
type row struct {
	target, host, address, state, reason, vantage []byte
	port                                          uint16
}

// field returns where a row keeps the string of a key, or nil.
func (r *row) field(key []byte) *[]byte {
	switch string(key) {
	case "target":
		return &r.target
	case "host":
		return &r.host
	case "address":
		return &r.address
	case "state":
		return &r.state
	case "reason":
		return &r.reason
	case "vantage":
		return &r.vantage
	}
	return nil
}

// set takes one key and its value.
func (r *row) set(key, value []byte) error {
	if string(key) == "port" {
		n, err := strconv.ParseUint(string(value), 10, 16)
		r.port = uint16(n)
		return err
	}
	at := r.field(key)
	if at == nil {
		return nil
	}
	s, err := text(value)
	*at = s
	return err
}

// parseRow reads a result record.
func parseRow(line []byte) (r row, err error) {
	c := cursor{b: line}
	for {
		key, value, err := c.next()
		if err != nil {
			return slowRow(line)
		}
		if key == nil {
			return r, nil
		}
		if err := r.set(key, value); err != nil {
			return slowRow(line)
		}
	}
}

// slowRow reads a result record that is not in the plain form.
func slowRow(line []byte) (r row, err error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(line, &all); err != nil {
		return row{}, err
	}
	for key, value := range all {
		if err := r.set([]byte(key), value); err != nil {
			return row{}, err
		}
	}
	return r, nil
}

// text returns the string of a JSON value.
func text(value []byte) ([]byte, error) {
	if len(value) >= 2 && value[0] == '"' && bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	var s string
	err := json.Unmarshal(value, &s)
	return []byte(s), err
}

// endpoint returns the address of a row; it is not valid if the row has none.
func (r *row) endpoint() (netip.Addr, error) {
	if len(r.address) == 0 {
		return netip.Addr{}, nil
	}
	return netip.ParseAddr(string(r.address))
}

// recordType returns the type of a record.
func recordType(line []byte) string {
	if rest, ok := bytes.CutPrefix(line, []byte(typePrefix)); ok {
		if end := bytes.IndexAny(rest, `"\`); end >= 0 && rest[end] == '"' {
			return known(rest[:end])
		}
	}
	var t struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(line, &t) != nil {
		return ""
	}
	return t.Type
}

// known returns typ as a string, without allocating for those that are many.
func known(typ []byte) string {
	switch string(typ) {
	case "result":
		return "result"
	case "silent":
		return "silent"
	case "answer":
		return "answer"
	case "sync":
		return "sync"
	}
	return string(typ)
}
