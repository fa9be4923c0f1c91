package reflect

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// whole is the report of a session that was whole, over a path of ten hops
// without anything on it. Tests change it, and conclude.
func whole() *Report {
	talk := []Exchange{
		{Reply: []byte("220 far.example.org ESMTP " + protocol + " id nonce")},
		{Command: []byte("EHLO x"), Length: 8, Reply: []byte("250-far.example.org\n250-STARTTLS\n250 " + protocol)},
		{Command: []byte("NOOP XREFLECT n 1"), Length: 19, Summary: true},
		{Command: []byte("STARTTLS"), Length: 10, Reply: []byte("220 go")},
		{Command: []byte("NOOP XREFLECT n 2"), Length: 19, Summary: true, TLS: true},
	}
	r := &Report{
		Addr: netip.MustParseAddrPort("192.0.2.1:25"), Local: netip.MustParseAddrPort("198.51.100.7:50000"), Step: StepDone, Proven: true,
		TTL: 200, Scale: 3, Known: len(talk), Asked: 2, Talk: slices.Clone(talk),
		TLS: TLSHere{Listed: true, Asked: true, Code: 220, Hello: "h", Done: true, Version: 0x304, Cert: "c"},
	}
	r.Summary = &Summary{Seq: 2, Source: r.Local, Local: r.Addr, SYN: &SYN{TTL: 190, Scale: 3, MSS: 1460}, Talk: talk,
		TLS: TLSSeen{Asked: true, Hello: "h", Done: true, Version: 0x304, Cert: "c"}}
	return r
}

// broken makes it one of a session that broke off in a step, of which the far end
// knows what became.
func broken(r *Report, step, end string, known int, e *Earlier) *Report {
	r.Step, r.End, r.Error = step, end, "the words for it"
	if known == 0 {
		r.Summary = nil
	} else {
		r.Summary.Seq, r.Known, r.Summary.Talk, r.Summary.TLS = 1, known, r.Summary.Talk[:known], TLSSeen{}
	}
	r.TLS = TLSHere{Listed: true, Asked: true, Code: 220, Hello: "h"}
	if e != nil {
		r.After = &Summary{Seq: 1, Source: r.Local, Local: r.Addr, Earlier: e}
	}
	return r
}

