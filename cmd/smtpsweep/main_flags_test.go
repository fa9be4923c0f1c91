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

func TestMistypedCommandsAreGuessed(t *testing.T) {
	for typed, want := range map[string]string{"scna": "scan", "raport": "report", "dem": "demo", "explian": "explain", "helo": "help", "zzz": ""} {
		code, _, stderr := invoke(t, typed)
		if code != exitUsage || strings.Contains(stderr, "did you mean "+want+"?") != (want != "") {
			t.Errorf("%s: exit %d, want a guess %q:\n%s", typed, code, want, stderr)
		}
	}
}

// Every command tells how it is used, by example, and what its exit code means.
func TestEveryHelpHasExamplesAndExitCodes(t *testing.T) {
	root := newRoot(newUI(nil, nil, nil))
	commands := []string{""}
	for _, cmd := range root.Commands() {
		commands = append(commands, cmd.Name())
	}
	for _, name := range commands {
		code, stdout, stderr := invoke(t, append(strings.Fields(name), "--help")...)
		usage := "\nUsage:\n  " + strings.TrimSpace("smtpsweep "+name)
		_, rest, _ := strings.Cut(stdout, usage)
		line, _, _ := strings.Cut(rest, "\n\n")
		if code != 0 || rest == "" || strings.Contains(line, "\n") || !strings.Contains(rest, "\nExamples:\n  smtpsweep") || !strings.HasSuffix(stdout, exitHelp+"\n") {
			t.Errorf("%s --help: exit %d\n%s%s", name, code, stdout, stderr)
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
		"report ": "last\n", "report --show f": "filtered\n", "scan --expect c": "closed\n", "scan --resume ": "last\n:0\n",
	} {
		words := strings.Split("__complete "+args, " ")
		code, stdout, _ := invoke(t, words...)
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("completing %q: exit %d, want %q in\n%s", args, code, want, stdout)
		}
	}
}
