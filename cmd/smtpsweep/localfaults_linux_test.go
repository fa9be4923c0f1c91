package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// A localFault is something that is wrong with this machine alone.
type localFault struct {
	name  string
	cause func(t *testing.T, l *lab.Lab) // nil if the kernel is made to refuse
	call  uint32                         // the system call that it refuses for IPv4 and IPv6
	errno syscall.Errno
	port  string // the rows of this port cannot be decided; empty: no row can
	want  string // what the column error says
	slow  bool   // not in plain go test
}

var localFaults = []localFault{
	{name: "own drop", cause: ownFirewall(lab.Drop), port: "25", want: "this machine's firewall drops it"},
	{name: "own reset", cause: ownFirewall(lab.Reset), port: "25", want: "this machine itself refuses it"},
	{name: "own ICMP", cause: ownFirewall(lab.AdminProhibited), port: "25", want: "this machine's firewall or routing rejects"},
	{name: "own ICMP of a router", cause: ownFirewall(lab.HostUnreach), port: "25", want: "or its firewall rejects", slow: true},
	{name: "own ICMP of a port", cause: ownFirewall(lab.PortUnreach), port: "25", want: "this machine's firewall or routing rejects", slow: true},
	{name: "no route", cause: routeTo(unix.RTN_UNREACHABLE), want: "no way to the address"},
	{name: "black hole", cause: routeTo(unix.RTN_BLACKHOLE), want: "this machine's routing forbids it", slow: true},
	{name: "prohibited", cause: routeTo(unix.RTN_PROHIBIT), want: "this machine's firewall or policy forbids it", slow: true},
	{name: "interface down", cause: func(t *testing.T, l *lab.Lab) { l.SetLink(t, lab.Scanner, "sc0", false) }, want: "no route to IPv4"},
	{name: "EPERM", call: unix.SYS_CONNECT, errno: unix.EPERM, want: "this machine's firewall or policy forbids it"},
	{name: "ENETUNREACH", call: unix.SYS_CONNECT, errno: unix.ENETUNREACH, want: "no route to IPv4", slow: true},
	{name: "EADDRNOTAVAIL", call: unix.SYS_CONNECT, errno: unix.EADDRNOTAVAIL, want: "no local address or port left", slow: true},
	{name: "ENOBUFS of connect", call: unix.SYS_CONNECT, errno: unix.ENOBUFS, want: "no buffer space", slow: true},
	{name: "EMFILE", call: unix.SYS_SOCKET, errno: unix.EMFILE, want: "out of file descriptors", slow: true},
	{name: "ENFILE", call: unix.SYS_SOCKET, errno: unix.ENFILE, want: "out of file descriptors", slow: true},
	{name: "ENOBUFS", call: unix.SYS_SOCKET, errno: unix.ENOBUFS, want: "no buffer space", slow: true},
	{name: "ENOMEM", call: unix.SYS_SOCKET, errno: unix.ENOMEM, want: "cannot allocate memory", slow: true},
}

// ownFirewall stops what goes to port 25 on this machine.
func ownFirewall(how lab.Class) func(*testing.T, *lab.Lab) {
	return func(t *testing.T, l *lab.Lab) { l.RejectOut(t, lab.Scanner, lab.Targets4, 25, how) }
}

// routeTo replaces the route to the targets by one that leads nowhere.
func routeTo(kind int) func(*testing.T, *lab.Lab) {
	return func(t *testing.T, _ *lab.Lab) {
		t.Helper()
		_, targets, _ := net.ParseCIDR(lab.Targets4.String())
		if err := netlink.RouteAdd(&netlink.Route{Type: kind, Dst: targets}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLocalFaultsAreNeverVerdicts runs the program, without any capability, on a machine with
// each fault. All targets are open.
func TestLocalFaultsAreNeverVerdicts(t *testing.T) {
	t.Parallel()
	for _, f := range localFaults {
		if f.slow && lab.Count(t, 0, 1, 1) == 0 {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			lab.Run(t, lab.Config{Serve: true, Binary: true}, func(t *testing.T, l *lab.Lab) {
				if f.cause != nil {
					f.cause(t, l)
				}
				f.check(t, f.scan(t, l))
			})
		})
	}
}

// scan sweeps eight addresses.
func (f localFault) scan(t *testing.T, l *lab.Lab) *labScan {
	t.Helper()
	s := &labScan{dir: t.TempDir()}
	args := []string{"scan", "-p", "25,465,587", "--timeout", "1.9s", "-o", s.file("csv"), "-o", s.file("jsonl"), "10.64.0.0/29"}
	program := lab.Binary(t)
	if f.errno != 0 {
		args = append([]string{strconv.Itoa(int(f.call)), strconv.Itoa(int(f.errno)), program}, args...)
		program, _ = os.Executable()
	}
	s.cmd = l.Command(lab.Scanner, program, args...)
	if f.errno != 0 {
		s.cmd.Args[0] = refuseMode
	}
	s.cmd = lab.NoCaps(s.cmd)
	s.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+s.dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// check expects the rows that cannot be decided, with their reason, and the truth in
// the others.
func (f localFault) check(t *testing.T, s *labScan) {
	t.Helper()
	if code := s.wait(t); code != exitUndecided {
		t.Fatalf("exit code %d, want %d\n%s", code, exitUndecided, s.said.String())
	}
	rows := rowsOfCSV(t, s.file("csv"))
	if len(rows) != 24 {
		t.Errorf("%d rows, want 24", len(rows))
	}
	compareRows(t, rows, "the journal", rowsOfJournal(t, s.file("jsonl")))
	for _, r := range rows {
		want := "open syn-ack"
		if f.port == "" || r["port"] == f.port {
			want = "unknown local-error"
			if !strings.Contains(r["error"], f.want) {
				t.Errorf("%s:%s: error %q, want %q", r["address"], r["port"], r["error"], f.want)
			}
		}
		if got := r["state"] + " " + r["reason"]; got != want {
			t.Errorf("%s:%s: %s (%s), want %s", r["address"], r["port"], got, r["error"], want)
		}
	}
}

// refuseMode is how this test binary is called to become a program to which the kernel
// refuses a system call: CALL ERRNO PATH ARGS...
const refuseMode = "smtpsweep-test-refuse"

func init() {
	if os.Args[0] == refuseMode {
		fmt.Fprintln(os.Stderr, refuse(os.Args[1:]))
		os.Exit(1)
	}
}

// refuse makes the kernel answer a system call with an errno if its first argument, of
// socket, is IPv4 or IPv6, or whatever it is of another call; then it becomes a
// program. It needs no privilege (seccomp(2), with no_new_privs).
func refuse(args []string) error {
	runtime.LockOSThread()
	call, _ := strconv.Atoi(args[0])
	errno, _ := strconv.Atoi(args[1])
	const number, firstArg = 0, 16 // offsets in struct seccomp_data; the low half of the argument
	low := uint32(firstArg)
	if order := uint16(1); *(*byte)(unsafe.Pointer(&order)) == 0 {
		low += 4
	}
	families := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: low},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_INET, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_INET6, Jf: 1},
	}
	if call != unix.SYS_SOCKET {
		families = nil
	}
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(call), Jf: uint8(len(families) + 1)},
	}
	program = append(program, families...)
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0); err != nil {
		return err
	}
	runtime.KeepAlive(program)
	return syscall.Exec(args[2], args[2:], os.Environ())
}
