package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner/journal"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A badInput is something that people type, and what the program makes of it.
// In args, TARGET is a listener on loopback that counts who comes.
type badInput struct {
	what  string // begins with the number of reliability.md part 2
	args  string // what stands after "smtpsweep scan", or, with another command first, after "smtpsweep"
	files string // "name=content", for -i, --config and the like
	code  int
	says  string // on stderr
	lists string // of --dry-run: all of stdout, sorted, lines joined by a space; not looked at if empty
}

// badInputs is reliability.md B1 to B30, one by one.
var badInputs = slices.Concat(badTargets, specialTargets, badLists, badNames, badPorts, badPace, badConfigs, conflicts, badOutputs, foreignWords)

// elsewhere says where what is not in the table is tested, or why it does not apply.
var elsewhere = map[string]string{
	"B19": "TestNames", "B20": "TestNames",
	"B24": "no credentials are read",
	"B27": "TestTwoRunsOnOneJournal",
	"B30": "TestTimesAreUTC",
}

var badTargets = []badInput{
	{what: "B1 prefix too long", args: "10.0.0.0/33", code: 2, says: `bad target "10.0.0.0/33": "/33" is not a prefix length; an IPv4 prefix is /0 to /32`},
	{what: "B1 prefix too long for IPv6", args: "fd00::/129", code: 2, says: `"/129" is not a prefix length; an IPv6 prefix is /0 to /128`},
	{what: "B1 block of three numbers", args: "10.0.0/24", code: 2, says: `"10.0.0" is ambiguous: it has 3 numbers, an IPv4 address four`},
	{what: "B1 no length", args: "1.2.3.4/", code: 2, says: `"/" is not a prefix length`},
	{what: "B1 no address", args: "/24", code: 2, says: "the address before the slash is missing"},
	{what: "B1 negative length", args: "1.2.3.4/-1", code: 2, says: `"/-1" is not a prefix length`},
	{what: "B2 host bits set", args: "10.0.0.5/30 -p 25 --dry-run", says: "Notice: 10.0.0.5/30 has host bits set: it is read as 10.0.0.4/30",
		lists: "10.0.0.4:25 10.0.0.5:25 10.0.0.6:25 10.0.0.7:25"},
	{what: "B3 backwards", args: "10.0.0.20-10.0.0.5", code: 2, says: "the range runs backwards; write 10.0.0.5-10.0.0.20"},
	{what: "B3 end cut short", args: "1.1.1.1-2.2.2", code: 2, says: `"2.2.2" is ambiguous: it has 3 numbers`},
	{what: "B3 end no octet", args: "10.0.0.1-256", code: 2, says: `"256" is not an octet, 0 to 255`},
	{what: "B3 two families", args: "10.0.0.1-fd00::1", code: 2, says: "one end is IPv4 and the other IPv6"},
	{what: "B3 ranges as they should be", args: "10.0.0.9-10.0.0.10 10.0.0.254-10.0.1.0 10.0.2.7-8 -p 25 --dry-run",
		lists: "10.0.0.10:25 10.0.0.254:25 10.0.0.255:25 10.0.0.9:25 10.0.1.0:25 10.0.2.7:25 10.0.2.8:25"},
	{what: "B4 octal", args: "010.0.0.1", code: 2, says: `"010" is ambiguous: some programs read a leading zero as octal`},
	{what: "B4 hexadecimal", args: "0x7f.1", code: 2, says: `"0x7f" is ambiguous`},
	{what: "B4 two numbers", args: "127.1", code: 2, says: `"127.1" is ambiguous: it has 2 numbers`},
	{what: "B4 one number", args: "2130706433", code: 2, says: `"2130706433" is ambiguous`},
	{what: "B4 octal in a block", args: "10.0.0.010/30", code: 2, says: `"010" is ambiguous`},
	{what: "B4 wildcard", args: "10.0.0.*", code: 2, says: "wildcards are not understood; write a block: 192.0.2.0/24"},
	{what: "B4 long dash", args: "10.0.0.1–10.0.0.5", code: 2, says: `it contains a dash that is not "-"`},
	{what: "B4 foreign digits", args: "１２７.０.０.１", code: 2, says: `it becomes 127.0.0.1, which is no name; write addresses in plain digits: 192.0.2.7`},
	{what: "B4 comma", args: "10.0.0.1,10.0.0.2", code: 2, says: "it contains a comma; separate targets with spaces"},
	{what: "B11 duplicates and overlaps", args: "10.0.0.0/31 10.0.0.0/30 10.0.0.1 10.0.0.1:25 -p 25 --dry-run", says: "Contacts 4 addresses x 25 = 4 endpoints",
		lists: "10.0.0.0:25 10.0.0.1:25 10.0.0.2:25 10.0.0.3:25"},
	{what: "B11 one port in two roles", args: "10.0.0.1:2525/smtp 10.0.0.0/31 -p 2525/smtps", code: 2, says: "port 2525 is asked for in two roles, smtps and smtp; keep one of them"},
	{what: "B26 no target", args: "", code: 2, says: "no target"},
	{what: "B26 empty target", args: `""`, code: 2, says: "bad target: it is empty"},
}

