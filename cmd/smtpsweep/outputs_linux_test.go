package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// goodAndMute starts a good server and a mute one on loopback.
func goodAndMute(t *testing.T) (good, mute netip.AddrPort, zoo *scannertest.Zoo) {
	t.Helper()
	zoo, err := scannertest.Start(t.Context(), scannertest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(zoo.Close)
	return mailHost(t, zoo, "127.0.0.1:0", "good"), mailHost(t, zoo, "127.0.0.2:0", "mute"), zoo
}

func TestOneRunWritesEveryFormatAtOnce(t *testing.T) {
	t.Parallel()
	good, _, _ := goodAndMute(t)
	dir := t.TempDir()
	args := []string{"scan", good.String(), "127.0.0.1-127.0.0.3:1", "-f", "jsonl"}
	begins := map[string]string{
		"rows.csv": "time,vantage,", "rows.xml": "<?xml", "rows.json": "{", "rows.md": "|", "rows.txt": "ADDRESS",
		"rows.targets": good.String(), "rows.jsonl": `{"type":"run",`, "more.jsonl": `{"type":"`,
	}
	for _, name := range slices.Sorted(maps.Keys(begins)) {
		args = append(args, "-o", filepath.Join(dir, name))
	}
	p := launch(t, nil, nil, args...)
	p.mustEnd(t, 0)
	for name, want := range begins {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(text[:min(len(text), 400)]), want) || !bytes.Contains(text, []byte(good.Addr().String())) {
			t.Errorf("%s begins %.100q, want %q", name, text, want)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != len(begins) {
		t.Errorf("left %v", left)
	}
	// The first .jsonl by the order of -o is the journal: more.jsonl.
	sameLines(t, p.out.String(), filepath.Join(dir, "more.jsonl"))
}

// sameLines compares JSON Lines of stdout with the journal: all its records but
// the sync marks, which tell of the file.
func sameLines(t *testing.T, stdout, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, `{"type":"sync"`) {
			want = append(want, line)
		}
	}
	if got := slices.Collect(strings.Lines(stdout)); !slices.Equal(got, want) {
		t.Errorf("stdout has %d lines, the journal %d, and they are not the same", len(got), len(want))
	}
}

func TestJSONLinesOfAResumedRunAreItsWholeJournal(t *testing.T) {
	t.Parallel()
	path, _, _, _ := interruptedRun(t)
	code, out, said := invoke(t, append([]string{"scan", "--resume", path, "-f", "jsonl"}, hasty...)...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	sameLines(t, out, path)
}

func TestAClosedPipeEndsTheRunAndTheJournalGoesOn(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"csv", "jsonl", "targets"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			_, mute, _ := goodAndMute(t)
			zoo, err := scannertest.Start(t.Context(), scannertest.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer zoo.Close()
			specs := []string{mute.String()} // what would keep the run alive for a minute
			for range 100 {
				specs = append(specs, mailHost(t, zoo, "127.0.0.3:0", "good").String())
			}
			dir := t.TempDir()
			path, csvPath := filepath.Join(dir, "run.jsonl"), filepath.Join(dir, "rows.csv")
			p := &process{ended: make(chan struct{})}
			p.Cmd = execCommand(t, append([]string{"scan", "--rate", "50", "--patience", "65s", "-f", format, "-o", path, "-o", csvPath}, specs...)...)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			p.Stdout, p.Stderr = w, &p.err
			p.start(t)
			w.Close()
			if _, err := r.Read(make([]byte, 1)); err != nil { // as head -1 does
				t.Fatal(err)
			}
			r.Close()
			p.mustEnd(t, exitPipe)
			if strings.Contains(p.err.String(), "smtpsweep:") {
				t.Errorf("a reader that has enough is no error: %s", p.err.String())
			}
			known := reported(t, path)
			if len(known) == 0 || len(known) == len(specs) && known[keyOf(mute)] != "unknown interrupted" {
				t.Errorf("%d rows of %d", len(known), len(specs))
			}
			text, err := os.ReadFile(csvPath)
			if err != nil {
				t.Fatalf("the other output was lost: %v", err)
			}
			sameStates(t, statesOf(t, string(text)), known)
			code, _, said := invoke(t, "scan", "--resume", path, "--patience", "300ms", "--greeting-timeout", "300ms", "--rate", "0", "-q", "-f", "table")
			if code != 0 || len(reported(t, path)) != len(specs) {
				t.Errorf("resumed: exit code %d, %d rows of %d: %s", code, len(reported(t, path)), len(specs), said)
			}
		})
	}
}

