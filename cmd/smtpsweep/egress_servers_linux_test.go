package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/scanner/egress/reflect"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// Functions that a lab starts as processes of their own.
var (
	_ = lab.Register("egress.operators", serveOperators)
	_ = lab.Register("egress.interceptor", serveInterceptor)
	_ = lab.Register("egress.reflector", serveReflector)
)

// operatorHosts are the hosts of the built-in list, each with an address in the lab.
func operatorHosts() []string { return egress.Hosts(egress.BuiltIn()) }

// operatorAddr returns the address that a host has in the lab.
func operatorAddr(i int, six bool) netip.Addr {
	if six {
		a := lab.PathServers6.Addr().As16()
		a[13], a[15] = byte(i+1), 25
		return netip.AddrFrom16(a)
	}
	a := lab.PathServers4.Addr().As4()
	a[2], a[3] = byte(i+1), 25
	return netip.AddrFrom4(a)
}

// operatorZone is what the DNS says of them.
func operatorZone() scannertest.DNSZone {
	zone := scannertest.DNSZone{}
	for i, host := range operatorHosts() {
		zone[host] = []string{"A " + operatorAddr(i, false).String(), "AAAA " + operatorAddr(i, true).String()}
	}
	return zone
}

// hostOf returns the host of an address in the lab.
func hostOf(addr netip.Addr) string {
	for i, host := range operatorHosts() {
		if addr.Unmap() == operatorAddr(i, false) || addr == operatorAddr(i, true) {
			return host
		}
	}
	return ""
}

// serveOperators is every operator of the built-in list, on all ports: CAFILE gets
// the authority that signed their certificates. On 26 they greet 421.
func serveOperators(ctx context.Context, args []string) error {
	z, err := scannertest.Start(ctx, scannertest.Config{Names: operatorHosts(), Turn: -1})
	if err != nil {
		return err
	}
	defer z.Close()
	if err := os.WriteFile(args[0], z.CA(), 0o644); err != nil {
		return err
	}
	cert, err := z.Certificate(scannertest.CertGood)
	if err != nil {
		return err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, port := range []string{"25", "465", "587", "2525", "443", "26"} {
		_, err := z.Listen(":"+port, scannertest.Behaviour{Name: "operator", Serve: func(conn net.Conn, _ *scannertest.Zoo) {
			local := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
			switch port {
			case "465":
				inside := tls.Server(conn, cfg)
				operator(inside, hostOf(local), nil)
				inside.Close()
			case "443":
				io.Copy(io.Discard, conn)
			case "26":
				dest, _ := lab.OriginalDst(conn.(*net.TCPConn)) // it is called by way of a redirect
				fmt.Fprintf(conn, "421 4.7.0 %s Try again later\r\n", hostOf(dest.Addr()))
			default:
				operator(conn, hostOf(local), cfg)
			}
		}})
		if err != nil {
			return err
		}
	}
	lab.Ready()
	<-ctx.Done()
	return nil
}

// reflectorAddr is where the reflector of a lab is: the router next to the operators.
var reflectorAddr = lab.PathHops4[2]

// serveReflector is a reflector. FILE gets the fingerprint of its key.
func serveReflector(ctx context.Context, args []string) error {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	var listeners []reflect.Listener
	for _, port := range egress.MailPorts() {
		l, err := reflect.Listen(ctx, netip.AddrPortFrom(reflectorAddr, port).String(), reflect.ImplicitTLS(port))
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	if err := os.WriteFile(args[0], []byte(reflect.PinOf(key).String()), 0o644); err != nil {
		return err
	}
	lab.Ready()
	return (&reflect.Server{Key: key}).Serve(ctx, listeners...)
}

// operator speaks the SMTP of one operator; each has keywords of its own. cfg is nil
// inside TLS.
func operator(conn net.Conn, host string, cfg *tls.Config) {
	size := 1000
	for _, c := range host {
		size += int(c)
	}
	fmt.Fprintf(conn, "220 %s ESMTP ready\r\n", host)
	in := bufio.NewReaderSize(conn, 512)
	for range 50 {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(string(line))), " ")
		switch {
		case verb == "EHLO" && cfg != nil:
			fmt.Fprintf(conn, "250-%s\r\n250-SIZE %d\r\n250-STARTTLS\r\n250-PIPELINING\r\n250 8BITMIME\r\n", host, size)
		case verb == "EHLO":
			fmt.Fprintf(conn, "250-%s\r\n250-SIZE %d\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n", host, size)
		case verb == "STARTTLS" && cfg != nil:
			io.WriteString(conn, "220 2.0.0 go ahead\r\n")
			conn, cfg = tls.Server(conn, cfg), nil
			in = bufio.NewReaderSize(conn, 512)
		case verb == "QUIT":
			io.WriteString(conn, "221 2.0.0 bye\r\n")
			if inside, ok := conn.(*tls.Conn); ok {
				inside.CloseWrite()
			}
			return
		default:
			io.WriteString(conn, "502 5.5.2 unknown\r\n")
		}
	}
}