var specialTargets = []badInput{
	{what: "B5 IPv4-mapped", args: "::ffff:127.0.0.1 -p 25 --dry-run", says: "Notice: ::ffff:127.0.0.1 is read as 127.0.0.1", lists: "127.0.0.1:25"},
	{what: "B5 IPv4-mapped and never", args: "::ffff:224.0.0.1", code: 6, says: `refused "::ffff:224.0.0.1"`},
	{what: "B5 NAT64 of loopback", args: "64:ff9b::7f00:1", code: 6, says: "loopback (RFC 1122) inside NAT64"},
	{what: "B5 6to4 of link-local", args: "2002:a9fe:1::1", code: 6, says: "link-local (RFC 3927) inside 6to4"},
	{what: "B5 Teredo of loopback", args: "2001::80ff:fffe", code: 6, says: "loopback (RFC 1122) inside Teredo"},
	{what: "B6 link-local without a zone", args: "fe80::1", code: 2, says: "a link-local address needs the interface it is on; write fe80::1%eth0"},
	{what: "B6 zone that is not there", args: "fe80::1%nosuch0", code: 2, says: `this machine has no interface "nosuch0"`},
	{what: "B6 zone without need", args: "fd00::1%lo", code: 2, says: "only link-local addresses have a zone"},
	{what: "B6 block of link-local", args: "fe80::/120", code: 2, says: "give them one by one: fe80::1%eth0"},
	{what: "B7 all of IPv6", args: "::/0", code: 6, says: "the range is too large to be swept (more than 2^48 addresses); name smaller blocks"},
	{what: "B7 a /32 of IPv6", args: "2001:db8::/32", code: 6, says: "the range is too large"},
	{what: "B7 documentation of IPv6", args: "2001:db8::/120", code: 6, says: "documentation (RFC 3849), and not scanned; --allow-reserved scans it"},
	{what: "B8 all of IPv4", args: "0.0.0.0/0 --dry-run", code: 6, says: "endpoints are more than 16,777,216"},
	{what: "B8 a /8", args: "10.0.0.0/8", code: 6, says: "--yes if you are sure that you may and want to; --shard 1/8 takes a part"},
	{what: "B8 all of IPv4, confirmed", args: "0.0.0.0/0 -p 25 --dry-run --yes --exclude 0.0.0.0/1,128.0.0.0/1 --exclude 127.0.0.0/8", code: 2, says: "nothing left to scan"},
	{what: "B9 unspecified", args: "0.0.0.0", code: 6, says: "this network (RFC 791)"},
	{what: "B9 unspecified, IPv6", args: "::", code: 6, says: "unspecified (RFC 4291)"},
	{what: "B9 broadcast", args: "255.255.255.255 --allow-reserved --yes", code: 6, says: "broadcast (RFC 919)"},
	{what: "B9 multicast", args: "224.0.0.0/4 --allow-reserved --yes", code: 6, says: "multicast (RFC 5771)"},
	{what: "B9 multicast, IPv6", args: "ff02::1 --allow-reserved --yes", code: 6, says: "multicast (RFC 4291)"},
	{what: "B9 in a list", args: "-i list", files: "list=10.0.0.1\n224.0.0.1\n", code: 6, says: `list:2: refused "224.0.0.1"`},
	{what: "B10 CGNAT", args: "100.64.0.0/24", code: 6, says: "shared address space, CGNAT (RFC 6598), and not scanned; --allow-reserved scans it"},
	{what: "B10 link-local", args: "169.254.0.1", code: 6, says: "link-local (RFC 3927), and not scanned; --allow-reserved scans it"},
	{what: "B10 benchmarks", args: "198.18.0.0/15", code: 6, says: "benchmarks (RFC 2544)"},
	{what: "B10 documentation", args: "192.0.2.1 198.51.100.1 203.0.113.1", code: 6, says: "documentation (RFC 5737)"},
	{what: "B10 240/4 never", args: "240.0.0.1 --allow-reserved --yes", code: 6, says: "reserved (RFC 1112), and not scanned"},
	{what: "B10 allowed when asked for", args: "192.0.2.1 -p 25 --allow-reserved --dry-run", lists: "192.0.2.1:25"},
	{what: "B10 private and loopback when typed", args: "10.0.0.1 172.16.0.1 192.168.0.1 fd00::1 127.0.0.1 ::1 -p 25 --dry-run",
		lists: "10.0.0.1:25 127.0.0.1:25 172.16.0.1:25 192.168.0.1:25 [::1]:25 [fd00::1]:25"},
	{what: "B10 special ones inside a range", args: "9.255.255.255-10.0.0.0 223.255.255.255-224.0.0.2 -p 25 --dry-run", says: "Left out: 3 addresses (multicast (RFC 5771))",
		lists: "10.0.0.0:25 192.0.2.1:25 control, must stay silent 223.255.255.255:25 9.255.255.255:25"},
	{what: "B12 exclusions take all", args: "TARGET --exclude 127.0.0.0/8", code: 2, says: "nothing left to scan: every target is excluded"},
	{what: "B12 the other family", args: "TARGET -6", code: 2, says: "-4 leaves out IPv6 addresses, -6 IPv4 ones"},
	{what: "B12 several exclusions", args: "10.0.0.0/30 -p 25 --exclude 10.0.0.0,10.0.0.1 --exclude 10.0.0.2 --dry-run", says: "Left out: 3 addresses", lists: "10.0.0.3:25"},
	{what: "B13 no such exclusion file", args: "TARGET --exclude-file nosuch", code: 2, says: "--exclude-file nosuch: no such file or directory"},
	{what: "B13 exclusion file is a directory", args: "TARGET --exclude-file .", code: 2, says: "it is a directory"},
	{what: "B14 bad line in the exclusion file", args: "TARGET --exclude-file never", files: "never=10.0.0.1\n10.0.0.300\n10.0.0.2\n", code: 2, says: `--exclude-file never:2: bad exclusion "10.0.0.300": "300" is more than 255`},
	{what: "B14 a name excluded", args: "TARGET --exclude mail.example.org", code: 2, says: "it is a name, and only addresses can be excluded"},
	{what: "B14 a port excluded", args: "TARGET --exclude 10.0.0.1:25", code: 2, says: "an exclusion counts for all ports"},
	{what: "B14 nothing excluded", args: `TARGET --exclude ""`, code: 2, says: "--exclude: bad exclusion: it is empty"},
	{what: "B14 link-local excluded", args: "10.0.0.0/31 -p 25 --exclude fe80::/10,10.0.0.1 --dry-run", lists: "10.0.0.0:25"},
	{what: "B15 duplicate exclusions", args: "10.0.0.0/31 -p 25 --exclude-file never --dry-run", files: "never=10.0.0.1\n10.0.0.1\n10.0.0.1/32\n", lists: "10.0.0.0:25"},
}