func TestAFullStdoutIsAnError(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"scan", "127.0.0.1:1", "-f", "csv"}, {"scan", "127.0.0.1:1", "-f", "jsonl"}, {"scan", "127.0.0.1:1"}, {"scan", "127.0.0.1:1", "--dry-run"},
		{"version"}, {"selftest"}, {"explain", "554"}, {"--help"}, {"scan", "--help"}, {"completion", "bash"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Skip("no /dev/full here: ", err)
			}
			defer full.Close()
			p := &process{ended: make(chan struct{})}
			p.Cmd = execCommand(t, args...)
			p.Stdout, p.Stderr = full, &p.err
			p.start(t)
			p.mustEnd(t, exitOutput)
			if !strings.Contains(p.err.String(), "smtpsweep: stdout could not be written: no space left on device") {
				t.Errorf("it said %q", p.err.String())
			}
		})
	}
}

func TestHelpForAReaderThatHasEnoughIsNoError(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"scan", "--help"}, {"help", "scan"}, {"version"}, {"explain", "554"}, {"completion", "bash"}} {
		p := &process{ended: make(chan struct{})}
		p.Cmd = execCommand(t, args...)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		p.Stdout, p.Stderr = w, &p.err
		p.start(t)
		w.Close()
		p.mustEnd(t, exitPipe)
		if p.err.Len() > 0 {
			t.Errorf("%v: it said %q", args, p.err.String())
		}
	}
}

func TestAFullDiskLosesTheOutputAndNotTheRun(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		small, dir := t.TempDir(), t.TempDir()
		if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
			t.Skipf("no tmpfs can be mounted here: %v", err)
		}
		defer unix.Unmount(small, 0)
		env := []string{"XDG_STATE_HOME=" + dir}
		csvPath, other := filepath.Join(small, "rows.csv"), filepath.Join(dir, "rows.csv")
		p := launch(t, l, env, "scan", "10.64.0.0/21", "-p", "25", "--probe", "port", "--rate", "0", "-o", csvPath, "-o", other)
		p.mustEnd(t, exitOutput)
		if !strings.Contains(p.out.String(), "= 2,048 of 2,048 in ") {
			t.Errorf("it does not say the totals: %q", p.out.String())
		}
		for _, want := range []string{csvPath + " could not be written: no space left on device", "Wrote " + other + " (2,048 rows)", "smtpsweep report"} {
			if !strings.Contains(p.err.String(), want) {
				t.Errorf("it said %q, want %q", p.err.String(), want)
			}
		}
		if left, _ := os.ReadDir(small); len(left) > 0 {
			t.Errorf("left %v on the full disk", left)
		}
		out := launch(t, l, env, "report", "last", "-f", "csv", "-q").mustEnd(t, 0).out.String()
		if rows := statesOf(t, out); len(rows) != 2048 {
			t.Errorf("report has %d rows, want 2048", len(rows))
		}

		path := filepath.Join(small, "run.jsonl") // and the journal itself
		p = launch(t, l, env, "scan", "10.64.0.0/22", "-p", "25", "--probe", "port", "--rate", "2000", "-o", path)
		p.mustEnd(t, exitOutput)
		if !strings.Contains(p.err.String(), "the disk is full") || !strings.Contains(p.err.String(), "--resume "+path) {
			t.Errorf("it said %q", p.err.String())
		}
		if err := unix.Mount("", small, "", unix.MS_REMOUNT, "size=8m"); err != nil {
			t.Fatal(err)
		}
		launch(t, l, env, "scan", "-q", "--resume", path, "--rate", "0").mustEnd(t, 0)
		if rows := reported(t, path); len(rows) != 1024 {
			t.Errorf("%d rows after the disk had room again, want 1024", len(rows))
		}
		testReadOnlyDisk(t, l, small, path)
	})
}

