package main

import (
	"strings"
	"testing"
)

func TestMistypedFlagsAreGuessed(t *testing.T) {
	for typed, want := range map[string]string{
		"--prots": "--ports", "--port": "--ports", "--patince": "--patience", "--subnet": "--subnet-rate",
		"--xyzzy": "",
	} {
		code, _, stderr := invoke(t, "scan", typed, "25", "192.0.2.1")
		if code != exitUsage || strings.Contains(stderr, "did you mean "+want+"?") != (want != "") {
			t.Errorf("scan %s: exit %d, want a guess %q:\n%s", typed, code, want, stderr)
		}
	}
}

func TestEditsCountsLetters(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"ports", "prots", 2}, {"rate", "rates", 1}, {"kitten", "sitting", 3}} {
		if got := edits(c.a, c.b); got != c.want {
			t.Errorf("edits(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestShellsCompleteWords(t *testing.T) {
	for args, want := range map[string]string{
		"scan --probe ": "banner\nfull\n", "scan -f x": "xml\n", "scan --engine ": "auto\nconnect\n",
		"report ": "last\n", "report --show f": "filtered\n", "scan --expect c": "closed\n",
	} {
		words := strings.Split("__complete "+args, " ")
		code, stdout, _ := invoke(t, words...)
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("completing %q: exit %d, want %q in\n%s", args, code, want, stdout)
		}
	}
}