var badLists = []badInput{
	{what: "B16 BOM, CRLF, tabs, comments, no last line end", args: "-i list -p 25 --dry-run", files: "list=\ufeff10.0.0.1\t10.0.0.2  \r\n# c\r\n\r\n 10.0.0.3 # c", lists: "10.0.0.1:25 10.0.0.2:25 10.0.0.3:25"},
	{what: "B16 NUL", args: "TARGET -i list", files: "list=10.0.0.1\n10.0.0.2\x00\n", code: 2, says: "list:2: bad target list: the line contains a NUL byte; is this a text file?"},
	{what: "B16 UTF-16", args: "TARGET -i list", files: "list=\xff\xfe1\x000\x00", code: 2, says: "list:1: bad target list: the file is UTF-16; save it as UTF-8"},
	{what: "B16 not UTF-8", args: "TARGET -i list", files: "list=m\xe4il.example\n", code: 2, says: "list:1: bad target list: the line is not UTF-8"},
	{what: "B16 long line", args: "TARGET -i list", files: "list=10.0.0.1\n" + strings.Repeat("5", 10000), code: 2, says: "list:2: bad target list: the line is longer than 4096 bytes; write one target a line"},
	{what: "B16 endless line", args: "TARGET -i /dev/zero", code: 2, says: "/dev/zero:1: bad target list: the line is longer than 4096 bytes"},
	{what: "B16 bad target in a list", args: "TARGET -i list", files: "list=10.0.0.1\r\n10.0.0.300\r\n", code: 2, says: `list:2: bad target "10.0.0.300": "300" is more than 255`},
	{what: "B17 empty list", args: "-i list", files: "list=", code: 2, says: "list: bad target list: it is empty, or only comments; write one target a line"},
	{what: "B17 only comments", args: "-i list", files: "list=# a\n\n# b\n", code: 2, says: "it is empty, or only comments"},
	{what: "B17 empty stdin", args: "-i -", code: 2, says: "stdin: bad target list: it is empty"},
	{what: "B17 empty beside targets", args: "10.0.0.1 -p 25 -i list --dry-run", files: "list=\n", says: "Notice: list contains no target", lists: "10.0.0.1:25"},
	{what: "B17 directory", args: "TARGET -i .", code: 2, says: "bad target list: it is a directory; name a file in it"},
	{what: "B17 no such list", args: "TARGET -i nosuch", code: 2, says: "-i nosuch: no such file or directory"},
	{what: "B17 no name", args: `TARGET -i ""`, code: 2, says: "-i: the name of the file is empty"},
	{what: "B17 stdin twice", args: "-i - -i -", code: 2, says: "-i - is given twice"},
	{what: "B17 list as a bad target", args: "127.1 --dry-run", files: "127.1=10.0.0.1\n", code: 2, says: "127.1 is a file: -i 127.1 reads targets from it"},
}

// Names that cannot be are rows, and an answer: another run says the same.
// What is certainly no name is bad input.
var badNames = []badInput{
	{what: "B18 254 characters", args: strings.Repeat("abcdefg.", 31) + "abcdef --dry-run", says: "Contacts nobody", lists: strings.Repeat("abcdefg.", 31) + "abcdef is not contacted: bad-name"},
	{what: "B18 label of 64", args: strings.Repeat("a", 64) + ".example --dry-run", lists: strings.Repeat("a", 64) + ".example is not contacted: bad-name"},
	{what: "B18 empty label", args: "a..b --dry-run", lists: "a..b is not contacted: bad-name"},
	{what: "B18 a file where a name should stand", args: "a..b --dry-run", files: "a..b=10.0.0.1\n", says: "Notice: a..b is read as a name, and it is a file as well: -i a..b reads targets from it", lists: "a..b is not contacted: bad-name"},
	{what: "B18 space", args: `"a b" --dry-run`, lists: "a b is not contacted: bad-name"},
	{what: "B18 punycode that is none", args: "xn--zzzzzz99999.example --dry-run", lists: "xn--zzzzzz99999.example is not contacted: bad-name"},
	{what: "B18 leading hyphen", args: "--dry-run -- -leading.example", lists: "-leading.example is not contacted: bad-name"},
	{what: "B18 leading hyphen, read as flags", args: "-leading.example TARGET", code: 2, says: `there is no flag -l (in "-leading.example")`},
	{what: "B18 escape code", args: "a\x1b[31mb.example --dry-run", lists: `a\x1b[31mb.example is not contacted: bad-name`},
	{what: "B18 not UTF-8", args: "a\xffb.example", code: 2, says: `bad target "a\xffb.example": it is not UTF-8`},
	{what: "B18 mx: of nothing", args: "mx:", code: 2, says: `bad target "mx:": mx: wants a domain; write mx:example.org`},
	{what: "B18 mx: of an address", args: "mx:10.0.0.1", code: 2, says: "mx: wants a domain"},
	{what: "B18 mx: of a port", args: "mx:25", code: 2, says: "mx: wants a domain"},
	{what: "B18 mail address", args: "postmaster@example.org", code: 2, says: "it is a mail address; for the servers of its domain write mx:example.org"},
	{what: "B25 URL with a password", args: "https://user:hunter2@mail.example.org/x", code: 2, says: "it is a URL; write only the host: mail.example.org"},
	{what: "B25 mail address with a password", args: "user:hunter2@mail.example.org", code: 2, says: "it is a mail address"},
}

var badPorts = []badInput{
	{what: "B21 0", args: "TARGET -p 0", code: 2, says: `bad ports "0": port "0" is not between 1 and 65535`},
	{what: "B21 65536", args: "TARGET -p 65536", code: 2, says: `port "65536" is not between 1 and 65535`},
	{what: "B21 negative", args: "TARGET -p -25", code: 2, says: `a port is missing in "-25"; write 25 or 20-30`},
	{what: "B21 half a range", args: "TARGET -p 25-", code: 2, says: `a port is missing in "25-"`},
	{what: "B21 spare comma", args: "TARGET -p 25,,587", code: 2, says: "item 2: empty; take out the spare comma"},
	{what: "B21 backwards", args: "TARGET -p 25-20", code: 2, says: `range "25-20" runs backwards; write 20-25`},
	{what: "B21 unknown word", args: "TARGET -p http", code: 2, says: `unknown port "http"; ports are numbers, ranges, smtp, smtps and submission`},
	{what: "B21 unknown role", args: "TARGET -p 25/foo", code: 2, says: `unknown role "foo"; roles are smtp, smtps and submission: 2525/smtp`},
	{what: "B21 two roles", args: "TARGET -p 25/smtp,25/smtps", code: 2, says: "port 25 has two roles, smtp and smtps; keep one of them"},
	{what: "B21 none", args: `TARGET -p ""`, code: 2, says: "bad ports: empty; write 25,465,587"},
	{what: "B21 no value", args: "TARGET -p", code: 2, says: "--ports needs a value"},
	{what: "B21 all of them on a large block", args: "10.0.0.0/16 -p 1-65535", code: 6, says: "4,294,901,760 endpoints are more than 16,777,216"},
	{what: "B21 behind a colon", args: "10.0.0.1:0", code: 2, says: `port "0" is not between 1 and 65535`},
	{what: "B21 missing behind a colon", args: "mail.example.org:", code: 2, says: "something is missing beside the colon; write host:25, or [2001:db8::1]:25"},
	{what: "B21 range behind a colon", args: "10.0.0.1:25-30", code: 2, says: "one port may follow the colon; give ranges with -p"},
	{what: "B21 IPv6 without brackets", args: "2001:db8::1:25:xx", code: 2, says: "is not an IPv6 address"},
	{what: "B21 open bracket", args: "[2001:db8::1", code: 2, says: "the bracket is not closed; write [2001:db8::1]:25"},
	{what: "B21 bracket around IPv4", args: "[10.0.0.1]:25", code: 2, says: "brackets are for IPv6 addresses; leave them out"},
}

