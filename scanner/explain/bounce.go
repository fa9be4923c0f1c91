package explain

import "strings"

// A numbered is a line of a text, with its end, and its number, from 1.
type numbered struct {
	number int
	text   string
}

// reportOf returns of a bounce what reports: not the mail that came back with
// it, which may be about anything, nor the header fields that tell of the way of
// the bounce itself. Any other text stays as it is.
func reportOf(text string) string {
	var b strings.Builder
	for _, l := range reportLines(text) {
		b.WriteString(l.text)
	}
	return b.String()
}

// reportLines returns the lines of what reports.
func reportLines(text string) []numbered {
	var all, kept []numbered
	dropped := false // the field of this line
	for line := range strings.Lines(text) {
		all = append(all, numbered{len(all) + 1, line})
		start := lowerASCII(strings.TrimSpace(line[:min(len(line), 128)]))
		if len(kept) > 0 && beginsReturnedMail(start) {
			break
		}
		if line[0] != ' ' && line[0] != '\t' { // else the field goes on (RFC 5322, 2.2.3)
			dropped = isTraceField(start)
		}
		if !dropped && (len(kept) > 0 || start != "") {
			kept = append(kept, all[len(all)-1])
		}
	}
	if kept == nil {
		return all
	}
	return kept
}

// returnedMails are how lines begin after which the mail comes that was not
// delivered: as a part of a report (RFC 3462, RFC 6522), and in the words of Exim,
// Sendmail, qmail, Gmail, Exchange and Outlook.
var returnedMails = []string{
	"content-type: message/rfc822", "content-type: text/rfc822-headers", "content-description: undelivered message",
	"------ this is a copy of", "----- original message", "----- message header follows", "--- below this line is a copy",
	"--- enclosed are the original", "original message headers:", "-----original message",
}

// beginsReturnedMail reports whether the mail that came back begins at a line.
func beginsReturnedMail(line string) bool {
	for _, r := range returnedMails {
		if strings.HasPrefix(line, r) {
			return true
		}
	}
	return false
}

// isTraceField reports whether a line is a header field that servers and filters
// add to every mail: what it says is not why another one was refused.
func isTraceField(line string) bool {
	name, _, ok := strings.Cut(line, ":")
	if !ok || strings.ContainsAny(name, " \t") {
		return false
	}
	switch name {
	case "received", "received-spf", "dkim-signature", "domainkey-signature", "authentication-results":
		return true
	}
	return strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "arc-")
}
