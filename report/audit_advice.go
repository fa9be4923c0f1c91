package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
	"github.com/smtpsweep/smtpsweep/targets"
)

// do lists what to do, in order.
func (s *story) do() (out []string) {
	bad := slices.DeleteFunc(slices.Clone(s.all), func(v *egress.Verdict) bool { return !v.Bad() })
	if len(bad) == 0 {
		return s.doUndecided()
	}
	out = append(out, s.today(bad)...)
	for _, v := range bad {
		out = appendNew(out, s.cureOf(v))
	}
	if line := s.provider(); line != "" {
		out = append(out, line)
	}
	for _, f := range bad[0].Findings {
		if !egress.Harmless(f.Code) {
			out = append(out, "more about it: smtpsweep explain "+f.Code)
			break
		}
	}
	return append(out, "afterwards, or to wait for it: smtpsweep egress --watch 5m")
}

// today is the way around, if there is one.
func (s *story) today(bad []*egress.Verdict) []string {
	usable := s.usable()
	if len(usable) == 0 || !slices.ContainsFunc(bad, func(v *egress.Verdict) bool { return v.Port == 25 }) {
		return nil
	}
	wrap := ""
	if usable[0] == 465 { // TLS from the first byte
		wrap = " smtp_tls_wrappermode=yes smtp_tls_security_level=encrypt"
	}
	return []string{fmt.Sprintf("today: postconf -e 'relayhost = [smtp.YOURPROVIDER]:%d'%s (login, Exim, Exchange: smtpsweep egress --how-to)", usable[0], wrap)}
}

// cureOf says what undoes one verdict.
func (s *story) cureOf(v *egress.Verdict) string {
	ports := s.portText(v)
	switch v.Word {
	case egress.Intercepted:
		switch {
		case v.Has(egress.AntivirusProxy):
			return "switch off the mail inspection (\"mail shield\") of the antivirus program or gateway that the greeting names"
		case v.Has(egress.BannerMasked), v.Has(egress.CommandMasked):
			return "on the firewall: no inspect esmtp (Cisco), or let mail through without inspection"
		}
		return "find what answers: look for mail inspection in an antivirus program on this machine, in your router (\"SMTP ALG\"), in your firewall; if it is none of these, ask your provider whether it redirects " + ports
	case egress.Downgraded:
		return "do not send passwords on " + ports + "; on the firewall: no inspect esmtp (Cisco), or let STARTTLS through; if the firewall is not yours, ask whoever runs it"
	}
	return fmt.Sprintf("ask %s to open %s outgoing%s; text to paste: smtpsweep report last -f md", askWhom(v), ports, s.forWhom(v))
}

