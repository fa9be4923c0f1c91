package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
)

// seenText says in a line what a verdict rests on.
func seenText(v *egress.Verdict) string {
	of := fmt.Sprintf("%d of %d", v.Answered, v.Asked)
	switch v.Word {
	case egress.NotTested:
		return causeWords(v, "destinations")
	case egress.Blocked:
		if v.How == egress.Cut {
			return fmt.Sprintf("connections to %d are cut at once", v.Asked)
		}
		text := of + " answered"
		if v.Same > 0 {
			text += fmt.Sprintf("; %d of the same addresses answer on %d", v.Same, v.SamePort)
		} else {
			text += fmt.Sprintf("; all %d answer on other ports", v.Stopped)
		}
		if v.ICMPFrom != "" {
			text += fmt.Sprintf("; %s says ICMP %s", v.ICMPFrom, v.ICMP)
		}
		return text
	case egress.Intercepted, egress.Downgraded:
		return of + " answered; " + tamperedWords(v)
	case egress.Inconclusive:
		if v.Cause == egress.CausePartial {
			return fmt.Sprintf("%s answered, %d did not", of, v.Stopped)
		}
		return causeWords(v, "destinations")
	}
	if v.Control {
		return of + " (control)"
	}
	text := of
	switch {
	case v.TLS != "" && v.Verified == v.Answered:
		text += ", TLS " + v.TLS + ", certificates their own"
	case v.TLS != "" && v.Verified > 0:
		text += fmt.Sprintf(", TLS %s, %d certificates verified", v.TLS, v.Verified)
	case v.TLS != "":
		text += ", TLS " + v.TLS + ", no certificate verified"
	}
	if v.Reflected {
		text += "; proven by the reflector"
	}
	if v.Has(egress.EgressThrottled) {
		text += "; first attempts lost"
	}
	if v.Has(egress.GreetingRefused) {
		text += "; this machine is refused"
	}
	return text
}

// ruledOutWords name a cause that a verdict is not due to.
var ruledOutWords = map[egress.Cause]string{
	egress.CauseFirewall:    "this machine's firewall",
	egress.CauseDNS:         "DNS",
	egress.CauseNoRoute:     "routes",
	egress.CauseInterceptor: "something near that answers for others",
	egress.CauseDestination: "one dead " + "destination",
	egress.CauseServer:      "your mail server",
}

// notTheCause lists what it is not, with the evidence, from the worst verdict.
func (s *story) notTheCause() (out []string) {
	if len(s.all) == 0 {
		return nil
	}
	for _, r := range s.all[0].RuledOut {
		out = append(out, fmt.Sprintf("%s (%s)", cmp.Or(ruledOutWords[r.Cause], string(r.Cause)), r.Evidence))
	}
	return out
}

// A remark is something that was seen, on some ports and at some destinations.
type remark struct {
	code, said string
	ports      []string
	who        []string
}

// found lists the findings of interference with what shows them, and what was odd
// at single destinations: what several show, or on several ports, is said once.
func (s *story) found() (out []string) {
	var all []remark
	for _, v := range s.all {
		port := fmt.Sprintf("%d %s", v.Port, v.Family)
		for _, f := range v.Findings {
			switch f.Code {
			case egress.EgressDropped, egress.EgressReset, egress.EgressRejected, egress.EgressCut:
				continue // the table says it
			}
			for _, e := range f.Evidence {
				all = addRemark(all, f.Code, port, e)
			}
		}
		for _, e := range v.Evidence {
			all = addRemark(all, "", port, e)
		}
	}
	for i, r := range all {
		if i == mostRemarks {
			return append(out, fmt.Sprintf("and %d more: smtpsweep report last -f json", len(all)-i))
		}
		text := strings.Join(r.ports, ", ")
		if r.code != "" {
			text += " " + r.code
		}
		if len(r.who) > 0 {
			text += ": " + and(r.who)
		}
		out = append(out, text+": "+r.said)
	}
	return out
}

// mostRemarks bounds what a screen lists.
const mostRemarks = 8

// addRemark adds a sentence to those that say the same.
func addRemark(all []remark, code, port, sentence string) []remark {
	who, said, ok := strings.Cut(sentence, ": ")
	if !ok || strings.Contains(who, " ") {
		who, said = "", sentence
	}
	said = strings.NewReplacer(" on port "+strings.Fields(port)[0], "").Replace(said)
	i := slices.IndexFunc(all, func(r remark) bool { return r.code == code && r.said == said && (who == "") == (len(r.who) == 0) })
	if i < 0 {
		i = len(all)
		all = append(all, remark{code: code, said: said})
	}
	all[i].ports = appendNew(all[i].ports, port)
	if who != "" {
		all[i].who = appendNew(all[i].who, who)
	}
	return all
}

// Change says in a line what is not as it was a round ago.
func Change(before, now *egress.Verdict) string {
	return fmt.Sprintf("%s  %d %s  %s -> %s  %s", now.Time.UTC().Format("2006-01-02 15:04:05Z"), now.Port, now.Family,
		changeWord(before), changeWord(now), seenText(now))
}

// changeWord is the word of a verdict with what tells it from others of that word.
func changeWord(v *egress.Verdict) string {
	text := strings.ReplaceAll(string(v.Word), "-", " ")
	if v.How != "" {
		text += " (" + string(v.How) + ")"
	} else if v.Cause != "" {
		text += " (" + string(v.Cause) + ")"
	}
	return text
}
