package targets

import (
	"errors"
	"strings"
	"testing"
)

func testParser() parser { return parser{zoneExists: func(z string) bool { return z == "eth0" }} }

func TestSpecsAreReadAsWritten(t *testing.T) {
	for _, c := range []struct{ spec, want string }{
		{"192.0.2.7", "192.0.2.7-192.0.2.7"},
		{"192.0.2.0/24", "192.0.2.0-192.0.2.255"},
		{"192.0.2.5/24", "192.0.2.0-192.0.2.255 notice"},
		{"192.0.2.7/32", "192.0.2.7-192.0.2.7"},
		{"0.0.0.0/0", "0.0.0.0-255.255.255.255"},
		{"192.0.2.1-192.0.2.40", "192.0.2.1-192.0.2.40"},
		{"192.0.2.1-40", "192.0.2.1-192.0.2.40"},
		{"192.0.2.1-40:2525/smtps", "192.0.2.1-192.0.2.40 2525/smtps"},
		{"192.0.2.0/24:25", "192.0.2.0-192.0.2.255 25"},
		{"192.0.2.7:submission", "192.0.2.7-192.0.2.7 587"},
		{"2001:DB8::1", "2001:db8::1-2001:db8::1"},
		{"2001:db8::/120", "2001:db8::-2001:db8::ff"},
		{"[2001:db8::/120]:25", "2001:db8::-2001:db8::ff 25"},
		{"[2001:db8::]/120:25", "2001:db8::-2001:db8::ff 25"},
		{"[2001:db8::1]:25", "2001:db8::1-2001:db8::1 25"},
		{"[2001:db8::1]", "2001:db8::1-2001:db8::1"},
		{"2001:db8::1-2001:db8::5", "2001:db8::1-2001:db8::5"},
		{"fe80::1%eth0", "fe80::1-fe80::1 zone eth0"},
		{"[fe80::1%eth0]:25", "fe80::1-fe80::1 zone eth0 25"},
		{"::ffff:127.0.0.1", "127.0.0.1-127.0.0.1 notice"},
		{"::ffff:192.0.2.0/120", "192.0.2.0-192.0.2.255 notice"},
		{"mail.example.org", "name mail.example.org"},
		{"MAIL.Example.ORG.", "name mail.example.org"},
		{"mail.example.org:25", "name mail.example.org 25"},
		{"mail.example.org:2525/smtp", "name mail.example.org 2525"},
		{"bücher.example", "name xn--bcher-kva.example"},
		{"Faß.example", "name xn--fa-hia.example"},
		{"mx:Example.org", "name mx:example.org"},
		{"MX:example.org:25", "name mx:example.org 25"},
		{"mail_1.example.org", "name mail_1.example.org"},
		{"a-b.example.org", "name a-b.example.org"},
		{"smtp", "name smtp"},
		{"a..b", "name a..b"}, // a row bad-name
		{"-x.example.org", "name -x.example.org"},
	} {
		s, err := testParser().parse(c.spec)
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		got := "name " + s.name
		if s.name == "" {
			got = s.span.first.inFamily(s.six).String() + "-" + s.span.last.inFamily(s.six).String()
		}
		if s.zone != "" {
			got += " zone " + s.zone
		}
		if s.notice != "" {
			got += " notice"
		}
		if s.ports != nil {
			got += " " + PortsText(s.ports)
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.spec, got, c.want)
		}
	}
}

