package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Run runs fn in a network of its own, in a process of its own, and makes its
// outcome that of t. Code before and after Run in the test runs in both
// processes. One Run a test or subtest; labs do not nest; fn may have subtests.
//
// Where the kernel does not allow it, the test is skipped and says what is
// missing; with SMTPSWEEP_LAB=require (or long) that is a failure.
func Run(t *testing.T, cfg Config, fn func(t *testing.T, l *Lab)) {
	t.Helper()
	switch os.Getenv(childEnv) {
	case "":
		runOutside(t, cfg)
	case t.Name():
		l, err := build(t, cfg.withDefaults())
		if err != nil {
			unavailable(t, "build the network", err)
		}
		fn(t, l)
	default:
		t.Fatal("lab.Run inside a lab: labs do not nest")
	}
}

// unavailable ends a test whose lab this machine cannot give. An error that is
// not about permission or a missing kernel feature is a fault of the lab.
func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	remedy := ""
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		remedy = "run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; in a container: a seccomp profile that lets clone through)"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EUSERS):
		remedy = "raise the sysctls user.max_user_namespaces, max_net_namespaces and max_pid_namespaces"
	case errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EPROTONOSUPPORT),
		errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EAFNOSUPPORT):
		remedy = "use a kernel with namespaces, veth and nf_tables (reject, redirect, numgen, notrack)"
	default:
		t.Fatalf("lab: %s: %v", what, err)
	}
	if required() {
		t.Fatalf("lab: %s: %v; %s", what, err, remedy)
	}
	t.Skipf("lab: %s: %v; %s", what, err, remedy)
}

func required() bool {
	v := os.Getenv(requireEnv)
	return v == "require" || v == "long"
}

// ownNetwork is a link that names the network namespace of this thread: net:[4026531840].
const ownNetwork = "/proc/thread-self/ns/net"

// runOutside starts the test again in fresh namespaces and relays its outcome.
func runOutside(t *testing.T, cfg Config) {
	t.Helper()
	outside, err := os.Readlink(ownNetwork)
	if err != nil {
		unavailable(t, "name the network namespace", err)
	}
	env := append(os.Environ(), childEnv+"="+t.Name(), outsideEnv+"="+outside,
		// With -race every process sleeps for a second before it ends, and a lab has several.
		"GORACE="+strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	if cfg.Binary {
		env = append(env, binaryEnv+"="+Binary(t))
	}
	relay := &relay{w: t.Output(), test: t.Name()}
	// Pdeathsig is sent when the starting thread ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, lifeline, err := startOutside(testArgs(t), env, relay)
	if err != nil {
		unavailable(t, "start a process in fresh namespaces", err)
	}
	defer lifeline.Close()
	err = cmd.Wait()
	relay.flush()
	switch {
	case err != nil:
		t.Fatalf("lab: the test failed in its network: %v", err)
	case relay.outcome == "SKIP":
		t.Skip(relay.last)
	case relay.outcome != "PASS":
		t.Fatal("lab: the test did not run in its network: does TestMain call lab.Main?")
	}
}

// startOutside starts the init process of a lab. Closing the lifeline ends the lab.
func startOutside(args, env []string, out io.Writer) (*exec.Cmd, io.Closer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	var first error
	for _, attr := range attempts() {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		cmd := &exec.Cmd{
			Path: self, Args: append([]string{initMode, self, os.Args[0]}, args...), Env: env,
			Stdout: out, Stderr: out, ExtraFiles: []*os.File{r},
			SysProcAttr: attr, WaitDelay: 5 * time.Second,
		}
		err = cmd.Start()
		r.Close()
		if err == nil {
			return cmd, w, nil
		}
		w.Close()
		if first == nil {
			first = err
		}
	}
	return nil, nil, first
}

// attempts lists the ways to get the namespaces, best first. Root keeps all its
// user numbers, so that real mail servers can change theirs.
func attempts() []*syscall.SysProcAttr {
	const rest = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	if os.Geteuid() != 0 {
		return []*syscall.SysProcAttr{{
			Cloneflags: syscall.CLONE_NEWUSER | rest, Pdeathsig: syscall.SIGKILL,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		}}
	}
	return []*syscall.SysProcAttr{
		{
			Cloneflags: syscall.CLONE_NEWUSER | rest, Pdeathsig: syscall.SIGKILL,
			UidMappings: allIDs("/proc/self/uid_map"), GidMappings: allIDs("/proc/self/gid_map"),
			GidMappingsEnableSetgroups: true,
		},
		{Cloneflags: rest, Pdeathsig: syscall.SIGKILL},
	}
}

// allIDs maps every user or group number of this namespace to itself.
func allIDs(file string) (ids []syscall.SysProcIDMap) {
	text, err := os.ReadFile(file)
	if err != nil {
		return []syscall.SysProcIDMap{{Size: 1}}
	}
	for line := range strings.Lines(string(text)) {
		var inside, outside, size int
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err == nil {
			ids = append(ids, syscall.SysProcIDMap{ContainerID: inside, HostID: inside, Size: size})
		}
	}
	return ids
}

// testArgs are the arguments that run this test and no other, with the
// arguments of this run that are not the testing package's own.
func testArgs(t *testing.T) []string {
	elems := strings.Split(t.Name(), "/")
	for i, e := range elems {
		elems[i] = "^" + regexp.QuoteMeta(e) + "$"
	}
	timeout := time.Duration(0)
	if end, ok := t.Deadline(); ok {
		// A little earlier than ours, so that the goroutines of a hanging test are seen.
		timeout = max(time.Until(end)*9/10, time.Second)
	}
	args := []string{
		"-test.run=" + strings.Join(elems, "/"), "-test.v=true", "-test.count=1", "-test.paniconexit0",
		"-test.timeout=" + timeout.String(), fmt.Sprintf("-test.short=%t", testing.Short()),
	}
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.") {
			args = append(args, a)
		}
	}
	return args
}

// A relay passes on what the inner test prints, each line marked so that
// nobody takes its "--- PASS" for one of the outer test, and keeps the outcome.
type relay struct {
	w       io.Writer
	test    string // its full name
	partial []byte
	outcome string // PASS, FAIL or SKIP; empty until it is known
	last    string // the last line that is no outcome: why the test was skipped
}

// Write takes output of the inner test.
func (r *relay) Write(p []byte) (int, error) {
	r.partial = append(r.partial, p...)
	for {
		line, rest, ok := bytes.Cut(r.partial, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		r.line(string(line))
		r.partial = append(r.partial[:0], rest...)
	}
}

func (r *relay) line(s string) {
	word := strings.TrimSpace(s) // the outcome of a subtest is indented
	switch {
	case s == "PASS", strings.HasPrefix(s, "=== "):
		return
	case !strings.HasPrefix(word, "--- "):
		r.last = word
	default:
		outcome, name, _ := strings.Cut(strings.TrimPrefix(word, "--- "), ": ")
		if strings.HasPrefix(name, r.test+" (") {
			r.outcome = outcome
		}
	}
	fmt.Fprintf(r.w, "lab| %s\n", s)
}

func (r *relay) flush() {
	if len(r.partial) > 0 {
		r.line(string(r.partial))
	}
}