// forWhom names our addresses of verdicts like one, as far as others can see them.
func (s *story) forWhom(v *egress.Verdict) string {
	var out []string
	for _, o := range s.all {
		ours := firstOf(o.Public, o.Source)
		addr, err := netip.ParseAddr(ours)
		switch {
		case o.Word != v.Word || o.How != v.How || err != nil:
		case targets.IsPublic(addr):
			out = appendNew(out, ours)
		default:
			out = appendNew(out, "your connection")
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " for " + and(out)
}

// portText names the port of a verdict and those that are stopped like it.
func (s *story) portText(v *egress.Verdict) string {
	var words []string
	for _, o := range s.all {
		if o.Word == v.Word && o.How == v.How && !slices.Contains(words, strconv.Itoa(int(o.Port))) {
			words = append(words, strconv.Itoa(int(o.Port)))
		}
	}
	slices.SortFunc(words, func(a, b string) int { x, _ := strconv.Atoi(a); y, _ := strconv.Atoi(b); return x - y })
	if len(words) == 1 {
		return "port " + words[0]
	}
	return "ports " + and(words)
}

// askWhom says who can open a port.
func askWhom(v *egress.Verdict) string {
	owner := egress.NotKnown
	if v.Where != nil {
		owner = v.Where.Owner
	}
	switch {
	case owner == egress.OwnProvider:
		return "your provider"
	case owner == egress.OwnRouter:
		return "whoever runs your router or firewall (perhaps you)"
	case owner == egress.OwnNetwork:
		return "whoever runs your own network's firewall"
	case strings.Contains(string(owner), "router") || strings.Contains(string(owner), string(egress.OwnNetwork)):
		return "whoever runs your router or firewall first, then your provider,"
	case owner == egress.Beyond:
		return "your provider (it is beyond its first hop, perhaps at its border)"
	}
	return "your provider or your network's administrator"
}

// provider says whose documented policy this looks like.
func (s *story) provider() string {
	var names []string
	for _, h := range s.a.Hops {
		names = append(names, h.Name)
	}
	blocked := s.ports(egress.Blocked)
	open := slices.DeleteFunc(s.ports(egress.Allowed), func(p uint16) bool { return slices.Contains(blocked, p) })
	list := egress.Providers(blocked, open, names)
	if len(list) == 0 {
		return ""
	}
	if len(list) == 1 && len(list[0].Domains) > 0 {
		p := list[0]
		return fmt.Sprintf("if this machine is at %s: %s; %s (%s, as of %s)", p.Name, p.Says, p.Ask, p.Source, p.Date)
	}
	var who []string
	for _, p := range list {
		who = append(who, p.Name)
	}
	return fmt.Sprintf("this is the documented policy of %s (as of %s): if you are there, their documentation says how to have it opened", and(who), list[0].Date)
}

// doUndecided says what to do if nothing is bad.
func (s *story) doUndecided() (out []string) {
	for _, v := range s.all {
		if v.Word == egress.Inconclusive {
			out = appendNew(out, nextStep(v))
		}
	}
	if len(out) == 0 && len(s.ports(egress.Allowed)) > 0 {
		out = append(out, "nothing: this network lets mail out. If mail does not arrive all the same, look into the log of your mail server: smtpsweep explain \"LINE OF THE LOG\"")
	}
	if len(out) == 0 {
		out = append(out, "try again from a machine with a way to the Internet")
	}
	return out
}

// nextStep says what to try where nothing is concluded.
func nextStep(v *egress.Verdict) string {
	switch v.Cause {
	case egress.CauseFirewall:
		return "look at this machine's own firewall (nft list ruleset; iptables -L OUTPUT -n; security software), let the ports out, and test again"
	case egress.CauseNoRoute, egress.CauseLocal:
		return "repair this machine's network first (ip addr; ip route; ip -6 route), and test again"
	case egress.CauseDNS:
		return "repair DNS first (resolvectl status; cat /etc/resolv.conf), or name a server that works: smtpsweep egress --resolver ADDRESS"
	case egress.CauseDestination, egress.CauseNoAddress:
		return "test with other destinations: smtpsweep egress without names asks public operators, or name two or more of your own"
	case egress.CauseOne:
		return "name at least two destinations of different operators: smtpsweep egress HOST1 HOST2"
	case egress.CausePartial:
		return "test again in some minutes (smtpsweep egress --watch 5m shows whether it changes): a rate limit lets others through next time, a list of allowed destinations the same"
	case egress.CauseNothing:
		return "see whether anything gets out of this network (open a web page; ping the router), and test again; --control PORT names another port that must work"
	case egress.CauseRouting:
		return "ask your provider why it has no route there (traceroute shows where it ends)"
	case egress.CauseMute:
		return "test again, then from another network: a tarpit, a firewall that holds connections, or a greeting that takes longer than ours is the cause"
	}
	return "test again"
}

func appendNew(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// seeIt is how to see the worst of it without us.
func (s *story) seeIt() string {
	for _, v := range s.all {
		if !v.Bad() && v.Word != egress.Inconclusive {
			continue
		}
		six := ""
		if v.Family == egress.IPv6 {
			six = " -6"
		}
		host := "HOST"
		if v.Where != nil && v.Where.Destination != "" {
			host = v.Where.Destination
		}
		switch {
		case v.Has(egress.AnswersForAll):
			return fmt.Sprintf("nc 192.0.2.1 %d   (nobody has that address: nothing may answer)", v.Port)
		case v.Word == egress.Downgraded, v.Word == egress.Intercepted:
			if v.Port == 465 {
				return "openssl s_client -connect smtp.gmail.com:465"
			}
			return fmt.Sprintf("openssl s_client -starttls smtp -connect smtp.gmail.com:%d", v.Port)
		case v.Word == egress.Blocked && host != "HOST":
			text := fmt.Sprintf("sudo traceroute%s -T -p %d %s", six, v.Port, host)
			if v.SamePort != 0 {
				text += fmt.Sprintf(", then -p %d", v.SamePort)
			}
			return text
		case v.Word == egress.Blocked:
			return fmt.Sprintf("nc%s -vz smtp.gmail.com %d", six, v.Port)
		}
	}
	return ""
}

// howTo is what --how-to adds.
func (s *story) howTo() []egress.Snippet {
	usable := s.usable()
	if len(usable) == 0 {
		return egress.HowTo(587)
	}
	return egress.HowTo(usable[0])
}
