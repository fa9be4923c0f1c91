package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/report"
)

// A command that is said can be copied, whatever the files are called.
func TestShellWordsAreReadBackAlike(t *testing.T) {
	for word, want := range map[string]string{
		"run.jsonl": "run.jsonl", "/var/log/a-b_c.jsonl": "/var/log/a-b_c.jsonl", "my run.jsonl": "'my run.jsonl'",
		"it's": `'it'\''s'`, "": "''", "$(id)": "'$(id)'", "a;b": "'a;b'", "~x": "'~x'", "grün.csv": "'grün.csv'",
		"a\x1b[31m'\\b\n.csv": `$'a\033[31m\047\134b\012.csv'`,
	} {
		got := shellWord(word)
		if got != want {
			t.Errorf("%q is written %s, want %s", word, got, want)
		}
		if out, err := exec.Command(shellFor(got), "-c", "printf %s "+got).Output(); err == nil && string(out) != word {
			t.Errorf("a shell reads %s as %q", got, out)
		}
	}
}

// shellFor returns a shell that reads a word: $'...' is younger than others.
func shellFor(word string) string {
	if strings.HasPrefix(word, "$") {
		return "bash"
	}
	return "sh"
}

// Whatever files, lists and targets are called, no message carries a control byte.
func TestNoNameReachesTheTerminalAsItIs(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Chdir(t.TempDir())
	const odd = "a\x1b[31mb\u202e"
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	endpoint := nobodyListens(t)
	write(odd+".list", "127.0.0.1/24\n")
	write(odd+".bad", "127.1\n127.2\n")
	write(odd, endpoint+"\n")
	journal, csv := odd+".jsonl", odd+".csv"
	for _, args := range [][]string{
		{"scan", endpoint, "-o", journal, "-o", csv},
		{"scan", endpoint, "-o", journal},
		{"scan", endpoint, "-o", csv},
		{"scan", "--resume", journal},
		{"report", journal, "-o", "x" + csv, "-v"},
		{"report", journal + "x"},
		{"scan", "-i", odd + ".list", "--dry-run", "-p", "1"},
		{"scan", "-i", odd + ".bad"},
		{"scan", endpoint, "--exclude-file", odd + ".bad"},
		{"scan", endpoint, "--config", odd + ".bad"},
		{"scan", endpoint, "--ca", odd},
		{"scan", endpoint, "--source", odd},
		{"scan", odd, "--dry-run", "-v", "--resolver", "127.0.0.1:9"},
		{"scan", endpoint, "--" + odd},
		{"explain", odd},
		{odd},
	} {
		code, stdout, stderr := invoke(t, args...)
		for line := range strings.Lines(stdout + stderr) {
			if line = strings.TrimSuffix(line, "\n"); report.Clean(line) != line {
				t.Errorf("%q: exit %d, says %q", args, code, line)
			}
		}
	}
}
