package egress

import (
	"slices"
	"strings"
)

// A Provider is a network with a documented policy for outgoing mail ports. It is
// matched by the pattern of what is stopped, and by names on the path: a hint whom
// to ask, never a proof of where one is.
type Provider struct {
	Name    string
	Blocks  []uint16 // documented to be stopped
	Domains []string // of names on the path
	Says    string   // the policy in one sentence
	Ask     string   // what to do there
	Source  string   // where it is documented
	Date    string   // when that was last gone through
}

const providersDate = "2026-09"

// providers is sorted by name.
var providers = []Provider{
	{Name: "Amazon EC2", Blocks: []uint16{25}, Domains: []string{"amazonaws.com", "ec2.internal"}, Says: "25 is closed until its removal is granted",
		Ask: "request to remove the restriction on port 25", Source: "EC2 user guide, quotas and restrictions of port 25", Date: providersDate},
	{Name: "DigitalOcean", Blocks: []uint16{25, 465, 587}, Domains: []string{"digitalocean.com"}, Says: "25, 465 and 587 are closed on droplets",
		Ask: "use a mail service on 2525 or its HTTPS interface", Source: "DigitalOcean documentation, why is SMTP blocked (reports on 587 differ)", Date: providersDate},
	{Name: "Google Cloud", Blocks: []uint16{25}, Domains: []string{"googleusercontent.com", "google.internal"}, Says: "25 to outside is closed on all machines; 465 and 587 are open",
		Ask: "submit through a relay on 465 or 587", Source: "Compute Engine documentation, sending mail from an instance", Date: providersDate},
	{Name: "Hetzner Cloud", Blocks: []uint16{25, 465}, Domains: []string{"your-server.de", "hetzner.com", "hetzner.cloud"}, Says: "25 and 465 are closed until they are granted; 587 is open",
		Ask: "request to open the ports in the console (limits)", Source: "Hetzner Cloud documentation, FAQ on mail ports", Date: providersDate},
	{Name: "Linode (Akamai)", Blocks: []uint16{25, 465, 587}, Domains: []string{"linode.com", "linodeusercontent.com"}, Says: "25, 465 and 587 are closed on new accounts",
		Ask: "open a ticket, with the domain and its reverse DNS", Source: "Akamai Cloud documentation, sending mail", Date: providersDate},
	{Name: "Microsoft Azure", Blocks: []uint16{25}, Domains: []string{"cloudapp.azure.com", "ntwk.msn.net"}, Says: "25 is closed for most kinds of subscription",
		Ask: "submit through a relay on 587", Source: "Azure documentation, troubleshoot outbound SMTP connectivity", Date: providersDate},
	{Name: "Oracle Cloud", Blocks: []uint16{25}, Domains: []string{"oraclevcn.com", "oraclecloud.com"}, Says: "25 is closed by default",
		Ask: "request an exemption, or use its Email Delivery on 587", Source: "Oracle Cloud documentation, networking", Date: providersDate},
	{Name: "Vultr", Blocks: []uint16{25}, Domains: []string{"vultr.com", "vultrusercontent.com", "choopa.net"}, Says: "25 is closed by default",
		Ask: "open a ticket to have it opened", Source: "Vultr documentation, blocked ports", Date: providersDate},
	{Name: "most access providers for homes", Blocks: []uint16{25}, Says: "25 is closed against spam from infected machines",
		Ask: "ask for it to be opened, or use the provider's relay", Source: "M3AAWG, Managing Port 25; RFC 5068, section 3.1", Date: providersDate},
}

// Providers returns whose documented policy looks like this: exactly these mail
// ports are stopped. If names on the path are of one of them, it is the only one.
func Providers(stopped, open []uint16, names []string) (out []Provider) {
	for _, p := range providers {
		if slices.ContainsFunc(names, func(n string) bool { return within(strings.ToLower(strings.TrimSuffix(n, ".")), p.Domains) }) {
			return []Provider{p}
		}
		if fits(p.Blocks, stopped, open) {
			out = append(out, p)
		}
	}
	return out
}

// fits reports whether all that is stopped is what a policy stops, and nothing of it is open.
func fits(policy, stopped, open []uint16) bool {
	if len(stopped) == 0 || slices.ContainsFunc(open, func(p uint16) bool { return slices.Contains(policy, p) }) {
		return false
	}
	return !slices.ContainsFunc(stopped, func(p uint16) bool { return !slices.Contains(policy, p) })
}
