package path

import (
	"net/netip"
	"strings"
	"testing"
)

// figures returns figures with a control port: refusals begin at TTL b, the control port accepts from d on,
// and their answers come with these TTLs; 0 is not known. Our own firewall is not to blame.
func figures(b, d, reset, ack int) Figures {
	exact := func(n int) Span { return Span{n, n} }
	return Figures{Control: 587, Refused: true, Own: No, Begin: exact(b), Distance: exact(d), Reset: exact(reset), SYNACK: exact(ack)}
}

// with returns figures that are changed a little.
func with(f Figures, change func(*Figures)) Figures {
	change(&f)
	return f
}

func TestJudge(t *testing.T) {
	type want struct {
		by            Party
		from, to, hop int
		lean          Party
		why           string // a part of it
	}
	unseen := func(f *Figures) { f.Own = Unseen }
	noControl := func(f *Figures) { f.Control, f.Distance, f.SYNACK = 0, Span{}, Span{} }
	marks := func(port, host Fact) func(*Figures) {
		return func(f *Figures) { f.Marked, f.HostMarked = port, host }
	}
	for _, c := range []struct {
		name string
		f    Figures
		want want
	}{
		// The path of the lab: three routers, the host is hop 4, everybody begins with 64.
		{"router 1 forwards", figures(2, 4, 64, 61), want{by: Hop, from: 1, to: 2, hop: 1}},
		{"router 1 in prerouting", figures(1, 4, 64, 61), want{by: Hop, from: 1, to: 1, hop: 1}},
		{"router 2 forwards", figures(3, 4, 63, 61), want{by: Hop, from: 2, to: 3, hop: 2}},
		{"router 2 in prerouting", figures(2, 4, 63, 61), want{by: Hop, from: 1, to: 2, hop: 2}},
		{"router 3 forwards", figures(4, 4, 62, 61), want{by: Hop, from: 3, to: 3, hop: 3}},
		{"router 3 in prerouting", figures(3, 4, 62, 61), want{by: Hop, from: 2, to: 3, hop: 3}},
		{"the host", with(figures(4, 4, 61, 61), marks(Yes, Unseen)), want{by: Host}},

		// Routers that begin with 255 or 128, or a host that does.
		{"router 1 forwards, 255", figures(2, 4, 255, 61), want{by: Hop, from: 1, to: 2, hop: 1}},
		{"router 2 in prerouting, 128", figures(2, 4, 127, 61), want{by: Hop, from: 1, to: 2, hop: 2}},
		{"router 3 forwards, 255", figures(4, 4, 253, 61), want{by: Hop, from: 3, to: 3, hop: 3}},
		{"router 3 forwards, host 128", figures(4, 4, 62, 125), want{by: Hop, from: 3, to: 3, hop: 3}},
		{"router 3 forwards, host 255", figures(4, 4, 62, 252), want{by: Hop, from: 3, to: 3, hop: 3}},
		{"router 2 forwards, an odd TTL", figures(3, 4, 200, 61), want{by: Hop, from: 2, to: 3}},

		// The way back is two hops longer for all, so that the TTL tells a hop that is not there.
		{"way back longer, router 2 forwards", figures(3, 4, 61, 59), want{by: Hop, from: 2, to: 3, hop: 2}},
		{"way back longer, router 3 forwards", figures(4, 4, 60, 59), want{by: Hop, from: 3, to: 3, hop: 3}},
		{"way back longer, router 3 forwards, 255", figures(4, 4, 251, 59), want{by: Hop, from: 3, to: 3, hop: 3}},
		{"way back longer, it speaks for both hops", figures(3, 4, 62, 60), want{by: Hop, from: 2, to: 3}},

		// Somebody who lets the SYN pass and refuses when the host answers.
		{"router 1 when the host answers", figures(4, 4, 64, 61), want{by: Hop, from: 1, to: 3}},
		{"router 1 when the host answers, way back longer", figures(4, 4, 64, 59), want{by: Hop, from: 1, to: 3}},
		{"the server's program chose an odd TTL", figures(4, 4, 61, 56), want{from: 3, to: 4, why: "another initial TTL"}},

		// Equal TTLs.
		{"nobody looked how the reset is made", figures(4, 4, 61, 61), want{lean: Host, from: 3, to: 4}},
		{"it is not made as a host makes it, nor does this host", with(figures(4, 4, 61, 61), marks(No, No)), want{lean: Host, from: 3, to: 4}},
		{"it is not made so, this host is silent", with(figures(4, 4, 61, 61), marks(No, Unseen)), want{lean: Host, from: 3, to: 4}},
		{"it is not made as this host makes it", with(figures(4, 4, 61, 61), marks(No, Yes)), want{from: 3, to: 4, why: "filter of the host itself or right in front of it"}},
		{"before the host, and its TTL", figures(2, 4, 61, 61), want{from: 1, to: 2, why: "imitates"}},
		{"before the host, from behind it", figures(2, 4, 60, 61), want{from: 1, to: 2, why: "imitates"}},

		// Contradictions.
		{"behind the control port", figures(5, 4, 61, 62), want{why: "another machine than the host"}},
		{"at the host, from behind it", figures(4, 4, 60, 61), want{from: 3, to: 4, why: "farther"}},
		{"at the host, another initial TTL", figures(4, 4, 252, 61), want{from: 3, to: 4, why: "another initial TTL"}},

		// TTLs that are not known, or not exactly.
		{"only TTLs of SYNs", figures(2, 4, 0, 0), want{by: Hop, from: 1, to: 2}},
		{"only TTLs of SYNs, next to the host", figures(4, 4, 0, 61), want{from: 3, to: 4, why: "last hop, which forwards"}},
		{"TTLs that may be equal", with(figures(4, 4, 0, 61), func(f *Figures) { f.Reset = Span{60, 64} }), want{from: 3, to: 4, why: "last hop, which forwards"}},
		{"TTLs that differ for sure", with(figures(4, 4, 0, 61), func(f *Figures) { f.Reset = Span{62, 64} }), want{by: Hop, from: 3, to: 3, hop: 3}},
		{"the beginning inexact, before the host", with(figures(0, 6, 63, 59), func(f *Figures) { f.Begin = Span{2, 4} }), want{by: Hop, from: 1, to: 4, hop: 2}},
		{"the beginning inexact", with(figures(0, 4, 63, 61), func(f *Figures) { f.Begin = Span{3, 4} }), want{why: "not found exactly"}},
		{"no beginning", figures(0, 4, 63, 61), want{why: "not known at which TTL"}},

		// Without a control port.
		{"no control port", with(figures(2, 0, 64, 0), noControl), want{from: 1, to: 2, why: "no other port"}},
		{"a silent control port", figures(2, 0, 64, 0), want{from: 1, to: 2, why: "does not accept"}},
		{"a silent control port behind a router", with(figures(2, 0, 64, 0), func(f *Figures) { f.Beyond = 2 }), want{by: Hop, from: 1, to: 2, hop: 1}},
		{"a silent control port, a router before", with(figures(3, 0, 64, 0), func(f *Figures) { f.Beyond = 2 }), want{from: 2, to: 3, why: "does not accept"}},

		// This machine.
		{"own firewall", with(figures(0, 0, 0, 0), func(f *Figures) { f.Own = Yes }), want{by: Self, why: "own firewall"}},
		{"perhaps own firewall", with(figures(1, 4, 64, 61), unseen), want{why: "could not be looked at"}},
		{"perhaps own firewall, no control port", with(with(figures(1, 0, 64, 0), unseen), func(f *Figures) { f.Beyond = 1 }), want{why: "could not be looked at"}},
		{"perhaps own firewall, the neighbour", with(figures(1, 1, 64, 64), unseen), want{why: "could not be looked at"}},
		{"not at once, so it is not our own", with(figures(2, 4, 64, 61), unseen), want{by: Hop, from: 1, to: 2, hop: 1}},
		{"own address", with(figures(0, 0, 0, 0), func(f *Figures) { f.IsHere = true }), want{by: Host}},

		// The neighbour.
		{"the neighbour", figures(1, 1, 64, 64), want{by: Host}},
		{"the neighbour, TTLs unknown", figures(1, 1, 0, 0), want{by: Host}},
		{"a bridge before the neighbour", figures(1, 1, 255, 64), want{from: 1, to: 1, why: "another initial TTL"}},
		{"the neighbour, from nearer than can be", figures(1, 1, 64, 63), want{from: 1, to: 1}},

		{"interrupted", with(figures(2, 0, 64, 0), func(f *Figures) { f.Interrupted = true }), want{why: "interrupted"}},
		{"interrupted when it was clear", with(figures(2, 4, 64, 0), func(f *Figures) { f.Interrupted = true }), want{by: Hop, from: 1, to: 2, hop: 1}},
		{"not a refusal", Figures{Instead: "nothing answers"}, want{why: "nothing answers"}},
		{"nothing", Figures{}, want{}},
	} {
		got := Judge(c.f)
		if (want{got.By, got.From, got.To, got.Hop, got.Lean, c.want.why}) != c.want || !strings.Contains(got.Why, c.want.why) {
			t.Errorf("%s: got %s (lean %s), hops %d to %d, hop %d: %s", c.name, got.By, got.Lean, got.From, got.To, got.Hop, got.Why)
		}
		if got.Why == "" || got.Figures.Refused != c.f.Refused {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// TestJudgeNamesRouters: the addresses are of the hops of the interval, as far as they are known.
func TestJudgeNamesRouters(t *testing.T) {
	f := figures(3, 5, 63, 60)
	for hop := 1; hop <= 4; hop++ {
		f.routerAt(hop, netip.AddrFrom4([4]byte{10, 0, 0, byte(hop)}))
	}
	a := Judge(f)
	if len(a.Addresses) != 2 || a.Addresses[0].String() != "10.0.0.2" || a.Addresses[1].String() != "10.0.0.3" {
		t.Errorf("got %v, want those of hops 2 and 3", a.Addresses)
	}
	const want = "likely hop 2 (of 2 to 3): it refuses before the host is reached (refuses from TTL 3 on, port 587 accepts from TTL 5 on, TTL of the reset 63, of the SYN-ACK 60)"
	if a.Why != want {
		t.Errorf("got  %s\nwant %s", a.Why, want)
	}
}

func TestPartiesHaveWords(t *testing.T) {
	for p := Undecidable; p <= Host; p++ {
		text, _ := p.MarshalText()
		var q Party
		if err := q.UnmarshalText(text); err != nil || q != p {
			t.Errorf("%s: got %v, %v", text, q, err)
		}
	}
	var p Party
	if p.UnmarshalText([]byte("nobody")) == nil {
		t.Error("nobody is a party")
	}
}
