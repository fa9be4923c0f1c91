package reflect

import (
	"bytes"
	"slices"
	"strings"
)

// A pair is an exchange as we saw it and as the far end saw it; nil where it was
// seen at one end only.
type pair struct{ here, there *Exchange }

// align pairs the exchanges of both ends, such that as few as can be are changed
// or left alone: a device on the way answers by itself, says things of its own,
// or changes words.
func align(here, there []Exchange) (pairs []pair) {
	cost := make([][]int, len(here)+1)
	for i := range cost {
		cost[i] = make([]int, len(there)+1)
	}
	const alone = 3
	for i := len(here); i >= 0; i-- {
		for j := len(there); j >= 0; j-- {
			switch {
			case i == len(here):
				cost[i][j] = alone * (len(there) - j)
			case j == len(there):
				cost[i][j] = alone * (len(here) - i)
			default:
				cost[i][j] = min(distance(&here[i], &there[j])+cost[i+1][j+1], alone+cost[i+1][j], alone+cost[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(here) || j < len(there) {
		switch {
		case i < len(here) && j < len(there) && cost[i][j] == distance(&here[i], &there[j])+cost[i+1][j+1]:
			pairs = append(pairs, pair{&here[i], &there[j]})
			i, j = i+1, j+1
		case i < len(here) && cost[i][j] == alone+cost[i+1][j]:
			pairs = append(pairs, pair{here: &here[i]})
			i++
		default:
			pairs = append(pairs, pair{there: &there[j]})
			j++
		}
	}
	return pairs
}

// distance is how unlike two commands are. Two that have another verb are rather
// one that did not arrive and one that nobody said, unless one was made of the
// other, letter for letter.
func distance(a, b *Exchange) int {
	verb := func(e *Exchange) string {
		word, _, _ := strings.Cut(string(e.Command), " ")
		return strings.ToUpper(word)
	}
	switch {
	case bytes.Equal(a.Command, b.Command):
		return 0
	case verb(a) == verb(b) && len(a.Command) > 0:
		return 1
	case a.Length == b.Length, len(b.Command) > 0 && strings.Trim(verb(b), "X") == "":
		return 4 // overwritten in its place
	}
	return 7
}

// A change is a line that is not the same at both ends; empty where it is not
// there at all.
type change struct{ sent, arrived string }

// changes compares the lines of a reply.
func changes(sent, arrived []byte) (out []change) {
	if bytes.Equal(sent, arrived) {
		return nil
	}
	a, b := splitLines(sent), splitLines(arrived)
	if len(a) == len(b) {
		for i := range a {
			if a[i] != b[i] {
				out = append(out, change{a[i], b[i]})
			}
		}
		return out
	}
	// Lines were left out or added: the sign of the last line moves with that.
	same := func(x, y string) bool { return withoutSign(x) == withoutSign(y) }
	for _, line := range a {
		if !slices.ContainsFunc(b, func(other string) bool { return same(line, other) }) {
			out = append(out, change{sent: line})
		}
	}
	for _, line := range b {
		if !slices.ContainsFunc(a, func(other string) bool { return same(line, other) }) {
			out = append(out, change{arrived: line})
		}
	}
	if len(out) == 0 {
		out = append(out, change{clip(string(sent)), clip(string(arrived))})
	}
	return out
}

func splitLines(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	return strings.Split(string(text), "\n")
}

// withoutSign is a line of a reply without the sign that says whether more come.
func withoutSign(line string) string {
	if len(line) > 3 {
		return line[:3] + " " + line[4:]
	}
	return line
}

// isMasked reports whether a keyword was overwritten in its place: by letters X,
// the last perhaps an A.
func (c change) isMasked() bool {
	if len(c.sent) < 8 || len(c.sent) != len(c.arrived) {
		return false
	}
	word := strings.TrimSpace(c.arrived[4:])
	return len(word) >= 4 && word[0] == 'X' && strings.Trim(word, "XA") == ""
}
