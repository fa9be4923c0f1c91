package reflect

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxReversing = 16              // connections back at a time, of all sessions
	reverseTime  = 6 * time.Second // to connect, and then for the greeting
)

// reversePorts are those that a far end connects back to.
var reversePorts = []uint16{25, 465, 587}

// reverseText is what an auditor signs who wants its own ports looked at: only
// who holds the session's key can ask, and only for this session.
func reverseText(auditor, farEnd, ports string) []byte {
	return []byte(reverseContext + auditor + "\n" + farEnd + "\n" + ports)
}

// reverse looks at the client's own ports, at the address that it comes from and
// nowhere else, one connection each.
func (s *session) reverse(r request) (found []Reversed, why string) {
	if len(r.rest) != 2 {
		return nil, "the request has no ports or no signature"
	}
	ports, signature := r.rest[0], r.rest[1]
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || !ed25519.Verify(s.auditor, reverseText(s.nonce, s.greeted, ports), raw) {
		return nil, "the request is not signed by this session's auditor"
	}
	list, ok := parseReversePorts(ports)
	switch {
	case !ok:
		return nil, "only ports 25, 465 and 587 are connected to"
	case s.srv.NoReverse:
		return nil, "this far end does not connect back (--no-reverse)"
	case !s.srv.door.mayReverse(s.client.Addr()):
		return nil, "this source asked too often; again in a minute"
	}
	found = make([]Reversed, len(list))
	var wg sync.WaitGroup
	for i, port := range list {
		wg.Go(func() { found[i] = s.connectBack(port) })
	}
	wg.Wait()
	return found, ""
}

// parseReversePorts reads "25,465".
func parseReversePorts(text string) (ports []uint16, ok bool) {
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil || !slices.Contains(reversePorts, uint16(n)) || slices.Contains(ports, uint16(n)) {
			return nil, false
		}
		ports = append(ports, uint16(n))
	}
	return ports, len(ports) > 0
}

// connectBack makes one connection, and reads the first line unless TLS would come first.
func (s *session) connectBack(port uint16) Reversed {
	r := Reversed{Port: port}
	ctx, cancel := context.WithTimeout(context.Background(), reverseTime)
	defer cancel()
	select {
	case s.srv.reversed <- struct{}{}:
		defer func() { <-s.srv.reversed }()
	case <-ctx.Done():
		r.State, r.Err = "unknown", "the far end has too many others to look at"
		return r
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.to.Addr(), 0))}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(s.client.Addr(), port).String())
	if err != nil {
		r.State, r.Err = reverseState(err)
		return r
	}
	defer conn.Close()
	r.State = "open"
	if ImplicitTLS(port) {
		return r
	}
	conn.SetDeadline(time.Now().Add(reverseTime))
	in := lineReader{src: conn, most: maxLineBytes}
	line, err := in.line(func() {})
	if err != nil {
		r.Err = "no greeting: " + endWords(err)
		return r
	}
	text := strings.TrimRight(string(line), "\r\n")
	r.Greeting = []byte(text[:min(len(text), maxCommand)])
	return r
}

// reverseState says what a connection that failed shows of a port.
func reverseState(err error) (state, words string) {
	var no syscall.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "filtered", "no answer"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "closed", "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "filtered", "unreachable"
	case errors.As(err, &no):
		return "unknown", no.Error()
	}
	return "unknown", endWords(err)
}
