package main

import (
	"os/exec"
	"testing"
)

// A command that is said can be copied, whatever the files are called.
func TestShellWordsAreReadBackAlike(t *testing.T) {
	for word, want := range map[string]string{
		"run.jsonl": "run.jsonl", "/var/log/a-b_c.jsonl": "/var/log/a-b_c.jsonl", "my run.jsonl": "'my run.jsonl'",
		"it's": `'it'\''s'`, "": "''", "$(id)": "'$(id)'", "a;b": "'a;b'", "~x": "'~x'",
	} {
		got := shellWord(word)
		if got != want {
			t.Errorf("%q is written %s, want %s", word, got, want)
		}
		if out, err := exec.Command("sh", "-c", "printf %s "+got).Output(); err == nil && string(out) != word {
			t.Errorf("a shell reads %s as %q", got, out)
		}
	}
}
