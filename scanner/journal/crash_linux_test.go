package journal

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// childEnv makes the test binary write a journal, and says where.
const childEnv = "JOURNAL_TEST_CHILD"

// TestChild is not a test: it is the process that the tests below kill.
func TestChild(t *testing.T) {
	path := os.Getenv(childEnv)
	if path == "" {
		t.Skip("only a child of another test")
	}
	if os.Getenv("JOURNAL_TEST_LIMIT") != "" {
		limit := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	w, err := Create(path, Run{})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if err := w.Append(result(i)); err != nil {
			<-w.Failed()
			fmt.Println("failed:", w.Close())
			return
		}
		if i%50 == 49 && w.Sync() == nil {
			fmt.Println("rows", i+1)
		}
	}
}

// child starts a process that appends rows to path until it is killed.
func child(t *testing.T, path string, env ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(append(os.Environ(), childEnv+"="+path), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

func TestKill9LosesNothingThatWasSynced(t *testing.T) {
	for _, lines := range []int{1, 2, 5, 11} {
		path := filepath.Join(t.TempDir(), "x.jsonl")
		cmd, out := child(t, path)
		promised := 0
		for lines > 0 && out.Scan() {
			if n, ok := strings.CutPrefix(out.Text(), "rows "); ok {
				promised, _ = strconv.Atoi(n)
				lines--
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		if rows := rowsOf(t, path); promised == 0 || rows < promised {
			t.Errorf("%d rows, %d were promised", rows, promised)
		}
	}
}

func TestALimitOnFileSizeIsAnErrorWithAWayOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	cmd, out := child(t, path, "JOURNAL_TEST_LIMIT=1")
	said, promised := "", 0
	for out.Scan() {
		if s, ok := strings.CutPrefix(out.Text(), "failed: "); ok {
			said = s
		}
		if n, ok := strings.CutPrefix(out.Text(), "rows "); ok {
			promised, _ = strconv.Atoi(n)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(said, path) || !strings.Contains(said, "EFBIG") {
		t.Errorf("it said %q", said)
	}
	if rows := rowsOf(t, path); rows < promised {
		t.Errorf("%d rows, %d were promised", rows, promised)
	}
}

func TestTheProcessThatHasTheJournalIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	cmd, out := child(t, path)
	for out.Scan() && !strings.HasPrefix(out.Text(), "rows") {
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = lock(f)
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v", err)
	}
	if pid := holder(f); pid != 0 && pid != cmd.Process.Pid {
		t.Errorf("pid %d, want %d", pid, cmd.Process.Pid)
	} else if pid != 0 && !strings.Contains(err.Error(), strconv.Itoa(pid)) {
		t.Errorf("%v does not name %d", err, pid)
	}
}