func TestWhatIsConcluded(t *testing.T) {
	t.Parallel()
	nat := netip.MustParseAddrPort("203.0.113.9:50000")
	for _, c := range []struct {
		name   string
		report func(*Report)
		want   []string
		proven bool   // all of them
		words  string // in the texts, the evidence or the notes
	}{
		{"nothing on the way", func(r *Report) {}, []string{Intact}, true, "agree"},
		{"NAT", func(r *Report) { r.Summary.Source = nat }, []string{NAT, Intact}, true, "the world sees 203.0.113.9"},
		{"NAT of the port alone", func(r *Report) { r.Summary.Source = netip.MustParseAddrPort("198.51.100.7:1024") }, []string{NAT, Intact}, true, "50000 to 1024"},
		{"another address, and the SYN was not kept", func(r *Report) { r.Summary.Source, r.Summary.SYN = nat, nil }, []string{NAT, Intact}, false, "NAT or a proxy"},
		{"another address, and the SYN was not marked", func(r *Report) { r.Summary.Source, r.TTL, r.Scale = nat, 0, 0 }, []string{NAT, Intact}, false, "NAT or a proxy"},
		{"the SYN was not kept", func(r *Report) { r.Summary.SYN = nil }, []string{Intact}, true, ""},
		{"a proxy", func(r *Report) { r.Summary.Source, r.Summary.SYN = nat, &SYN{TTL: 60, Scale: 7} }, []string{Proxied, Intact}, true, "from 203.0.113.9:50000, is not ours"},
		{"a proxy with our address", func(r *Report) { r.Summary.SYN = &SYN{TTL: 120, Scale: 8} }, []string{Proxied, Intact}, true, ""},
		{"a proxy of an old system", func(r *Report) { r.Summary.SYN = &SYN{TTL: 250, Scale: -1} }, []string{Proxied, Intact}, false, "window scale -1"},
		{"a device that sets the TTL", func(r *Report) { r.Summary.SYN.TTL = 60 }, []string{Intact}, true, "changes the TTL"},
		{"a device that changes TCP options", func(r *Report) { r.Summary.SYN.Scale = -1 }, []string{Intact}, true, "changes the TCP options"},
		{"a far end behind NAT", func(r *Report) { r.Summary.Local = netip.MustParseAddrPort("10.0.0.5:25") }, []string{Intact}, true, "arrived at 10.0.0.5:25"},
		{"an address with a zone", func(r *Report) {
			r.Local, r.Summary.Source = netip.MustParseAddrPort("[fe80::7%eth0]:50000"), netip.MustParseAddrPort("[fe80::7%eth1]:50000")
		}, []string{Intact}, true, ""},

		{"bytes differ beyond the lines", func(r *Report) { r.Bytes.UpClear = Tally{Bytes: 5, SHA256: "x"} }, []string{Rewritten}, true, "though the lines that are listed agree"},
		{"more was said than is listed", func(r *Report) { r.Summary.Talk, r.Summary.Cut = r.Summary.Talk[:3], true }, []string{Intact}, true, ""},
		{"a command that was never sent", func(r *Report) {
			r.Summary.Talk = slices.Insert(slices.Clone(r.Summary.Talk), 2, Exchange{Command: []byte("RSET"), Length: 6, Reply: []byte("250 OK")})
		}, []string{Rewritten}, true, `arrived: "RSET"`},
		{"the later word is missing", func(r *Report) { r.Asked, r.Refused = 3, "the answer is no summary" }, []string{Rewritten}, true, "request 3: the answer is no summary"},
		{"a longer line that begins the same", func(r *Report) { r.Summary.Talk[1].Length = 300 }, []string{Rewritten}, true, "8 bytes became 300"},
		{"keywords were put in another order", func(r *Report) {
			r.Talk[1].Reply = []byte("250-far.example.org\n250-STARTTLS\n250-" + protocol + "\n250 " + protocol)
		}, []string{Rewritten}, true, ""},

		{"the certificate is another", func(r *Report) { r.TLS.Cert = "d" }, []string{TLSOpened}, true, ""},
		{"the ClientHello is another", func(r *Report) { r.Summary.TLS.Hello = "i" }, []string{TLSOpened}, true, "ClientHello: h... was sent, i... arrived"},
		{"the far end has no TLS", func(r *Report) { r.Summary.TLS = TLSSeen{Asked: true, Err: "no shared cipher"} }, []string{TLSOpened}, true, "no TLS came about; it says: no shared cipher"},

		{"the handshake breaks off, and nobody could be asked", func(r *Report) {
			broken(r, StepTLS, EndReset, 3, nil).AfterError = "refused"
		}, []string{TLSCut}, false, "could not be asked: refused"},
		{"the ClientHello was lost", func(r *Report) {
			broken(r, StepTLS, EndReset, 3, &Earlier{Found: true, TLS: TLSSeen{Asked: true, Err: "reset"}})
		}, []string{TLSCut}, true, "and no ClientHello; it says: reset"},
		{"STARTTLS was answered on the way", func(r *Report) { broken(r, StepTLS, EndReset, 3, &Earlier{Found: true}) }, []string{TLSCut}, true, "never got STARTTLS"},
		{"the answer to the ClientHello was lost", func(r *Report) {
			broken(r, StepTLS, EndReset, 3, &Earlier{Found: true, TLS: TLSSeen{Asked: true, Hello: "h"}})
		}, []string{TLSCut}, true, "unaltered; its answer did not pass"},
		{"another ClientHello came, and the handshake failed", func(r *Report) {
			broken(r, StepTLS, EndReset, 3, &Earlier{Found: true, TLS: TLSSeen{Asked: true, Hello: "i"}})
		}, []string{TLSOpened}, true, ""},
		{"the handshake passes in small segments only", func(r *Report) { broken(r, StepTLS, EndSilence, 3, nil).AfterTLS = true }, []string{LargeLost}, true, "536"},

		{"the session breaks off later", func(r *Report) {
			broken(r, StepEHLO, EndReset, 3, &Earlier{Found: true, Count: 4, Command: []byte("EHLO x"), End: "the connection was reset"})
		}, []string{Blocked}, true, `got 4 commands, the last "EHLO x"; for it the session ended: the connection was reset`},
		{"the far end has forgotten", func(r *Report) { broken(r, StepReverse, EndReset, 3, &Earlier{}) }, []string{Blocked}, false, "knows nothing of the session"},
		{"the session is still open there", func(r *Report) {
			broken(r, StepSummary, EndSilence, 3, &Earlier{Found: true, Open: true})
		}, []string{Blocked}, true, "still open"},
		{"only the summary was lost", func(r *Report) {
			broken(r, StepSummary, EndSilence, 0, &Earlier{Found: true, Open: true})
		}, []string{LargeLost}, true, "its summary came only in segments of 536 bytes"},
		{"the long line was lost", func(r *Report) {
			r.Talk = append(r.Talk, Exchange{Command: []byte("NOOP XLINE xxx"), Length: 1400})
			broken(r, StepLine, EndSilence, 3, &Earlier{Found: true, Command: []byte("NOOP XREFLECT n 2")})
		}, []string{LargeLost}, true, "it never arrived"},
		{"the answer to the long line was lost", func(r *Report) {
			r.Talk = append(r.Talk, Exchange{Command: []byte("NOOP XLINE xxx"), Length: 1400})
			broken(r, StepLine, EndSilence, 3, &Earlier{Found: true, Command: []byte("NOOP XLINE xxx")})
		}, []string{LargeLost}, true, "the answer was lost"},
		{"silence was cut", func(r *Report) {
			r.Idle = []Quiet{{Asked: 60, Outlived: true}, {Asked: 300, How: "the connection was reset"}}
			broken(r, StepIdle, EndReset, 3, &Earlier{Found: true})
		}, []string{IdleCut}, true, "quiet for 300 s does not live: the connection was reset"},
	} {
		r := whole()
		c.report(r)
		r.conclude(Pin{})
		wantCodes(t, r, c.want...)
		said := strings.Join(r.Notes, "\n")
		proven := true
		for _, concluded := range r.Conclusions {
			said += "\n" + concluded.Text + "\n" + strings.Join(concluded.Evidence, "\n")
			proven = proven && concluded.Proven
		}
		if proven != c.proven || !strings.Contains(said, c.words) {
			t.Errorf("%s: proven %v, said %s\nwant %v and %q", c.name, proven, said, c.proven, c.words)
		}
		if t.Failed() {
			t.Fatal(c.name)
		}
	}
}

