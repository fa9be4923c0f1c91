package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
)

// Headline says in a few sentences what an audit found, the worst first.
func Headline(a *Audit) string {
	var out []string
	for _, vantage := range a.vantages() {
		s := newStory(a, vantage)
		text := s.word() + ": " + strings.Join(s.headline(), " ")
		if len(a.vantages()) > 1 {
			text = vantage + ": " + text
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// A story is what is told of one vantage.
type story struct {
	a     *Audit
	all   []*egress.Verdict // of mail ports, the worst first
	every []*egress.Verdict // with the control port, by port and family
	who   string            // "operators" or "destinations"
}

func newStory(a *Audit, vantage string) *story {
	s := &story{a: a, every: a.of(vantage), who: "operators"}
	if a.Facts.ListDate == "" {
		s.who = "destinations"
	}
	for _, v := range s.every {
		if !v.Control {
			s.all = append(s.all, v)
		}
	}
	slices.SortStableFunc(s.all, worst)
	return s
}

// word is the word for it all.
func (s *story) word() string {
	if len(s.all) == 0 {
		return "INCONCLUSIVE"
	}
	switch w := s.all[0].Word; w {
	case egress.NotTested:
		return "NOT TESTED"
	default:
		return strings.ToUpper(string(w))
	}
}

// ports returns the ports of verdicts of some words, each once.
func (s *story) ports(words ...egress.Word) (out []uint16) {
	for _, v := range s.all {
		if slices.Contains(words, v.Word) && !slices.Contains(out, v.Port) {
			out = append(out, v.Port)
		}
	}
	slices.Sort(out)
	return out
}

// usable are ports with encryption that work, and are tampered with in no family: the way out.
func (s *story) usable() (out []uint16) {
	for _, port := range []uint16{587, 465, 2525} {
		good, bad := false, false
		for _, v := range s.all {
			good = good || v.Port == port && v.Word == egress.Allowed && v.TLS != ""
			bad = bad || v.Port == port && v.Bad()
		}
		if good && !bad {
			out = append(out, port)
		}
	}
	return out
}

// headline are the sentences.
func (s *story) headline() (out []string) {
	var told []*egress.Verdict
	for _, v := range s.all {
		if v.Word == egress.Allowed || v.Word == egress.NotTested || slices.Contains(told, v) {
			continue
		}
		group := []*egress.Verdict{}
		for _, o := range s.all {
			if alike(v, o) {
				group = append(group, o)
				told = append(told, o)
			}
		}
		out = append(out, s.sentence(v, group))
	}
	if sentence := s.worksSentence(); sentence != "" {
		out = append(out, sentence)
	}
	if sentence := s.wayOut(); sentence != "" {
		out = append(out, sentence)
	}
	if len(out) == 0 {
		out = append(out, "Nothing could be tested: "+s.whyNothing()+".")
	}
	return out
}

// alike reports whether two verdicts can be told in one sentence.
func alike(a, b *egress.Verdict) bool {
	same := a.Word == b.Word && a.How == b.How && a.Cause == b.Cause && findingCell(a) == findingCell(b)
	if a.Where == nil || b.Where == nil {
		return same && a.ICMPFrom == b.ICMPFrom && a.Where == b.Where
	}
	return same && a.Where.Owner == b.Where.Owner && a.Where.After == b.Where.After && a.Where.By == b.Where.By
}

// sentence says one thing that is not as it should be.
func (s *story) sentence(v *egress.Verdict, group []*egress.Verdict) string {
	ports := s.portsOf(group)
	subject, is := "Port "+ports, "is"
	if strings.ContainsAny(ports, ",") || strings.Contains(ports, " and ") {
		subject, is = "Ports "+ports, "are"
	}
	switch v.Word {
	case egress.Blocked:
		how, tail := howWords(v, group)
		return fmt.Sprintf("%s out of this network %s %s%s%s.", subject, is, how, placeWords(group), tail)
	case egress.Intercepted, egress.Downgraded:
		return fmt.Sprintf("%s out of this network %s", subject, tamperWords(v, is))
	}
	return fmt.Sprintf("%s: %s.", subject, causeWords(v, s.who))
}

// portsOf lists ports with their family, where that is not both: "25", "25 (IPv4)", "465 and 587".
func (s *story) portsOf(group []*egress.Verdict) string {
	families := map[uint16][]egress.Family{}
	var ports []uint16
	for _, v := range group {
		if len(families[v.Port]) == 0 {
			ports = append(ports, v.Port)
		}
		families[v.Port] = append(families[v.Port], v.Family)
	}
	slices.Sort(ports)
	suffix := func(port uint16) string {
		if len(families[port]) > 1 || s.oneFamily() {
			return ""
		}
		return " over " + families[port][0].String()
	}
	same := !slices.ContainsFunc(ports, func(p uint16) bool { return suffix(p) != suffix(ports[0]) })
	var words []string
	for _, p := range ports {
		word := strconv.Itoa(int(p))
		if !same {
			word += suffix(p)
		}
		words = append(words, word)
	}
	text := and(words)
	if same {
		text += suffix(ports[0])
	}
	return text
}

// oneFamily reports whether only one family was tested.
func (s *story) oneFamily() bool {
	tested := map[egress.Family]bool{}
	for _, v := range s.all {
		if v.Word != egress.NotTested {
			tested[v.Family] = true
		}
	}
	return len(tested) < 2
}

// and joins words as one says them.
func and(words []string) string {
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// howWords says how ports are blocked: what stands before the place, and what after it.
func howWords(v *egress.Verdict, group []*egress.Verdict) (before, after string) {
	switch v.How {
	case egress.Dropped:
		return "silently dropped", ""
	case egress.Reset:
		return "refused", ": somebody there sends TCP resets in the name of those who are called"
	case egress.Rejected:
		var said []string
		for _, g := range group {
			said = appendNew(said, fmt.Sprintf("ICMP %s from %s", g.ICMP, g.ICMPFrom))
		}
		return "rejected (" + and(said) + ")", ""
	case egress.Cut:
		return "cut off", " as soon as a connection is made"
	}
	return "stopped", ", in more than one way"
}

// placeWords says where ports are stopped, of verdicts that are alike. It begins with a space.
func placeWords(group []*egress.Verdict) string {
	w := group[0].Where
	if w == nil {
		return ""
	}
	after := hopText(group, w.After, func(w *egress.Where) (string, string) { return w.AfterAddr, w.AfterName })
	by := hopText(group, w.By, func(w *egress.Where) (string, string) { return w.ByAddr, w.ByName })
	owner := ownerWords(w.Owner)
	switch {
	case w.After == 0 && w.By == 0:
		return owner
	case w.By == 0:
		return owner + " after " + after
	case w.After == 0, w.After == w.By:
		return owner + ", at " + by
	case w.ByAddr == "":
		return owner + ", after " + after + fmt.Sprintf(" and no later than hop %d", w.By)
	}
	return owner + fmt.Sprintf(", after hop %d and no later than ", w.After) + by
}

// hopText names a hop with the addresses that it has in the verdicts of a group.
func hopText(group []*egress.Verdict, n int, of func(*egress.Where) (addr, name string)) string {
	var who []string
	for _, v := range group {
		if addr, name := of(v.Where); addr != "" {
			who = appendNew(who, strings.TrimSuffix(addr+", "+name, ", "))
		}
	}
	text := fmt.Sprintf("hop %d", n)
	if len(who) > 0 {
		text += " (" + strings.Join(who, "; ") + ")"
	}
	return text
}

// ownerWords says in whose hands something is, beginning with a space.
func ownerWords(o egress.Owner) string {
	switch o {
	case egress.NotKnown:
		return " on the way"
	case egress.OwnProvider:
		return " inside your provider's network"
	case egress.OwnNetwork:
		return " inside your own network"
	case egress.Beyond:
		return " on the way, beyond your provider"
	}
	return " by " + strings.ReplaceAll(string(o), " or ", " or by ")
}

// causeWords says why nothing is concluded.
func causeWords(v *egress.Verdict, who string) string {
	switch v.Cause {
	case egress.CauseFirewall:
		return "this machine's own firewall stops it, so nothing is known of the network"
	case egress.CauseNoRoute:
		return "this machine has no working way out (route, link or gateway), so nothing is known of mail"
	case egress.CauseLocal:
		return "a fault of this machine kept it from being tested"
	case egress.CauseDNS:
		return "the names of the " + who + " do not resolve (DNS), so nobody could be called"
	case egress.CauseNoAddress:
		return "none of the " + who + " has a " + v.Family.String() + " address for it"
	case egress.CauseDestination:
		return "the " + who + " that were called seem to be at fault themselves, not this network"
	case egress.CauseOne:
		return "only one destination can tell, and it may be its own doing"
	case egress.CausePartial:
		return fmt.Sprintf("%d of %d %s answered and %d did not, though they are there: a rate limit, or a list of allowed destinations", v.Answered, v.Asked, who, v.Stopped)
	case egress.CauseNothing:
		return "nothing gets out of this network, not even the control port: it is not about mail"
	case egress.CauseInterrupted:
		return "the test was interrupted"
	case egress.CauseMute:
		return "connections are made, and nobody says a word on them"
	case egress.CauseRouting:
		return "routers know no way to the " + who + ": a fault of routing, not a block of mail"
	case egress.CauseNoIPv6:
		return "this machine has no IPv6"
	case egress.CauseNoIPv4:
		return "this machine has no IPv4"
	}
	return "what was seen decides nothing"
}

// worksSentence says which ports work: those that do in every family that was tested,
// and then those that do in one.
func (s *story) worksSentence() string {
	var all, some []*egress.Verdict
	tls := ""
	for _, v := range s.all {
		if v.Word != egress.Allowed {
			continue
		}
		if slices.ContainsFunc(s.all, func(o *egress.Verdict) bool { return o.Port == v.Port && (o.Bad() || o.Word == egress.Inconclusive) }) {
			some = append(some, v)
		} else {
			all = append(all, v)
		}
		if v.TLS != "" && (tls == "" || v.TLS < tls) {
			tls = v.TLS
		}
	}
	text := ""
	if len(all) > 0 {
		text = portsWork(s.portsOf(all)) + ", unaltered as far as can be seen"
		if tls != "" {
			text += ", with TLS " + tls
			if tls != "1.3" {
				text += " or newer"
			}
		}
	}
	if len(some) > 0 && text != "" {
		do := "; so does "
		if len(some) > 1 {
			do = "; so do "
		}
		text += do + s.portsOf(some)
	} else if len(some) > 0 {
		text = portsWork(s.portsOf(some))
	}
	if text == "" {
		return ""
	}
	return text + "." + s.remarks(append(all, some...))
}

func portsWork(ports string) string {
	if strings.Contains(ports, " and ") {
		return "Ports " + ports + " work"
	}
	return "Port " + ports + " works"
}

// remarks are what is odd about ports that are open.
func (s *story) remarks(clean []*egress.Verdict) (text string) {
	first := func(code string) *egress.Verdict {
		for _, v := range clean {
			if v.Has(code) {
				return v
			}
		}
		return nil
	}
	if v := first(egress.EgressThrottled); v != nil {
		text += fmt.Sprintf(" Port %d is slowed down: first attempts are lost there and nowhere else.", v.Port)
	}
	if v := first(egress.TooNear); v != nil {
		text += fmt.Sprintf(" Port %d is answered faster than any other port of the same servers: perhaps a proxy is on the way, which a reflector would prove.", v.Port)
	}
	if v := first(egress.GreetingRefused); v != nil {
		text += fmt.Sprintf(" On port %d servers refuse this machine in their greeting: that is about its address, or for a while; the way is open.", v.Port)
	}
	return text
}

// wayOut says how mail can leave all the same.
func (s *story) wayOut() string {
	bad25 := slices.ContainsFunc(s.all, func(v *egress.Verdict) bool { return v.Port == 25 && v.Bad() })
	bad := slices.ContainsFunc(s.all, func(v *egress.Verdict) bool { return v.Bad() })
	usable := s.usable()
	var words []string
	for _, p := range usable {
		words = append(words, strconv.Itoa(int(p)))
	}
	switch {
	case bad25 && len(words) > 0:
		return "Port 25 is how mail servers deliver to one another; without it your mail can leave today through your mail provider's relay (\"smarthost\") on port " + strings.Join(words, " or ") + "."
	case bad && len(words) > 0:
		return "Use port " + strings.Join(words, " or ") + " instead."
	case bad:
		return "No port for mail with encryption works from here."
	}
	return ""
}

// whyNothing gives the first cause.
func (s *story) whyNothing() string {
	for _, v := range s.all {
		if v.Cause != "" {
			return causeWords(v, s.who)
		}
	}
	return "nobody was asked"
}
