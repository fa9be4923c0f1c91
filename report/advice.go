package report

import (
	"cmp"
	"slices"
	"strings"
)

// maxAdvice is how many hints the end of a run gives.
const maxAdvice = 5

// An Advisor collects what a person should look at first. Its zero value is
// ready; its memory is bounded however long the run is.
type Advisor struct {
	hints   map[hintKey]*hint
	order   []*hint        // as they came
	senders map[string]int // keys of a code that differ in their sender
	limits  icmpLimits
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
	key   hintKey
	grade int // most severe first: 0
	where string
	what  string
	ask   string // what to give to smtpsweep explain
	count uint64
}

// adviceTable holds what is worth a hint, the most severe first: who reads or
// changes the conversation, who reads passwords, which encryption is worth
// nothing, then why mail does not get through, and oddities at the end.
var adviceTable = []struct{ code, what string }{
	{"plaintext-after-220", "plain text slipped in before TLS"},
	{"starttls-masked", "a device on the way overwrites STARTTLS"},
	{"command-masked", "a device on the way overwrites commands"},
	{"auth-without-tls", "accepts passwords without TLS"},
	{"cert-bad", "certificate is unusable"},
	{"cert-expired", "certificate expired"},
	{"cert-not-yet-valid", "certificate is not valid yet"},
	{"cert-name-mismatch", "certificate is for another name"},
	{"tls-failed", "TLS fails"},
	{"tls-stalled", "TLS stalls"},
	{"starttls-refused", "STARTTLS is listed and refused"},
	{"client-cert-required", "wants a client certificate"},
	{"sni-required", "does TLS only when asked by name"},
	{"filtered", "is stopped by"},
	{icmpLimited, ""}, // see icmpLimits
	{"refusing", "refuses this machine"},
	{"mute", "accepts connections and says nothing"},
	{"closing", "closes the connection before a greeting"},
	{"ehlo-refused", "refuses EHLO"},
	{"banner-masked", "a device on the way overwrites the greeting"}, // and mostly more: then the first line says it
	{"wrong-mode", "TLS where plain text is expected, or the reverse"},
	{"other", "does not speak SMTP"},
	{"tls-old", "outdated TLS"},
	{"starttls-inside-tls", "offers STARTTLS inside TLS"},
	{"reply-malformed", "breaks the grammar of SMTP"},
	{"tarpit", "keeps clients waiting without end"},
	{"unreachable", "no host or no way there, says"}, // usually nobody is there: no fault of who says so
}

// Add looks at one row.
func (a *Advisor) Add(r *Row) {
	c := &r.Cells
	if c[ColState] == "filtered" {
		a.limits.add(r)
	}
	if c[ColFinding] != "" {
		for code := range strings.SplitSeq(c[ColFinding], ";") {
			a.add(r, hintKey{code: code}, "", code)
		}
	}
	switch service := c[ColService]; service {
	case "refusing":
		a.add(r, hintKey{code: service}, "", firstOf(replyCodes(r), service))
	case "":
		a.addSender(r)
	default:
		if !hasFinding(r, service) {
			a.add(r, hintKey{code: service}, "", service)
		}
	}
	if c[ColCertTrust] == "expired" && !hasFinding(r, "cert-expired") {
		a.add(r, hintKey{code: "cert-expired"}, "", "cert-expired")
	}
}

// addSender looks at a row of which an ICMP message is all that is known.
func (a *Advisor) addSender(r *Row) {
	c := &r.Cells
	// no-neighbor is our own kernel's message: there is nobody, and nobody stops us.
	if c[ColState] != "filtered" || c[ColICMPFrom] == "" || c[ColReason] == "no-neighbor" {
		return
	}
	key := hintKey{code: "filtered", ask: c[ColReason], from: c[ColICMPFrom]}
	if key.from == c[ColAddress] {
		key.from = itself
	} else if key.ask == "host-unreach" || key.ask == "net-unreach" || key.ask == "time-exceeded" {
		key.code = "unreachable"
	}
	a.add(r, key, key.from+" (ICMP "+c[ColICMP]+")", key.ask)
}

// add counts one trouble.
func (a *Advisor) add(r *Row, key hintKey, more, ask string) {
	code := key.code
	grade := gradeOf(code)
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
		what += " " + day
	}
	if a.hints == nil {
		a.hints, a.senders = make(map[hintKey]*hint), make(map[string]int)
	}
	a.senders[code]++
	h := &hint{key: key, grade: grade, where: whereOf(r), what: what, ask: ask, count: 1}
	a.hints[key] = h
	a.order = append(a.order, h)
}

// gradeOf returns how severe a code is: 0 most; -1 if it is not worth a hint.
func gradeOf(code string) int {
	return slices.IndexFunc(adviceTable, func(e struct{ code, what string }) bool { return e.code == code })
}

// whereOf says which endpoint a row is of: "192.0.2.7:25 (mx2.example.org)".
func whereOf(r *Row) string {
	s := string(appendEndpoint(nil, r))
	if host := r.Cells[ColHost]; host != "" && r.Cells[ColAddress] != "" {
		s += " (" + host + ")"
	}
	return s
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

// maxMore is how wide the lines are that name what has no line of its own.
const maxMore = 90

// Lines returns at most five hints, the most severe first, and how many more
// there are: "10.20.30.19:25 certificate expired 2026-08-15: smtpsweep explain
// cert-expired". Who sends ICMP keeps no other trouble out: a second sender has a
// line only if there is room.
func (a *Advisor) Lines() []string {
	hints := slices.Concat(a.order, a.limits.hints(gradeOf(icmpLimited)))
	byGrade := func(x, y *hint) int {
		return cmp.Or(cmp.Compare(x.grade, y.grade), cmp.Compare(y.count, x.count))
	}
	slices.SortStableFunc(hints, byGrade)
	var first, again []*hint
	for i, h := range hints {
		if i > 0 && h.grade == hints[i-1].grade {
			again = append(again, h)
		} else {
			first = append(first, h)
		}
	}
	hints = slices.Concat(first, again)
	shown := min(len(hints), maxAdvice)
	slices.SortStableFunc(hints[:shown], byGrade)
	slices.SortStableFunc(hints[shown:], byGrade)
	var lines []string
	for _, h := range hints[:shown] {
		s := h.where + " " + h.what
		if h.count > 1 {
			s += " (" + thousands(h.count-1) + " more)"
		}
		lines = append(lines, s+": smtpsweep explain "+h.ask)
	}
	return append(lines, moreHints(hints[:shown], hints[shown:])...)
}

// word returns what to ask smtpsweep explain about a hint's kind of trouble.
func (h *hint) word() string { return firstOf(h.key.ask, h.key.code) }

// moreHints names the kinds of trouble that have no line of their own.
func moreHints(shown, rest []*hint) []string {
	var words []string
	senders := map[string]int{}
	for _, h := range rest {
		if senders[h.word()]++; senders[h.word()] == 1 {
			words = append(words, h.word())
		}
	}
	if len(words) == 0 {
		return nil
	}
	kinds := counted(uint64(len(words)), "more kind of trouble", "more kinds of trouble")
	for i, word := range words {
		if slices.ContainsFunc(shown, func(h *hint) bool { return h.word() == word }) {
			words[i] += " from " + counted(uint64(senders[word]), "other sender", "other senders")
		}
	}
	return wrap("and "+kinds+": "+strings.Join(words, ", ")+" (smtpsweep explain WORD)", maxMore)
}