// testReadOnlyDisk has outputs on a disk that nobody can write, and a journal
// there: nothing is sent, and it is not the journal that is to blame.
func testReadOnlyDisk(t *testing.T, l *lab.Lab, dir, path string) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	before := l.CountSYN(t, lab.Router)[0]
	for _, args := range [][]string{
		{"scan", "10.64.0.0/24", "-p", "25", "--probe", "port", "-o", filepath.Join(dir, "new.csv")},
		{"scan", "10.64.0.0/24", "-p", "25", "--probe", "port", "-o", filepath.Join(dir, "new.jsonl")},
		{"scan", "--resume", path},
	} {
		if p := launch(t, l, nil, args...).mustEnd(t, exitOutput); !strings.Contains(p.err.String(), "read-only file system") && !strings.Contains(p.err.String(), "file system is read-only") {
			t.Errorf("%v: it said %q", args, p.err.String())
		}
	}
	if n := l.CountSYN(t, lab.Router)[0] - before; n != 0 {
		t.Errorf("%d SYNs left for outputs that cannot be written", n)
	}
}

func TestWithoutRoomToSortTheJournalIsNotToBlame(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	launch(t, nil, nil, "scan", "-q", "127.0.0.0/17", "-p", "1", "--probe", "port", "--rate", "0", "-o", path).mustEnd(t, 0)
	p := launch(t, nil, []string{"TMPDIR=" + filepath.Join(t.TempDir(), "none")}, "report", path, "-f", "csv")
	p.mustEnd(t, exitOutput)
	if said := p.err.String(); !strings.Contains(said, "temporary file: no such directory") || !strings.Contains(said, "TMPDIR") || strings.Contains(said, path) {
		t.Errorf("it said %q", said)
	}
}

func TestTheStateFolderKeepsTheNewestTwenty(t *testing.T) {
	state, elsewhere := t.TempDir(), t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	for i := range 2 * journal.Keep {
		args := []string{"scan", "-q", "127.0.0.1:1", "--probe", "port"}
		if i >= journal.Keep/2 {
			args = append(args, "-o", filepath.Join(elsewhere, fmt.Sprintf("%d.jsonl", i)))
		}
		if code, _, said := invoke(t, args...); code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(state, "smtpsweep")); len(left) != journal.Keep {
		t.Errorf("%d journals and links in the folder, want %d", len(left), journal.Keep)
	}
	if left, _ := os.ReadDir(elsewhere); len(left) != 2*journal.Keep-journal.Keep/2 {
		t.Errorf("%d journals elsewhere, want all of them", len(left))
	}
}

func TestAFileThatCameWhileTheRunWentOnIsNotOverwritten(t *testing.T) {
	t.Parallel()
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprint("force ", force), func(t *testing.T) {
			t.Parallel()
			_, mute, zoo := goodAndMute(t)
			dir := t.TempDir()
			csvPath, want, code := filepath.Join(dir, "rows.csv"), "theirs", exitOutput
			args := []string{"scan", mute.String(), "-o", csvPath, "-o", filepath.Join(dir, "run.jsonl")}
			if force {
				args, want, code = append(args, "--force"), "time,vantage,", exitInterrupt
			}
			p := launch(t, nil, nil, args...)
			awaitTrue(t, "the mute server has a connection", func() bool { return zoo.Load(mute.Addr()).Accepted > 0 })
			if err := os.WriteFile(csvPath, []byte("theirs"), 0o600); err != nil {
				t.Fatal(err)
			}
			p.Process.Signal(os.Interrupt)
			p.mustEnd(t, code)
			if text, _ := os.ReadFile(csvPath); !strings.HasPrefix(string(text), want) {
				t.Errorf("the file is %q, want %q", text, want)
			}
			if !force && !strings.Contains(p.err.String(), "rows.csv could not be written: it exists by now") {
				t.Errorf("it said %q", p.err.String())
			}
			if left, _ := os.ReadDir(dir); len(left) != 2 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestALongNameIsNoLongerWhileItIsWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), strings.Repeat("a", 251)+".csv")
	if code, _, said := invoke(t, "scan", "-q", "127.0.0.1:1", "-o", path, "-o", filepath.Join(t.TempDir(), "run.jsonl")); code != 0 {
		t.Errorf("exit code %d: %s", code, said)
	}
}

func TestTwoJournalsOfOnePlanPlanItOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	scan := func(name string, more ...string) string {
		path := filepath.Join(dir, name)
		if code, _, said := invoke(t, append([]string{"scan", "-q", "127.0.0.1", "-p", "1-10", "--probe", "port", "--seed", "0", "-o", path}, more...)...); code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
		return path
	}
	monday, tuesday := scan("monday.jsonl"), scan("tuesday.jsonl")
	odd, even := scan("odd.jsonl", "--shard", "1/2"), scan("even.jsonl", "--shard", "2/2")
	other := scan("other.jsonl", "--vantage", "elsewhere")
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{monday}, "= 10 of 10"},
		{[]string{monday, monday}, "= 10 of 10"},
		{[]string{monday, tuesday}, "= 10 of 10"},
		{[]string{odd}, "= 5 of 5"},
		{[]string{odd, even}, "= 10 of 10"},
		{[]string{odd, even, odd}, "= 10 of 10"},
		{[]string{odd, monday}, "= 10 of 10"},
		{[]string{monday, other}, "= 20 of 20"},
	} {
		code, out, said := invoke(t, append([]string{"report"}, c.paths...)...)
		if code != 0 || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit code %d, want %q in\n%s%s", c.paths, code, c.want, out, said)
		}
	}
}

// A report in JSON Lines has the form of a journal, and is reported again.
func TestAReportInJSONLinesIsReportedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, rows := filepath.Join(dir, "run.jsonl"), filepath.Join(dir, "rows.jsonl")
	for _, args := range [][]string{
		{"scan", "-q", "127.0.0.1", "-p", "1-9", "--probe", "port", "-o", path},
		{"report", "-q", path, "-o", rows},
	} {
		if code, _, said := invoke(t, args...); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, said)
		}
	}
	sameStates(t, reported(t, rows), reported(t, path))
	if code, _, said := invoke(t, "scan", "--resume", rows); code != exitJournal || !strings.Contains(said, "the rows of a report alone") {
		t.Errorf("--resume: exit code %d: %s", code, said)
	}
}

func TestAJournalThatIsTakenAwayEndsTheRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	p := launch(t, nil, nil, "scan", "127.0.0.1", "-p", "1-60000", "--probe", "port", "--rate", "200", "-o", path)
	awaitRows(t, path, 20)
	moved := path + ".moved.jsonl"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	p.mustEnd(t, exitOutput)
	if said := p.err.String(); !strings.Contains(said, "it was removed or moved") || strings.Contains(said, "saved") {
		t.Errorf("it said %q", said)
	}
	launch(t, nil, nil, "scan", "-q", "--resume", moved, "--exclude", "127.0.0.0/8").mustEnd(t, 0)
	if rows := reported(t, moved); len(rows) < 20 || len(rows) == 60000 {
		t.Errorf("%d rows, want what was known", len(rows))
	}
}

func TestWithoutAPlaceForJournalsARunDoesNotBegin(t *testing.T) {
	t.Parallel()
	good, _, zoo := goodAndMute(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"XDG_STATE_HOME=" + file} // not even root can make a folder in it
	p := launch(t, nil, env, "scan", good.String())
	p.mustEnd(t, exitOutput)
	if !strings.Contains(p.err.String(), "-o FILE.jsonl") || zoo.Counts().Conns > 0 {
		t.Errorf("%d connections; it said %q", zoo.Counts().Conns, p.err.String())
	}
	launch(t, nil, env, "scan", good.String(), "-o", filepath.Join(dir, "run.jsonl")).mustEnd(t, 0)
	p = launch(t, nil, env, "report", "last")
	if code := p.wait(t); code != exitEnvironment && code != exitUsage {
		t.Errorf("report last: exit code %d: %s", code, p.err.String())
	}
	// Without a home it is the environment that is to blame, and the cure is said once.
	env = []string{"XDG_STATE_HOME=", "HOME="}
	before := zoo.Counts().Conns
	p = launch(t, nil, env, "scan", good.String()).mustEnd(t, exitEnvironment)
	if said := p.err.String(); strings.Count(said, "-o FILE.jsonl") != 1 || strings.Contains(said, "saved") || zoo.Counts().Conns > before {
		t.Errorf("without a home: %d connections; it said %q", zoo.Counts().Conns-before, said)
	}
	p = launch(t, nil, env, "scan", good.String(), "-o", filepath.Join(dir, "homeless.jsonl")).mustEnd(t, 0)
	if said := p.err.String(); !strings.Contains(said, "will not find this run") || strings.Contains(said, "-o FILE.jsonl") {
		t.Errorf("with a name for the journal: it said %q", said)
	}
	if said := launch(t, nil, env, "report", "last").mustEnd(t, exitEnvironment).err.String(); strings.Contains(said, "-o FILE.jsonl") || !strings.Contains(said, "smtpsweep report FILE.jsonl") {
		t.Errorf("report last without a home: it said %q", said)
	}
}

