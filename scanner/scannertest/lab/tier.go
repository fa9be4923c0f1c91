package lab

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// SideBySide lets so many tests of a package run at a time for each processor,
// unless -parallel was given. TestMain calls it before Main. It is for tests that
// mostly wait, and of which none measures how long anything takes. Where counts
// are large they fill the processors, and nothing changes.
func SideBySide(tests int) {
	flag.Parse()
	given := os.Getenv(requireEnv) != ""
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", strconv.Itoa(tests*runtime.GOMAXPROCS(0)))
	}
}

// Count returns how much a test that proves something by repetition does: usual
// in an ordinary "go test", ci with SMTPSWEEP_LAB=require (.ci/run), long with
// SMTPSWEEP_LAB=long (.ci/long). Long implies what require does: a skip is a failure.
//
// In the long tier it logs what it returned, for the list of proofs that
// .ci/long prints.
func Count(t testing.TB, usual, ci, long int) int {
	t.Helper()
	switch os.Getenv(requireEnv) {
	case "require":
		return ci
	case "long":
		Proof(t, "full count %d", long)
		return long
	}
	return usual
}

// Proof logs a figure that a test has found, or how much it looks at, as a line
// that .ci/long finds among the output of all tests.
func Proof(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("proof: %s: %s", t.Name(), fmt.Sprintf(format, args...))
}
