package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/spf13/pflag"
)

// maxConfig bounds a configuration file, so that a bomb is an error.
const maxConfig = 1 << 20

// applyDefaults fills flags that the command line did not set, from the
// environment (SMTPSWEEP_RATE for --rate), then from a configuration file whose
// keys are flag names. A key that is no flag is an error with line and column:
// a mistyped "exclude" would scan the wrong network.
func applyDefaults(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		variable := "SMTPSWEEP_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(variable)
		if !ok || f.Changed || err != nil || f.Name == "help" {
			return
		}
		if setErr := flags.Set(f.Name, value); setErr != nil {
			err = fail(exitUsage, "environment variable %s: %s", variable, flagMessage(setErr))
		}
	})
	file := flags.Lookup("config").Value.String() // the environment may name it
	if err != nil || file == "" {
		return err
	}
	return applyFile(flags, file)
}

func applyFile(flags *pflag.FlagSet, file string) error {
	text, err := readConfig(file)
	if err != nil {
		return fail(exitUsage, "--config %s: %w", clip(file), err)
	}
	if at, why := checkYAML(text); why != "" {
		return fail(exitUsage, "--config %s:%d:%d: %s", clip(file), at.Line, at.Column, why)
	}
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		return fail(exitUsage, "--config %s%s", clip(file), yamlError(err))
	}
	for _, d := range doc.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType {
			continue
		}
		mapping, ok := d.Body.(*ast.MappingNode)
		if !ok {
			return fail(exitUsage, "--config %s:%d: lines of flag: value are wanted, as in rate: 100", clip(file), d.Body.GetToken().Position.Line)
		}
		for _, pair := range mapping.Values {
			if err := applyPair(flags, pair); err != nil {
				at := pair.Key.GetToken().Position
				return fail(exitUsage, "--config %s:%d:%d: %w", clip(file), at.Line, at.Column, err)
			}
		}
	}
	return nil
}

// Bounds of a configuration: there are some forty flags, and a value is plain
// or a list.
const (
	maxKeys = 1000
	maxNest = 2 // {exclude: [192.0.2.0/24]}
)

// checkYAML refuses what a configuration has no use for, token by token, before
// it is parsed: the parser's time and memory grow without bound with nesting
// (a line of 10^5 opening brackets takes gigabytes). It returns the place and
// the reason, which is empty if there is none.
func checkYAML(text []byte) (at token.Position, why string) {
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return token.Position{Line: 1, Column: 1}, "it is not a text file in UTF-8"
	}
	var keys, nest, itemLine, keyLine int
	for _, t := range lexer.Tokenize(string(text)) {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.MappingKeyType, token.DirectiveType:
			why = quoteShort(t.Value) + " is not understood here: write plain lines of flag: value"
		case token.DocumentHeaderType, token.DocumentEndType:
			if keys+itemLine > 0 {
				why = "a second document begins: one is enough"
			}
		case token.SequenceStartType, token.MappingStartType:
			if nest++; nest > maxNest {
				why = "nested too deeply: a plain value or a list of them is wanted"
			}
		case token.SequenceEndType, token.MappingEndType:
			if nest--; nest < 0 {
				why = "a closing bracket without an opening one"
			}
		case token.SequenceEntryType:
			if nest == 0 && itemLine == t.Position.Line {
				why = "a list within a list: a plain value or a list of them is wanted"
			}
			itemLine = t.Position.Line
		case token.MappingValueType:
			if keys++; keys > maxKeys {
				why = fmt.Sprintf("more than %d keys", maxKeys)
			} else if nest == 0 && keyLine == t.Position.Line {
				why = "a second colon: put quotes around the value"
			}
			keyLine = t.Position.Line
		}
		if why != "" {
			return *t.Position, why
		}
	}
	return token.Position{}, ""
}

func quoteShort(s string) string { return strconv.Quote(clip(s)) }

// yamlError writes the parser's "[2:1] reason", with its drawing after it, as
// ":2:1: reason".
func yamlError(err error) string {
	line := firstLine(err)
	if place, reason, ok := strings.Cut(strings.TrimPrefix(line, "["), "] "); ok && line[0] == '[' {
		return ":" + place + ": " + reason
	}
	return ": " + line
}

func readConfig(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, plainPathError(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, plainPathError(err)
	}
	if len(text) > maxConfig {
		return nil, errors.New("larger than 1 MiB")
	}
	return text, nil
}

func applyPair(flags *pflag.FlagSet, pair *ast.MappingValueNode) error {
	name := pair.Key.GetToken().Value // without quotes
	flag := flags.Lookup(name)
	if flag == nil || name == "config" || name == "help" {
		return fmt.Errorf("unknown key %q: keys are the names of flags", clip(name))
	}
	values, err := scalars(pair.Value)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, repeatable := flag.Value.(pflag.SliceValue); !repeatable && len(values) > 1 {
		if name != "ports" && name != "show" {
			return fmt.Errorf("%s: one value is wanted, not a list", name)
		}
		values = []string{strings.Join(values, ",")}
	}
	if flag.Changed && !strings.HasPrefix(name, "exclude") { // exclusions add up
		return nil
	}
	for _, value := range values {
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("%s", flagMessage(err))
		}
	}
	return nil
}

// scalars returns the text of a scalar or of a list of scalars.
func scalars(node ast.Node) ([]string, error) {
	switch n := node.(type) {
	case *ast.SequenceNode:
		var out []string
		for _, item := range n.Values {
			scalar, ok := item.(ast.ScalarNode)
			if !ok {
				return nil, errors.New("a list of plain values is wanted")
			}
			out = append(out, fmt.Sprint(scalar.GetValue()))
		}
		return out, nil
	case *ast.NullNode:
		return nil, errors.New("a value is missing")
	case *ast.LiteralNode:
		return []string{strings.TrimSpace(n.Value.Value)}, nil
	case ast.ScalarNode:
		return []string{n.GetToken().Value}, nil
	}
	return nil, errors.New("a plain value or a list of them is wanted")
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return line
}

// plainPathError drops "open NAME:" from an error whose message names the file already.
func plainPathError(err error) error {
	var path *os.PathError
	var link *os.LinkError // of a rename
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
