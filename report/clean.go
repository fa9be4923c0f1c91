package report

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxCell is the most characters (code points) that a cleaned text has, the
// mark that says how many were left out included. It is under the 32,767 that a
// cell of a spreadsheet can hold.
const MaxCell = 4096

// maxMarks is how many combining marks may follow one character. Real scripts
// need up to four; more is decoration that covers the lines above and below.
const maxMarks = 4

// Clean returns text of a stranger such that it can do no harm in a terminal,
// a file or a page: it has only printable characters and spaces (Go's
// unicode.IsPrint), in one line, none of them invisible, at most four combining
// marks after a character, and is at most MaxCell characters long.
//
// What is not so is shown: \t \n \r, \x1b for other bytes below 0x80 and for
// bytes that are not UTF-8, \u{202e} for characters (C1 controls, bidi controls,
// zero width, line separators, private use, noncharacters, odd spaces). Text
// that is too long ends in "…(+N)", N characters left out.
//
// Clean(Clean(s)) == Clean(s): a backslash in the text stays one. So the text
// alone cannot tell an ESC from a server that sends the four letters \x1b; the
// base64 twin in JSON can.
func Clean(s string) string {
	if plain(s) {
		return s
	}
	return string(appendClean(make([]byte, 0, min(len(s)+16, 4*MaxCell)), s, MaxCell))
}

// CleanBytes is Clean of bytes.
func CleanBytes(b []byte) string { return Clean(string(b)) }

// plain reports whether s is short printable ASCII: nothing to clean. Nearly
// every text is.
func plain(s string) bool {
	if len(s) > MaxCell {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// maxEscape is the length of the longest escape of one character: \u{10ffff}.
const maxEscape = len(`\u{10ffff}`)

// appendClean appends cleaned s in at most limit characters.
func appendClean(dst []byte, s string, limit int) []byte {
	var n, marks, fit int // characters written; marks in a row; where the text may be cut to make room for the tail
	var fitRest string    // what is left out when cut there
	marks = maxMarks      // a mark at the start has nothing to sit on
	start := len(dst)
	for rest := s; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		if n+maxTail <= limit {
			fit, fitRest = len(dst)-start, rest
		}
		var wrote int
		dst, wrote = appendRune(dst, r, size, rest[0], &marks)
		n += wrote
		if n > limit {
			dst = append(dst[:start+fit], "…(+"...)
			dst = strconv.AppendInt(dst, int64(utf8.RuneCountInString(fitRest)), 10)
			return append(dst, ')')
		}
		rest = rest[size:]
	}
	return dst
}

// maxTail is room for the mark "…(+N)" with an N of 19 digits.
const maxTail = len("…(+)") - 2 + 19

// appendRune appends one character, or its escape, and says how many characters
// that made. marks counts the combining marks in a row.
func appendRune(dst []byte, r rune, size int, first byte, marks *int) ([]byte, int) {
	switch {
	case r >= 0x20 && r < 0x7f:
		*marks = 0
		return append(dst, byte(r)), 1
	case r == utf8.RuneError && size == 1, r < 0x20, r == 0x7f:
		*marks = 0
		return appendByteEscape(dst, first)
	case unicode.Is(unicode.M, r) && !invisible(r):
		if *marks++; *marks <= maxMarks {
			return utf8.AppendRune(dst, r), 1
		}
		*marks--
	case unicode.IsPrint(r) && !invisible(r):
		*marks = 0
		return utf8.AppendRune(dst, r), 1
	default:
		*marks = 0
	}
	escape := escapeRune(r)
	return append(dst, escape...), len(escape)
}

// escapeRune returns the escape of a character: \u{202e}.
func escapeRune(r rune) string { return `\u{` + strconv.FormatInt(int64(r), 16) + "}" }

// appendByteEscape appends the escape of a control or of a byte that is not UTF-8.
func appendByteEscape(dst []byte, b byte) ([]byte, int) {
	const hex = "0123456789abcdef"
	switch b {
	case '\t':
		return append(dst, `\t`...), 2
	case '\n':
		return append(dst, `\n`...), 2
	case '\r':
		return append(dst, `\r`...), 2
	}
	return append(dst, '\\', 'x', hex[b>>4], hex[b&15]), 4
}

// invisible reports whether a character that counts as printable shows nothing:
// fillers, joiners, variation selectors, the empty Braille pattern.
func invisible(r rune) bool {
	return r == 0x2800 || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) || unicode.Is(unicode.Variation_Selector, r)
}

// A list in a cell is its elements, joined with ";". A ";" inside an element is
// shown as \x3b.

// joinedSemicolon is ";" inside an element of a list.
const joinedSemicolon = `\x3b`

// maxList is the most bytes of a list in a cell: what a spreadsheet's cell holds
// is 32,767.
const maxList = 16 << 10

// joinList makes a cell of elements that are clean; whole is false if it had to
// leave out elements to stay under limit bytes.
func joinList(elems []string, limit int) (cell string, whole bool) {
	if len(elems) == 1 && !strings.Contains(elems[0], ";") {
		return elems[0], true
	}
	var b strings.Builder
	for i, e := range elems {
		if i > 0 {
			b.WriteByte(';')
		}
		if b.Len()+len(e) > limit {
			b.WriteString("…(+" + strconv.Itoa(len(elems)-i) + ")")
			return b.String(), false
		}
		b.WriteString(strings.ReplaceAll(e, ";", joinedSemicolon))
	}
	return b.String(), true
}

// splitList takes a cell apart. It is the inverse of joinList, but for elements
// beyond maxList.
func splitList(cell string) []string {
	if cell == "" {
		return nil
	}
	elems := strings.Split(cell, ";")
	for i, e := range elems {
		elems[i] = strings.ReplaceAll(e, joinedSemicolon, ";")
	}
	return elems
}

// cleanList cleans the elements of a list, and reports whether that changed any.
func cleanList(raw []string) (elems []string, changed bool) {
	elems = make([]string, len(raw))
	for i, s := range raw {
		elems[i] = Clean(s)
		changed = changed || elems[i] != s || strings.Contains(s, joinedSemicolon)
	}
	return elems, changed
}
