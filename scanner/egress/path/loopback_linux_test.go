package path

import (
	"net"
	"net/netip"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// TestLoopback: without a lab, this machine is the first hop.
func TestLoopback(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1", "::1"} {
		ln, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
		if err != nil {
			t.Logf("no %s here: %v", addr, err)
			continue
		}
		defer ln.Close()
		gone, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
		if err != nil {
			t.Fatal(err)
		}
		gone.Close()
		port := func(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }
		tr, err := new(Tracer).Trace(t.Context(), Request{Addr: netip.MustParseAddr(addr), Ports: []uint16{port(ln), port(gone)}})
		if err != nil {
			t.Fatal(err)
		}
		for i, state := range []scanner.State{scanner.Open, scanner.Closed} {
			if p := tr.Paths[i]; p.Fate != scanner.Reached || p.State != state || p.Distance != 1 || p.LastHop != 0 {
				t.Errorf("%s: got %+v", addr, p)
			}
		}
		if !tr.Complete || tr.Blocked() || tr.Source != netip.MustParseAddr(addr) {
			t.Errorf("%s: got %+v", addr, tr)
		}
	}
}
