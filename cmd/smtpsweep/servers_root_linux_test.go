package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// rootsDir is where the root folders of the servers are: a file system in memory
// that is seen in the mount namespace of the lab alone, and ends with it.
const rootsDir = "/mnt"

// mountRoots mounts it. Nothing below it is ever removed by name: the machine's
// own /usr is bound there.
func mountRoots(t *testing.T) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		cannotTest(t, "mounts cannot be made private (%v): run as root", err)
	}
	if err := unix.Mount("tmpfs", rootsDir, "tmpfs", unix.MS_NOSUID, "mode=0755,size=256m"); err != nil {
		cannotTest(t, "no file system can be mounted on %s (%v): run as root", rootsDir, err)
	}
	probe := filepath.Join(rootsDir, "probe")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(probe, userOpenSMTPDQ, userOpenSMTPDQ); err != nil {
		cannotTest(t, "mail servers change to users of their own, which are not to be had here (%v): run as root", err)
	}
}

// cannotTest skips a test for want of something, or fails it where nothing may
// be wanting.
func cannotTest(t *testing.T, format string, args ...any) {
	t.Helper()
	if v := os.Getenv("SMTPSWEEP_LAB"); v == "require" || v == "long" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// A rootDir is the root folder of one server: programs and libraries are the
// machine's, read-only; /etc, /var, /run, /tmp and /dev are its own.
type rootDir string

// newRootDir makes a root folder. mta is the folder of an unpacked package, bound
// to /mta, or empty.
func newRootDir(t *testing.T, name, mta string) rootDir {
	t.Helper()
	r := rootDir(filepath.Join(rootsDir, name))
	for _, dir := range []string{"etc", "etc/tls", "dev", "run", "var/empty", "var/lib", "var/log", "var/mail", "var/spool"} {
		r.mkdir(t, dir, 0o755, 0)
	}
	r.mkdir(t, "tmp", 0o777|fs.ModeSticky, 0)
	if err := os.Symlink("../run", r.path("var/run")); err != nil {
		t.Fatal(err)
	}
	r.bind(t, "/usr", "usr", true)
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		r.bindOrLink(t, dir)
	}
	if mta != "" {
		r.bind(t, mta, "mta", true)
	}
	r.bind(t, "/proc", "proc", false)
	for _, dev := range []string{"null", "zero", "full", "random", "urandom"} {
		r.write(t, "dev/"+dev, "", 0o666)
		r.bind(t, "/dev/"+dev, "dev/"+dev, false)
	}
	return r
}

func (r rootDir) path(name string) string { return filepath.Join(string(r), name) }

// bind shows a file or folder of the machine in the root folder, read-only or as it is.
// Recursive, because user namespaces may not uncover what is mounted below.
func (r rootDir) bind(t *testing.T, from, to string, readOnly bool) {
	t.Helper()
	dest := r.path(to)
	if info, err := os.Stat(from); err != nil {
		t.Fatal(err)
	} else if info.IsDir() {
		r.mkdir(t, to, 0o755, 0)
	}
	if err := unix.Mount(from, dest, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Fatalf("bind %s to %s: %v", from, dest, err)
	}
	if !readOnly {
		return
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, dest, unix.AT_RECURSIVE, &attr); err != nil {
		t.Fatalf("make %s read-only: %v", dest, err)
	}
}

// bindOrLink shows one of the folders that are links into /usr nearly everywhere.
func (r rootDir) bindOrLink(t *testing.T, name string) {
	t.Helper()
	target, err := os.Readlink("/" + name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err == nil:
		if err := os.Symlink(target, r.path(name)); err != nil {
			t.Fatal(err)
		}
	default: // a folder
		r.bind(t, "/"+name, name, true)
	}
}

// mkdir makes a folder with its parents, which belongs to a user.
func (r rootDir) mkdir(t *testing.T, name string, mode fs.FileMode, owner int) {
	t.Helper()
	path := r.path(name)
	if err := errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, mode), os.Chown(path, owner, owner)); err != nil {
		t.Fatal(err)
	}
}

// write writes a file, which belongs to root.
func (r rootDir) write(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	path := r.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// copyTemplate writes a file of testdata/servers.
func (r rootDir) copyTemplate(t *testing.T, template, name string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "servers", template))
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, name, string(text), 0o644)
}

// Users of the servers, as in the files below.
const (
	userPostfix    = 2101
	groupPostdrop  = 2102
	userExim       = 2103
	userSendmail   = 2104
	userOpenSMTPD  = 2106
	userOpenSMTPDQ = 2107
)

// etc writes what every Unix program looks up. hosts has lines of an address and a name.
func (r rootDir) etc(t *testing.T, hosts ...string) {
	t.Helper()
	var passwd, group strings.Builder
	passwd.WriteString("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
	group.WriteString("root:x:0:\nmail:x:8:\nnogroup:x:65534:\n")
	fmt.Fprintf(&group, "postdrop:x:%d:\n", groupPostdrop)
	fmt.Fprintf(&passwd, "mail:x:8:8::/var/mail:/bin/false\n")
	for name, id := range map[string]int{
		"postfix": userPostfix, "Debian-exim": userExim, "smmta": userSendmail, "smmsp": userSendmail + 1,
		"opensmtpd": userOpenSMTPD, "opensmtpq": userOpenSMTPDQ,
	} {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::/:/bin/false\n", name, id, id)
		fmt.Fprintf(&group, "%s:x:%d:\n", name, id)
	}
	r.write(t, "etc/passwd", passwd.String(), 0o644)
	r.write(t, "etc/group", group.String(), 0o644)
	r.write(t, "etc/hosts", "127.0.0.1 localhost\n"+strings.Join(hosts, "\n")+"\n", 0o644)
	r.write(t, "etc/nsswitch.conf", "passwd: files\ngroup: files\nservices: files\nhosts: files\n", 0o644)
	r.write(t, "etc/services", "smtp 25/tcp mail\nsubmissions 465/tcp smtps\nsubmission 587/tcp\n", 0o644)
}
