package smtp

import (
	"bytes"
	"errors"
	"io"
	"time"
)

const (
	maxBytes = 64 << 10 // of text in a conversation
	maxLines = 512      // of text in a conversation
	maxHead  = 512      // first bytes, kept to tell what protocol it is

	// lineLimit is how long a line may take once it began. postscreen's and
	// other greet pauses lie between lines, never inside one.
	lineLimit = 12 * time.Second
	// strayLimit is how long a line may take that cannot be a reply any more,
	// and how long a reply may be awaited after one.
	strayLimit = 2 * time.Second
	// A peer that sends less than dripRate bytes per second in dripTime or
	// more of started lines drips.
	dripTime = 10 * time.Second
	dripRate = 2
)

var (
	errTooLong  = errors.New("more than 64 KiB or 512 lines came")
	errDrip     = errors.New("the line never ends")
	errNotReply = errors.New("not an SMTP reply")
)

// buffers is the memory that a conversation needs and gives back. Thousands wait
// for their peers at a time, so it is small; most replies fit.
type buffers struct {
	in  [1024]byte
	out [300]byte
}

// A lineReader cuts what a peer sends into lines, within limits that hold for
// the whole conversation.
type lineReader struct {
	src  io.Reader // the wire, or TLS over it
	wire *wire
	buf  []byte
	r, w int    // buf[r:w] was received and not read
	kept []byte // of a line whose end was not received yet: it may be longer than buf

	by          time.Time // soft limit of the present reply, by the wire's clock; zero if none
	stray       bool      // the line begun cannot be a reply
	bytes       int       // read, in all
	lines       int
	inside      time.Duration // waited in started lines
	insideBytes int           // received meanwhile
	head        []byte        // first bytes of all
}

func newLineReader(w *wire, b *buffers) lineReader {
	return lineReader{src: w, wire: w, buf: b.in[:]}
}

// line returns the next line without its end, CRLF or bare LF. It is valid
// until the next call, and cut to maxLine bytes. With an error, it is what came
// of an unfinished line.
func (l *lineReader) line() ([]byte, error) {
	if l.lines >= maxLines {
		return nil, errTooLong
	}
	l.kept = l.kept[:0]
	var begun time.Time
	for {
		chunk := l.buf[l.r:l.w]
		end := bytes.IndexByte(chunk, '\n')
		if end >= 0 {
			chunk = chunk[:end+1]
		}
		l.r += len(chunk)
		l.bytes += len(chunk)
		if end >= 0 && len(l.kept) == 0 {
			l.lines++
			return trimEOL(chunk), nil
		}
		l.kept = append(l.kept, chunk[:min(len(chunk), maxLine+2-len(l.kept))]...)
		if end >= 0 {
			l.lines++
			return trimEOL(l.kept), nil
		}
		if l.bytes >= maxBytes {
			return trimEOL(l.kept), errTooLong
		}
		if begun.IsZero() && len(l.kept) > 0 {
			begun = l.wire.now()
		}
		l.stray = !mayBeReply(l.kept)
		if err := l.fill(begun); err != nil {
			return trimEOL(l.kept), err
		}
	}
}

func trimEOL(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	return line[:min(len(line), maxLine)]
}

// fill receives more. begun is when the present line did, by the wire's clock, or zero.
func (l *lineReader) fill(begun time.Time) error {
	limit, why := l.limit(begun)
	l.wire.limitRead(limit)
	l.r, l.w = 0, 0
	before := l.wire.now()
	for range 100 {
		n, err := l.src.Read(l.buf)
		if n == 0 && err == nil {
			continue
		}
		l.w = n
		if len(l.head) < maxHead {
			l.head = append(l.head, l.buf[:min(n, maxHead-len(l.head))]...)
		}
		if !begun.IsZero() {
			l.inside += l.wire.now().Sub(before)
			l.insideBytes += n
			if l.inside >= dripTime && float64(l.insideBytes) < dripRate*l.inside.Seconds() {
				return errDrip
			}
		}
		if n > 0 {
			return nil
		}
		if why != nil && isTimeout(err) {
			return why
		}
		return err
	}
	return io.ErrNoProgress
}

// limit says how long the next receive may take, and the error it is then.
func (l *lineReader) limit(begun time.Time) (by time.Time, why error) {
	by = l.wire.end
	earlier := func(t time.Time, err error) {
		if t = t.Add(l.wire.queued); t.Before(by) {
			by, why = t, err
		}
	}
	if !l.by.IsZero() {
		earlier(l.by, errNotReply)
	}
	switch {
	case begun.IsZero():
	case l.stray:
		earlier(begun.Add(strayLimit), errNotReply)
	default:
		earlier(begun.Add(lineLimit), errDrip)
	}
	return by, why
}

// drop returns what was received and not read, and forgets it.
func (l *lineReader) drop() []byte {
	rest := l.buf[l.r:l.w]
	l.r, l.w = 0, 0
	l.bytes += len(rest)
	return rest
}

// mayBeReply reports whether a line that begins like this can be one of a reply.
func mayBeReply(begin []byte) bool {
	for i, c := range begin[:min(len(begin), 4)] {
		switch {
		case i == 0 && (c < '2' || c > '5'):
			return false
		case i < 3 && (c < '0' || c > '9'):
			return false
		case i == 3 && c != ' ' && c != '-' && c != '\r':
			return false
		}
	}
	return true
}

// parseLine reads one line of a reply (RFC 5321, 4.2). The second digit is not
// held to 0–5: 571 and the like exist, and the first digit alone decides.
func parseLine(line []byte) (code int, more, ok bool) {
	if len(line) < 3 || !mayBeReply(line) {
		return 0, false, false
	}
	if len(line) > 3 && line[3] == '\r' && len(line) > 4 {
		return 0, false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	return code, len(line) > 3 && line[3] == '-', true
}

// A reply is a code and its lines.
type reply struct {
	code      int      // of the last line that has one: the one that decides
	lines     [][]byte // as received, without their ends
	malformed bool     // a line is none of a reply, or the codes differ
	mixed     bool     // one code is of success and another is not
}

// add reads a line into the reply, and reports whether it is the last.
func (r *reply) add(line []byte) (last bool) {
	r.lines = append(r.lines, line)
	code, more, ok := parseLine(line)
	if !ok {
		r.malformed = true
		return false
	}
	if r.code != 0 && r.code != code {
		r.malformed = true
		r.mixed = r.mixed || r.class() != code/100
	}
	r.code = code
	return !more
}

// text returns the text of line i, without the code.
func (r *reply) text(i int) []byte {
	line := r.lines[i]
	if _, _, ok := parseLine(line); !ok {
		return line
	}
	return line[min(4, len(line)):]
}

// joined returns the lines with LF between them, at most limit bytes.
func (r *reply) joined(limit int) []byte {
	var b []byte
	for i, line := range r.lines {
		if i > 0 {
			b = append(b, '\n')
		}
		b = append(b, line...)
		if len(b) >= limit {
			return b[:limit]
		}
	}
	return b
}

// class returns the first digit of the code, or 0.
func (r *reply) class() int { return r.code / 100 }
