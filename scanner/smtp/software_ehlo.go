package smtp

import "strings"

// A softwareHello is a wording of the EHLO reply's first line, after the host
// name, that one product uses.
type softwareHello struct {
	name, text string // text in lower case
}

var softwareHellos = []softwareHello{
	{"Stalwart", "you had me at helo"},
	{"Haraka", "haraka is at your service"},
	{"Nodemailer smtp-server", "nice to meet you, "},
	{"Gmail", "at your service, ["},
	{"MailEnable", "this server offers "},
	{"Momentum", "says ehlo to "},
	{"PowerMTA", "says hello"},
	{"Cloudflare Email Routing", "cloudflare email"},
}

// A softwareOrder is the order in which a product lists its EHLO keywords.
// Lists are in the order of its source or of its public answers; keywords may
// be missing, but those there are stand in this order, and no other is there.
type softwareOrder struct {
	name  string
	hello string   // part of the first line that must be there, lower case; "" for any
	order []string // every keyword the product knows
	must  []string // keywords without which the order says too little
	any   []string // at least one of these; nil for none
	plain bool     // only if the greeting says nothing but "ESMTP"
}

var softwareOrders = []softwareOrder{
	{name: "Postfix",
		order: []string{"PIPELINING", "SIZE", "VRFY", "ETRN", "STARTTLS", "AUTH", "XVERP", "XCLIENT", "XFORWARD",
			"ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING", "REQUIRETLS"},
		must: []string{"PIPELINING", "SIZE", "ENHANCEDSTATUSCODES", "8BITMIME"}, any: []string{"VRFY", "ETRN", "DSN"}},
	{name: "Exim", hello: "hello",
		order: []string{"SIZE", "LIMITS", "8BITMIME", "DSN", "ETRN", "VRFY", "EXPN", "PIPELINING", "X_PIPE_CONNECT",
			"PIPECONNECT", "PIPE_CONNECT", "AUTH", "CHUNKING", "STARTTLS", "PRDR", "SMTPUTF8", "WELLKNOWN", "HELP"},
		must: []string{"SIZE", "8BITMIME", "PIPELINING", "HELP"}},
	{name: "Microsoft Exchange", hello: "hello [",
		order: []string{"SIZE", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS", "X-ANONYMOUSTLS", "AUTH", "X-EXPS",
			"8BITMIME", "BINARYMIME", "CHUNKING", "XEXCH50", "XRDST", "XSHADOW", "XSHADOWREQUEST", "SMTPUTF8"},
		must: []string{"SIZE", "ENHANCEDSTATUSCODES", "8BITMIME", "BINARYMIME", "CHUNKING"}},
	{name: "IIS SMTP", hello: "hello [",
		order: []string{"AUTH", "TURN", "ATRN", "SIZE", "ETRN", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "8BITMIME",
			"BINARYMIME", "CHUNKING", "VRFY", "TLS", "STARTTLS", "X-EXPS", "X-LINK2STATE", "XEXCH50", "OK"},
		must: []string{"TURN", "ETRN", "OK"}},
	{name: "Sendmail", hello: "pleased to meet you",
		order: []string{"ENHANCEDSTATUSCODES", "PIPELINING", "EXPN", "VERB", "8BITMIME", "SMTPUTF8", "SIZE", "DSN", "ETRN",
			"AUTH", "STARTTLS", "DELIVERBY", "HELP"},
		must: []string{"ENHANCEDSTATUSCODES", "8BITMIME", "HELP"}},
	{name: "OpenSMTPD", hello: "pleased to meet you",
		order: []string{"8BITMIME", "ENHANCEDSTATUSCODES", "SIZE", "DSN", "STARTTLS", "AUTH", "HELP"},
		must:  []string{"8BITMIME", "ENHANCEDSTATUSCODES", "SIZE", "HELP"}},
	{name: "mox",
		order: []string{"PIPELINING", "SIZE", "STARTTLS", "REQUIRETLS", "AUTH", "FUTURERELEASE", "ENHANCEDSTATUSCODES",
			"8BITMIME", "LIMITS", "SMTPUTF8"},
		must: []string{"PIPELINING", "SIZE", "ENHANCEDSTATUSCODES", "8BITMIME", "LIMITS"}},
	{name: "go-smtp (Maddy and others)", hello: "hello",
		order: []string{"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "STARTTLS", "AUTH", "SMTPUTF8",
			"REQUIRETLS", "BINARYMIME", "DSN", "SIZE", "LIMITS", "RRVS", "DELIVERBY", "MT-PRIORITY"},
		must: []string{"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING", "SIZE"}},
	{name: "aiosmtpd",
		order: []string{"SIZE", "8BITMIME", "SMTPUTF8", "STARTTLS", "AUTH", "HELP"},
		must:  []string{"SIZE", "8BITMIME", "SMTPUTF8", "HELP"}},
	{name: "hMailServer", plain: true,
		order: []string{"SIZE", "STARTTLS", "AUTH", "HELP"},
		must:  []string{"SIZE", "AUTH", "HELP"}},
	{name: "Cisco IronPort", plain: true,
		order: []string{"8BITMIME", "SIZE", "STARTTLS"},
		must:  []string{"8BITMIME", "SIZE"}},
	{name: "qmail", plain: true,
		order: []string{"STARTTLS", "PIPELINING", "8BITMIME", "SIZE", "AUTH"},
		must:  []string{"PIPELINING", "8BITMIME"}},
}

