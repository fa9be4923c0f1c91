package report

import (
	"slices"
	"strings"
)

// maxAdvice is how many hints the end of a run gives.
const maxAdvice = 5

// An Advisor collects what a person should look at first. Its zero value is
// ready; its memory is bounded however long the run is.
type Advisor struct {
	hints   map[hintKey]*hint
	order   []hintKey      // as they came
	senders map[string]int // keys of a code that differ in their sender
}

// A hintKey says which troubles are one hint.
type hintKey struct {
	code string // in adviceTable
	ask  string // what to give to smtpsweep explain, if it differs within a code
	from string // who sent the ICMP message
}

// maxSenders is how many keys of one code are kept: who sends ICMP can make up
// any number of senders.
const maxSenders = 64

// A hint is the first endpoint with one kind of trouble, and how many there are.
type hint struct {
	grade int // most severe first: 0
	where string
	what  string
	ask   string // what to give to smtpsweep explain
	count uint64
}

// adviceTable holds the findings worth a hint, the most severe first: what
// someone does to the conversation, then what stops mail, then what is risky.
var adviceTable = []struct{ code, what string }{
	{"plaintext-after-220", "plain text slipped in before TLS"},
	{"starttls-masked", "a device on the way overwrites STARTTLS"},
	{"command-masked", "a device on the way overwrites commands"},
	{"cert-expired", "certificate"},
	{"cert-bad", "certificate is unusable"},
	{"tls-failed", "TLS fails"},
	{"tls-stalled", "TLS stalls"},
	{"starttls-refused", "STARTTLS is listed and refused"},
	{"refusing", "refuses this machine"},
	{"wrong-mode", "TLS where plain text is expected, or the reverse"},
	{"filtered", "is stopped by"},
	{"auth-without-tls", "accepts passwords without TLS"},
	{"cert-name-mismatch", "certificate is for another name"},
	{"cert-not-yet-valid", "certificate is not valid yet"},
	{"client-cert-required", "wants a client certificate"},
	{"ehlo-refused", "refuses EHLO"},
	{"mute", "accepts connections and says nothing"},
	{"tls-old", "outdated TLS"},
	{"unreachable", "no host or no way there, says"}, // usually nobody is there: no fault of who says so
}

// Add looks at one row.
func (a *Advisor) Add(r *Row) {
	c := &r.Cells
	if c[ColFinding] != "" {
		for code := range strings.SplitSeq(c[ColFinding], ";") {
			a.add(r, hintKey{code: code}, "", code)
		}
	}
	switch service := c[ColService]; service {
	case "refusing":
		a.add(r, hintKey{code: service}, "", replyCodes(r))
	case "wrong-mode", "mute", "tls-failed":
		if !hasFinding(r, service) {
			a.add(r, hintKey{code: service}, "", service)
		}
	case "":
		// no-neighbor is our own kernel's message: there is nobody, and nobody stops us.
		if c[ColState] == "filtered" && c[ColICMPFrom] != "" && c[ColICMPFrom] != c[ColAddress] && c[ColReason] != "no-neighbor" {
			key := hintKey{code: "filtered", ask: c[ColReason], from: c[ColICMPFrom]}
			switch key.ask {
			case "host-unreach", "net-unreach", "time-exceeded":
				key.code = "unreachable"
			}
			a.add(r, key, key.from+" (ICMP "+c[ColICMP]+")", key.ask)
		}
	}
	if c[ColCertTrust] == "expired" && !hasFinding(r, "cert-expired") {
		a.add(r, hintKey{code: "cert-expired"}, "", "cert-expired")
	}
}

// add counts one trouble.
func (a *Advisor) add(r *Row, key hintKey, more, ask string) {
	code := key.code
	grade := slices.IndexFunc(adviceTable, func(e struct{ code, what string }) bool { return e.code == code })
	if grade < 0 {
		return
	}
	if h := a.hints[key]; h != nil {
		h.count++
		return
	}
	if a.senders[code] >= maxSenders {
		return
	}
	what := adviceTable[grade].what
	if more != "" {
		what += " " + more
	}
	if day, _, _ := strings.Cut(r.Cells[ColCertNotAfter], "T"); code == "cert-expired" && day != "" {
		what += " expired " + day
	} else if code == "cert-expired" {
		what += " expired"
	}
	if a.hints == nil {
		a.hints, a.senders = make(map[hintKey]*hint), make(map[string]int)
	}
	a.senders[code]++
	a.hints[key] = &hint{grade: grade, where: string(appendEndpoint(nil, r)), what: what, ask: ask, count: 1}
	a.order = append(a.order, key)
}

// replyCodes returns the codes of a first reply, "554 5.7.1", and nothing else of
// it: a person may paste it into a shell.
func replyCodes(r *Row) string {
	code := r.Cells[ColCode]
	rest := strings.TrimLeft(strings.TrimPrefix(r.Cells[ColBanner], code), " -")
	if word, _, _ := strings.Cut(rest, " "); isEnhanced(word) {
		return "\"" + code + " " + word + "\""
	}
	return code
}

// Lines returns at most five hints, the most severe first:
// "10.20.30.19:25 certificate expired 2026-08-15: smtpsweep explain cert-expired".
func (a *Advisor) Lines() []string {
	keys := slices.Clone(a.order)
	slices.SortStableFunc(keys, func(x, y hintKey) int { return a.hints[x].grade - a.hints[y].grade })
	var lines []string
	for _, key := range keys[:min(len(keys), maxAdvice)] {
		h := a.hints[key]
		s := h.where + " " + h.what
		if h.count > 1 {
			s += " (" + thousands(h.count-1) + " more)"
		}
		if h.ask != "" {
			s += ": smtpsweep explain " + h.ask
		}
		lines = append(lines, s)
	}
	return lines
}
