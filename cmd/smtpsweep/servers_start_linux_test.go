package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// postfixSbin is where Debian has Postfix's daemons.
const postfixSbin = "/usr/lib/postfix/sbin"

// mtasDir returns where .ci/programs unpacks the servers that cannot be
// installed beside Postfix.
func mtasDir() string {
	if dir := os.Getenv("SMTPSWEEP_MTAS"); dir != "" {
		return dir
	}
	return "/var/cache/smtpsweep-mtas"
}

// A mailServer is a real mail server, in a namespace and a root folder of its own.
type mailServer struct {
	name    string // namespace, and host name below example.org
	pkg     string // folder of the unpacked package; empty if installed
	ports   []int
	prepare func(t *testing.T, r rootDir, l *lab.Lab)
	command []string // path in the root folder, and arguments
	tools   []string // what else of the machine is needed

	log serverLog
}

// program returns the path of the server's program on this machine.
func (s *mailServer) program() string {
	if s.pkg == "" {
		return s.command[0]
	}
	return filepath.Join(mtasDir(), s.pkg, strings.TrimPrefix(s.command[0], "/mta"))
}

// systemProgram returns the path of a program of the system. Those of
// administrators are in folders that not every PATH has.
func systemProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err != nil {
		cannotTest(t, "%s is missing: %v", name, err)
	}
	return path
}

// host returns the server's name in greeting and certificate.
func (s *mailServer) host() string { return s.name + ".example.org" }

// mailServers returns the servers of the test.
func mailServers() []*mailServer {
	master := []string{postfixSbin + "/master", "-d"}
	return []*mailServer{
		{name: "postfix", ports: []int{25, 465, 587}, command: master, prepare: preparePostfix},
		{name: "postscreen", ports: []int{25}, command: master, prepare: preparePostscreen},
		{name: "deepscreen", ports: []int{25}, command: master, prepare: prepareDeepscreen},
		{name: "exim", pkg: "exim4-daemon-heavy", ports: []int{25, 465, 587},
			command: []string{"/mta/usr/sbin/exim4", "-bdf"}, prepare: prepareExim},
		{name: "sendmail", pkg: "sendmail-bin", ports: []int{25, 465, 587},
			command: []string{"/mta/usr/libexec/sendmail/sendmail", "-bD"}, prepare: prepareSendmail, tools: []string{"/usr/bin/m4"}},
		{name: "opensmtpd", pkg: "opensmtpd", ports: []int{25, 465, 587},
			command: []string{"/mta/usr/sbin/smtpd", "-F"}, prepare: prepareOpenSMTPD},
	}
}

// queueDirs are the folders of Postfix's queue (postfix-files(5) lists them).
var queueDirs = []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"}

func preparePostfix(t *testing.T, r rootDir, _ *lab.Lab) {
	r.copyTemplate(t, "postfix.main.cf", "etc/postfix/main.cf")
	r.copyTemplate(t, "postfix.master.cf", "etc/postfix/master.cf")
	r.write(t, "etc/postfix/sasl/smtpd.conf", "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n", 0o644)
	postfixDirs(t, r)
}

func preparePostscreen(t *testing.T, r rootDir, _ *lab.Lab) {
	r.copyTemplate(t, "postscreen.main.cf", "etc/postfix/main.cf")
	r.copyTemplate(t, "postscreen.master.cf", "etc/postfix/master.cf")
	postfixDirs(t, r)
}

