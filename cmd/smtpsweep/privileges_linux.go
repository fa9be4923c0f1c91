package main

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"syscall"

	seccomp "github.com/elastic/go-seccomp-bpf"
)

// nobody is the user number that means nobody where /etc/passwd does not say it.
const nobody = 65534

// dropPrivileges becomes another user for good, if this is root, and forbids the
// process to start programs or to win privileges. It returns what it did, in words.
func dropPrivileges(name string) (words string, err error) {
	words = "keeps its user"
	if syscall.Geteuid() == 0 {
		uid, gid, err := userNumbers(name)
		if err != nil {
			return "", err
		}
		if uid == 0 {
			words = "stays root, as --user says"
		} else if err := becomeUser(uid, gid); err != nil {
			return "", fmt.Errorf("cannot become user %s (%d): %w", name, uid, err)
		} else {
			words = fmt.Sprintf("has become user %s (%d)", name, uid)
		}
	}
	if err := forbidPrograms(); err != nil {
		return words + "; this kernel has no seccomp to forbid programs", nil
	}
	return words, nil
}

// userNumbers looks a user up, by name or number.
func userNumbers(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		if n, numErr := strconv.ParseUint(name, 10, 31); numErr == nil {
			return int(n), int(n), nil
		}
		if name == "nobody" {
			return nobody, nobody, nil
		}
		return 0, 0, fmt.Errorf("--user: there is no user %q here", clip(name))
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(uidErr, gidErr)
}

// becomeUser gives up root, all groups and with them all capabilities, in every
// thread, and makes sure that there is no way back.
func becomeUser(uid, gid int) error {
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setresgid(gid, gid, gid) },
		func() error { return syscall.Setresuid(uid, uid, uid) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if syscall.Setuid(0) == nil {
		return errors.New("root can be won back")
	}
	return nil
}

// forbidPrograms sets no_new_privs and a filter against starting programs, in every thread.
func forbidPrograms() error {
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls:      []seccomp.SyscallGroup{{Names: []string{"execve", "execveat"}, Action: seccomp.ActionErrno}},
	}})
}
