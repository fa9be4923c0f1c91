package targets

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"
	"unicode/utf8"
)

// readSpecs calls fn with each spec of a list and the number of its line, in
// bounded memory. Specs are separated by white space; "#" begins a comment. The
// bytes are valid only during the call. Mistakes are *SpecError with name:line,
// those of fn too; several are a *ListError. A line that is no text ends it.
func readSpecs(what, name string, r io.Reader, fn func(line int, spec []byte) error) error {
	var wrong ListError
	in := bufio.NewReaderSize(r, 1<<16)
	for line := 1; ; line++ {
		text, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return readError(what, name, line, err)
		}
		if reason, hint := badLine(text, line == 1); reason != "" {
			wrong.add(&SpecError{What: what + " list", Reason: reason, Hint: hint}, place(name, line))
			return wrong.err()
		}
		if line == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff"))
		}
		if i := bytes.IndexByte(text, '#'); i >= 0 {
			text = text[:i]
		}
		for s := range bytes.FieldsFuncSeq(text, func(r rune) bool { return r <= ' ' && r != 0 }) {
			if e := fn(line, s); e != nil {
				wrong.add(e, place(name, line))
			}
			if wrong.more == maxMore {
				return wrong.err()
			}
		}
		if err != nil {
			return wrong.err()
		}
	}
}

// badLine says what makes a line unfit to be read at all.
func badLine(text []byte, first bool) (reason, hint string) {
	switch {
	case first && (bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff})):
		return "the file is UTF-16", "save it as UTF-8"
	case len(bytes.TrimRight(text, "\r\n")) > maxSpec:
		return "the line is longer than " + strconv.Itoa(maxSpec) + " bytes", "write one target a line"
	case bytes.IndexByte(text, 0) >= 0:
		return "the line contains a NUL byte", "is this a text file?"
	case !utf8.Valid(text):
		return "the line is not UTF-8", "save the file as UTF-8"
	}
	return "", ""
}

func readError(what, name string, line int, err error) error {
	if errors.Is(err, syscall.EISDIR) {
		return &SpecError{Where: place(name, line), What: what + " list", Reason: "it is a directory", Hint: "name a file in it"}
	}
	return fmt.Errorf("%s: read %s list: %w", place(name, line), what, err)
}

func place(name string, line int) string { return name + ":" + strconv.Itoa(line) }
