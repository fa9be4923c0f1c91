package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTimeSpentQueueingForACPUIsNotThePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		gate := newGate(1)
		end := time.Now().Add(30 * time.Second)
		w := newWire(t.Context(), ours, gate, end)
		gate.enter(false) // someone else computes
		time.AfterFunc(7*time.Second, gate.leave)
		w.begin()
		if w.queued != 7*time.Second || !w.end.Equal(end.Add(7*time.Second)) {
			t.Errorf("queued %v, deadline moved by %v", w.queued, w.end.Sub(end))
		}
		w.finish()
		if idle(gate) != 1 {
			t.Error("the slot was not given back")
		}
	})
}

// idle returns how many slots are free.
func idle(g *gate) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.free
}

func TestAHandshakeThatHasBegunGoesFirst(t *testing.T) {
	g := newGate(1)
	given := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	if g.enter(false) != nil {
		t.Fatal("no slot of a new gate is free")
	}
	first, second, begun := g.enter(false), g.enter(false), g.enter(true)
	for i, want := range [][3]bool{{}, {false, false, true}, {true, false, true}, {true, true, true}} {
		if i > 0 {
			g.leave()
		}
		if got := [3]bool{given(first), given(second), given(begun)}; got != want {
			t.Errorf("after %d slots were given back: %v, want %v", i, got, want)
		}
	}
	if g.leave(); idle(g) != 1 {
		t.Errorf("%d slots are free in the end, want 1", idle(g))
	}
}

func TestSlotIsFreeWhileThePeerIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		gate := newGate(1)
		w := newWire(t.Context(), ours, gate, time.Now().Add(time.Minute))
		w.begin()
		done := make(chan error)
		go func() {
			_, err := w.Read(make([]byte, 10))
			done <- err
		}()
		synctest.Wait()
		if idle(gate) != 1 {
			t.Error("a slot is held by someone who waits")
		}
		start := time.Now()
		if err := <-done; !isTimeout(err) || time.Since(start) != stallLimit {
			t.Errorf("read ended with %v after %v", err, time.Since(start))
		}
		w.finish()
	})
}

func TestOnePeerCannotSendWithoutEnd(t *testing.T) {
	ours, theirs := net.Pipe()
	go io.Copy(theirs, endless{})
	defer theirs.Close()
	w := newWire(context.Background(), ours, nil, time.Now().Add(time.Minute))
	n, err := io.Copy(io.Discard, w)
	if err != errTooMuch || n < maxWire || n > 2*maxWire {
		t.Errorf("%d bytes, %v", n, err)
	}
	ours.Close()
}

// endless yields zeros forever.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// sealed makes what a server sends in a TLS 1.3 handshake with that suite.
func sealed(t *testing.T, suite uint16, secret []byte, message []byte) []byte {
	t.Helper()
	aead, iv, err := recordKey(suite, secret)
	if err != nil {
		t.Fatal(err)
	}
	hello := append([]byte{typeServerHello, 0, 0, 38, 3, 3}, make([]byte, 33)...)
	hello = append(hello, byte(suite>>8), byte(suite), 0)
	records := append([]byte{recordHandshake, 3, 3, 0, byte(len(hello))}, hello...)
	for seq, part := range [][]byte{message[:len(message)/2], message[len(message)/2:]} {
		nonce := append([]byte(nil), iv...)
		nonce[len(nonce)-1] ^= byte(seq)
		inner := append(append([]byte(nil), part...), recordHandshake, 0, 0) // and padding
		header := []byte{recordApplication, 3, 3, 0, byte(len(inner) + aead.Overhead())}
		records = append(records, header...)
		records = aead.Seal(records, nonce, inner, header)
	}
	return records
}

func TestWhyTLSFailedIsSaidInWords(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{os.ErrDeadlineExceeded, "the TLS handshake stalled"},
		{io.EOF, "the peer closed the connection during the TLS handshake"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, "the peer reset the connection during the TLS handshake"},
		{&net.OpError{Op: "read", Err: syscall.EHOSTUNREACH}, "the peer lost the connection (" + syscall.EHOSTUNREACH.Error() + ") during the TLS handshake"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, `the peer ended TLS with the alert "handshake failure"`},
		{&net.OpError{Op: "local error", Err: errors.New("tls: unexpected message")}, "the peer's part of the TLS handshake is faulty (unexpected message)"},
		{errors.New("tls: server selected unsupported protocol version 300"),
			"the peer's part of the TLS handshake is faulty (server selected unsupported protocol version 300, SSL 3.0)"},
		{errTooMuch, "the peer's part of the TLS handshake is faulty (more than 1 MiB came)"},
	}
	for _, tt := range tests {
		if got := tlsWords(tt.err); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestDigFindsCertificatesUnderBothAESSuites(t *testing.T) {
	message := []byte("\x0b\x00\x00\x12\x00\x00\x00\x0e\x00\x00\x04leaf\x00\x00\x00\x00\x00\x00\x00")
	for suite, size := range map[uint16]int{tls.TLS_AES_128_GCM_SHA256: 32, tls.TLS_AES_256_GCM_SHA384: 48} {
		secret := make([]byte, size)
		secret[3] = 7
		got := dig(sealed(t, suite, secret, message), secret).der
		if diff := cmp.Diff(got, [][]byte{[]byte("leaf"), {}}); diff != "" {
			t.Errorf("%s: %s", tls.CipherSuiteName(suite), diff)
		}
		secret[3] = 8
		if got := dig(sealed(t, suite, secret, message)[:70], secret).der; got != nil {
			t.Errorf("certificates in half a handshake: %q", got)
		}
	}
}
