package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

func TestRowsComeBackFromJSON(t *testing.T) {
	rows, _ := fixtureRows()
	for _, want := range rows {
		line := want.AppendJSON(nil)
		if !json.Valid(line) || bytes.ContainsAny(line, "\n\r") {
			t.Fatalf("not one line of JSON: %s", line)
		}
		if diff := cmp.Diff(want, parse(t, line)); diff != "" {
			t.Errorf("came back changed: %s", diff)
		}
	}
}

func TestRowsHaveTheColumnsOfTheContract(t *testing.T) {
	const want = "time vantage source target host address port state reason icmp_from icmp rtt_ms attempts service banner code greeting_ms " +
		"software starttls tls_version tls_cipher cert_subject cert_names cert_issuer cert_not_after cert_sha256 cert_trust cert_name_ok " +
		"auth auth_tls size ehlo finding error"
	var names []string
	for _, f := range Scan.Fields {
		names = append(names, f.Name)
		if f.Help == "" {
			t.Errorf("column %s has no help", f.Name)
		}
	}
	if got := strings.Join(names, " "); got != want || len(names) != int(NumColumns) {
		t.Errorf("columns are %s", got)
	}
}

func TestAppendResultEqualsTheRow(t *testing.T) {
	results := fixture()
	zone := results[0]
	zone.Target.From, zone.Target.Addr = nil, netip.MustParseAddr("fe80::1%eth0")
	odd := results[0]
	odd.Target.From = &targets.Origin{Spec: "a\x1bb\"", Host: "h"}
	results = append(results, zone, odd, scanner.Result{})
	for _, r := range results {
		for _, vantage := range []string{"lab", "", "la\x1bb", `"`} {
			row := RowOf(&r, vantage)
			if got, want := string(AppendResult(nil, &r, vantage)), string(row.AppendJSON(nil)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
	}
}

func TestParseRowReadsForeignJSON(t *testing.T) {
	line := "\t{ \"x\" : { \"a\" : [ 1 , -2.5e3, null, true, false, \"\x7f\u009b\u202eé\\u001b\" ] } ,\r\n\"port\":25 , \"type\":\"result\"," +
		`"banner":"\u001b[31m \ud83d\ude00 \ud800 \/\b\"","ehlo":["a;b","",null],"cert_name_ok":null,"ehlo":["a;b","\u001b"],"address":"::1","crc":"00000000"} `
	_, err := ParseRow([]byte(line))
	if err == nil {
		t.Error("a list with null in it is not a list of strings")
	}
	row := parse(t, []byte(strings.Replace(line, `,null],"cert`, `],"cert`, 1)))
	if got, want := string(row.Detail), `"x":{"a":[1,-2.5e3,null,true,false,"\u007f\u009b\u202eé\u001b"]}`; got != want {
		t.Errorf("Detail is %s, want %s", got, want)
	}
	if got, want := row.Cells[ColBanner], "\\x1b[31m 😀 \ufffd /\\x08\""; got != want {
		t.Errorf("banner is %q, want %q", got, want)
	}
	if got, want := row.Cells[ColEHLO], `a\x3bb;\x1b`; got != want {
		t.Errorf("ehlo is %q, want %q", got, want)
	}
	if row.Cells[ColPort] != "25" || row.Cells[ColCertNameOK] != "" || row.Cells[ColAddress] != "::1" {
		t.Errorf("cells are %q", row.Cells)
	}
}

func TestParseRowRefuses(t *testing.T) {
	for _, line := range []string{
		"", "{", "{}", "[]", "null", `{"type":"run"}`, `{"type":1}`, `{"type":"result"`, `{"type":"result",}`, `{"type":"result"}x`,
		`{"type":"result" "port":1}`, `{"type":"result","port":"25"}`, `{"type":"result","port":025}`, `{"type":"result","port":1.}`, `{"type":"result","port":1e}`,
		`{"type":"result","port":-}`, `{"type":"result","banner":5}`, `{"type":"result","banner":"\x"}`, `{"type":"result","banner":"\u12"}`,
		`{"type":"result","banner":"` + "\n" + `"}`, `{"type":"result","ehlo":"x"}`, `{"type":"result","ehlo":["x"}`, `{"type":"result","ehlo":[1]}`,
		`{"type":"result","cert_name_ok":"true"}`, `{"type":"result","x":tru}`, `{"type":"result","x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
		`{"type":"result","x":{1:2}}`, `{"type":"result","x":{"a"}}`, `{"type":"result","x":"\q"}`,
	} {
		if row, err := ParseRow([]byte(line)); err == nil {
			t.Errorf("ParseRow(%s) = %+v", line, row)
		} else if !strings.Contains(err.Error(), "at byte") {
			t.Errorf("ParseRow(%s): %v", line, err)
		}
	}
}

func FuzzParseRow(f *testing.F) {
	rows, _ := fixtureRows()
	for i := range rows {
		if len(rows[i].Detail) < 4000 {
			f.Add(rows[i].AppendJSON(nil))
		}
	}
	f.Add([]byte(`{"type":"result","x":[{"a\u202e":"` + "\u202e" + `"}, 1e5],"ehlo":["a;b","\\x3b"],"banner":"\ud83d\ude00"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		row, err := ParseRow(line)
		if err != nil {
			return
		}
		if !json.Valid(line) {
			t.Errorf("accepted what is not JSON: %q", line)
		}
		out := row.AppendJSON(nil)
		if !json.Valid(out) || bytes.ContainsAny(out, "\n\r") {
			t.Fatalf("not one line of JSON: %q from %q", out, line)
		}
		checkPrintable(t, string(out))
		if diff := cmp.Diff(row, parse(t, out)); diff != "" {
			t.Errorf("came back changed: %s", diff)
		}
	})
}

func TestMillisecondsHaveAtMostThreeDecimals(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1: "0.001", 213 * time.Microsecond: "0.213", 12500 * time.Microsecond: "12.5", 65 * time.Second: "65000", 1050 * time.Microsecond: "1.05", -1: "0", 1<<63 - 1: "9223372036854",
	} {
		if got := string(appendMillis(nil, d)); got != want && !strings.HasPrefix(got, want+".") {
			t.Errorf("%d ns is written %s, want %s", d, got, want)
		}
	}
}

func TestTimesAreRFC3339(t *testing.T) {
	for _, at := range []time.Time{began, began.Add(1234567 * time.Nanosecond), time.Date(1, 2, 3, 4, 5, 6, 999_999_999, time.FixedZone("", 5400)), time.Unix(1<<32, 0)} {
		if got, want := string(appendTime(nil, at)), at.UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Errorf("%v is written %s, want %s", at, got, want)
		}
	}
}

