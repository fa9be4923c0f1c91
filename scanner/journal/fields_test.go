package journal

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func TestParseRowFindsTheIdentityAnywhereInTheRecord(t *testing.T) {
	for _, test := range []struct{ line, target, host, address, state, reason string }{
		{string(result(7)), "192.0.2.0/24", "", "192.0.2.7", "closed", "conn-refused"},
		{`{"type":"result","detail":{"host":"no","a":["]}\\\"",{"state":"no"}]},"host":"mx1.example.org","reason":"syn-ack","state":"open","port":25,"address":"2001:db8::1","target":"mx:example.org"}`,
			"mx:example.org", "mx1.example.org", "2001:db8::1", "open", "syn-ack"},
		{`{ "type" : "result", "address" : "fe80::1%eth0", "port" : 25 }`, "", "", "fe80::1%eth0", "", ""},
		{`{"type":"result","target":"a\"b\u00e9","banner":"\\","port":25}`, "a\"bé", "", "", "", ""},
		{`{"typ\u0065":"result","\u0073tate":"open","port":25}`, "", "", "", "open", ""},
		{`{"a":-1.5e3,"b":null,"c":true,"port":25,"state":"open"}`, "", "", "", "open", ""},
	} {
		r, err := parseRow([]byte(test.line))
		if err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		got := [5]string{string(r.target), string(r.host), string(r.address), string(r.state), string(r.reason)}
		if want := [5]string{test.target, test.host, test.address, test.state, test.reason}; got != want || r.port != 25 {
			t.Errorf("%s: got %q, port %d; want %q", test.line, got, r.port, want)
		}
	}
	for _, bad := range []string{"", "{", `{"port":70000}`, `{"port":"25"}`, `{"state":7}`, `{"a"`, `{"a":}`, `[]`, `{"a":1}x`} {
		if _, err := parseRow([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestAPlainRecordIsReadFast(t *testing.T) {
	c := cursor{b: result(1)}
	for n := 0; ; n++ {
		key, _, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if key == nil {
			if n != 11 {
				t.Errorf("%d keys", n)
			}
			return
		}
	}
}

func TestRecordType(t *testing.T) {
	for line, want := range map[string]string{
		`{"type":"result","a":1}`: "result", `{"type":"hop"}`: "hop", `{"a":1,"type":"x"}`: "x",
		`{"type":"\u0061"}`: "a", `{"type":7}`: "", `{"type":"x`: "", ``: "", `{}`: "",
	} {
		if got := recordType([]byte(line)); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

// What the fast way takes must be what encoding/json says.
func FuzzCursor(f *testing.F) {
	f.Add(result(3))
	f.Add([]byte(`{"a":{"b":[1,"}"]},"c":"\\\"","d":null}`))
	f.Add([]byte(`{"a":"b","a":"c"}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"":"\\"}`))
	f.Add([]byte("{\"\x97\":{},\"\xe1\":null}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var want map[string]json.RawMessage
		// encoding/json makes one key of two that are not UTF-8.
		sound := utf8.Valid(line) && json.Unmarshal(line, &want) == nil && want != nil
		got := map[string]string{}
		c := cursor{b: line}
		for {
			key, value, err := c.next()
			if err != nil {
				return // odd: encoding/json reads it
			}
			if key == nil {
				break
			}
			got[string(key)] = string(value)
		}
		parseRow(line)
		recordType(line)
		if !sound {
			return // it had a checksum when we wrote it: not judged here
		}
		if len(got) > len(want) {
			t.Fatalf("got %d keys, want %d", len(got), len(want))
		}
		for key, value := range want {
			if g, ok := got[key]; ok && g != string(value) {
				t.Errorf("%q: got %s, want %s", key, g, value)
			}
		}
	})
}

func BenchmarkParseRow(b *testing.B) {
	line := result(1)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseRow(line); err != nil {
			b.Fatal(err)
		}
	}
}