const wantRate = "not a rate: a number per second from 0.01 to 1000000000, or 0 for no limit"

var badPace = []badInput{
	{what: "B22 rate 0 at private addresses", args: "10.0.0.1 -p 25 --rate 0 --dry-run", lists: "10.0.0.1:25"},
	{what: "B22 rate 0 at public addresses", args: "192.0.2.1 8.8.8.8 --allow-reserved --rate 0", code: 6, says: "more than 10,000 probes per second at public addresses"},
	{what: "B22 rate above the cap", args: "8.8.8.8 --rate 10001 --dry-run", code: 6, says: "--yes if you are sure that the networks on the way bear it; or a lower --rate"},
	{what: "B22 rate above the cap, confirmed", args: "8.8.8.8 -p 25 --rate 10001 --yes --dry-run", lists: "192.0.2.1:25 control, must stay silent 8.8.8.8:25"},
	{what: "B22 negative rate", args: "TARGET --rate -1", code: 2, says: `--rate "-1": ` + wantRate},
	{what: "B22 rate NaN", args: "TARGET --rate NaN", code: 2, says: `--rate "NaN": ` + wantRate},
	{what: "B22 rate without bounds", args: "TARGET --rate 1e309", code: 2, says: `--rate "1e309": ` + wantRate},
	{what: "B22 rate Inf", args: "TARGET --rate Inf", code: 2, says: wantRate},
	{what: "B22 rate with a unit", args: "TARGET --rate 10k", code: 2, says: wantRate},
	{what: "B22 rate too high", args: "TARGET --rate 1e10", code: 2, says: wantRate},
	{what: "B22 subnet rate", args: "TARGET --subnet-rate -5", code: 2, says: `--subnet-rate "-5": ` + wantRate},
	{what: "B22 time-out 0", args: "TARGET --timeout 0", code: 2, says: `--timeout "0": out of range: 50ms to 5m0s`},
	{what: "B22 time-out of 1 ns", args: "TARGET --timeout 1ns", code: 2, says: "out of range: 50ms to 5m0s"},
	{what: "B22 time-out of a day", args: "TARGET --timeout 24h", code: 2, says: "out of range: 50ms to 5m0s"},
	{what: "B22 time-out of 1e300 s", args: "TARGET --timeout 1e300", code: 2, says: "not a duration: use 3.9s, 500ms, 2m or a number of seconds"},
	{what: "B22 time-out in days", args: "TARGET --timeout 1d", code: 2, says: "not a duration"},
	{what: "B22 greeting time-out", args: "TARGET --greeting-timeout 0", code: 2, says: "out of range: 100ms to 10m0s"},
	{what: "B22 patience", args: "TARGET --patience 25h", code: 2, says: "out of range: 100ms to 1h0m0s, or 0 for off"},
	{what: "B22 host interval", args: "TARGET --host-interval -1s", code: 2, says: `--host-interval "-1s": out of range`},
	{what: "B22 host limit", args: "TARGET --host-limit 0", code: 2, says: `--host-limit "0": not in range: a whole number from 1 to 10000`},
	{what: "B22 retries", args: "TARGET --retries 1000", code: 2, says: `--retries "1000": not in range: a whole number from 0 to 10`},
	{what: "B22 retries in parts", args: "TARGET --retries 1.5", code: 2, says: "a whole number from 0 to 10"},
	{what: "B22 seed", args: "TARGET --seed -1", code: 2, says: `--seed "-1": a whole number from 0 to 18446744073709551615 is wanted`},
}

var badConfigs = []badInput{
	{what: "B23 unknown key", args: "TARGET --config c", files: "c=rate: 100\nexcluded: 127.0.0.0/8\n", code: 2, says: `--config c:2:1: unknown key "excluded": keys are the names of flags`},
	{what: "B23 duplicate key", args: "TARGET --config c", files: "c=rate: 100\nrate: 200\n", code: 2, says: `--config c:2:1: mapping key "rate" already defined at [1:1]`},
	{what: "B23 duplicate key in a second document", args: "TARGET --config c", files: "c=rate: 100\n---\nrate: 200\n", code: 2, says: "--config c:2:1: a second document begins: one is enough"},
	{what: "B23 wrong type", args: "TARGET --config c", files: "c=rate: fast\n", code: 2, says: `--config c:1:1: --rate "fast": ` + wantRate},
	{what: "B23 wrong truth", args: "TARGET --config c", files: "c=yes: maybe\n", code: 2, says: `--config c:1:1: --yes "maybe": true or false is wanted`},
	{what: "B23 list for one value", args: "TARGET --config c", files: "c=rate: [1, 2]\n", code: 2, says: "--config c:1:1: rate: one value is wanted, not a list"},
	{what: "B23 mapping for a value", args: "TARGET --config c", files: "c=rate: {a: 1}\n", code: 2, says: "rate: a plain value or a list of them is wanted"},
	{what: "B23 list of lists", args: "TARGET --config c", files: "c=exclude:\n- - 10.0.0.1\n", code: 2, says: "--config c:2:3: a list within a list"},
	{what: "B23 no value", args: "TARGET --config c", files: "c=rate:\n", code: 2, says: "--config c:1:1: rate: a value is missing"},
	{what: "B23 no keys", args: "TARGET --config c", files: "c=rate\n", code: 2, says: "--config c:1: lines of flag: value are wanted, as in rate: 100"},
	{what: "B23 a list of keys", args: "TARGET --config c", files: "c=- rate\n", code: 2, says: "lines of flag: value are wanted"},
	{what: "B23 text without end", args: "TARGET --config c", files: "c=rate: \"100\n", code: 2, says: "--config c:1:7: could not find end character of double-quoted text"},
	{what: "B23 anchor", args: "TARGET --config c", files: "c=rate: &a 100\nretries: *a\n", code: 2, says: `--config c:1:7: "&" is not understood here`},
	{what: "B23 tag", args: "TARGET --config c", files: "c=rate: !!int 100\n", code: 2, says: "is not understood here"},
	{what: "B23 merge", args: "TARGET --config c", files: "c=<<: {rate: 5}\n", code: 2, says: `"<<" is not understood here`},
	{what: "B23 aliases of aliases", args: "TARGET --config c", files: "c=a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\n", code: 2, says: "is not understood here"},
	{what: "B23 lists 10^5 deep", args: "TARGET --config c", files: "c=rate: " + strings.Repeat("[", 100000), code: 2, says: "--config c:1:9: nested too deeply"},
	{what: "B23 mappings 10^5 deep", args: "TARGET --config c", files: "c=" + strings.Repeat("{a: ", 100000), code: 2, says: "nested too deeply"},
	{what: "B23 lists 10^5 deep, a line each", args: "TARGET --config c", files: "c=rate:\n" + strings.Repeat(" [\n", 100000), code: 2, says: "nested too deeply"},
	{what: "B23 items 10^5 deep", args: "TARGET --config c", files: "c=rate:\n  " + strings.Repeat("- ", 100000), code: 2, says: "a list within a list"},
	{what: "B23 questions 10^5 deep", args: "TARGET --config c", files: "c=" + strings.Repeat("? ", 100000), code: 2, says: "is not understood here"},
	{what: "B23 colons 10^5 deep", args: "TARGET --config c", files: "c=" + strings.Repeat("a: ", 100000), code: 2, says: "a second colon: put quotes around the value"},
	{what: "B23 closing brackets", args: "TARGET --config c", files: "c=" + strings.Repeat("]", 100000), code: 2, says: "a closing bracket without an opening one"},
	{what: "B23 10^5 keys", args: "TARGET --config c", files: "c=" + manyKeys(100000), code: 2, says: "more than 1000 keys"},
	{what: "B23 not YAML", args: "TARGET --config c", files: "c=\x7fELF\x00\x00", code: 2, says: "--config c:1:1: it is not a text file in UTF-8"},
	{what: "B23 over 1 MiB", args: "TARGET --config c", files: "c=" + strings.Repeat("# far too much\n", 1<<20/15+1), code: 2, says: "--config c: larger than 1 MiB"},
	{what: "B23 endless", args: "TARGET --config /dev/zero", code: 2, says: "--config /dev/zero: larger than 1 MiB"},
	{what: "B23 includes itself", args: "TARGET --config c", files: "c=config: c\n", code: 2, says: `unknown key "config"`},
	{what: "B23 no such file", args: "TARGET --config nosuch", code: 2, says: "--config nosuch: no such file or directory"},
	{what: "B23 directory", args: "TARGET --config .", code: 2, says: "--config .: is a directory"},
	{what: "B23 as it should be", args: "10.0.0.0/30 --config c --dry-run", files: "c=# ours\n---\n\"ports\": [25, 587]\nexclude:\n- 10.0.0.0\n- \"10.0.0.1\"\nexclude-file: never\ntimeout: 4\n", lists: "10.0.0.3:25 10.0.0.3:587"},
}