func TestBrokenSpecsAreErrorsThatSayWhy(t *testing.T) {
	for _, c := range []struct{ spec, want string }{
		{"", "empty"},
		{"10.0.0.0/33", `"/33" is not a prefix length`},
		{"10.0.0/24", "ambiguous"},
		{"1.2.3.4/", `"/" is not a prefix length`},
		{"/24", "before the slash is missing"},
		{"1.2.3.4/-1", `"/-1"`},
		{"1.2.3.4/024", `"/024"`},
		{"2001:db8::/129", "/0 to /128"},
		{"10.0.0.20-10.0.0.5", "backwards"},
		{"10.0.0.20-5", "backwards"},
		{"1.1.1.1-2.2.2", "ambiguous"},
		{"10.0.0.1-256", "not an octet"},
		{"10.0.0.0-999999999", "not an octet"},
		{"10.0.0.1-mail.example.org", "not an IPv4"},
		{"1.2.3.4-2001:db8::1", "one end is IPv4"},
		{"[1.2.3.4]:25", "brackets are for IPv6"},
		{"010.0.0.1", "ambiguous"},
		{"0x7f.1", "ambiguous"},
		{"0x7f000001", "ambiguous"},
		{"127.1", "ambiguous"},
		{"2130706433", "ambiguous: it has 1 number, an IPv4 address four"},
		{"１２７.０.０.１", "it becomes 127.0.0.1"}, // as a name it would be mapped (UTS 46)
		{"127.0.0.1\u00ad", "it becomes 127.0.0.1"},
		{"127。0。0。1:25", "it becomes 127.0.0.1"},
		{"mx:１２７.１", "it becomes 127.1"},
		{"2001:db8::1-5", `"5" is not an IPv6 address; write both ends in full`},
		{"10.0.0.1-", "the end of the range is missing"},
		{"256.1.1.1", "more than 255"},
		{"1.2.3.4.", "missing"},
		{"1.2.3.4.5", "ambiguous"},
		{"192.0.2.*", "wildcards"},
		{"192.0.2.1–40", "dash"},
		{"192.0.2.1,192.0.2.2", "comma"},
		{"fe80::1", "fe80::1%eth0"},
		{"fe80::1%nosuch0", `no interface "nosuch0"`},
		{"fe80::/64", "interface"},
		{"2001:db8::1%eth0", "only link-local"},
		{"2001:db8::g", "not an IPv6"},
		{"2001:db8:1:2:3:4:5:6:25", "[2001:db8::1]:25"},
		{"[2001:db8::1", "not closed"},
		{"[2001:db8::1]25", "after the bracket"},
		{"192.0.2.1:0", "between 1 and 65535"},
		{"192.0.2.1:65536", "between 1 and 65535"},
		{"192.0.2.1:http", "unknown port"},
		{"192.0.2.1:25-30", "one port"},
		{"192.0.2.1:", "missing"},
		{":25", "missing"},
		{"https://user:secret@mail.example.org/x", "mail.example.org"},
		{"postmaster@example.org", "mx:example.org"},
		{"mx:192.0.2.1", "wants a domain"},
		{"mx:", "wants a domain"},
		{"mx:25", "mx.:25"},
		{"a\xff.example.org", "UTF-8"},
		{strings.Repeat("a", 5000), "longer"},
	} {
		s, err := testParser().parse(c.spec)
		var bad *SpecError
		if !errors.As(err, &bad) {
			t.Errorf("%q: got %+v and error %v, want a *SpecError", c.spec, s, err)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %q, want something with %q", c.spec, err, c.want)
		}
	}
}

func TestPasswordInURLIsNotRepeated(t *testing.T) {
	for _, s := range []string{"smtp://user:secret@mail.example.org:25/", "user:secret@mail.example.org", "smtp://user:sec@ret@mail.example.org"} {
		_, err := testParser().parse(s)
		if err == nil || strings.Contains(err.Error(), "sec") || !strings.Contains(err.Error(), "mail.example.org") {
			t.Errorf("got %v, want an error with the host and without the password", err)
		}
	}
}

func TestNamesAreChecked(t *testing.T) {
	label := strings.Repeat("a", 63)
	long := label + "." + label + "." + label + "." + label[:61]
	for _, good := range []string{"a", "mail.example.org", "xn--bcher-kva.example", "_x.a", "a-b", "r3---x.example", long} {
		if err := checkName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "a..b", "-a", "a-", label + "a", long + "a", "a b", "a\x00", "xn--\x80", "xn--999999999", "ä", "a\\.b"} {
		if err := checkName(bad); err == nil {
			t.Errorf("%q passes as a name", bad)
		}
	}
}

func TestPortLists(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"25,465,587", "25,465,587"},
		{"smtp,smtps,submission", "25,465,587"},
		{"587,25", "25,587"},
		{"25,25", "25"},
		{"20-30", "20-30"},
		{"2525/smtp", "2525"},
		{"8465/smtps,1587/submission", "1587/submission,8465/smtps"},
		{"25/smtp", "25"},
		{"465/smtp", "465/smtp"},
		{"460-470,465/smtp", "460-464,465/smtp,466-470"},
		{"465/smtp,460-470", "460-464,465/smtp,466-470"},
		{"1-65535", "1-464,465,466-586,587,588-65535"},
		{" 25, 587 ", "25,587"},
	} {
		ports, err := ParsePorts(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if got := PortsText(ports); got != c.want {
			t.Errorf("%s: got %s, want %s", c.in, got, c.want)
		}
		again, err := ParsePorts(PortsText(ports))
		if err != nil || PortsText(again) != c.want {
			t.Errorf("%s: its text reads as %v, %v", c.in, again, err)
		}
	}
}

func TestBrokenPortListsSayWhatAndWhere(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"0", "between 1 and 65535"}, {"65536", "between 1 and 65535"}, {"-25", "missing"}, {"25-", "missing"},
		{"25,,587", "item 2: empty"}, {"25,", "item 2: empty"}, {"", "empty"}, {"25-20", "write 20-25"}, {"http", "unknown port"},
		{"25/http", "unknown role"}, {"2525/smtp,2525/smtps", "two roles"}, {"25,abc", "item 2"}, {"99999999999999999999", "between"},
		{"T:25", "unknown port"}, {"+25", "unknown port"},
	} {
		_, err := ParsePorts(c.in)
		var bad *SpecError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want something with %q", c.in, err, c.want)
		}
	}
}
