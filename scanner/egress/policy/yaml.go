package policy

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file. The longest policy that people keep up has some hundred rules.
const (
	maxBytes = 1 << 20
	maxNest  = 4       // brackets: {deny: [{ports: [25]}]}
	maxLevel = 8       // of lines further in
	maxKeys  = 10_000  // in all
	maxItems = 50_000  // elements of lists, in all
	maxRules = 1_000   // and segments
	maxPairs = 500_000 // elements of from times elements of to, over all rules
)

// A place in the file, from 1.
type at struct{ line, column int }

// checkTokens refuses what a policy has no use for, token by token, before it is
// parsed: the parser's time and memory grow without bound with nesting, and
// aliases multiply. why is empty if there is nothing of it.
func checkTokens(text []byte) (where at, why string) {
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return at{1, 1}, "it is not a text file in UTF-8"
	}
	if where, why = checkIndent(text); why != "" {
		return where, why
	}
	var keys, items, nest, entryLine, keyLine int
	for _, t := range lexer.Tokenize(string(text)) {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.MappingKeyType, token.DirectiveType,
			token.LiteralType, token.FoldedType:
			why = quote(t.Value) + " is not understood here: write plain lists and lines of key: value"
		case token.DocumentHeaderType, token.DocumentEndType:
			if keys+items > 0 {
				why = "a second document begins: one is enough"
			}
		case token.SequenceStartType, token.MappingStartType:
			if nest++; nest > maxNest {
				why = "nested too deeply"
			}
		case token.SequenceEndType, token.MappingEndType:
			if nest--; nest < 0 {
				why = "a closing bracket without an opening one"
			}
		case token.CollectEntryType:
			items++
		case token.SequenceEntryType:
			if items++; nest == 0 && entryLine == t.Position.Line {
				why = "a list within a list: a plain value or a list of them is wanted"
			}
			entryLine = t.Position.Line
		case token.MappingValueType:
			if keys++; nest == 0 && keyLine == t.Position.Line && !endsAddress(text, t) {
				why = "a second colon: put quotes around the value"
			}
			keyLine = t.Position.Line
		}
		if why == "" && keys > maxKeys {
			why = fmt.Sprintf("more than %d keys", maxKeys)
		}
		if why == "" && items > maxItems {
			why = fmt.Sprintf("more than %d elements of lists", maxItems)
		}
		if why != "" {
			return at{t.Position.Line, t.Position.Column}, why
		}
	}
	return at{}, ""
}

// endsAddress reports whether a colon follows another, as at the end of "fd20::",
// which the lexer takes for a key.
func endsAddress(text []byte, t *token.Token) bool {
	i := t.Position.Offset - 2 // from 1, and the one before
	return i >= 0 && i < len(text) && text[i] == ':'
}

// checkIndent bounds how often a line stands further in than the one it belongs to.
func checkIndent(text []byte) (where at, why string) {
	var open []int
	n := 0
	for line := range bytes.Lines(text) {
		n++
		bare := bytes.TrimLeft(line, " ")
		if len(bytes.TrimSpace(bare)) == 0 || bare[0] == '#' {
			continue
		}
		indent := len(line) - len(bare)
		for len(open) > 0 && open[len(open)-1] >= indent {
			open = open[:len(open)-1]
		}
		if open = append(open, indent); len(open) > maxLevel {
			return at{n, indent + 1}, "nested too deeply"
		}
	}
	return at{}, ""
}

// parseYAML returns the top of the document; nil if there is nothing in it.
func parseYAML(text []byte) (ast.Node, *Mistake) {
	if where, why := checkTokens(text); why != "" {
		return nil, &Mistake{Line: where.line, Column: where.column, Why: why}
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntaxMistake(err)
	}
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			return d.Body, nil
		}
	}
	return nil, nil
}

// syntaxMistake reads the parser's "[2:1] reason", with its drawing after it.
func syntaxMistake(err error) *Mistake {
	m := &Mistake{Line: 1, Column: 1}
	m.Why, _, _ = strings.Cut(strings.TrimSpace(err.Error()), "\n")
	if place, reason, ok := strings.Cut(strings.TrimPrefix(m.Why, "["), "] "); ok && m.Why[0] == '[' {
		line, column, _ := strings.Cut(place, ":")
		l, errL := strconv.Atoi(line)
		c, errC := strconv.Atoi(column)
		if errL == nil && errC == nil {
			m.Line, m.Column, m.Why = l, c, reason
		}
	}
	if strings.HasPrefix(m.Why, "mapping value is not allowed") {
		m.Why = "a colon where none may stand: put quotes around a value that has one"
	}
	return m
}

// An entry is a key of a mapping with its value.
type entry struct {
	key   string
	at    at // of the key
	value ast.Node
}

// entries returns the keys of a mapping; ok is false if it is none.
func entries(n ast.Node) (out []entry, ok bool) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		return nil, false
	}
	for _, pair := range pairs {
		t := pair.Key.GetToken()
		out = append(out, entry{t.Value, at{t.Position.Line, t.Position.Column}, pair.Value})
	}
	return out, true
}

// placeOf returns where a node begins. A mapping without brackets begins with its
// first key; its own token is the colon.
func placeOf(n ast.Node) at {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && m.Start.Type != token.MappingStartType {
		n = m.Values[0]
	}
	if v, ok := n.(*ast.MappingValueNode); ok {
		n = v.Key
	}
	t := n.GetToken()
	return at{t.Position.Line, t.Position.Column}
}

// A word is a plain value as it is written, without quotes.
type word struct {
	text string
	at   at
}

// wordOf returns a plain value; ok is false if the node is none.
func wordOf(n ast.Node) (w word, ok bool) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return word{}, false
	case *ast.MappingNode:
		if len(n.Values) != 1 || n.Start.Type == token.MappingStartType {
			return word{}, false
		}
		return splitWord(n.Values[0])
	case *ast.MappingValueNode:
		return splitWord(n)
	case ast.ScalarNode:
		return word{n.GetToken().Value, placeOf(n)}, true
	}
	return word{}, false
}

// splitWord puts together a word that the parser took for a key and its value:
// fd20::/64 in a list, or fd20:: at the end of a line (YAML 1.2.2, 7.3.3, lets a
// plain value have a colon with no space behind it).
func splitWord(pair *ast.MappingValueNode) (w word, ok bool) {
	key, isPlain := wordOf(pair.Key)
	colon := pair.GetToken().Position
	if !isPlain || pair.Key.GetToken().Type != token.StringType && pair.Key.GetToken().Type != token.IntegerType ||
		colon.Line != key.at.line || colon.Column != key.at.column+len(key.text) {
		return word{}, false
	}
	if _, ends := pair.Value.(*ast.NullNode); ends && strings.HasSuffix(key.text, ":") {
		return word{key.text + ":", key.at}, true
	}
	rest, isPlain := wordOf(pair.Value)
	if !isPlain || rest.at != (at{colon.Line, colon.Column + 1}) {
		return word{}, false
	}
	return word{key.text + ":" + rest.text, key.at}, true
}

// quote makes foreign text safe and short enough for one line of an error.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return strconv.QuoteToGraphic(s)
}