var conflicts = []badInput{
	{what: "B26 -4 and -6", args: "TARGET -4 -6", code: 2, says: "-4 and -6 together leave no address: give one of them or none"},
	{what: "B26 part 3 of 2", args: "TARGET --shard 3/2", code: 2, says: `bad shard "3/2": there is no part 3 of 2; write 1/8 to 8/8 for eight parts`},
	{what: "B26 part 0", args: "TARGET --shard 0/2", code: 2, says: "there is no part 0 of 2"},
	{what: "B26 no parts", args: "TARGET --shard 0/0", code: 2, says: "the number of parts is not between 1 and 2^48"},
	{what: "B26 half a shard", args: "TARGET --shard 1", code: 2, says: "it is not two numbers with a slash between them"},
	{what: "B26 negative part", args: "TARGET --shard -1/2", code: 2, says: "it is not two numbers with a slash between them"},
	{what: "B26 parts without end", args: "TARGET --shard 1/18446744073709551616", code: 2, says: "bad shard"},
	{what: "B26 resume of nothing", args: "--resume nosuch.jsonl", code: 2, says: "nosuch.jsonl: no such file or directory"},
	{what: "B26 resume of something else", args: "--resume list", files: "list=10.0.0.1\n", code: 7, says: "line 1 (byte 0) is damaged: this is not a journal of smtpsweep"},
	{what: "B26 resume of an empty file", args: "--resume empty.jsonl", files: "empty.jsonl=", code: 7, says: "the run was killed before it began; delete the file and start again"},
	{what: "B26 resume of a directory", args: "--resume .", code: 7, says: "is not a regular file"},
	{what: "B26 unknown flag", args: "TARGET --ratte 5", code: 2, says: "there is no flag --ratte"},
	{what: "B26 unknown word of a flag", args: "TARGET --expect maybe", code: 2, says: `--expect "maybe": must be one of open, closed or filtered`},
	{what: "B26 engine that is not built", args: "TARGET --engine syn", code: 2, says: `--engine "syn": must be one of auto or connect`},
	{what: "B26 unknown probe", args: "TARGET --probe deep", code: 2, says: "must be one of port, banner or full"},
	{what: "B26 unknown state", args: "TARGET --show blue", code: 2, says: `--show "blue": want auto, all, or some of open,closed,filtered,unknown`},
	{what: "B26 truth of a flag", args: "TARGET --dry-run=perhaps", code: 2, says: `--dry-run "perhaps": true or false is wanted`},
	{what: "B26 source that is not ours", args: "TARGET --source 192.0.2.200", code: 2, says: "--source 192.0.2.200: not an address of this machine"},
	{what: "B26 source interface that is not there", args: "TARGET --source nosuch0", code: 2, says: "--source nosuch0: neither an address nor an interface of this machine"},
	{what: "B26 resolver by name", args: "TARGET --resolver dns.example.org", code: 2, says: "an address is wanted, such as 192.0.2.53 or [2001:db8::53]:53"},
	{what: "B26 no such authority", args: "TARGET --ca nosuch.pem", code: 2, says: "--ca nosuch.pem: no such file or directory"},
	{what: "B26 authority without a certificate", args: "TARGET --ca ca.pem", files: "ca.pem=hello\n", code: 2, says: "--ca ca.pem: no PEM certificate in it"},
	{what: "B26 EHLO with a second command", args: "TARGET --helo \"a\r\nMAIL\"", code: 2, says: `--helo "a\r\nMAIL": a host name or an address literal such as [192.0.2.1] is wanted`},
	{what: "B26 not a command", args: "smtpsweep scna", code: 2, says: `"scna" is not a command`},
	{what: "B26 target for a command", args: "smtpsweep mail.example.org", code: 2, says: "smtpsweep scan mail.example.org"},
	{what: "B26 argument for none", args: "smtpsweep demo zoo", code: 2, says: `demo takes no targets or files, and "zoo" was given`},
	{what: "B26 nothing to explain", args: "smtpsweep explain", code: 2, says: "nothing to explain"},
	{what: "B26 no journal named", args: "smtpsweep report", code: 2, says: "smtpsweep report last renders the newest run"},
	{what: "B26 no last run", args: "smtpsweep report last", code: 2, says: "there is no last run"},
	{what: "B26 report of nothing", args: "smtpsweep report nosuch.jsonl", code: 2, says: "nosuch.jsonl: no such file or directory"},
	{what: "B26 report of something else", args: "smtpsweep report list", files: "list=10.0.0.1\n", code: 7, says: "this is not a journal of smtpsweep"},
}

