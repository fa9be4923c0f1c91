package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner/egress"
)

// announce says whom the run contacts, from where, how long, and what it says.
func (a *audit) announce() {
	contacts, quiet := 0, []string(nil)
	for _, v := range a.views {
		contacts += len(v.plan.Far)
		for _, c := range v.plan.Contacts {
			contacts++
			if text := c.Target.Addr.String(); c.Kind == egress.Negative && !slices.Contains(quiet, text) {
				quiet = append(quiet, text)
			}
		}
	}
	plan := a.views[0].plan
	if contacts == 0 {
		why := "no name leads to an address that may be contacted"
		for family := range plan.Absent {
			why = "this machine has no " + family.String()
		}
		a.u.say("Contacts nobody: %s.", why)
		return
	}
	var ports []string
	for _, p := range slices.Compact(append(slices.Clone(plan.Ports), plan.Control)) {
		ports = append(ports, strconv.Itoa(int(p)))
	}
	whom := plural(uint64(len(a.operators)), "destination", "destinations")
	if len(a.specs) == 0 && a.rules == nil {
		whom = plural(uint64(len(a.operators)), "mail operator", "mail operators") + " (list of " + egress.ListDate + ")"
	}
	if a.far != nil {
		whom += " and your reflector " + a.far.host
	}
	silent := ""
	if len(quiet) > 0 {
		silent = fmt.Sprintf(", and %s that must stay silent", plural(uint64(len(quiet)), "documentation address", "documentation addresses"))
	}
	a.u.say("Contacts %s on %s%s;", whom, strings.Join(ports, ","), silent)
	list := "--dry-run lists every address."
	if a.f.dryRun {
		list = "This is a dry run: nobody is contacted."
	}
	trace := ", and a path trace"
	if a.rules != nil {
		trace = ""
	}
	a.u.say("%s in all, one a destination and port%s%s; 10 to 60 s, no mail. %s", plural(uint64(contacts), "connection", "connections"), a.fromText(), trace, list)
	for _, m := range plan.Missing {
		if a.u.verbose {
			a.u.say("Not contacted: %s of %s over %s: %s", m.Host, m.Operator, m.Family, m.Err)
		}
	}
}

// fromText says from where and as whom.
func (a *audit) fromText() string {
	var from []string
	for _, v := range a.views {
		for _, family := range v.plan.Families {
			for _, c := range v.plan.Contacts {
				if c.Family() == family {
					if addr := cmp.Or(v.source, sourceTo(c.Target.Addr)); addr.IsValid() {
						from = append(from, addr.String())
					}
					break
				}
			}
		}
	}
	text := ""
	if len(from) > 0 {
		text = ", from " + joinAnd(from)
	}
	if name := a.f.heloName(); name != "" {
		text += " as " + name
	}
	return text
}

// list is --dry-run: every address and port, with whose it is.
func (a *audit) list() error {
	var b strings.Builder
	for _, v := range a.views {
		for _, f := range v.plan.Far {
			fmt.Fprintln(&b, oneLine(netip.AddrPortFrom(f.Addr, f.Port).String()+" "+a.far.host+" (reflector)"))
		}
		for _, c := range v.plan.Contacts {
			what := c.Operator
			switch {
			case c.Kind == egress.Negative:
				what = "must stay silent"
			case c.Target.Host() != "" && c.Target.Host() != c.Operator:
				what = c.Target.Host() + " " + c.Operator
			}
			if c.Kind == egress.Control {
				what += " (control)"
			}
			if len(a.views) > 1 {
				what += " from " + v.name
			}
			fmt.Fprintln(&b, oneLine(c.Target.AddrPort().String()+" "+what))
		}
	}
	if _, err := fmt.Fprint(a.u.out, b.String()); err != nil {
		return outputError("stdout", err)
	}
	return nil
}