func TestLastIsTheNewestRunWhereverItsJournalLies(t *testing.T) {
	t.Parallel()
	state, dir := t.TempDir(), t.TempDir()
	env := []string{"XDG_STATE_HOME=" + state}
	last := func() (ports []string) {
		t.Helper()
		out := launch(t, nil, env, "report", "last", "-q", "-f", "csv").mustEnd(t, 0).out.String()
		for key := range statesOf(t, out) {
			ports = append(ports, key.port)
		}
		return ports
	}
	scan := func(port string, more ...string) {
		t.Helper()
		launch(t, nil, env, append([]string{"scan", "-q", "127.0.0.1", "-p", port}, more...)...).mustEnd(t, 0)
		if got := last(); !slices.Equal(got, []string{port}) {
			t.Errorf("last has the ports %v, want %s", got, port)
		}
	}
	if p := launch(t, nil, env, "report", "last"); p.wait(t) != exitUsage || !strings.Contains(p.err.String(), "no last run") {
		t.Errorf("without a run: exit code %d: %s", p.wait(t), p.err.String())
	}
	scan("1")
	elsewhere := filepath.Join(dir, "run.jsonl")
	scan("2", "-o", elsewhere)
	scan("3")
	launch(t, nil, env, "scan", "-q", "--resume", elsewhere).mustEnd(t, 0)
	if got := last(); !slices.Equal(got, []string{"2"}) {
		t.Errorf("after a run was gone on with, last has the ports %v, want 2", got)
	}
	if err := os.Remove(elsewhere); err != nil {
		t.Fatal(err)
	}
	if got := last(); !slices.Equal(got, []string{"3"}) {
		t.Errorf("after that journal was removed, last has the ports %v, want 3", got)
	}
	if info, err := os.Stat(filepath.Join(state, "smtpsweep")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of journals: %v, %v", info, err)
	}
}

func TestExpectAndUndecidedRowsSetTheExitCode(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		l.DropOut(t, lab.Router, netip.MustParsePrefix("10.65.0.0/16"), 0)
		l.RejectOut(t, lab.Scanner, netip.MustParsePrefix("10.66.0.0/16"), 0, lab.AdminProhibited) // our own firewall
		for _, c := range []struct {
			args string
			code int
		}{
			{"10.64.0.1:25 --expect open", exitDone},
			{"10.64.0.1:26 --expect open", exitBad},
			{"10.65.0.1:25 --expect open", exitBad},
			{"10.64.0.1:26 --expect closed", exitDone},
			{"10.64.0.1:25 10.64.0.1:26 --expect closed", exitBad},
			{"10.65.0.1:25 --expect filtered", exitDone},
			{"10.64.0.1:25 --expect filtered", exitBad},
			{"10.66.0.1:25", exitUndecided},
			{"10.66.0.1:25 10.64.0.1:25", exitUndecided},
			{"10.66.0.1:25 --expect open", exitBad},
		} {
			t.Run(c.args, func(t *testing.T) {
				t.Parallel()
				launch(t, l, nil, append([]string{"scan", "--probe", "port", "--timeout", "1s"}, strings.Fields(c.args)...)...).mustEnd(t, c.code)
			})
		}
	})
}

