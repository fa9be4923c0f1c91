package path

import "github.com/smtpsweep/smtpsweep/scanner/outgoing"

// own says whether a reset that came between two counts is this machine's own.
func own(before, after outgoing.Count) Fact {
	loopback := after.Loopback - before.Loopback
	switch {
	case before.Loopback < 0 || after.Loopback < 0:
		return Unseen
	case loopback == 0:
		return No
	case before.All < 0 || after.All < 0 || after.All-before.All > loopback:
		return Unseen // others send too
	}
	return Yes
}
