package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
)

// What was written of a run that is not over says so.
func TestOutputsOfAnInterruptedRunAreSaidToBeIncomplete(t *testing.T) {
	t.Parallel()
	csvPath := filepath.Join(t.TempDir(), "rows.csv")
	path := filepath.Join(t.TempDir(), "run.jsonl")
	p := launch(t, nil, nil, "scan", "127.0.0.1-127.0.0.40:1", "-o", path, "-o", csvPath, "--rate", "0.1")
	awaitRows(t, path, 1) // the next one comes ten seconds later
	p.Process.Signal(os.Interrupt)
	p.mustEnd(t, exitInterrupt)
	rows := len(reported(t, path))
	again := filepath.Join(t.TempDir(), "again.csv")
	code, _, said := invoke(t, "report", path, "-o", again)
	want := "Wrote " + again + " (" + group(uint64(rows)) + " of 40 rows: the run is not complete).\n"
	end := "The run of " + path + " is not complete: it was interrupted. Go on with: smtpsweep scan --resume " + path + "\n"
	if code != 0 || rows >= 40 || !strings.Contains(said, want) || !strings.HasSuffix(said, end) {
		t.Errorf("exit code %d, %d rows; it says\n%swant\n%s%s", code, rows, said, want, end)
	}
	if code, _, said := invoke(t, "report", path, "-q"); code != 0 || said != "" {
		t.Errorf("-q: exit code %d, it says %q", code, said)
	}
	code, _, said = invoke(t, append([]string{"scan", "--resume", path, "--rate", "0", "-o", csvPath, "--force"}, hasty...)...)
	if want := "Wrote " + csvPath + " (40 rows).\n"; code != 0 || !strings.Contains(said, want) {
		t.Errorf("exit code %d; it says\n%swant\n%s", code, said, want)
	}
	if _, _, said := invoke(t, "report", path); strings.Contains(said, "not complete") {
		t.Errorf("of a complete run it says %s", said)
	}
}

func TestAReportOfAKilledRunSaysHowToGoOn(t *testing.T) {
	t.Parallel()
	path := killedEarly(t)
	end := "The run of " + path + " is not complete: it still goes on, or was killed. Go on with: smtpsweep scan --resume " + path + "\n"
	if code, _, said := invoke(t, "report", path); code != 0 || !strings.HasSuffix(said, end) {
		t.Errorf("exit code %d; it says\n%swant\n%s", code, said, end)
	}
	other := filepath.Join(t.TempDir(), "other.jsonl")
	launch(t, nil, nil, "scan", "-q", "127.0.0.1:1", "-o", other).mustEnd(t, 0)
	if _, _, said := invoke(t, "report", path, other); !strings.HasSuffix(said, end) {
		t.Errorf("with another that is complete: it says %s", said)
	}
	// A finished run that is gone on with and killed is not finished any more.
	dead := scannertest.DNS(t, scannertest.DNSZone{"mail.example.org": {"SERVFAIL"}})
	path = filepath.Join(t.TempDir(), "again.jsonl")
	args := []string{"scan", "127.0.0.1:1", "mail.example.org", "--resolver", dead.String(), "-o", path}
	launch(t, nil, nil, args...).mustEnd(t, exitUndecided)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	launch(t, nil, nil, "scan", "--resume", path, "--resolver", dead.String()).mustEnd(t, exitUndecided)
	longer, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndex(longer, []byte(`{"type":"end"`))
	if last <= len(text) {
		t.Fatal("the resumed run wrote nothing")
	}
	if err := os.WriteFile(path, longer[:last], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, said := invoke(t, "report", path); !strings.Contains(said, "it still goes on, or was killed") {
		t.Errorf("of one that was gone on with and killed it says %s", said)
	}
}

// A resumed run writes what the run was to write, also one that was killed
// before it could.
func TestAResumedRunWritesTheOutputsOfTheRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	csvPath, jsonPath := filepath.Join(dir, "rows.csv"), filepath.Join(dir, "rows.json")
	path := killedEarly(t, "-o", csvPath, "-o", jsonPath, "-o", "-")
	if err := os.WriteFile(jsonPath, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, nil, nil, "scan", "--resume", path, "--rate", "0").mustEnd(t, 0)
	text, err := os.ReadFile(csvPath)
	if err != nil {
		t.Fatalf("%v; it says %s", err, p.err.String())
	}
	sameStates(t, statesOf(t, string(text)), reported(t, path))
	if text, _ := os.ReadFile(jsonPath); string(text) != "theirs" {
		t.Errorf("a file that was there is %.50q now", text)
	}
	anew := "smtpsweep report " + path + " -o " + jsonPath + " --force"
	for _, want := range []string{"Wrote " + csvPath + " (40 rows).\n", jsonPath + " was there before and was left as it is. Anew: " + anew + "\n"} {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("it says %s, want %q", p.err.String(), want)
		}
	}
	launch(t, nil, nil, strings.Fields(anew)[1:]...).mustEnd(t, 0) // as it says
	if text, _ := os.ReadFile(jsonPath); !strings.HasPrefix(string(text), "{") {
		t.Errorf("the command that it says writes %.50q", text)
	}
}

