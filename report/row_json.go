package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// rowType is the "type" of a row in the journal.
const rowType = "result"

// rowStart begins every row.
const rowStart = `{"type":"result"`

// jsonKeys holds for every column what comes before its value: `,"time":`.
var jsonKeys = func() (keys [NumColumns]string) {
	for i, f := range Scan.Fields {
		keys[i] = `,"` + f.Name + `":`
	}
	return keys
}()

// AppendJSON appends the row as one JSON object without a line break:
// {"type":"result","time":…}. Empty cells are absent, numbers are numbers, lists
// are lists, and the members of Detail come last.
func (r *Row) AppendJSON(dst []byte) []byte {
	dst = append(dst, rowStart...)
	for i := range r.Cells {
		cell := r.Cells[i]
		if cell == "" {
			continue
		}
		dst = append(dst, jsonKeys[i]...)
		switch kind := Scan.Fields[i].Kind; {
		case kind == List:
			dst = appendListCell(dst, cell)
		case kind == Number && numberLen(cell) == len(cell), kind == Bool && (cell == "true" || cell == "false"):
			dst = append(dst, cell...)
		default:
			dst = appendString(dst, cell)
		}
	}
	if len(r.Detail) > 0 {
		dst = append(dst, ',')
		dst = append(dst, r.Detail...)
	}
	return append(dst, '}')
}

// AppendResult appends what RowOf(r, vantage).AppendJSON would, without making
// the row if nothing was talked to: nearly every endpoint of a sweep.
func AppendResult(dst []byte, r *scanner.Result, vantage string) []byte {
	spec, host := r.Target.Spec(), r.Target.Host()
	addr := r.Target.Addr
	if r.Service != nil || r.Mute > 0 || r.Err != "" || addr.Zone() != "" || r.Source.Zone() != "" ||
		r.ICMP.From.Zone() != "" || !plain(vantage) || !plain(spec) || !plain(host) || !plain(string(r.Reason)) {
		row := RowOf(r, vantage)
		return row.AppendJSON(dst)
	}
	dst = append(dst, rowStart...)
	if !r.At.IsZero() {
		dst = append(appendTime(append(append(dst, jsonKeys[ColTime]...), '"'), r.At), '"')
	}
	dst = appendTextMember(dst, ColVantage, vantage)
	if r.Source.IsValid() {
		dst = append(r.Source.AppendTo(append(append(dst, jsonKeys[ColSource]...), '"')), '"')
	}
	dst = appendTextMember(dst, ColTarget, spec)
	dst = appendTextMember(dst, ColHost, host)
	if addr.IsValid() {
		dst = append(addr.AppendTo(append(append(dst, jsonKeys[ColAddress]...), '"')), '"')
	}
	if r.Target.Port != 0 {
		dst = strconv.AppendUint(append(dst, jsonKeys[ColPort]...), uint64(r.Target.Port), 10)
	}
	dst = appendTextMember(dst, ColState, r.State.String())
	dst = appendTextMember(dst, ColReason, string(r.Reason))
	if r.ICMP.From.IsValid() {
		dst = append(r.ICMP.From.AppendTo(append(append(dst, jsonKeys[ColICMPFrom]...), '"')), '"')
		dst = append(appendICMP(append(append(dst, jsonKeys[ColICMP]...), '"'), r.ICMP), '"')
	}
	if r.RTT > 0 {
		dst = appendMillis(append(dst, jsonKeys[ColRTT]...), r.RTT)
	}
	if r.Attempts > 0 {
		dst = strconv.AppendInt(append(dst, jsonKeys[ColAttempts]...), int64(r.Attempts), 10)
	}
	return append(dst, '}')
}

// appendTextMember appends ,"key":"text", or nothing if there is no text.
func appendTextMember(dst []byte, col Column, text string) []byte {
	if text == "" {
		return dst
	}
	return appendString(append(dst, jsonKeys[col]...), text)
}

// appendListCell appends a cell of kind List as a JSON list of strings.
func appendListCell(dst []byte, cell string) []byte {
	dst = append(dst, '[')
	for i := 0; ; i++ {
		elem, rest, more := strings.Cut(cell, ";")
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, strings.ReplaceAll(elem, joinedSemicolon, ";"))
		if cell = rest; !more {
			return append(dst, ']')
		}
	}
}

