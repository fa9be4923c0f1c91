package report

import (
	"bytes"
	"io"
	"strings"
)

var targetsFormat = Format{
	Name: "targets", Help: "address:port of the open ones, for the next tool", Endings: []string{".targets"}, Streams: true, New: newTargets,
}

// A targetsEncoder writes address:port lines.
type targetsEncoder struct {
	w    io.Writer
	last []byte
	buf  []byte
}

func newTargets(w io.Writer, _ Header, _ Options) (Encoder, error) {
	return &targetsEncoder{w: w}, nil
}

// Row writes a line if the port is open and is not the one before: an address
// that was reached by two names is one target.
func (e *targetsEncoder) Row(r *Row) error {
	if r.Cells[ColState] != "open" || r.Cells[ColAddress] == "" {
		return nil
	}
	e.buf = append(appendEndpoint(e.buf[:0], r), '\n')
	if bytes.Equal(e.buf, e.last) {
		return nil
	}
	e.last = append(e.last[:0], e.buf...)
	_, err := e.w.Write(e.buf)
	return err
}

// Close does nothing: a list has no end mark.
func (e *targetsEncoder) Close(Totals) error { return nil }

// appendEndpoint appends address:port, an IPv6 address in brackets; without an
// address the name takes its place.
func appendEndpoint(dst []byte, r *Row) []byte {
	addr := r.Cells[ColAddress]
	switch {
	case addr == "":
		dst = append(dst, firstOf(r.Cells[ColHost], r.Cells[ColTarget])...)
	case strings.Contains(addr, ":"):
		dst = append(dst, '[')
		dst = append(dst, addr...)
		dst = append(dst, ']')
	default:
		dst = append(dst, addr...)
	}
	if r.Cells[ColPort] != "" {
		dst = append(dst, ':')
		dst = append(dst, r.Cells[ColPort]...)
	}
	return dst
}