// serveInterceptor is a transparent proxy: PORT MODE. Mode "mta" answers everything as a
// mail server of its own; the others pass on what is said, and change one thing.
func serveInterceptor(ctx context.Context, args []string) error {
	port, mode := args[0], args[1]
	z, err := scannertest.Start(ctx, scannertest.Config{})
	if err != nil {
		return err
	}
	defer z.Close()
	cert, err := z.Certificate(scannertest.CertUnknownIssuer)
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+port)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	lab.Ready()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return ctx.Err()
		}
		wg.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			if mode == "mta" {
				conn.SetDeadline(time.Now().Add(time.Minute))
				operator(conn, "proxy.isp.example", nil)
				return
			}
			if err := intercept(ctx, conn.(*net.TCPConn), mode, &tls.Config{Certificates: []tls.Certificate{cert}}); err != nil {
				fmt.Println(mode, err)
			}
		})
	}
}

// intercept passes one connection on, changed as the mode says.
func intercept(ctx context.Context, in *net.TCPConn, mode string, own *tls.Config) error {
	dest, err := lab.OriginalDst(in)
	if err != nil {
		return err
	}
	out, err := new(net.Dialer).DialContext(ctx, "tcp", dest.String())
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { out.Close() })()
	defer out.Close()
	r := &relay{client: in, server: out, mode: mode, own: own}
	if dest.Port() == 465 {
		return r.insideTLS()
	}
	return r.clear()
}

// A relay is one connection through an interceptor.
type relay struct {
	client, server net.Conn
	mode           string
	own            *tls.Config
}

// insideTLS relays a port that begins with TLS.
func (r *relay) insideTLS() error {
	switch r.mode {
	case "hello":
		buf := make([]byte, 1)
		r.client.Read(buf)
		return r.client.(*net.TCPConn).SetLinger(0)
	case "certificate":
		return splice(tls.Server(r.client, r.own), tls.Client(r.server, &tls.Config{InsecureSkipVerify: true}))
	}
	return splice(r.client, r.server)
}

// clear relays a port that begins in plain text, reply by reply.
func (r *relay) clear() error {
	fromServer, fromClient := bufio.NewReader(r.server), bufio.NewReader(r.client)
	if err := r.reply(fromServer, r.greeting); err != nil {
		return err
	}
	for {
		line, err := fromClient.ReadString('\n')
		if err != nil {
			return ignoreEOF(err)
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		if verb == "STARTTLS" {
			return r.startTLS(fromServer, line)
		}
		if _, err := io.WriteString(r.server, line); err != nil {
			return err
		}
		change := func(s string) string { return s }
		if verb == "EHLO" {
			change = r.capability
		}
		if err := r.reply(fromServer, change); err != nil {
			return err
		}
		if verb == "QUIT" {
			return nil
		}
	}
}

// startTLS does to STARTTLS what the mode says.
func (r *relay) startTLS(fromServer *bufio.Reader, line string) error {
	switch r.mode {
	case "454", "502":
		io.WriteString(r.client, r.mode+" 5.7.0 TLS not available\r\n")
		return r.clearOn(fromServer)
	case "certificate":
		io.WriteString(r.client, "220 go ahead\r\n")
		io.WriteString(r.server, line)
		if _, err := fromServer.ReadString('\n'); err != nil {
			return err
		}
		return splice(tls.Server(r.client, r.own), tls.Client(r.server, &tls.Config{InsecureSkipVerify: true}))
	}
	io.WriteString(r.server, line)
	if err := r.reply(fromServer, func(s string) string { return s }); err != nil {
		return err
	}
	if r.mode == "hello" {
		buf := make([]byte, 1)
		r.client.Read(buf)
		return r.client.(*net.TCPConn).SetLinger(0)
	}
	return splice(r.client, r.server)
}

// clearOn goes on in plain text after a refusal.
func (r *relay) clearOn(fromServer *bufio.Reader) error {
	go io.Copy(r.server, r.client)
	_, err := io.Copy(r.client, fromServer)
	return ignoreEOF(err)
}

// reply passes a whole reply on, each line changed; a line that becomes empty is left out.
func (r *relay) reply(from *bufio.Reader, change func(string) string) error {
	var lines []string
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return ignoreEOF(err)
		}
		text := strings.TrimRight(line, "\r\n")
		if changed := change(text); changed != "" {
			lines = append(lines, changed)
		}
		if len(text) < 4 || text[3] != '-' {
			break
		}
	}
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = lines[i][:3] + sep + lines[i][4:] + "\r\n"
	}
	_, err := io.WriteString(r.client, strings.Join(lines, ""))
	return err
}

func (r *relay) greeting(line string) string {
	switch r.mode {
	case "banner":
		return line[:4] + "gateway.isp.example ESMTP Postfix"
	case "stars":
		return line[:4] + strings.Repeat("*", len(line)-4)
	}
	return line
}

func (r *relay) capability(line string) string {
	if strings.TrimSpace(line[4:]) != "STARTTLS" {
		return line
	}
	switch r.mode {
	case "mask":
		return line[:4] + "XXXXXXXA"
	case "remove":
		return ""
	}
	return line
}

// splice joins two connections until one of them ends.
func splice(a, b net.Conn) error {
	done := make(chan error, 2)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() { // ends with either connection
			_, err := io.Copy(way[0], way[1])
			done <- err
		}()
	}
	err := <-done
	a.Close()
	b.Close()
	<-done
	return ignoreEOF(err)
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// portArg writes a port for a process.
func portArg(port uint16) string { return strconv.Itoa(int(port)) }

// has reports whether a finding is among those of a verdict.
func codesOf(v *egress.Verdict) (codes []string) {
	for _, f := range v.Findings {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	return codes
}