func TestQuietMeansNotAWordOnStderr(t *testing.T) {
	t.Parallel()
	good, _, _ := goodAndMute(t)
	dir := t.TempDir()
	p := launch(t, nil, nil, "scan", "-q", good.String(), "-o", filepath.Join(dir, "run.jsonl"), "-o", filepath.Join(dir, "rows.csv"))
	p.mustEnd(t, 0)
	if p.err.Len() > 0 || !strings.Contains(p.out.String(), good.Addr().String()) {
		t.Errorf("stdout %q, stderr %q", p.out.String(), p.err.String())
	}
	p = launch(t, nil, nil, "report", "-q", filepath.Join(dir, "run.jsonl"), "-f", "targets")
	if p.mustEnd(t, 0); p.err.Len() > 0 || p.out.String() != good.String()+"\n" {
		t.Errorf("stdout %q, stderr %q", p.out.String(), p.err.String())
	}
}

// A pseudoterminal is a terminal without a screen.
type pseudoterminal struct {
	user  *os.File // what the program has
	seen  bytes.Buffer
	read  chan struct{} // closed when nobody has it any more
	other *os.File
}

func openTerminal(t *testing.T) *pseudoterminal {
	t.Helper()
	other, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudoterminals here: ", err)
	}
	if err := unix.IoctlSetPointerInt(int(other.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(other.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(other.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 120}); err != nil {
		t.Fatal(err)
	}
	user, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pseudoterminal{user: user, other: other, read: make(chan struct{})}
	go func() { // ends when the last who has the terminal closes it (EIO)
		defer close(p.read)
		io.Copy(&p.seen, other)
	}()
	t.Cleanup(func() { user.Close(); other.Close(); <-p.read })
	return p
}

// text returns all that was written; nobody has the terminal any more.
func (p *pseudoterminal) text() string {
	p.user.Close()
	<-p.read
	return p.seen.String()
}

func TestProgressIsForTerminalsOnly(t *testing.T) {
	t.Parallel()
	_, mute, _ := goodAndMute(t)
	args := []string{"scan", mute.String(), "127.0.0.1-127.0.0.9:1", "--rate", "10", "--greeting-timeout", "1s", "--patience", "0"}
	progress := "/10 "
	for _, c := range []struct {
		name     string
		more     []string
		terminal bool
		want     bool
	}{
		{"on a terminal", nil, true, true},
		{"in a pipe", nil, false, false},
		{"on a terminal with -q", []string{"-q"}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := &process{ended: make(chan struct{})}
			p.Cmd = execCommand(t, append(args, c.more...)...)
			tty := openTerminal(t)
			p.Stdout, p.Stderr = &p.out, &p.err
			if c.terminal {
				p.Stderr = tty.user
			}
			p.start(t)
			p.mustEnd(t, 0)
			said := tty.text() + p.err.String()
			if got := strings.Contains(said, progress) && strings.Contains(said, "filtered"); got != c.want {
				t.Errorf("progress line: %v, want %v; it said %q", got, c.want, said)
			}
			if c.want && strings.LastIndex(said, "\x1b[K") < strings.LastIndex(said, progress) {
				t.Errorf("the progress line is left behind: %q", said)
			}
			if strings.Contains(p.out.String(), "\x1b") {
				t.Errorf("stdout is no terminal, and has escape codes: %q", p.out.String())
			}
		})
	}
}

// What is written to the terminal beside the progress line stays there: the line
// is taken away by moving up, over whatever stands there.
func TestTheProgressLineTakesNothingElseAway(t *testing.T) {
	t.Parallel()
	args := []string{"scan", "127.0.0.1", "-p", "1-40", "--probe", "port", "--rate", "30", "-f", "csv"}
	tty := openTerminal(t)
	p := &process{ended: make(chan struct{})}
	p.Cmd = execCommand(t, args...)
	p.Stdout, p.Stderr = tty.user, tty.user
	p.start(t)
	p.mustEnd(t, 0)
	if said := tty.text(); strings.Contains(said, "\x1b[1A") || strings.Count(said, "conn-refused") != 40 {
		t.Errorf("rows are wiped from the terminal that they stream to: %q", said)
	}
}