// softwareTells are keywords that only one product is known to send.
var softwareTells = []struct{ name, keyword string }{
	{"Courier", "XVERP=COURIER"},
	{"Microsoft Exchange", "X-ANONYMOUSTLS"},
	{"Microsoft Exchange", "XSHADOWREQUEST"},
	{"Microsoft Exchange", "XRDST"},
	{"Microsoft Exchange", "X-EXPS"},
	{"Oracle Messaging Server", "XLOOP"},
}

// softwareFromEHLO concludes a product from the EHLO reply, or returns "".
func softwareFromEHLO(g softwareGreeting, ehloFirst string, ehlo []string) string {
	if len(ehloFirst) > softwareMaxText {
		ehloFirst = ehloFirst[:softwareMaxText]
	}
	hello := softwareLower(softwareStrip(ehloFirst))
	// The host name is the server's to choose; what it says after it is not.
	if _, rest, ok := strings.Cut(hello, " "); ok && !strings.HasPrefix(hello, "hello ") {
		hello = rest
	}
	for _, h := range softwareHellos {
		if strings.Contains(hello, h.text) {
			return h.name
		}
	}
	words := softwareKeywords(ehlo)
	if len(words) == 0 {
		return ""
	}
	// A product named by a keyword of its own is surer than an order, but IIS
	// shares some of Exchange's, and has an order nobody else has.
	for _, o := range softwareOrders {
		if o.matches(&g, hello, words) {
			return o.name
		}
	}
	for _, t := range softwareTells {
		if softwareHas(words, t.keyword) {
			return t.name
		}
	}
	return ""
}

// matches reports whether the keywords stand in this order and are enough.
func (o *softwareOrder) matches(g *softwareGreeting, hello string, words []string) bool {
	if o.hello != "" && !strings.Contains(hello, o.hello) {
		return false
	}
	if o.plain && !g.plain() {
		return false
	}
	at := 0
	for _, w := range words {
		for at < len(o.order) && o.order[at] != w {
			at++
		}
		if at == len(o.order) {
			return false
		}
	}
	for _, m := range o.must {
		if !softwareHas(words, m) {
			return false
		}
	}
	for _, a := range o.any {
		if softwareHas(words, a) {
			return true
		}
	}
	return o.any == nil
}

// plain reports whether the greeting says nothing but a host name and "ESMTP".
func (g *softwareGreeting) plain() bool {
	text := strings.Trim(g.lower, " .;")
	if host, rest, ok := strings.Cut(text, " "); ok && g.host == "" && host != "esmtp" {
		text = rest
	}
	return text == "esmtp"
}

// softwareKeywords returns the keywords of EHLO lines, upper case, without
// parameters. The old form "AUTH=LOGIN" that Postfix and Exim repeat for old
// clients is AUTH, and counted once.
func softwareKeywords(ehlo []string) []string {
	words := make([]string, 0, min(len(ehlo), softwareMaxKeywords))
	for _, line := range ehlo[:min(len(ehlo), softwareMaxKeywords)] {
		if len(line) > softwareMaxText {
			line = line[:softwareMaxText]
		}
		w, _, _ := strings.Cut(softwareStrip(line), " ")
		w = strings.ToUpper(w)
		if strings.HasPrefix(w, "AUTH=") {
			w = "AUTH"
		}
		if w == "" || w == "AUTH" && len(words) > 0 && words[len(words)-1] == "AUTH" {
			continue
		}
		words = append(words, w)
	}
	return words
}

func softwareHas(words []string, w string) bool {
	for _, have := range words {
		if have == w {
			return true
		}
	}
	return false
}

// softwareReplies are wordings of other replies, lower case, that one product uses.
var softwareReplies = []struct{ name, text string }{
	{"Haraka", "have a jolly good day"},
	{"Postfix", "i can break rules, too. goodbye"},
	{"Gmail", " - gsmtp"},
	{"Exim", "smtp synchronization error"},
	{"Cisco IronPort", "#5.5.1 command not recognized"},
	{"qmail", "pobox.com/~djb/qmail.html"},
	{"Exim", "tls go ahead"},
}

// softwareFromReplies concludes a product from other replies, or returns "".
func softwareFromReplies(replies []string) string {
	for _, r := range replies[:min(len(replies), softwareMaxReplies)] {
		if len(r) > softwareMaxText {
			r = r[:softwareMaxText]
		}
		r = softwareLower(r)
		for _, s := range softwareReplies {
			if strings.Contains(r, s.text) {
				return s.name
			}
		}
	}
	return ""
}
