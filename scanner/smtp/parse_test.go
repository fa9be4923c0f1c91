package smtp

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseLine(t *testing.T) {
	tests := []struct {
		line string
		code int
		more bool
	}{
		{"220 mail.example.org", 220, false},
		{"220-mail.example.org", 220, true},
		{"220", 220, false},
		{"220 ", 220, false},
		{"250-234 text", 250, true},
		{"571 refused", 571, false},
		{"250\r", 250, false},
		{"22", 0, false},
		{"22 0", 0, false},
		{"2200 x", 0, false},
		{"999 x", 0, false},
		{"120 x", 0, false},
		{"", 0, false},
		{"250_x", 0, false},
		{"250\rx", 0, false},
		{"\x00220 x", 0, false},
	}
	for _, tt := range tests {
		code, more, ok := parseLine([]byte(tt.line))
		if code != tt.code || more != tt.more || ok != (tt.code != 0) {
			t.Errorf("%q: %d, more %t, ok %t", tt.line, code, more, ok)
		}
	}
}

func TestClassify(t *testing.T) {
	tests := []struct{ head, want string }{
		{"220 mail.example.org ESMTP Postfix\r\n", ""},
		{"220 ftp.example.org ESMTP\r\n", ""},
		{"220 ftp.example.org ready\r\n", ""},
		{"220-FileZilla Server ready, welcome to this FTP\r\n", "FTP"},
		{"220 (vsFTPd 3.0.3)\r\n", "FTP"},
		{"220 ftp.example.org FTP server ready\r\n", "FTP"},
		{"200 news.example.org InterNetNews NNRP server ready (posting ok)\r\n", "NNTP"},
		{"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH"},
		{"http/1.1 400 Bad Request\r\n", "HTTP"},
		{"* OK ready\r\n", "IMAP"},
		{"+OK ready\r\n", "POP3"},
		{"RFB 003.008\n", "VNC"},
		{"\x15\x03\x01\x00\x02\x02\x50", "TLS"},
		{"\x16\x03\x03", "TLS"},
		{"\xff\xfd\x18", "Telnet"},
		{"\x4a\x00\x00\x00\x0a5.7.44\x00", "MySQL"},
		{"\x45\x00\x00\x00\xff\x6a\x04Host '192.0.2.1' is not allowed", "MySQL"},
		{"", ""},
		{"J\x00\x00", ""},
	}
	for _, tt := range tests {
		if got := classify([]byte(tt.head)); got != tt.want {
			t.Errorf("%q is %q, want %q", tt.head, got, tt.want)
		}
	}
}

// said makes a reply of lines.
func said(lines ...string) *reply {
	r := new(reply)
	for _, line := range lines {
		r.add([]byte(line))
	}
	return r
}

func TestParseEHLO(t *testing.T) {
	tests := []struct {
		name  string
		reply *reply
		want  capabilities
	}{
		{"usual", said("250-mail.example.org hello", "250-PIPELINING", "250-SIZE 10240000", "250-STARTTLS", "250 8BITMIME"),
			capabilities{domain: "mail.example.org hello", keywords: []string{"PIPELINING", "SIZE 10240000", "STARTTLS", "8BITMIME"}, size: 10240000, startTLS: true}},
		{"only a name", said("250 mail.example.org"), capabilities{domain: "mail.example.org"}},
		{"only a code", said("250"), capabilities{}},
		{"lower case, twice", said("250-x", "250-starttls", "250-StartTLS ", "250 auth plain Plain"),
			capabilities{domain: "x", keywords: []string{"starttls", "StartTLS ", "auth plain Plain"}, startTLS: true, auth: []string{"PLAIN"}}},
		{"old form", said("250-x", "250-AUTH LOGIN", "250 AUTH=LOGIN CRAM-MD5"),
			capabilities{domain: "x", keywords: []string{"AUTH LOGIN", "AUTH=LOGIN CRAM-MD5"}, auth: []string{"LOGIN", "CRAM-MD5"}}},
		{"SIZE without a number", said("250-x", "250 SIZE"), capabilities{domain: "x", keywords: []string{"SIZE"}}},
		{"SIZE too large", said("250-x", "250 SIZE 99999999999999999999999"), capabilities{domain: "x", keywords: []string{"SIZE 99999999999999999999999"}}},
		{"masked", said("250-x", "250 XXXXXXXA"), capabilities{domain: "x", keywords: []string{"XXXXXXXA"}, masked: true}},
		{"not masked", said("250-x", "250-XCLIENT NAME", "250 XXX"), capabilities{domain: "x", keywords: []string{"XCLIENT NAME", "XXX"}}},
		{"STARTTLS in the place of the name", said("250-STARTTLS", "250 x"), capabilities{keywords: []string{"STARTTLS", "x"}, startTLS: true}},
		{"STARTTLS with a word behind it", said("250-x", "250 STARTTLS required"), capabilities{domain: "x", keywords: []string{"STARTTLS required"}, startTLS: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(*parseEHLO(tt.reply), tt.want, cmp.AllowUnexported(capabilities{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMaskedBanner(t *testing.T) {
	for line, want := range map[string]bool{
		"220 ****************2****0*": true, "220 **": true, "************": true,
		"220 ": false, "220 0 22": false, "220 *** mail ***": false, "": false,
	} {
		if got := maskedBanner([]byte(line)); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
}

func TestFindingsListsEveryCodeOnce(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "findings.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && strings.Contains(lit.Value, "-") {
			codes = append(codes, strings.Trim(lit.Value, `"`))
		}
		return true
	})
	got := Findings()
	slices.Sort(codes)
	slices.Sort(got)
	if !slices.Equal(got, codes) || len(codes) < 20 {
		t.Errorf("got %q, want %q", got, codes)
	}
	for _, code := range trustFinding {
		if !slices.Contains(got, code) {
			t.Errorf("%s is not listed", code)
		}
	}
}