var badOutputs = []badInput{
	{what: "B28 exists", args: "TARGET -o old.csv", files: "old.csv=x", code: 2, says: "-o old.csv exists already"},
	{what: "B28 journal exists", args: "TARGET -o old.jsonl", files: "old.jsonl=x", code: 2, says: "smtpsweep scan --resume old.jsonl goes on with it; another name starts anew"},
	{what: "B28 journal exists, by force", args: "TARGET -o old.jsonl --force", files: "old.jsonl=x", code: 2, says: "a journal is never overwritten"},
	{what: "B28 symlink", args: "TARGET -o link.csv", code: 2, says: "-o link.csv exists already"},
	{what: "B28 symlink for a journal", args: "TARGET -o link.jsonl --force", code: 2, says: "-o link.jsonl exists already"},
	{what: "B28 directory", args: "TARGET -o dir.csv --force", code: 2, says: "-o dir.csv is a directory"},
	{what: "B28 no directory", args: "TARGET -o nosuch/x.csv", code: 2, says: "-o nosuch/x.csv: there is no directory nosuch"},
	{what: "B28 twice", args: "TARGET -o a.csv -o a.csv", code: 2, says: "-o a.csv is given twice"},
	{what: "B28 twice in other words", args: "TARGET -o a.csv -o ./a.csv", code: 2, says: "-o ./a.csv is given twice"},
	{what: "B28 stdout twice", args: "TARGET -o - -o -", code: 2, says: "-o - is given twice"},
	{what: "B28 no name", args: `TARGET -o ""`, code: 2, says: "-o: the name of the file is empty"},
	{what: "B29 unknown ending", args: "TARGET -o x.docx", code: 2, says: `-o x.docx: no format has the ending ".docx"; there are .txt, .csv`},
	{what: "B29 no ending", args: "TARGET -o x", code: 2, says: `-o x: no format has the ending ""`},
	{what: "B29 unknown format", args: "TARGET -f yaml", code: 2, says: `-f: no format "yaml"; there are table, csv, jsonl, json, targets, xml, md`},
}

// foreignWords are those of nmap, masscan and swaks: read as ours, or refused
// with our word for it.
var foreignWords = []badInput{
	{what: "nmap -oX", args: "-oX out.xml TARGET", code: 2, says: "-oX is another tool's flag\nsmtpsweep: hint: -o FILE.xml writes nmap's XML"},
	{what: "nmap -oXFILE", args: "-oXout.xml TARGET", code: 2, says: "-oXout.xml is another tool's flag"},
	{what: "nmap -oN", args: "-oN out TARGET", code: 2, says: "-o FILE.txt writes the table"},
	{what: "nmap -oG", args: "-oG - TARGET", code: 2, says: "-o FILE.csv, or -o FILE.targets for address:port lines"},
	{what: "nmap -oA", args: "-oA out TARGET", code: 2, says: "-o may be given several times"},
	{what: "masscan -oJ", args: "-oJ out TARGET", code: 2, says: "-o FILE.json or -o FILE.jsonl"},
	{what: "masscan -oL", args: "-oL out TARGET", code: 2, says: "-o FILE.targets writes address:port lines"},
	{what: "nmap -sS", args: "-sS TARGET", code: 2, says: "the connect engine needs no privilege and is the default"},
	{what: "nmap -sT", args: "-sT TARGET", code: 2, says: "--engine connect is the default"},
	{what: "nmap -sV", args: "-sV TARGET", code: 2, says: "--probe full is the default: greeting, EHLO, STARTTLS, certificate"},
	{what: "nmap -sSV", args: "-sSV TARGET", code: 2, says: "-sSV is another tool's flag"},
	{what: "nmap -sn", args: "-sn TARGET", code: 2, says: "there is no ping scan"},
	{what: "nmap -A", args: "-A TARGET", code: 2, says: "--probe full is the default"},
	{what: "nmap -T4", args: "-T4 TARGET", code: 2, says: "the pace is --rate N (probes per second); there is no template T4"},
	{what: "nmap -T aggressive", args: "-T aggressive TARGET", code: 2, says: "-T is another tool's flag"},
	{what: "nmap -Taggressive", args: "-Taggressive TARGET", code: 2, says: "there is no template Taggressive"},
	{what: "nmap -PS25", args: "-PS25 TARGET", code: 2, says: "no host discovery is made"},
	{what: "nmap -iR", args: "-iR 100", code: 2, says: "targets are named, never taken at random"},
	{what: "nmap -iLFILE", args: "-iLlist TARGET", code: 2, says: "-i list reads targets from a file"},
	{what: "nmap -p-", args: "-p- TARGET", code: 2, says: "-p takes the ports to probe, 25,465,587 by default"},
	{what: "nmap --min-rate", args: "--min-rate 100 TARGET", code: 2, says: "--rate N is the pace, and its limit"},
	{what: "nmap --script", args: "--script=banner TARGET", code: 2, says: "--script is another tool's flag"},
	{what: "nmap before the command", args: "smtpsweep -oX out.xml scan TARGET", code: 2, says: "-oX is another tool's flag"},
	{what: "nmap -iL without a value", args: "-iL", code: 2, says: "-iL needs a value"},
	{what: "nmap -iL of nothing", args: "-iL nosuch", code: 2, says: "-i nosuch: no such file or directory"},
	{what: "after --, a word is a target", args: "--dry-run -- -oX", lists: "-oX is not contacted: bad-name"},
	{what: "read: -iL --excludefile", args: "-iL list --excludefile never -p 25 --dry-run", files: "list=10.0.0.0/31\n", lists: "10.0.0.1:25"},
	{what: "read: --max-rate --max-retries", args: "10.0.0.1 --max-rate 100 --max-retries 1 -p 25 --dry-run", lists: "10.0.0.1:25"},
	{what: "read: --max-rate=0 is --rate 0", args: "8.8.8.8 --max-rate=0", code: 6, says: "more than 10,000 probes per second"},
	{what: "read: -Pn -n --open", args: "-Pn -n --open 10.0.0.1 -p 25 --dry-run", lists: "10.0.0.1:25"},
	{what: "read: -S", args: "127.0.0.2 -S 127.0.0.1 -p 25 --dry-run", says: "from 127.0.0.1", lists: "127.0.0.2:25"},
	{what: "nmap -S and -e", args: "TARGET -S 127.0.0.1 -e lo", code: 2, says: "-S and -e both say where from\nsmtpsweep: hint: --source takes one of them, an address or an interface"},
	{what: "read: -e", args: "TARGET -e nosuch0", code: 2, says: "--source nosuch0: neither an address nor an interface"},
	{what: "read: --ehlo", args: "10.0.0.1 --ehlo mon.example.org -p 25 --dry-run", says: "as mon.example.org", lists: "10.0.0.1:25"},
	{what: "read: ports by name", args: "10.0.0.1 -p smtp,smtps,submission --dry-run", lists: "10.0.0.1:25 10.0.0.1:465 10.0.0.1:587"},
	{what: "read: a bare number is seconds", args: "10.0.0.1 -p 25 --timeout 7 --patience 7 --dry-run", says: "; 8 s, slow ones +23 s.", lists: "10.0.0.1:25"},
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	return b.String()
}