func TestAServerCannotMakeARowLongerThanARecord(t *testing.T) {
	r := fixture()[4]
	var long []string
	for i := range 1000 {
		long = append(long, fmt.Sprint(i)+strings.Repeat("\x1b;", 2000))
	}
	big := []byte(strings.Repeat("\\\x00", 1<<20))
	r.Service = &scanner.Service{Kind: scanner.KindSMTP, Banner: big, Software: string(big), EHLO: long, EHLOTLS: long[1:], Auth: long, AuthTLS: long, Findings: long,
		Err: string(big), TLS: &scanner.TLS{Subject: string(big), Names: long, Issuer: string(big), Err: string(big), Note: string(big), Chain: [][]byte{big[:60_000], big}},
		Transcript: []scanner.Line{{Text: big}}}
	row := RowOf(&r, "lab")
	line := row.AppendJSON(nil)
	if len(line) > 1<<20-100 {
		t.Errorf("%d bytes", len(line))
	}
	for i, cell := range row.Cells {
		if len(cell) > 32_767 {
			t.Errorf("%s has %d bytes", Scan.Fields[i].Name, len(cell))
		}
	}
	if diff := cmp.Diff(row, parse(t, line)); diff != "" {
		t.Errorf("came back changed: %s", diff)
	}
}

func TestARowSaysWhyACertificateIsBad(t *testing.T) {
	for _, tt := range []struct {
		trust           scanner.Trust
		err, note, want string
	}{
		{scanner.TrustBad, "", "its RSA key has only 512 bits", "certificate: its RSA key has only 512 bits"},
		{scanner.TrustBad, "the certificate cannot be parsed: x", "the certificate cannot be parsed: x", "the certificate cannot be parsed: x"},
		{scanner.TrustBad, "", "", ""},
		{scanner.TrustSelfSigned, "", "it is self-signed", ""},
	} {
		r := fixture()[4]
		r.Service.TLS.Trust, r.Service.TLS.Err, r.Service.TLS.Note = tt.trust, tt.err, tt.note
		row := RowOf(&r, "lab")
		if got := row.Cells[ColError]; got != tt.want {
			t.Errorf("%s, %q, %q: error %q, want %q", tt.trust, tt.err, tt.note, got, tt.want)
		}
		if got := note(&row); !strings.Contains(got, tt.want) {
			t.Errorf("%q: note %q", tt.note, got)
		}
	}
}

func TestSilentRowIsTheRowOfSilence(t *testing.T) {
	r := fixture()[0]
	row := SilentRow(r.Target, "lab", "192.0.2.1", 3, r.At)
	if diff := cmp.Diff(RowOf(&r, "lab"), row); diff != "" {
		t.Error(diff)
	}
}

// closedPort is the most frequent result of a sweep.
func closedPort() scanner.Result {
	return scanner.Result{Observation: scanner.Observation{
		Target: targets.Target{Addr: netip.MustParseAddr("10.64.12.200"), Port: 587, From: &targets.Origin{Spec: "10.64.0.0/16"}},
		State:  scanner.Closed, Reason: scanner.ConnRefused, Source: netip.MustParseAddr("10.0.0.1"), RTT: 213 * time.Microsecond, Attempts: 1, At: began,
	}}
}

func BenchmarkAppendResultClosed(b *testing.B) {
	r, buf := closedPort(), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendResult(buf[:0], &r, "lab")
	}
}

func BenchmarkRowOfClosed(b *testing.B) {
	r, buf := closedPort(), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		row := RowOf(&r, "lab")
		buf = row.AppendJSON(buf[:0])
	}
}

func BenchmarkParseRowClosed(b *testing.B) {
	r := closedPort()
	line := AppendResult(nil, &r, "lab")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRow(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRowOfConversation(b *testing.B) {
	r, buf := fixture()[4], make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendResult(buf[:0], &r, "lab")
	}
}

func BenchmarkFormats(b *testing.B) {
	r := closedPort()
	row := RowOf(&r, "lab")
	for _, f := range Formats() {
		b.Run(f.Name, func(b *testing.B) {
			e, err := f.New(discard{}, Header{}, Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := e.Row(&row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// discard is io.Discard that does not know WriteString.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
