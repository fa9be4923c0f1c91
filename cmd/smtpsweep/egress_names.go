package main

import (
	"context"
	"net/netip"
	"strings"
	"sync"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/targets"
)

// destination reads a DEST: a host or an address, with or without a port.
func destination(spec string) (host string, ports []uint16, err error) {
	usage := func(why string) error {
		return withHint(fail(exitUsage, "%q: %s", clip(spec), why), "a destination is a host or an address: mail.example.org, 192.0.2.25, [2001:db8::25]:587")
	}
	if ap, err := netip.ParseAddrPort(spec); err == nil {
		return ap.Addr().Unmap().String(), []uint16{ap.Port()}, nil
	}
	if addr, err := netip.ParseAddr(strings.Trim(spec, "[]")); err == nil {
		return addr.Unmap().String(), egress.MailPorts(), nil
	}
	host, port, hasPort := strings.Cut(spec, ":")
	switch {
	case strings.ContainsAny(host, "/ ,"), strings.HasPrefix(spec, "mx:"):
		return "", nil, usage("networks and lists are not audited")
	case host == "":
		return "", nil, usage("there is no host")
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if !hasPort {
		return host, egress.MailPorts(), nil
	}
	list, err := targets.ParsePorts(port)
	if err != nil {
		return "", nil, usage(err.Error())
	}
	for _, p := range list {
		ports = append(ports, p.Number)
	}
	return host, ports, nil
}

func addExclusions(to *targets.Exclusions, list string) error {
	for spec := range strings.SplitSeq(list, ",") {
		if err := to.Add(strings.TrimSpace(spec)); err != nil {
			return fail(exitUsage, "--exclude: %w", err)
		}
	}
	return nil
}

// lookUp asks for the names, and keeps of their addresses those that may be contacted.
func (d *destinations) lookUp(ctx context.Context, r *targets.Resolver) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range d.plan.NameCount() {
		name := d.plan.Name(i)
		wg.Go(func() {
			answer := r.Resolve(ctx, name)
			found := egress.Found{Why: answer.Why, Err: answer.Err}
			for _, h := range answer.Hosts {
				if found.Why == "" {
					found.Why, found.Err = h.Why, h.Err
				}
			}
			for _, ep := range d.plan.Endpoints(name, answer) {
				switch {
				case ep.Why == "":
					found.Addrs = append(found.Addrs, ep.Target.Addr)
				case found.Why == "":
					found.Why, found.Err = ep.Why, ep.Err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			d.found[name.Text] = found
		})
	}
	wg.Wait()
}

// sample returns an address of a family that is to be contacted.
func (d *destinations) sample(family egress.Family) netip.Addr {
	for _, host := range egress.Hosts(d.operators) {
		for _, addr := range d.found[host].Addrs {
			if egress.FamilyOf(addr) == family {
				return addr
			}
		}
	}
	return netip.Addr{}
}