func TestCodesAreAllDistinct(t *testing.T) {
	t.Parallel()
	codes := Codes()
	slices.Sort(codes)
	if len(slices.Compact(codes)) != 13 {
		t.Errorf("codes %v", codes)
	}
}

func TestExchangesArePaired(t *testing.T) {
	t.Parallel()
	said := func(commands ...string) (list []Exchange) {
		for _, c := range commands {
			list = append(list, newExchange([]byte(c), len(c)+2, false))
		}
		return list
	}
	for _, c := range []struct {
		here, there []Exchange
		want        string
	}{
		{said("", "EHLO a", "QUIT"), said("", "EHLO a", "QUIT"), "= EHLO a=EHLO a QUIT=QUIT"},
		{said("", "EHLO a", "QUIT"), said("", "EHLO b", "QUIT"), "= EHLO a=EHLO b QUIT=QUIT"},
		{said("", "EHLO a", "NOOP", "QUIT"), said("", "EHLO a", "QUIT"), "= EHLO a=EHLO a NOOP=- QUIT=QUIT"},
		{said("", "EHLO a"), said("", "HELO proxy", "EHLO a"), "= -=HELO proxy EHLO a=EHLO a"},
		{said("", "STARTTLS", "QUIT"), said("", "XXXXXXXX", "QUIT"), "= STARTTLS=XXXXXXXX QUIT=QUIT"},
		{said("", "EHLO mail.example.org"), said("", "XXXX"), "= EHLO mail.example.org=XXXX"},
		{said("", "STARTTLS"), said("", "NOOP"), "= STARTTLS=- -=NOOP"},
		{nil, said(""), "-="},
		{said("", "EHLO a"), nil, "=- EHLO a=-"},
	} {
		var got []string
		for _, p := range align(c.here, c.there) {
			name := func(e *Exchange) string {
				if e == nil {
					return "-"
				}
				return string(e.Command)
			}
			got = append(got, name(p.here)+"="+name(p.there))
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%q, want %q", text, c.want)
		}
	}
}