// appendString appends a JSON string (RFC 8259, 7). What is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		r, size := rune(c), 1
		if c >= utf8.RuneSelf {
			if r, size = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else {
			dst = appendU(dst, r)
		}
		i += size
		from = i
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// appendU appends a character as \uXXXX, or as two of them.
func appendU(dst []byte, r rune) []byte {
	if r > 0xffff {
		hi, lo := utf16.EncodeRune(r)
		return appendU(appendU(dst, hi), lo)
	}
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

// ParseRow reads a row that AppendJSON wrote, with or without the journal's
// checksum (which it does not check). Its text is cleaned again, which changes
// nothing that came from RowOf: a journal may come from another machine. Members
// that are no column are kept in Detail, in safe and compact JSON. The error
// says what is wrong at which byte; its first words are "not a result" if the
// record is of another type.
func ParseRow(line []byte) (Row, error) {
	p := parser{s: string(line)}
	var row Row
	if err := p.object(&row); err != nil {
		return Row{}, fmt.Errorf("%w at byte %d", err, p.i)
	}
	return row, nil
}

// A parseError says what is wrong with a record.
type parseError string

// Error returns the words of the error.
func (e parseError) Error() string { return string(e) }

const (
	errNotResult = parseError(`not a result: want "type":"result"`)
	errSyntax    = parseError("not a JSON object")
	errDepth     = parseError("JSON nested too deep")
	errKind      = parseError("value of a column is of the wrong kind")
)

// maxDepth bounds the nesting of members that are no column.
const maxDepth = 32

// A parser reads one flat JSON object. Cells are substrings of s wherever no
// escape is in the way, so that a row costs one allocation.
type parser struct {
	s    string
	i    int
	next Column // where the next key is looked for first
}

// object reads the whole record.
func (p *parser) object(row *Row) error {
	if !p.take('{') {
		return errSyntax
	}
	typed := false
	for first := true; !p.take('}'); first = false {
		if !first && !p.take(',') {
			return errSyntax
		}
		p.space()
		start := p.i
		key, err := p.str()
		if err != nil {
			return err
		}
		rawKey := p.s[start:p.i]
		if !p.take(':') {
			return errSyntax
		}
		p.space()
		if key == "type" {
			if v, err := p.str(); err != nil || v != rowType {
				return errNotResult
			}
			typed = true
			continue
		}
		if err := p.member(row, key, rawKey); err != nil {
			return err
		}
	}
	p.space()
	if p.i != len(p.s) {
		return errSyntax
	}
	if !typed {
		return errNotResult
	}
	return nil
}

// member reads the value of a key into its cell, or keeps it.
func (p *parser) member(row *Row, key, rawKey string) error {
	if col, ok := p.column(key); ok {
		cell, err := p.cell(Scan.Fields[col].Kind)
		row.Cells[col] = cell
		return err
	}
	start := p.i
	if err := p.skip(0); err != nil {
		return err
	}
	if key == "crc" {
		return nil
	}
	if len(row.Detail) > 0 {
		row.Detail = append(row.Detail, ',')
	}
	row.Detail = appendSafeJSON(row.Detail, rawKey)
	row.Detail = append(row.Detail, ':')
	row.Detail = appendSafeJSON(row.Detail, p.s[start:p.i])
	return nil
}

// column finds a key. Keys come in the order of columns, so it looks onwards
// from the last one first.
func (p *parser) column(key string) (Column, bool) {
	for n := range NumColumns {
		col := p.next + n
		if col >= NumColumns {
			col -= NumColumns
		}
		if Scan.Fields[col].Name == key {
			p.next = col + 1
			return col, true
		}
	}
	return 0, false
}

// cell reads a value as the text of a cell.
func (p *parser) cell(kind Kind) (string, error) {
	if p.word("null") {
		return "", nil
	}
	switch kind {
	case Number:
		n := numberLen(p.s[p.i:])
		if n == 0 {
			return "", errKind
		}
		p.i += n
		return p.s[p.i-n : p.i], nil
	case Bool:
		if p.word("true") {
			return "true", nil
		}
		if p.word("false") {
			return "false", nil
		}
		return "", errKind
	case List:
		return p.list()
	}
	if p.i >= len(p.s) || p.s[p.i] != '"' {
		return "", errKind
	}
	s, err := p.str()
	return Clean(s), err
}

// list reads a JSON list of strings as a cell.
func (p *parser) list() (string, error) {
	if !p.take('[') {
		return "", errKind
	}
	var elems []string
	for !p.take(']') {
		if len(elems) > 0 && !p.take(',') {
			return "", errSyntax
		}
		p.space()
		s, err := p.str()
		if err != nil {
			return "", errKind
		}
		elems = append(elems, Clean(s))
	}
	if len(elems) == 0 {
		return "", nil
	}
	cell, _ := joinList(elems, len(p.s)*maxEscape)
	return cell, nil
}

// space skips white space.
func (p *parser) space() {
	for p.i < len(p.s) && isSpace(p.s[p.i]) {
		p.i++
	}
}

// isSpace reports whether c is white space between JSON tokens (RFC 8259, 2).
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// take skips white space and then c, if it is there.
func (p *parser) take(c byte) bool {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// word skips a literal, if it is there.
func (p *parser) word(w string) bool {
	if strings.HasPrefix(p.s[p.i:], w) {
		p.i += len(w)
		return true
	}
	return false
}

// str reads a JSON string. A string without escapes is not copied.
func (p *parser) str() (string, error) {
	if p.i >= len(p.s) || p.s[p.i] != '"' {
		return "", errSyntax
	}
	for i := p.i + 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			s := p.s[p.i+1 : i]
			p.i = i + 1
			return s, nil
		case c == '\\':
			return p.escaped(i)
		case c < 0x20:
			return "", errSyntax
		}
	}
	return "", errSyntax
}

// escaped reads the rest of a string whose first escape is at i.
func (p *parser) escaped(i int) (string, error) {
	buf := append(make([]byte, 0, 2*(i-p.i)+64), p.s[p.i+1:i]...)
	for i < len(p.s) {
		switch c := p.s[i]; {
		case c == '"':
			p.i = i + 1
			return string(buf), nil
		case c < 0x20:
			return "", errSyntax
		case c != '\\':
			buf = append(buf, c)
			i++
		default:
			var n int
			if buf, n = appendUnescaped(buf, p.s[i:]); n == 0 {
				return "", errSyntax
			}
			i += n
		}
	}
	return "", errSyntax
}

// unescape holds what a letter after a backslash means (RFC 8259, 7).
var unescape = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// appendUnescaped appends what the escape at the start of s means, and returns
// its length; 0 if it is none. Half a surrogate pair means U+FFFD.
func appendUnescaped(dst []byte, s string) ([]byte, int) {
	if len(s) < 2 {
		return dst, 0
	}
	if c := unescape[s[1]]; c != 0 {
		return append(dst, c), 2
	}
	r, ok := hex4(s)
	if !ok {
		return dst, 0
	}
	if utf16.IsSurrogate(r) {
		if low, ok := hex4(s[6:]); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return utf8.AppendRune(dst, pair), 12
			}
		}
	}
	return utf8.AppendRune(dst, r), 6
}

