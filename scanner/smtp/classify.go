package smtp

import (
	"bytes"
	"strings"
)

const (
	// protoTLS is what classify calls TLS records: the port is of the other mode.
	protoTLS = "TLS"
	// protoPROXY is a balancer's header that leaked: what speaks behind it is not known.
	protoPROXY = "PROXY"
)

// beginnings are the first bytes of protocols whose server speaks first.
var beginnings = []struct{ bytes, name string }{
	{"SSH-", "SSH"},          // RFC 4253, 4.2
	{"HTTP/", "HTTP"},        // RFC 9112, 4
	{"<html", "HTTP"},        // an HTTP/0.9 answer
	{"<!DOCTYPE", "HTTP"},    //
	{"* OK", "IMAP"},         // RFC 9051, 7.1.1
	{"* PREAUTH", "IMAP"},    //
	{"* BYE", "IMAP"},        //
	{"+OK", "POP3"},          // RFC 1939, 4
	{"-ERR", "POP3"},         //
	{"RFB ", "VNC"},          // RFC 6143, 7.1.1
	{"\xff\xfb", "Telnet"},   // RFC 854: IAC WILL
	{"\xff\xfd", "Telnet"},   // IAC DO
	{"\xff\xfe", "Telnet"},   // IAC DONT
	{"\xff\xfc", "Telnet"},   // IAC WONT
	{"\x15\x03", protoTLS},   // RFC 8446, 5.1: an alert
	{"\x16\x03", protoTLS},   // a handshake record
	{"AMQP", "AMQP"},         //
	{"-NOAUTH", "Redis"},     //
	{"-DENIED", "Redis"},     //
	{"@RSYNCD:", "rsync"},    //
	{"\"IMPLEMENT", "Sieve"}, // RFC 5804, 1.7
	{"PROXY ", protoPROXY},   //
}

// classify names the protocol that begins like this, or returns "" if it may be
// SMTP or is none that is known.
func classify(head []byte) string {
	for _, b := range beginnings {
		if len(head) >= len(b.bytes) && strings.EqualFold(string(head[:len(b.bytes)]), b.bytes) {
			return b.name
		}
	}
	if isMySQL(head) {
		return "MySQL"
	}
	switch code, _, ok := parseLine(firstLine(head)); {
	case ok && code == 220 && isFTP(head):
		return "FTP"
	case ok && (code == 200 || code == 201) && isNNTP(head):
		return "NNTP"
	}
	return ""
}

func firstLine(head []byte) []byte {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

// isMySQL reports whether this is a MySQL handshake or refusal: a packet with a
// three-byte length and number 0, and protocol version 10 or an error in it.
func isMySQL(head []byte) bool {
	if len(head) < 6 || head[1] != 0 || head[2] != 0 || head[3] != 0 {
		return false
	}
	return head[4] == 10 && head[5] >= '0' && head[5] <= '9' || head[4] == 0xff
}

// isFTP reports whether a 220 greeting is of FTP (RFC 959): it says so, and does
// not say SMTP. The server's own name does not count: it may be ftp.example.org.
func isFTP(head []byte) bool {
	text := strings.ToLower(string(withoutName(head)))
	return strings.Contains(text, "ftp") && !strings.Contains(strings.ToLower(string(head)), "smtp")
}

// isNNTP reports whether a 200 or 201 greeting is of NNTP (RFC 3977, 5.1.1).
func isNNTP(head []byte) bool {
	text := strings.ToLower(string(withoutName(head)))
	return strings.Contains(text, "nntp") || strings.Contains(text, "news") || strings.Contains(text, "posting")
}

// withoutName returns a greeting without its code and, if it is a domain name,
// its first word.
func withoutName(head []byte) []byte {
	text := head[min(4, len(head)):]
	word, rest, _ := bytes.Cut(text, []byte(" "))
	if bytes.IndexByte(word, '.') > 0 && bytes.IndexFunc(word, notInName) < 0 {
		return rest
	}
	return text
}

func notInName(r rune) bool {
	return r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