func TestBadInputGetsOneSentenceAndItsCode(t *testing.T) {
	w := newWatch(t)
	for _, c := range badInputs {
		t.Run(c.what, func(t *testing.T) {
			state := t.TempDir()
			t.Setenv("XDG_STATE_HOME", state)
			t.Setenv("SMTPSWEEP_RESOLVER", w.dns.LocalAddr().String())
			t.Chdir(t.TempDir())
			badInputFiles(t, c.files)
			code, stdout, stderr := invoke(t, words(t, strings.ReplaceAll(c.args, "TARGET", w.tcp.Addr().String()))...)
			if code != c.code || !strings.Contains(stderr, c.says) {
				t.Errorf("exit %d, want %d, and on stderr %q:\n%s", code, c.code, c.says, stderr)
			}
			if code != 0 {
				checkSentence(t, stderr)
				if stdout != "" {
					t.Errorf("stdout has %.200q", stdout)
				}
			}
			if got := withoutWhy(sortedLines(stdout)); c.lists != "" && got != c.lists {
				t.Errorf("lists %s\nwant  %s", got, c.lists)
			}
			if left := filesBelow(t, state); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if strings.Contains(stdout+stderr, "hunter2") {
				t.Error("a password is repeated")
			}
			w.check(t)
		})
	}
}