// hex4 reads \uXXXX.
func hex4(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s[2:6]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// numberLen returns the length of the JSON number at the start of s, 0 if there is none.
func numberLen(s string) int {
	i := 0
	if i < len(s) && s[i] == '-' {
		i++
	}
	n := digits(s, i)
	if n == 0 || (n > 1 && s[i] == '0') {
		return 0
	}
	i += n
	if i < len(s) && s[i] == '.' {
		if n = digits(s, i+1); n == 0 {
			return 0
		}
		i += 1 + n
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		j := i + 1
		if j < len(s) && (s[j] == '+' || s[j] == '-') {
			j++
		}
		if n = digits(s, j); n == 0 {
			return 0
		}
		i = j + n
	}
	return i
}

// digits counts the digits of s from i on.
func digits(s string, i int) (n int) {
	for i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '9' {
		n++
	}
	return n
}

// skip reads over any value.
func (p *parser) skip(depth int) error {
	p.space()
	if depth > maxDepth {
		return errDepth
	}
	if p.i >= len(p.s) {
		return errSyntax
	}
	switch c := p.s[p.i]; c {
	case '"':
		_, err := p.str()
		return err
	case '{', '[':
		p.i++
		return p.skipInside(c+2, c == '{', depth) // '{'+2 is '}', '['+2 is ']'
	}
	if p.word("true") || p.word("false") || p.word("null") {
		return nil
	}
	n := numberLen(p.s[p.i:])
	if n == 0 {
		return errSyntax
	}
	p.i += n
	return nil
}

// skipInside reads over an object or a list, to its end.
func (p *parser) skipInside(end byte, keys bool, depth int) error {
	for first := true; !p.take(end); first = false {
		if !first && !p.take(',') {
			return errSyntax
		}
		if keys {
			p.space()
			if _, err := p.str(); err != nil {
				return err
			}
			if !p.take(':') {
				return errSyntax
			}
		}
		if err := p.skip(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// appendSafeJSON appends valid JSON without white space between tokens, and
// with characters that are not safe to print as \u escapes.
func appendSafeJSON(dst []byte, raw string) []byte {
	inside := false // a string
	for i := 0; i < len(raw); {
		c := raw[i]
		switch {
		case c == '\\':
			dst = append(dst, c, raw[i+1]) // valid JSON: there is one
			i += 2
			continue
		case c == '"':
			inside = !inside
		case c >= 0x7f:
			r, size := utf8.DecodeRuneInString(raw[i:])
			if r == utf8.RuneError && size == 1 || !unicode.IsPrint(r) || invisible(r) {
				dst = appendU(dst, r)
			} else {
				dst = append(dst, raw[i:i+size]...)
			}
			i += size
			continue
		case !inside && isSpace(c):
			i++
			continue
		}
		dst = append(dst, c)
		i++
	}
	return dst
}