// prepareDeepscreen lets postscreen hold the whole conversation itself, to test
// the client further, without a pause before it.
func prepareDeepscreen(t *testing.T, r rootDir, l *lab.Lab) {
	preparePostscreen(t, r, l)
	main, err := os.ReadFile(r.path("etc/postfix/main.cf"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(main), "postscreen.example.org", "deepscreen.example.org")
	r.write(t, "etc/postfix/main.cf", text+`
postscreen_greet_banner =
postscreen_pipelining_enable = yes
postscreen_non_smtp_command_enable = yes
postscreen_bare_newline_enable = yes
`, 0o644)
}

func postfixDirs(t *testing.T, r rootDir) {
	r.mkdir(t, "var/lib/postfix", 0o700, userPostfix)
	r.mkdir(t, "var/spool/postfix/pid", 0o755, 0)
	for _, dir := range queueDirs {
		r.mkdir(t, "var/spool/postfix/"+dir, 0o700, userPostfix)
	}
	for dir, mode := range map[string]os.FileMode{"maildrop": 0o730, "public": 0o710} {
		r.mkdir(t, "var/spool/postfix/"+dir, mode, userPostfix)
		if err := os.Chown(r.path("var/spool/postfix/"+dir), userPostfix, groupPostdrop); err != nil {
			t.Fatal(err)
		}
	}
}

func prepareExim(t *testing.T, r rootDir, _ *lab.Lab) {
	r.copyTemplate(t, "exim4.conf", "etc/exim4/exim4.conf")
	r.mkdir(t, "var/spool/exim4", 0o750, userExim)
	if err := os.Chown(r.path("etc/tls/key.pem"), userExim, userExim); err != nil { // it reads the key as its own user
		t.Fatal(err)
	}
}

// prepareSendmail makes sendmail.cf from our macros and the package's, as an
// administrator does.
func prepareSendmail(t *testing.T, r rootDir, l *lab.Lab) {
	args := []string{string(r), "/usr/bin/m4", "-D_CF_DIR_=/mta/usr/share/sendmail/cf/", "/etc/mail/sendmail.mc"}
	if l.IPv6() {
		args = slices.Insert(args, 2, "-DLAB_IPV6")
		l.Sysctl(t, "sendmail", "net/ipv6/bindv6only", "1") // it opens a socket a family on one port
	}
	r.copyTemplate(t, "sendmail.mc", "etc/mail/sendmail.mc")
	var stderr bytes.Buffer
	cmd := l.Command("sendmail", systemProgram(t, "chroot"), args...)
	cmd.Stderr = &stderr
	cf, err := cmd.Output()
	if err != nil {
		t.Fatalf("m4: %v\n%s", err, stderr.Bytes())
	}
	r.write(t, "etc/mail/sendmail.cf", string(cf), 0o644)
	r.write(t, "etc/mail/service.switch", "hosts files\naliases files\n", 0o644)
	r.write(t, "etc/mail/local-host-names", "sendmail.example.org\n", 0o644)
	r.write(t, "etc/mail/aliases", "", 0o644)
	r.mkdir(t, "var/spool/mqueue", 0o700, userSendmail)
}

func prepareOpenSMTPD(t *testing.T, r rootDir, _ *lab.Lab) {
	r.copyTemplate(t, "smtpd.conf", "etc/smtpd.conf")
	r.mkdir(t, "var/lib/opensmtpd/empty", 0o755, 0) // it locks itself in there
	r.write(t, "etc/mailname", "opensmtpd.example.org\n", 0o644)
}

// startServer starts a server, which is stopped when t ends. It returns at once.
func startServer(t *testing.T, l *lab.Lab, ca *testCA, s *mailServer) {
	t.Helper()
	mta := ""
	if s.pkg != "" {
		mta = filepath.Join(mtasDir(), s.pkg)
	}
	r := newRootDir(t, s.name, mta)
	addr4, addr6 := l.HostAddrs(s.name)
	r.etc(t, fmt.Sprintf("%s %s", addr4, s.host()), fmt.Sprintf("%s %s", addr6, s.host()),
		fmt.Sprintf("%s scanner.example.org", lab.ScannerAddr4), fmt.Sprintf("%s scanner.example.org", lab.ScannerAddr6))
	cert, key := ca.issue(t, s.host())
	r.write(t, "etc/tls/ca.pem", ca.pem, 0o644)
	r.write(t, "etc/tls/cert.pem", cert, 0o644)
	r.write(t, "etc/tls/key.pem", key, 0o600)
	r.write(t, "etc/tls/chain.pem", key+cert, 0o600)
	s.prepare(t, r, l)
	s.log.collect(t, r.path("dev/log"))

	// A file and not a pipe: whatever the server leaves behind must not keep us waiting.
	said, err := os.Create(r.path("tmp/said"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := l.Command(s.name, systemProgram(t, "chroot"), append([]string{string(r)}, s.command...)...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
		"SMTPSWEEP_TEST_STATE=none"} // the test binary, which becomes chroot, needs no folder (see withState)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stopServer(cmd)
		said.Close()
		if t.Failed() {
			text, _ := os.ReadFile(said.Name())
			t.Logf("%s said:\n%s\nand logged:\n%s", s.name, text, strings.Join(s.log.all(), "\n"))
		}
	})
}

// stopServer ends a server as an administrator does, after 5 s by force.
func stopServer(cmd *exec.Cmd) {
	cmd.Process.Signal(syscall.SIGTERM)
	forced := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
	defer forced.Stop()
	cmd.Wait()
}

// nothingRuns waits until no process has one of our root folders any more: a
// server's children end a moment after it.
func nothingRuns(t *testing.T) {
	end := time.Now().Add(10 * time.Second)
	for {
		var left []string
		roots, _ := filepath.Glob("/proc/[0-9]*/root")
		for _, link := range roots {
			if root, err := os.Readlink(link); err == nil && strings.HasPrefix(root, rootsDir+"/") {
				name, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
				left = append(left, fmt.Sprintf("%s: %q", link, name))
			}
		}
		switch {
		case len(left) == 0:
			return
		case time.Now().After(end):
			t.Errorf("processes that are left: %s", strings.Join(left, ", "))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A process that waits in the namespace of a server until all ports are
// listened on. A connection would tell the same, and be a stranger's in the server's log.
var _ = lab.Register("servers.listening", func(ctx context.Context, ports []string) error {
	for {
		var table []byte
		for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
			text, _ := os.ReadFile(file) // there may be no IPv6
			table = append(table, text...)
		}
		if !slices.ContainsFunc(ports, func(port string) bool { return !listens(table, port) }) {
			lab.Ready()
			<-ctx.Done()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
})

// listens reports whether a table of sockets (proc_pid_net(5)) has one that
// listens on a port: state 0A.
func listens(table []byte, port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return false
	}
	local := []byte(fmt.Sprintf(":%04X", n))
	for line := range bytes.Lines(table) {
		f := bytes.Fields(line)
		if len(f) > 3 && bytes.HasSuffix(f[1], local) && string(f[3]) == "0A" {
			return true
		}
	}
	return false
}

// awaitListening waits until a server is up.
func awaitListening(t *testing.T, l *lab.Lab, s *mailServer) {
	t.Helper()
	var ports []string
	for _, p := range s.ports {
		ports = append(ports, strconv.Itoa(p))
	}
	l.Start(t, s.name, "servers.listening", ports...)
}

// A testCA is the authority that all servers have their certificate from.
type testCA struct {
	pem  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	issued map[string]*x509.Certificate // by name
}

const testCAName = "authority of the test"

func newTestCA(t *testing.T) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: testCAName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{pem: pemText("CERTIFICATE", der), cert: cert, key: key, issued: map[string]*x509.Certificate{}}
}

// issue returns a certificate for a name and its key, as PEM.
func (ca *testCA) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 3, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca.cert, k.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.issued[name], err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pemText("CERTIFICATE", der), pemText("PRIVATE KEY", keyDER)
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