// What is wrong with a list is told in one go: a sentence each, ten at most.
func TestMistakesOfAListAreToldTogether(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Chdir(t.TempDir())
	w := newWatch(t)
	badInputFiles(t, "list=10.0.0.1\n127.1\n224.0.0.1\n10.0.0.2\n127.2\n")
	mixed := `smtpsweep: list:2: bad target "127.1": "127.1" is ambiguous: it has 2 numbers, an IPv4 address four; write four decimal numbers: 192.0.2.7
smtpsweep: list:3: refused "224.0.0.1": it is special, multicast (RFC 5771), and not scanned
smtpsweep: list:5: bad target "127.2": "127.2" is ambiguous: it has 2 numbers, an IPv4 address four; write four decimal numbers: 192.0.2.7
`
	if code, stdout, stderr := invoke(t, "scan", "-i", "list", w.tcp.Addr().String()); code != exitUsage || stdout != "" || stderr != mixed {
		t.Errorf("exit %d, it says\n%swant\n%s", code, stderr, mixed)
	}
	for content, want := range map[string]int{"224.0.0.1\n255.255.255.255\n": exitRefused, strings.Repeat("127.1\n", 13): exitUsage} {
		for _, flag := range []string{"-i", "--exclude-file"} {
			if err := os.WriteFile("list", []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			code, _, stderr := invoke(t, "scan", flag, "list", w.tcp.Addr().String(), "--dry-run")
			lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
			if flag == "--exclude-file" && want == exitRefused {
				continue // they may well be excluded
			}
			if code != want || want == exitUsage && (!strings.Contains(stderr, "\nsmtpsweep: and 3 more\n") || len(lines) < 11) {
				t.Errorf("%s: exit %d, want %d:\n%s", flag, code, want, stderr)
			}
			for i, line := range lines[:min(len(lines), 10)] {
				place := fmt.Sprintf("smtpsweep: list:%d: ", i+1)
				if flag == "--exclude-file" {
					place = fmt.Sprintf("smtpsweep: --exclude-file list:%d: ", i+1)
				}
				if !strings.HasPrefix(line, place) {
					t.Errorf("%s: got %s, want %s", flag, line, place)
				}
			}
		}
	}
	w.check(t)
}

func TestBadInputsAreAllThere(t *testing.T) {
	for n := 1; n <= 30; n++ {
		number := fmt.Sprintf("B%d", n)
		here := slices.ContainsFunc(badInputs, func(c badInput) bool { return strings.HasPrefix(c.what, number+" ") })
		if here == (elsewhere[number] != "") {
			t.Errorf("%s of reliability.md must be either in the table or elsewhere", number)
		}
	}
}

// A watch notices whatever is sent to its listener or its resolver.
type watch struct {
	tcp   net.Listener
	dns   net.PacketConn
	conns atomic.Int64
}

func newWatch(t *testing.T) *watch {
	t.Helper()
	w := &watch{}
	var err error
	if w.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err == nil {
		w.dns, err = net.ListenPacket("udp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends when the listener is closed
		defer close(done)
		for {
			conn, err := w.tcp.Accept()
			if err != nil {
				return
			}
			w.conns.Add(1)
			conn.Close()
		}
	}()
	t.Cleanup(func() { w.tcp.Close(); w.dns.Close(); <-done })
	return w
}

// check fails the test if anybody came, or asked. It makes one connection of
// its own: whoever came before it has then been counted.
func (w *watch) check(t *testing.T) {
	t.Helper()
	before := w.conns.Load()
	conn, err := net.Dial("tcp", w.tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Fatal("the listener does not talk")
	}
	if n := w.conns.Swap(0); n != 1 || before != 0 {
		t.Errorf("%d connections came to the target", n-1)
	}
	w.dns.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, from, err := w.dns.ReadFrom(make([]byte, 512)); err == nil {
		t.Errorf("%v asked the DNS something, %d bytes", from, n)
	} else if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

// badInputFiles makes the files that a case and the table as a whole need.
func badInputFiles(t *testing.T, spec string) {
	t.Helper()
	name, content, ok := strings.Cut(spec, "=")
	if ok {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	errs := []error{
		os.Mkdir("dir.csv", 0o700),
		os.Symlink("/nonexistent/elsewhere", "link.csv"),
		os.Symlink("/nonexistent/elsewhere", "link.jsonl"),
	}
	if name != "never" {
		errs = append(errs, os.WriteFile("never", []byte("10.0.0.0\n10.0.0.2\n"), 0o600))
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// words splits as a shell would, by spaces and double quotes, and puts "scan"
// first unless the command is named.
func words(t *testing.T, line string) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile(`(?s)"([^"]*)"|([^ ]+)`).FindAllStringSubmatch(line, -1) {
		out = append(out, m[1]+m[2])
	}
	if len(out) > 0 && out[0] == "smtpsweep" {
		return out[1:]
	}
	return append([]string{"scan"}, out...)
}

// checkSentence checks the form of an error: one line, perhaps a hint, nothing
// that is not for people.
func checkSentence(t *testing.T, stderr string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	if len(lines) > 2 || !strings.HasPrefix(lines[0], "smtpsweep: ") || strings.HasPrefix(lines[0], "smtpsweep: hint: ") {
		t.Errorf("not one sentence:\n%s", stderr)
	}
	if len(lines) == 2 && !strings.HasPrefix(lines[1], "smtpsweep: hint: ") {
		t.Errorf("the second line is no hint:\n%s", stderr)
	}
	for _, line := range lines {
		if report.Clean(line) != line || len(line) > 500 {
			t.Errorf("not fit for a terminal: %.600q", line)
		}
		for _, machine := range []string{"goroutine", "panic", "strconv.", "0x", "%!", "<nil>", "invalid argument"} {
			if strings.Contains(line, machine) && !strings.Contains(line, "0x7f") {
				t.Errorf("not for people (%s): %s", machine, line)
			}
		}
	}
}

func sortedLines(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestStdoutThatIsClosedEndsAListing(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	var errs bytes.Buffer
	u := newUI(strings.NewReader(""), nil, &errs)
	u.out = writerFunc(func([]byte) (int, error) { return 0, syscall.EPIPE })
	if code := run([]string{"scan", "0.0.0.0/0", "--yes", "--dry-run"}, u); code != exitPipe {
		t.Errorf("exit %d, want %d:\n%s", code, exitPipe, &errs)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBadNamesAreRowsAndTheRunGoesOn(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	closed := nobodyListens(t)
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("a..b\n"+strings.Repeat("a", 64)+".example\n"+closed+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := invoke(t, "scan", "-i", list, "-p", "25", "-f", "csv", "--resolver", "127.0.0.1:9")
	if code != 0 {
		t.Errorf("exit %d, want 0:\n%s", code, stderr)
	}
	rows := csvRows(t, stdout)
	if len(rows) != 3 {
		t.Fatalf("%d rows, want 3:\n%s", len(rows), stdout)
	}
	var got []string
	for _, r := range rows {
		got = append(got, r["state"]+" "+r["reason"]+" "+r["error"])
	}
	slices.Sort(got)
	want := []string{
		"closed conn-refused ",
		"unknown bad-name a part of the name between two dots is empty",
		"unknown bad-name a part of the name has more than 63 characters (RFC 1035, 2.3.4)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// nobodyListens returns a loopback endpoint where nobody listens.
func nobodyListens(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTwoRunsOnOneJournal(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	path := filepath.Join(t.TempDir(), "run.jsonl")
	endpoint := nobodyListens(t)
	if code, _, stderr := invoke(t, "scan", endpoint, "-o", path); code != 0 {
		t.Fatalf("exit %d:\n%s", code, stderr)
	}
	w, _, err := journal.Resume(path, targets.Config{}) // the first of the two runs
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--resume", path}, exitJournal, "is in use by another process"},
		{[]string{endpoint, "-o", path}, exitUsage, "smtpsweep scan --resume " + path + " goes on with it"},
		{[]string{"127.0.0.99", "--resume", path}, exitJournal, "is of other targets than those typed now"},
		{[]string{"--resume", path, "-p", "26"}, exitJournal, "was made with --ports 25,465,587, not 26"},
		{[]string{"--resume", path, "--shard", "1/2"}, exitJournal, "was made with"},
		{[]string{"--resume", path, "--seed", "77"}, exitJournal, "was made with --seed"},
	} {
		code, stdout, stderr := invoke(t, append([]string{"scan"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.says) || stdout != "" {
			t.Errorf("%v: exit %d, want %d and %q:\n%s", c.args, code, c.code, c.says, stderr)
		}
		checkSentence(t, stderr)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the journal of the first run was changed (%v)", err)
	}
}

func TestListThatChangedIsNotResumed(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir := t.TempDir()
	list, path := filepath.Join(dir, "list"), filepath.Join(dir, "run.jsonl")
	endpoint := nobodyListens(t)
	for _, content := range []string{endpoint + "\n", endpoint + "\n127.0.0.99\n"} {
		if err := os.WriteFile(list, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"scan", "-i", list, "-o", path}
		if content != endpoint+"\n" {
			args = []string{"scan", "--resume", path}
		}
		code, _, stderr := invoke(t, args...)
		if want := map[bool]int{true: exitDone, false: exitJournal}[content == endpoint+"\n"]; code != want {
			t.Errorf("%v: exit %d, want %d:\n%s", args, code, want, stderr)
		} else if code != 0 && !strings.Contains(stderr, "has changed since the journal was begun") {
			t.Errorf("says %s", stderr)
		}
	}
}

func TestTimesAreUTC(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	local := time.Local
	time.Local = time.FixedZone("odd", -(11*3600 + 47*60))
	defer func() { time.Local = local }()
	before := time.Now().Add(-time.Second).UTC()
	code, stdout, stderr := invoke(t, "scan", nobodyListens(t), "-f", "csv")
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, stderr)
	}
	for _, r := range csvRows(t, stdout) {
		at, err := time.Parse(time.RFC3339Nano, r["time"])
		if err != nil || !strings.HasSuffix(r["time"], "Z") || at.Before(before) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("time %q (%v), run began %s", r["time"], err, before)
		}
	}
}

// withoutWhy leaves out the explanation in parentheses of names that are not
// contacted: report's rows are compared word by word elsewhere.
func withoutWhy(lines string) string {
	return regexp.MustCompile(`(is not contacted: [a-z-]+) \([^;\n]*\)`).ReplaceAllString(lines, "$1")
}
