package reflect

import (
	"bytes"
	"io"
)

// A lineReader cuts commands into lines, within limits that hold for the whole
// session. Its memory is small until a long line comes: thousands may wait.
type lineReader struct {
	src   io.Reader
	most  int // bytes in all
	buf   []byte
	begun int // buf[begun:] was received and not read
	total int
}

// smallLine is the memory of a session that waits.
const smallLine = 512

// line returns the next line with its end, valid until the next call. started is
// called when its first byte is there and its last is not.
func (l *lineReader) line(started func()) ([]byte, error) {
	told := false
	for {
		rest := l.buf[l.begun:]
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			l.begun += end + 1
			return rest[:end+1], nil
		}
		switch {
		case len(rest) >= maxLineBytes:
			return nil, errTooLong
		case l.total >= l.most:
			return nil, errTooMuch
		case len(rest) > 0 && !told:
			told = true
			started()
		}
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
}

// fill receives more.
func (l *lineReader) fill() error {
	kept := copy(l.buf, l.buf[l.begun:])
	l.buf, l.begun = l.buf[:kept], 0
	if kept == cap(l.buf) {
		grown := make([]byte, kept, max(smallLine, min(2*kept, maxLineBytes)))
		copy(grown, l.buf)
		l.buf = grown
	}
	n, err := l.src.Read(l.buf[kept:cap(l.buf)])
	l.buf = l.buf[:kept+n]
	l.total += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// drop forgets what was received and not read, and returns how much that was.
func (l *lineReader) drop() int {
	n := len(l.buf) - l.begun
	l.buf, l.begun = l.buf[:0], 0
	return n
}
