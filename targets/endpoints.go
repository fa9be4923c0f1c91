package targets

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// An Answer is what the DNS said of a name, once; it is journalled, so that a
// resumed run looks at the same addresses.
type Answer struct {
	Name  string       `json:"name"`            // Name.Text
	Hosts []HostAnswer `json:"hosts,omitempty"` // the host itself, or the MX hosts, best preference first
	Why   Unprobed     `json:"why,omitempty"`   // why there are no hosts; empty if there are
	Err   string       `json:"err,omitempty"`   // our words for Why; without Why a remark
	CNAME []string     `json:"cname,omitempty"` // names that the name is an alias of, in order
}

// A HostAnswer is what the DNS said of one host.
type HostAnswer struct {
	Host       string       `json:"host"` // absolute, lower case, without the last dot
	Preference uint16       `json:"preference,omitempty"`
	Addrs      []netip.Addr `json:"addrs,omitempty"` // IPv4 first, each once
	// Why there are no addresses. With addresses it is empty, or DNSError: one
	// family is known and the look-up of the other failed.
	Why    Unprobed `json:"why,omitempty"`
	Err    string   `json:"err,omitempty"`    // our words for Why; without Why a remark
	Failed int      `json:"failed,omitempty"` // 4 or 6: the family whose look-up failed, if the other has Addrs
}

// An Endpoint is one row that a name leads to.
type Endpoint struct {
	Target Target   // of a row without an address only From is set
	Why    Unprobed // empty: probe it
	Err    string   // our words for Why
	Cure   string   // the flag with which it would be probed; empty if there is none
	Notice string   // what the user should know about it
}

// Endpoints turns the answer for a name into rows: each address of each host
// at each port, and one row for what has no address. Exclusions and the rules
// for special addresses are applied here, address by address.
func (p *Plan) Endpoints(name Name, a Answer) []Endpoint {
	domain, mx := name.isMX()
	if a.Why != "" || len(a.Hosts) == 0 {
		why := a.Why
		if why == "" {
			why = DNSNoAddress
		}
		return []Endpoint{{Target: nowhere(name.Spec, domain), Why: why, Err: a.Err}}
	}
	w := foundName
	if !mx && !name.FromFile {
		w = typedName
	}
	var out []Endpoint
	for _, h := range a.Hosts {
		out = append(out, p.hostEndpoints(name, h, w)...)
	}
	if a.Err != "" {
		addNotice(&out[0], a.Err)
	}
	return out
}

// nowhere is the target of a row without an address.
func nowhere(spec, host string) Target {
	return Target{Index: NoIndex, From: &Origin{Spec: spec, Host: host}}
}

func (p *Plan) hostEndpoints(name Name, h HostAnswer, w way) (out []Endpoint) {
	origin := &Origin{Spec: name.Spec, Host: h.Host}
	var seen []netip.Addr
	for _, addr := range h.Addrs {
		addr = addr.Unmap()
		if p.cfg.Only4 && addr.Is6() || p.cfg.Only6 && addr.Is4() || slices.Contains(seen, addr) {
			continue
		}
		seen = append(seen, addr)
		e := p.judgeNamed(addr, h.Host, w)
		for _, port := range name.Ports {
			e.Target = Target{Index: NoIndex, Addr: addr, From: origin, Port: port.Number, Role: port.Role}
			out = append(out, e)
		}
	}
	switch {
	case p.unwanted(h): // nobody asked for the family that failed
	case h.Why != "":
		out = append(out, Endpoint{Target: Target{Index: NoIndex, From: origin}, Why: h.Why, Err: h.Err})
	case len(out) == 0:
		out = append(out, Endpoint{Target: Target{Index: NoIndex, From: origin}, Why: DNSNoAddress, Err: p.noFamily(h)})
	case h.Err != "":
		addNotice(&out[0], h.Err)
	}
	return out
}

// unwanted reports whether all that failed in the look-up of a host is of the
// family that is not scanned.
func (p *Plan) unwanted(h HostAnswer) bool {
	return h.Failed == 6 && p.cfg.Only4 || h.Failed == 4 && p.cfg.Only6
}

// Settled reports whether an answer would be no better if it were asked for
// again: nothing that matters could not be asked.
func (p *Plan) Settled(a Answer) bool {
	failed := func(h HostAnswer) bool { return h.Why == DNSError && !p.unwanted(h) }
	return a.Why != DNSError && !slices.ContainsFunc(a.Hosts, failed)
}

// judgeNamed says whether an address behind a name is probed.
func (p *Plan) judgeNamed(addr netip.Addr, host string, w way) (e Endpoint) {
	c, kind := p.cfg.judge(addr)
	_, e.Why = p.permit(addr, w)
	switch {
	case e.Why == Excluded:
		e.Err = host + " leads to " + addr.String() + ", which is excluded"
	case e.Why == Reserved:
		e.Err = host + " leads to " + addr.String() + ": " + kind
		if c == private {
			e.Cure = "--allow-private"
		} else if c == reserved {
			e.Cure = "--allow-reserved"
		}
		if e.Cure != "" {
			e.Err += ", with " + e.Cure + " it is probed"
		}
	case c == private:
		e.Notice = fmt.Sprintf("%s leads to the private address %s", host, addr)
	}
	return e
}

func (p *Plan) noFamily(h HostAnswer) string {
	if len(h.Addrs) > 0 && p.cfg.Only4 {
		return h.Host + " has only IPv6 addresses, and -4 was given"
	}
	if len(h.Addrs) > 0 && p.cfg.Only6 {
		return h.Host + " has only IPv4 addresses, and -6 was given"
	}
	return h.Err
}

func addNotice(e *Endpoint, notice string) {
	if e.Notice = strings.TrimPrefix(e.Notice+"; "+notice, "; "); e.Why != "" && e.Err == "" {
		e.Err = notice
	}
}
