package targets

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Reverse returns the name that the DNS has for an address (PTR; RFC 1035, 3.5), the
// first one if there are several, and "" if there is none. Nothing says that the name leads back. The
// error says why it could not be asked. The hosts file is asked first.
func (r *Resolver) Reverse(ctx context.Context, addr netip.Addr) (string, error) {
	addr = addr.Unmap().WithZone("")
	r.once.Do(func() { r.hosts = readHosts(r.HostsFile) })
	var known []string
	for name, addrs := range r.hosts {
		if slices.Contains(addrs, addr) {
			known = append(known, name)
		}
	}
	if len(known) > 0 {
		return slices.Min(known), nil
	}
	question, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	m, err := r.exchange(ctx, question, dns.TypePTR)
	if err != nil {
		return "", errors.New("no answer about " + addr.String() + ": " + err.Error())
	}
	return pointer(m, question), nil
}

// pointer returns the name that a reply has for a question, by way of aliases, as of
// networks smaller than a zone (RFC 2317).
func pointer(m *dns.Msg, owner string) string {
	for range maxAliases {
		alias := ""
		for _, rr := range m.Answer {
			if !strings.EqualFold(rr.Header().Name, owner) || rr.Header().Class != dns.ClassINET {
				continue
			}
			switch rr := rr.(type) {
			case *dns.PTR:
				return plainName(rr.Ptr)
			case *dns.CNAME:
				alias = rr.Target
			}
		}
		if alias == "" {
			return ""
		}
		owner = alias
	}
	return ""
}
