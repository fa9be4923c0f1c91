package reflect

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }

// newKey returns a key for a test's far end.
func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A farEnd is a far end on a loopback address.
type farEnd struct {
	srv    *Server
	pin    Pin
	plain  netip.AddrPort
	tls    netip.AddrPort
	mu     sync.Mutex // guards following
	visits []Visit
}

// startFarEnd starts one on addr, with a plain port and one that begins with TLS.
func startFarEnd(t testing.TB, addr string, change func(*Server)) *farEnd {
	t.Helper()
	f := &farEnd{srv: &Server{Key: newKey(t), Name: "far.example.org"}}
	f.pin = PinOf(f.srv.Key)
	f.srv.Log = func(v Visit) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.visits = append(f.visits, v)
	}
	if change != nil {
		change(f.srv)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var listeners []Listener
	for _, implicit := range []bool{false, true} {
		ln, err := Listen(ctx, net.JoinHostPort(addr, "0"), implicit)
		if err != nil {
			cancel()
			t.Skipf("this machine has no %s: %v", addr, err)
		}
		listeners = append(listeners, ln)
	}
	f.plain, f.tls = addrPort(listeners[0].Addr()), addrPort(listeners[1].Addr())
	done := make(chan error, 1)
	go func() { done <- f.srv.Serve(ctx, listeners...) }() // ends with ctx
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the far end ended: %v", err)
		}
	})
	return f
}

// probe holds a session.
func probe(t testing.TB, addr netip.AddrPort, pin Pin, o Options) *Report {
	t.Helper()
	r, err := Probe(t.Context(), addr, pin, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// codes are the conclusions, in order, each once.
func (r *Report) codes() []string {
	var out []string
	for _, c := range r.Conclusions {
		if !slices.Contains(out, c.Code) {
			out = append(out, c.Code)
		}
	}
	return out
}

// wantCodes fails unless exactly these conclusions were drawn.
func wantCodes(t testing.TB, r *Report, want ...string) {
	t.Helper()
	got := r.codes()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("concluded %v, want %v", got, want)
		for _, c := range r.Conclusions {
			t.Logf("%s proven=%v step=%s way=%s: %s\n\t%s", c.Code, c.Proven, c.Step, c.Way, c.Text, strings.Join(c.Evidence, "\n\t"))
		}
		t.Logf("step %s, end %s, error %q, refused %q, after %q, notes %q", r.Step, r.End, r.Error, r.Refused, r.AfterError, r.Notes)
	}
}

func TestACleanSessionIsIntact(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			f := startFarEnd(t, addr, nil)
			for _, o := range []Options{{}, {ImplicitTLS: true}, {LongLine: true}, {LongLine: true, ImplicitTLS: true, Helo: "mail.example.org"}} {
				at := f.plain
				if o.ImplicitTLS {
					at = f.tls
				}
				r := probe(t, at, f.pin, o)
				wantCodes(t, r, Intact)
				if !r.Proven || r.Step != StepDone || !r.TLS.Done || len(r.Notes) > 0 {
					t.Errorf("proven %v, step %s, TLS %v, notes %q", r.Proven, r.Step, r.TLS.Done, r.Notes)
				}
				if r.Summary.Source != r.Local {
					t.Errorf("source %s, want %s", r.Summary.Source, r.Local)
				}
			}
		})
	}
}
