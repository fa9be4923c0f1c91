package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a process started again is to be. The word stands in argv[0], because an
// environment may be replaced and is inherited.
const (
	initMode   = "smtpsweep-lab-init"   // PATH ARGV0 ARGS...: first process of a lab
	holdMode   = "smtpsweep-lab-hold"   // keeps a namespace until stdin ends
	enterMode  = "smtpsweep-lab-enter"  // PID PATH ARGV0 ARGS...: run a program in the namespace of a process
	funcMode   = "smtpsweep-lab-func"   // NAME ARGS...: run a registered function
	noCapsMode = "smtpsweep-lab-nocaps" // PATH ARGV0 ARGS...: run a program without capabilities
	nobodyMode = "smtpsweep-lab-nobody" // the same, as another user than root
)

// Main runs the tests of a package and returns the exit code. TestMain calls it before
// anything else, because it is also what the processes of a lab begin with:
//
//	func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }
func Main(m *testing.M) int {
	args := os.Args[1:]
	var err error
	switch os.Args[0] {
	case initMode:
		return initMain(args)
	case holdMode:
		_, err = io.Copy(io.Discard, os.Stdin)
	case enterMode:
		err = enterMain(args)
	case funcMode:
		err = funcMain(args)
	case noCapsMode:
		if err = dropCaps(); err == nil {
			err = execProgram(args)
		}
	case nobodyMode:
		err = nobodyMain(args)
	default:
		defer removeBinary()
		return m.Run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		return 1
	}
	return 0
}

// initMain is the first process of the lab's pid namespace. When it ends, the
// kernel kills every other process there: nothing outlives a test.
func initMain(args []string) int {
	go func() { // ends with the process: that is its purpose
		io.Copy(io.Discard, os.NewFile(3, "lifeline"))
		os.Exit(1)
	}()
	syscall.CloseOnExec(3)
	// A fresh /proc, so that process numbers in it are ours. Some containers
	// forbid it; nothing of the lab itself needs it.
	if unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") == nil {
		_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	pid, err := syscall.ForkExec(args[0], args[1:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: %v\n", err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 1
		case got == pid && status.Signaled():
			fmt.Fprintf(os.Stderr, "lab: the test was killed: %v\n", status.Signal())
			return 1
		case got == pid:
			return status.ExitStatus()
		}
	}
}

// enterMain becomes a program in the network namespace of a process. Only this
// thread changes it, and the new program begins with this thread alone.
func enterMain(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH { // the command was given a pid namespace of its own; /proc is still the lab's
		fd, err = unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the namespace of process %d: %w", pid, err)
	}
	return execProgram(args[1:])
}

// execProgram replaces this process: PATH ARGV0 ARGS...
func execProgram(args []string) error {
	err := syscall.Exec(args[0], args[1:], os.Environ())
	return &os.PathError{Op: "exec", Path: args[0], Err: err}
}

