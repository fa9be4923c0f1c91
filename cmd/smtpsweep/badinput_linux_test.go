package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A pipe that exists is no output: whoever reads it would get the report of
// another run, or the run would wait for a reader (reliability.md B28).
func TestPipeIsAnOutputThatExists(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	w := newWatch(t)
	pipe := filepath.Join(t.TempDir(), "pipe.csv")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := invoke(t, "scan", w.tcp.Addr().String(), "-o", pipe)
	if code != exitUsage || !strings.Contains(stderr, "exists already") {
		t.Errorf("exit %d:\n%s", code, stderr)
	}
	checkSentence(t, stderr)
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("it is no pipe any more (%v)", err)
	}
	w.check(t)
}

// --force replaces a symlink; what it points to is somebody else's file.
func TestForceDoesNotFollowASymlink(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := t.TempDir()
	theirs, link := filepath.Join(dir, "theirs"), filepath.Join(dir, "link.csv")
	if err := os.WriteFile(theirs, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(theirs, link); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := invoke(t, "scan", nobodyListens(t), "-o", link, "--force"); code != 0 {
		t.Fatalf("exit %d:\n%s", code, stderr)
	}
	if text, err := os.ReadFile(theirs); err != nil || string(text) != "theirs" {
		t.Errorf("their file is now %q (%v)", text, err)
	}
	text, err := os.ReadFile(link)
	if err != nil {
		t.Fatal(err)
	}
	if rows := csvRows(t, string(text)); len(rows) != 1 {
		t.Errorf("%d rows, want 1", len(rows))
	}
}