func TestWhatIsSaidBesideTheProgressLineStays(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		l.Start(t, lab.Scanner, "signals-slow") // on an address of our own: a note says so
		tty := openTerminal(t)
		p := &process{ended: make(chan struct{})}
		p.Cmd = l.Command(lab.Scanner, lab.Binary(t), "scan", "-v", "10.20.9.7", "-p", "2501,1-60", "--probe", "port", "--rate", "40")
		p.Env = append(os.Environ(), "XDG_STATE_HOME="+t.TempDir(), "TERM=xterm")
		p.Stdout, p.Stderr = &p.out, tty.user
		p.start(t)
		p.mustEnd(t, 0)
		_, rest, ok := strings.Cut(tty.text(), "Note: inside-view")
		if !ok {
			t.Fatalf("no note: %q", tty.seen.String())
		}
		// The line that is taken away next must be the progress line, and so stand below.
		if next, _, ok := strings.Cut(rest, "\x1b[1A"); ok && !strings.Contains(next, "filtered") {
			t.Errorf("the note is wiped from the terminal: %q", tty.seen.String())
		}
	})
}

func TestColoursAreForTerminalsThatWantThem(t *testing.T) {
	t.Parallel()
	good, _, _ := goodAndMute(t)
	for _, c := range []struct {
		name string
		env  string
		more []string
		want bool
	}{
		{"on a terminal", "NO_COLOR=", nil, true},
		{"with NO_COLOR", "NO_COLOR=1", nil, false},
		{"with --no-color", "NO_COLOR=", []string{"--no-color"}, false},
		{"on a dumb terminal", "TERM=dumb", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := &process{ended: make(chan struct{})}
			p.Cmd = execCommand(t, append([]string{"scan", good.String()}, c.more...)...)
			p.Env = append(p.Env, c.env)
			tty := openTerminal(t)
			p.Stdout, p.Stderr = tty.user, &p.err
			p.start(t)
			p.mustEnd(t, 0)
			if got := strings.Contains(tty.text(), "\x1b["); got != c.want {
				t.Errorf("colours: %v, want %v: %q", got, c.want, tty.seen.String())
			}
		})
	}
}

func TestShardsTogetherAreTheWhole(t *testing.T) {
	t.Parallel()
	ns := scannertest.DNS(t, scannertest.DNSZone{
		"a.example.org": {"A 127.0.0.5"}, "b.example.org": {"A 127.0.0.6"}, "c.example.org": {"A 127.0.0.7"}, "d.example.org": {"A 127.0.0.8"},
	})
	dir := t.TempDir()
	specs := []string{"127.1.0.0/26", "a.example.org", "b.example.org", "c.example.org", "d.example.org"}
	scan := func(name string, more ...string) string {
		path := filepath.Join(dir, name)
		args := append([]string{"scan", "-q", "-p", "1,2,3", "--resolver", ns.String(), "-o", path}, more...)
		if code, _, said := invoke(t, append(args, specs...)...); code != 0 {
			t.Fatalf("exit code %d: %s", code, said)
		}
		return path
	}
	whole := scan("whole.jsonl", "--seed", "0")
	parts := []string{scan("1.jsonl", "--shard", "1/3"), scan("2.jsonl", "--shard", "2/3"), scan("3.jsonl", "--shard", "3/3")}
	sum := 0
	for _, part := range parts {
		n := len(reported(t, part))
		if n < 64*3/3 {
			t.Errorf("%s has %d rows, want a third", part, n)
		}
		sum += n
	}
	want := reported(t, whole)
	if sum != len(want) || len(want) < 64*3+3 {
		t.Errorf("the shards have %d rows, the whole %d", sum, len(want))
	}
	sameStates(t, reported(t, parts...), want)
	order := func(paths ...string) (lines []string) {
		_, out, _ := invoke(t, append([]string{"report", "-q", "-f", "csv"}, paths...)...)
		for line := range strings.Lines(out) {
			cells := strings.Split(line, ",")
			lines = append(lines, strings.Join(cells[3:9], ","))
		}
		return lines
	}
	if !slices.Equal(order(parts...), order(whole)) {
		t.Error("the shards together are not in the order of the whole")
	}
}