// funcMain runs a registered function until it returns, stdin ends or a signal comes.
func funcMain(args []string) error {
	f := funcs[args[0]]
	if f == nil {
		return fmt.Errorf("no function %q: call lab.Register at package level", args[0])
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() { // ends with stdin or the process
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := f(ctx, args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return nil
}

// dropCaps drops every capability of this thread for good. User 0
// would get them back by exec: the empty bounding set and NOROOT see to that.
func dropCaps() error {
	runtime.LockOSThread()
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err != nil && err != unix.EINVAL && os.Geteuid() == 0 {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	_ = unix.Prctl(unix.PR_SET_SECUREBITS, secbitNoRoot|secbitNoRootLocked, 0, 0, 0) // needs CAP_SETPCAP; the bounding set is enough
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) // capset below clears it too
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// nobodyID is a user and group that owns nothing.
const nobodyID = 65534

// nobodyMain drops root and every capability, and becomes a program, which may be where
// only root can look for it.
func nobodyMain(args []string) error {
	fd, err := unix.Open(args[0], unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: args[0], Err: err}
	}
	if os.Geteuid() == 0 {
		err = errors.Join(syscall.Setgroups([]int{}), syscall.Setresgid(nobodyID, nobodyID, nobodyID))
		if err != nil {
			return fmt.Errorf("become group %d: %w", nobodyID, err)
		}
		runtime.LockOSThread()
		if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil { // to empty the bounding set
			return fmt.Errorf("keep capabilities for a moment: %w", err)
		}
		if err := syscall.Setresuid(nobodyID, nobodyID, nobodyID); err != nil {
			return fmt.Errorf("become user %d: %w", nobodyID, err)
		}
	}
	if err := dropCaps(); err != nil {
		return err
	}
	return execFile(fd, args)
}

// execFile replaces this process by an open program: PATH ARGV0 ARGS...
func execFile(fd int, args []string) error {
	argv, err := syscall.SlicePtrFromStrings(args[1:])
	if err != nil {
		return err
	}
	env, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return err
	}
	var empty byte
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0)
	return &os.PathError{Op: "exec", Path: args[0], Err: errno}
}

// capabilities(7), "The securebits flags".
const (
	secbitNoRoot       = 1 << 0
	secbitNoRootLocked = 1 << 1
)

// NoCaps makes a command run without any capability, as for an ordinary user,
// with its user number and so its files unchanged. Call it after the command is complete but for
// Stdin, Stdout, Stderr, Dir and Env.
func NoCaps(cmd *exec.Cmd) *exec.Cmd { return without(cmd, noCapsMode) }

// Nobody is like NoCaps, and where the lab is root's the command runs as user 65534, who
// can write only where all may: give it a folder for its journals that it can reach.
func Nobody(cmd *exec.Cmd) *exec.Cmd { return without(cmd, nobodyMode) }

// without makes a command run with less, in one of the modes for it.
func without(cmd *exec.Cmd, mode string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		cmd.Err = err
		return cmd
	}
	if len(cmd.Args) > 2 && cmd.Args[0] == enterMode {
		// First enter the namespace, which needs them, then drop.
		cmd.Args = slices.Concat(cmd.Args[:2], []string{self, mode}, cmd.Args[2:])
		return cmd
	}
	cmd.Args = slices.Concat([]string{mode, cmd.Path}, cmd.Args)
	cmd.Path = self
	return cmd
}

// A namespace is a network namespace of the lab, held by a process.
type namespace struct {
	name  string
	pid   int // of the process that holds it; 0 for the test's own
	pidfd int // the same; -1 for the test's own
	stdin io.Closer
	cmd   *exec.Cmd
}

// newNamespace starts a process in a fresh network namespace.
func newNamespace(name string) (*namespace, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: self, Args: []string{holdMode}, Env: os.Environ(), Stderr: os.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	return &namespace{name: name, pid: cmd.Process.Pid, pidfd: fd, stdin: stdin, cmd: cmd}, nil
}

func (n *namespace) close() {
	if n.pid == 0 {
		return
	}
	n.stdin.Close()
	n.cmd.Wait()
	unix.Close(n.pidfd)
}

