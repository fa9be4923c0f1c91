package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

func TestMain(m *testing.M) {
	lab.SideBySide(4)
	os.Exit(withState(func() int { return lab.Main(m) }))
}

// withState runs f with a folder of its own for journals, so that tests leave
// none in the user's. The processes of a lab inherit it.
func withState(f func() int) int {
	if os.Getenv("SMTPSWEEP_TEST_STATE") != "" {
		return f()
	}
	dir, err := os.MkdirTemp("", "smtpsweep-test-state-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	os.Setenv("XDG_STATE_HOME", dir)
	os.Setenv("SMTPSWEEP_TEST_STATE", dir)
	return f()
}

// invoke runs the program in this process and returns its exit code and what
// it wrote. Journals go to a folder of the test run.
func invoke(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return invokeWith(t, "", args...)
}

// invokeWith is invoke with something on stdin.
func invokeWith(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, newUI(bytes.NewBufferString(stdin), &out, &errs))
	return code, out.String(), errs.String()
}