func TestAResumedRunLeavesOutOutputsWhereOthersAreNamed(t *testing.T) {
	t.Parallel()
	for _, more := range [][]string{{"-f", "targets"}, {"-o", "-"}, {"-o", filepath.Join(t.TempDir(), "other.csv")}} {
		csvPath := filepath.Join(t.TempDir(), "rows.csv")
		path := killedEarly(t, "-o", csvPath)
		p := launch(t, nil, nil, append([]string{"scan", "--resume", path, "--rate", "0"}, more...)...).mustEnd(t, 0)
		if _, err := os.Stat(csvPath); err == nil || strings.Contains(p.err.String(), csvPath) {
			t.Errorf("%v: it wrote what was not named now, or says so: %s", more, p.err.String())
		}
	}
}

// A path means the same file wherever a run is gone on with, and the journal is
// never an output of its own.
func TestOutputsAreFoundFromEveryFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := &process{ended: make(chan struct{})}
	p.Cmd = execCommand(t, "scan", "127.0.0.1-127.0.0.40:1", "-o", "run.jsonl", "-o", "rows.csv", "--rate", "0.1")
	p.Dir = dir
	p.Stderr = &p.err
	p.start(t)
	awaitRows(t, filepath.Join(dir, "run.jsonl"), 1)
	p.kill()
	moved := filepath.Join(t.TempDir(), "moved.jsonl")
	if err := os.Rename(filepath.Join(dir, "run.jsonl"), moved); err != nil {
		t.Fatal(err)
	}
	launch(t, nil, nil, "scan", "--resume", moved, "--rate", "0").mustEnd(t, 0)
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 || filepath.Base(left[0]) != "rows.csv" {
		t.Errorf("beside the run's files: %v, want the CSV", left)
	}
	p = &process{ended: make(chan struct{})}
	p.Cmd = execCommand(t, "scan", "--resume", moved)
	p.Dir = dir
	p.Stderr = &p.err
	p.start(t)
	if p.mustEnd(t, 0); !strings.Contains(p.err.String(), "\nrows.csv was there before") {
		t.Errorf("it says %s", p.err.String())
	}
}

// Who may read a file that is replaced may read the new one. A new file is for
// its owner only: names and certificates may be personal data.
func TestForceKeepsWhoMayReadAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rows.csv")
	mode := func() fs.FileMode {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	scan := func(args ...string) {
		launch(t, nil, nil, append([]string{"scan", "-q", "127.0.0.1:1", "-o", path}, args...)...).mustEnd(t, 0)
	}
	if scan(); mode() != 0o600 {
		t.Errorf("a new file is %v", mode())
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if scan("--force"); mode() != 0o644 {
		t.Errorf("a file of mode 0644 that is replaced is %v", mode())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nonexistent", path); err != nil {
		t.Fatal(err)
	}
	if scan("--force"); mode() != 0o600 {
		t.Errorf("in the place of a symlink it is %v", mode())
	}
}