// do runs f on a thread that is in the namespace and ends with f. It is used to
// open netlink sockets and to write sysctls, which belong to the thread's
// namespace, and never for f that starts goroutines. This process is cut off already,
// so that even a mistake could not reach the machine's network.
func (n *namespace) do(f func() error) error {
	if n.pid == 0 {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: Go ends the thread with the goroutine
		if err := unix.Setns(n.pidfd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Command returns a command that runs a program in a namespace: nmap, a mail
// server, the binary under test. It is used like any exec.Cmd, except that Path and Args
// are not to be changed. It dies with the lab at the latest.
func (l *Lab) Command(ns, path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	if cmd.Err == nil {
		l.enter(cmd, ns)
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// enter makes a command run in a namespace.
func (l *Lab) enter(cmd *exec.Cmd, ns string) {
	n := l.namespaces[ns]
	switch {
	case n == nil:
		cmd.Err = fmt.Errorf("lab: no namespace %q", ns)
	case n.pid != 0:
		cmd.Args = slices.Concat([]string{enterMode, strconv.Itoa(n.pid), cmd.Path}, cmd.Args)
		cmd.Path, cmd.Err = os.Executable()
	}
}

// A Proc is a registered function that runs as a process in a namespace.
type Proc struct {
	cmd   *exec.Cmd
	out   output
	stdin io.Closer
	done  chan struct{}
	err   error // valid when done is closed
}

// Start runs a registered function as a process of its own in a namespace, and
// returns when it has called Ready. It is stopped when t ends.
func (l *Lab) Start(t *testing.T, ns, name string, args ...string) *Proc {
	t.Helper()
	return l.started(t, ns, name, nil, args)
}

func (l *Lab) started(t *testing.T, ns, name string, as func(*exec.Cmd) *exec.Cmd, args []string) *Proc {
	t.Helper()
	p, err := l.startAs(ns, name, as, args)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("output of %s in %s:\n%s", name, ns, p.Output())
		}
	})
	return p
}

// StartNobody is like Start, for an ordinary user without capabilities: see Nobody.
func (l *Lab) StartNobody(t *testing.T, ns, name string, args ...string) *Proc {
	t.Helper()
	return l.started(t, ns, name, Nobody, args)
}

func (l *Lab) start(ns, name string, args ...string) (*Proc, error) {
	return l.startAs(ns, name, nil, args)
}

// startAs starts a registered function; as changes the command, if it is not nil.
func (l *Lab) startAs(ns, name string, as func(*exec.Cmd) *exec.Cmd, args []string) (*Proc, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: self, Args: slices.Concat([]string{funcMode, name}, args), WaitDelay: 5 * time.Second}
	l.enter(cmd, ns)
	if as != nil {
		as(cmd)
	}
	p := &Proc{cmd: cmd, done: make(chan struct{})}
	p.out.ready = make(chan struct{})
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", name, ns, err)
	}
	go func() { // ends when the process does; Stop waits for it
		p.err = cmd.Wait()
		close(p.done)
	}()
	select {
	case <-p.out.ready:
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("%s in %s ended before it was ready: %v: %s", name, ns, p.err, p.Output())
	case <-time.After(time.Minute):
		p.Kill()
		return nil, fmt.Errorf("%s in %s was not ready in a minute: %s", name, ns, p.Output())
	}
}

// Stop ends the process as it should end (its context ends), after half a minute by
// force, and returns its error.
func (p *Proc) Stop() error {
	p.stdin.Close()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.Kill()
	}
	return p.err
}

// Wait waits until the process has ended by itself, and returns its error.
func (p *Proc) Wait() error {
	<-p.done
	return p.err
}

// Kill ends the process with SIGKILL and waits for it.
func (p *Proc) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Signal sends the process a signal.
func (p *Proc) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// PID returns the process number inside the lab.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Output returns what the process has printed, at most its first mebibyte,
// without the line of Ready.
func (p *Proc) Output() string {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	return strings.Replace(p.out.text.String(), ready+"\n", "", 1)
}

// An output keeps what a process prints and notices the line of Ready.
type output struct {
	mu    sync.Mutex
	text  strings.Builder
	seen  bool
	ready chan struct{}
}

// Write takes output.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := 1<<20 - o.text.Len(); room > 0 {
		o.text.Write(p[:min(len(p), room)])
	}
	if !o.seen && strings.Contains("\n"+o.text.String(), "\n"+ready+"\n") {
		o.seen = true
		close(o.ready)
	}
	return len(p), nil
}

// ethtool sets one offload of a link of the calling thread's namespace off.
// Frames keep unfinished checksums otherwise, which a raw engine would see.
func ethtool(link string, command uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{command, 0}
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], link)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return fmt.Errorf("ethtool %s %#x: %w", link, command, errno)
	}
	return nil
}