func TestDryRunListsEachEndpointOnceAndContactsNobody(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		ns := scannertest.DNS(t, scannertest.DNSZone{
			"mail.example.org": {"A 10.64.1.1"}, "example.org": {"MX 10 mail.example.org"}, "lost.example.org": {},
		})
		state := t.TempDir()
		before := l.CountSYN(t, lab.Router)[0]
		p := launch(t, l, []string{"XDG_STATE_HOME=" + state}, "scan", "10.64.0.0/28", "10.64.0.4-10.64.0.20", "mail.example.org", "mx:example.org", "lost.example.org",
			"--allow-private", "--exclude", "10.64.0.7", "--resolver", ns.String(), "-p", "25,587", "--dry-run")
		p.mustEnd(t, 0)
		var want []string
		for i := range 21 {
			if i != 7 {
				want = append(want, fmt.Sprintf("10.64.0.%d:25\n", i), fmt.Sprintf("10.64.0.%d:587\n", i))
			}
		}
		want = append(want, "10.64.1.1:25 mail.example.org\n", "10.64.1.1:587 mail.example.org\n", "lost.example.org is not contacted: dns-no-address (the name exists and has no address)\n")
		got := slices.Sorted(strings.Lines(p.out.String()))
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("it lists\n%q, want\n%q", got, want)
		}
		if n := l.CountSYN(t, lab.Router)[0] - before; n != 0 {
			t.Errorf("%d SYNs left", n)
		}
		if left, _ := filepath.Glob(filepath.Join(state, "*", "*")); len(left) > 0 {
			t.Errorf("it left %v", left)
		}
	})
}

func TestTheRunRecordSaysHowTheRunWasMade(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
		path := filepath.Join(t.TempDir(), "run.jsonl")
		launch(t, l, nil, "scan", "-q", "10.64.0.1:25", "-o", path, "--vantage", "dmz", "--resolver", "10.20.10.2", "--rate", "77", "--helo", "probe.example.org").mustEnd(t, 0)
		r, err := journal.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		run := r.Run()
		host, _ := os.Hostname()
		who, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		plan, err := r.Plan(targets.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for name, pair := range map[string][2]any{
			"schema": {run.Schema, 1}, "host": {run.Host, host}, "user": {run.User, who.Username}, "vantage": {run.Vantage, "dmz"},
			"source": {run.Source, "10.20.9.7"}, "gateway": {run.Gateway, "10.20.9.1"}, "resolvers": {fmt.Sprint(run.Resolvers), "[10.20.10.2:53]"},
			"plan_hash": {run.PlanHash, plan.Hash()}, "seed": {run.Seed, plan.Seed()}, "endpoints": {run.Endpoints, uint64(1)},
			"config_hash": {run.ConfigHash, hashHex(run.Config)},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s is %v, want %v", name, pair[0], pair[1])
			}
		}
		var config recordedConfig
		if err := json.Unmarshal(run.Config, &config); err != nil {
			t.Fatal(err)
		}
		// Effective means: what holds, typed or not.
		for name, want := range map[string]string{
			"rate": "77", "host-limit": "3", "host-interval": "0s", "subnet-rate": "0", "timeout": "3.9s", "retries": "3", "patience": "1m5s",
			"greeting-timeout": "12s", "ports": "25,465,587", "probe": "full", "helo": "probe.example.org", "seed": fmt.Sprint(run.Seed),
		} {
			if got := config.Flags[name]; !slices.Equal(got, []string{want}) {
				t.Errorf("--%s is recorded as %q, want %q", name, got, want)
			}
		}
		if !slices.Equal(config.Targets, []string{"10.64.0.1:25"}) || run.Started.IsZero() || run.Version == "" || len(run.Args) < 5 {
			t.Errorf("the run record: %+v", run)
		}
	})
}

func TestAReportDoesNotOverwriteItsOwnJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run.jsonl")
	if code, _, said := invoke(t, "scan", "-q", "127.0.0.1:1", "-o", path); code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"report", path, "-o", path, "--force"}, {"scan", "--resume", path, "-o", path, "--force"}, {"scan", "127.0.0.1:1", "-o", path, "--force"}} {
		if code, _, said := invoke(t, args...); code != exitUsage {
			t.Errorf("%v: exit code %d: %s", args, code, said)
		}
	}
	// The command that began the run, with --resume: no word of overwriting.
	if code, _, said := invoke(t, "scan", "127.0.0.1:1", "-o", path, "--resume", path); code != exitUsage || strings.Contains(said, "--force") || !strings.Contains(said, "is the journal itself") {
		t.Errorf("exit code %d: %s", code, said)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the journal was changed")
	}
}
