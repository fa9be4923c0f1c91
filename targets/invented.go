package targets

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// controlTimeout bounds the question for a name that nobody has.
const controlTimeout = 4 * time.Second

// inventions are the addresses that a DNS server answers for names that do not
// exist: some providers, hotels and filters lead those to a machine of theirs,
// which is then no answer about the name.
type inventions struct {
	mu    sync.Mutex
	asked bool
	addrs []netip.Addr
}

// Invented returns the addresses that the DNS servers invented for a name that
// cannot exist. It is empty as long as no name had an address from the DNS.
func (r *Resolver) Invented() []netip.Addr {
	r.inventions.mu.Lock()
	defer r.inventions.mu.Unlock()
	return slices.Clone(r.inventions.addrs)
}

// disbelieve takes away what an invention says of a host: that the name exists
// cannot be known from it, and the machine at its address is somebody else's.
func (r *Resolver) disbelieve(ctx context.Context, h *HostAnswer) {
	invented := r.control(ctx)
	if len(h.Addrs) == 0 || slices.ContainsFunc(h.Addrs, func(a netip.Addr) bool { return !slices.Contains(invented, a) }) {
		return
	}
	h.Err = fmt.Sprintf("the DNS server answers %s for names that do not exist, and for this one: it is not believed; ask another one with --resolver", h.Addrs[0])
	h.Addrs, h.Why = nil, DNSError
}

// control asks once for a name that does not exist: a random one below
// example.com, which is reserved and has no wildcard (RFC 6761, 6.5). Names
// under .invalid would not do: resolvers deny those without asking anybody (6.4).
func (r *Resolver) control(ctx context.Context) []netip.Addr {
	r.inventions.mu.Lock()
	defer r.inventions.mu.Unlock()
	if r.inventions.asked {
		return r.inventions.addrs
	}
	short, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	var label [12]byte
	_, _ = rand.Read(label[:]) // never fails
	name := "smtpsweep-" + hex.EncodeToString(label[:]) + ".example.com"
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		l := lookup{most: maxAddrs}
		r.lookup(short, &l, name, qtype)
		r.inventions.addrs = append(r.inventions.addrs, l.addrs...)
		if l.why == DNSNXDomain {
			break // an honest server: that is so of all types (RFC 2308, 5)
		}
	}
	r.inventions.asked = ctx.Err() == nil // a run that is stopped learns nothing
	return r.inventions.addrs
}
