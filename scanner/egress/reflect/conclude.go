package reflect

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
)

// What may be concluded. Each word is explained by "smtpsweep explain".
const (
	Intact          = "reflect-intact"           // every byte arrived as it was sent, both ways
	Blocked         = "reflect-blocked"          // the session did not come about, or broke off
	NAT             = "reflect-nat"              // the far end sees another source address
	Proxied         = "reflect-proxied"          // the far end's connection is not ours
	Rewritten       = "reflect-rewritten"        // a line was changed, added or left out
	StartTLSRemoved = "reflect-starttls-removed" // the far end offers STARTTLS, and we were not told
	StartTLSMasked  = "reflect-starttls-masked"  // the same, overwritten in its place
	StartTLSRefused = "reflect-starttls-refused" // somebody else refused STARTTLS
	TLSOpened       = "reflect-tls-opened"       // TLS ends before the far end
	TLSCut          = "reflect-tls-cut"          // the handshake does not pass
	IdleCut         = "reflect-idle-cut"         // a quiet session does not live
	LargeLost       = "reflect-large-lost"       // full packets do not pass, small ones do
	Impostor        = "reflect-impostor"         // something answers, and it is not the far end
)

// Codes are all conclusions there are.
func Codes() []string {
	return []string{Intact, Blocked, NAT, Proxied, Rewritten, StartTLSRemoved, StartTLSMasked, StartTLSRefused, TLSOpened, TLSCut, IdleCut, LargeLost, Impostor}
}

// The ways that a line goes.
const (
	Up   = "up"   // to the far end
	Down = "down" // back
)

// A Conclusion is what a session shows, with what shows it.
type Conclusion struct {
	Code string `json:"code"`
	// Proven says that the far end's signed word and ours together leave no other
	// explanation.
	Proven   bool     `json:"proven"`
	Step     string   `json:"step,omitempty"` // of the session; empty if it is of all of it
	Way      string   `json:"way,omitempty"`  // Up or Down, of what was rewritten
	Text     string   `json:"text"`           // one sentence
	Evidence []string `json:"evidence,omitempty"`
}

// conclude draws the conclusions.
func (r *Report) conclude(pin Pin) {
	r.Conclusions = []Conclusion{}
	switch {
	case r.Step == StepConnect:
		r.add(Conclusion{Code: Blocked, Step: StepConnect, Text: "No connection to the far end came about: " + r.Error + ".",
			Evidence: []string{fmt.Sprintf("after %.0f ms", r.ConnectMS)}})
		return
	case !r.Proven:
		r.concludeUnproven(pin)
		return
	}
	r.concludeSource()
	altered := false
	if r.Summary != nil {
		altered = r.concludeTalk(r.Summary)
	}
	opened := r.concludeTLS()
	r.concludeEnd()
	if r.Summary != nil && r.Step == StepDone && !altered && !opened {
		r.add(Conclusion{Code: Intact, Proven: true, Text: "Every byte of the session arrived as it was sent, in both directions.",
			Evidence: []string{
				fmt.Sprintf("to the far end %d bytes in the clear and %d inside TLS, back %d and %d; the SHA-256 of both ends agree",
					r.Bytes.UpClear.Bytes, r.Bytes.UpTLS.Bytes, r.Bytes.DownClear.Bytes, r.Bytes.DownTLS.Bytes),
			}})
	}
}

func (r *Report) add(c Conclusion) { r.Conclusions = append(r.Conclusions, c) }

// concludeUnproven is about a session in which the far end did not prove itself.
func (r *Report) concludeUnproven(pin Pin) {
	greeting := ""
	if len(r.Talk) > 0 {
		greeting = string(r.Talk[0].Reply)
	}
	c := Conclusion{Step: r.Step, Evidence: []string{"greeting: " + clipped([]byte(greeting))}}
	if r.Refused != "" {
		c.Evidence = append(c.Evidence, r.Refused)
	}
	if r.Error != "" && r.Error != r.Refused {
		c.Evidence = append(c.Evidence, "step "+r.Step+": "+r.Error)
	}
	switch {
	case r.Refused != "" && strings.Contains(greeting, protocol) && !strings.Contains(greeting, pin.id()):
		c.Code, c.Text = Impostor, "A far end answers, and it is another than the one that was named: its key is not the fingerprint's."
	case r.Refused != "", greeting != "" && !strings.Contains(greeting, protocol):
		c.Code, c.Text = Impostor, "Something answers in the far end's place: it does not show the far end's key."
	default:
		c.Code, c.Text = Blocked, "The connection came about, and the session broke off at step "+r.Step+": "+r.Error+"."
		if r.Step == StepTLS {
			c.Code = TLSCut
		}
	}
	r.add(c)
}

// concludeSource compares where we connected from with what the far end saw.
func (r *Report) concludeSource() {
	s := r.Summary
	if s == nil { // the second session's is as good: its marks are not ours, its address is
		s = r.After
	}
	local := netip.AddrPortFrom(r.Local.Addr().Unmap().WithZone(""), r.Local.Port())
	source := netip.AddrPortFrom(s.Source.Addr().Unmap().WithZone(""), s.Source.Port())
	sameAddr := local.Addr() == source.Addr()
	samePort := local.Port() == source.Port()
	seen := fmt.Sprintf("connected from %s, seen as %s", local, source)
	if r.Addr.Addr().Unmap().WithZone("") != s.Local.Addr().Unmap().WithZone("") || r.Addr.Port() != s.Local.Port() {
		r.Notes = append(r.Notes, fmt.Sprintf("connected to %s, which arrived at %s: an address translation in front of the far end, or a redirection", r.Addr, s.Local))
	}
	if r.Summary == nil || s.SYN == nil || r.TTL == 0 {
		if !sameAddr {
			r.add(Conclusion{Code: NAT, Text: "The far end sees another source address: NAT or a proxy is on the way; which, is not known.",
				Evidence: []string{seen, "the first packet was not kept, or not marked (both ends need Linux)"}})
		}
		return
	}
	ttlOK, scaleOK := mark{r.TTL, r.Scale}.survived(s.SYN)
	sent := fmt.Sprintf("our SYN: TTL %d, window scale %d; the SYN that arrived: TTL %d, window scale %d, MSS %d", r.TTL, r.Scale, s.SYN.TTL, s.SYN.Scale, s.SYN.MSS)
	evidence := []string{seen, sent}
	if r.RTTus > 0 && s.RTTus > 0 {
		evidence = append(evidence, fmt.Sprintf("least round trip: %.1f ms here, %.1f ms at the far end", float64(r.RTTus)/1000, float64(s.RTTus)/1000))
	}
	switch {
	case !ttlOK && !scaleOK:
		r.add(Conclusion{Code: Proxied, Proven: s.SYN.Scale >= 0, Text: fmt.Sprintf("A proxy is on the way: the connection that reached the far end, from %s, is not ours.", source), Evidence: evidence})
		return
	case !ttlOK:
		r.Notes = append(r.Notes, "a device on the way changes the TTL: "+sent)
	case !scaleOK:
		r.Notes = append(r.Notes, "a device on the way changes the TCP options: "+sent)
	}
	switch {
	case !sameAddr:
		r.add(Conclusion{Code: NAT, Proven: true, Text: fmt.Sprintf("NAT is on the way: the world sees %s.", source.Addr()), Evidence: evidence})
	case !samePort:
		r.add(Conclusion{Code: NAT, Proven: true, Text: fmt.Sprintf("NAT is on the way: it changes the source port (%d to %d).", local.Port(), source.Port()), Evidence: evidence})
	}
}

// concludeTalk compares what was said, line by line, and reports whether
// anything was altered.
func (r *Report) concludeTalk(s *Summary) (altered bool) {
	before := len(r.Conclusions)
	here := r.Talk[:r.Known]
	if s.Cut {
		here = here[:min(len(here), len(s.Talk))]
	}
	for _, p := range align(here, s.Talk) {
		switch {
		case p.there == nil:
			r.saidAlone(p.here)
		case p.here == nil:
			r.add(Conclusion{Code: Rewritten, Proven: true, Way: Up, Text: "A command reached the far end that we never sent.",
				Evidence: []string{"arrived: " + clipped(p.there.Command), "answered: " + clipped(p.there.Reply)}})
		default:
			r.compareCommand(p)
			r.compareReply(p)
		}
	}
	if s.TLS.Injected > 0 {
		r.add(Conclusion{Code: Rewritten, Proven: true, Way: Up, Step: StepSTARTTLS, Text: "Bytes reached the far end with STARTTLS that we never sent.",
			Evidence: []string{fmt.Sprintf("%d bytes in the clear after the command", s.TLS.Injected)}})
	}
	if r.TLS.Stray > 0 {
		r.add(Conclusion{Code: Rewritten, Proven: true, Way: Down, Step: StepSTARTTLS, Text: "Bytes came with the answer to STARTTLS that the far end never sent.",
			Evidence: []string{fmt.Sprintf("%d bytes in the clear after the answer", r.TLS.Stray)}})
	}
	if r.Asked > s.Seq && r.Step == StepDone {
		r.add(Conclusion{Code: Rewritten, Proven: true, Way: Down, Text: "The far end's word did not arrive as it was signed, or not at all, though earlier it did.",
			Evidence: []string{fmt.Sprintf("request %d: %s", r.Asked, r.Refused)}})
	}
	if len(r.Conclusions) > before {
		return true
	}
	if r.Bytes != s.Bytes {
		r.add(Conclusion{Code: Rewritten, Proven: true, Text: "What arrived is not what was sent, though the lines that are listed agree.",
			Evidence: []string{
				fmt.Sprintf("to the far end: %d bytes in the clear, %d inside TLS; arrived %d and %d", r.Bytes.UpClear.Bytes, r.Bytes.UpTLS.Bytes, s.Bytes.UpClear.Bytes, s.Bytes.UpTLS.Bytes),
				fmt.Sprintf("back: sent %d and %d; arrived %d and %d", s.Bytes.DownClear.Bytes, s.Bytes.DownTLS.Bytes, r.Bytes.DownClear.Bytes, r.Bytes.DownTLS.Bytes),
			}})
		return true
	}
	return false
}

// saidAlone is about a command of ours that the far end never got, and that
// something answered.
func (r *Report) saidAlone(e *Exchange) {
	evidence := []string{"sent: " + clipped(e.Command), "answered: " + clipped(e.Reply), "the far end lists all commands that came, and this is not among them"}
	if strings.EqualFold(string(e.Command), "STARTTLS") && r.TLS.Code != 220 {
		r.add(Conclusion{Code: StartTLSRefused, Proven: true, Step: StepSTARTTLS, Text: "A device on the way refused STARTTLS in the far end's name.", Evidence: evidence})
		return
	}
	r.add(Conclusion{Code: Rewritten, Proven: true, Way: Up, Text: "A command of ours never reached the far end: something on the way answered it.", Evidence: evidence})
}

// compareCommand is about a command on its way up.
func (r *Report) compareCommand(p pair) {
	if string(p.here.Command) == string(p.there.Command) && p.here.Length == p.there.Length {
		return
	}
	c := Conclusion{Code: Rewritten, Proven: true, Way: Up, Text: "A command was changed on its way to the far end.",
		Evidence: []string{"sent: " + clipped(p.here.Command), "arrived: " + clipped(p.there.Command)}}
	if strings.EqualFold(string(p.here.Command), "STARTTLS") {
		c.Code, c.Step, c.Text = StartTLSRefused, StepSTARTTLS, "A device on the way changed STARTTLS, so that the far end did not understand it."
		c.Evidence = append(c.Evidence, "answered: "+clipped(p.there.Reply))
	}
	if p.here.Length != p.there.Length {
		c.Evidence = append(c.Evidence, fmt.Sprintf("%d bytes became %d", p.here.Length, p.there.Length))
	}
	r.add(c)
}

// compareReply is about a reply on its way down.
func (r *Report) compareReply(p pair) {
	if p.here.Summary || p.there.Summary && len(p.there.Reply) == 0 && len(p.here.Reply) == 0 {
		return
	}
	what := "The greeting was"
	if len(p.here.Command) > 0 {
		verb, _, _ := strings.Cut(string(p.here.Command), " ")
		what = fmt.Sprintf("The answer to %s was", strings.ToUpper(clip(verb)))
	}
	var evidence []string
	for _, c := range changes(p.there.Reply, p.here.Reply) {
		if code, text := r.startTLSLine(c); code != "" && !p.here.TLS {
			r.add(Conclusion{Code: code, Proven: true, Way: Down, Step: StepEHLO, Text: text, Evidence: c.evidence()})
			continue
		}
		evidence = append(evidence, c.evidence()...)
	}
	if len(evidence) == 0 {
		return
	}
	if strings.EqualFold(string(p.here.Command), "STARTTLS") && r.TLS.Code != 220 {
		r.add(Conclusion{Code: StartTLSRefused, Proven: true, Way: Down, Step: StepSTARTTLS, Text: "A device on the way refused STARTTLS in the far end's name.", Evidence: evidence})
		return
	}
	r.add(Conclusion{Code: Rewritten, Proven: true, Way: Down, Text: what + " changed on its way back.", Evidence: evidence})
}

// startTLSLine says what became of the line that offers STARTTLS.
func (r *Report) startTLSLine(c change) (code, text string) {
	if len(c.sent) < 4 || !strings.EqualFold(strings.TrimSpace(c.sent[4:]), "STARTTLS") || r.TLS.Listed {
		return "", ""
	}
	if c.isMasked() {
		return StartTLSMasked, "The far end offers STARTTLS, and a device on the way overwrote the offer."
	}
	return StartTLSRemoved, "The far end offers STARTTLS, and a device on the way took the offer out."
}

func (c change) evidence() []string {
	switch {
	case c.sent == "":
		return []string{"never sent: " + clipped([]byte(c.arrived))}
	case c.arrived == "":
		return []string{"sent, and never arrived: " + clipped([]byte(c.sent))}
	}
	return []string{"sent: " + clipped([]byte(c.sent)), "arrived: " + clipped([]byte(c.arrived))}
}

// concludeTLS compares the two ends of TLS, and reports whether they are not of
// one connection.
func (r *Report) concludeTLS() (opened bool) {
	there, known := TLSSeen{}, false
	switch {
	case r.After != nil && r.After.Earlier != nil && r.After.Earlier.Found:
		there, known = r.After.Earlier.TLS, true
	case r.Summary != nil && (r.Step == StepDone || r.Summary.TLS.Done):
		there, known = r.Summary.TLS, true
	}
	here := r.TLS
	if here.Done && known {
		return r.concludeOpened(here, there)
	}
	if r.Step != StepTLS {
		return false
	}
	if r.AfterTLS {
		r.add(Conclusion{Code: LargeLost, Proven: true, Step: StepTLS, Text: "Full packets are lost on the way, and small ones pass: the TLS handshake passes only in segments of 536 bytes.",
			Evidence: []string{"with full packets: " + r.Error, "in a second session, with segments of 536 bytes, the handshake stands"}})
		return false
	}
	c := Conclusion{Code: TLSCut, Step: StepTLS, Text: "STARTTLS is answered, and the handshake does not pass: " + r.Error + ".", Evidence: []string{"here: " + r.Error}}
	if r.ImplicitTLS {
		c.Text = "The port is open, and the TLS handshake does not pass: " + r.Error + "."
	}
	switch {
	case !known:
		if r.AfterError != "" {
			c.Evidence = append(c.Evidence, "the far end could not be asked: "+r.AfterError)
		}
	case !there.Asked:
		c.Proven = true
		c.Evidence = append(c.Evidence, "the far end never got STARTTLS: something on the way answered it")
	case there.Hello == "":
		c.Proven = true
		c.Evidence = append(c.Evidence, "the far end got STARTTLS and no ClientHello"+there.ended())
	case there.Hello != here.Hello:
		return r.concludeOpened(here, there)
	default:
		c.Proven = true
		c.Evidence = append(c.Evidence, "the far end got our ClientHello, unaltered; its answer did not pass"+there.ended())
	}
	r.add(c)
	return false
}

func (t TLSSeen) ended() string {
	if t.Err == "" {
		return ""
	}
	return "; it says: " + t.Err
}

// concludeOpened says whether TLS that we speak is the far end's.
func (r *Report) concludeOpened(here TLSHere, there TLSSeen) bool {
	if here.Done && there.Done && here.Hello == there.Hello && here.Cert == there.Cert {
		return false
	}
	c := Conclusion{Code: TLSOpened, Proven: true, Step: StepTLS, Text: "TLS is opened on the way: somebody between reads and can change what is sent."}
	if here.Done {
		c.Evidence = append(c.Evidence, fmt.Sprintf("here: %s, certificate %.16s... of %s, issued by %s", tls.VersionName(here.Version), here.Cert, clipped([]byte(here.Subject)), clipped([]byte(here.Issuer))))
	}
	switch {
	case there.Done:
		c.Evidence = append(c.Evidence, fmt.Sprintf("far end: %s, certificate %.16s...", tls.VersionName(there.Version), there.Cert))
	case there.Asked:
		c.Evidence = append(c.Evidence, "far end: no TLS came about"+there.ended())
	default:
		c.Evidence = append(c.Evidence, "far end: the session is in the clear there")
	}
	c.Evidence = append(c.Evidence, fmt.Sprintf("ClientHello: %.16s... was sent, %.16s... arrived", here.Hello, there.Hello))
	r.add(c)
	return true
}

// concludeEnd is about a session that broke off after the far end had proved itself.
func (r *Report) concludeEnd() {
	if r.Step == StepDone || r.Step == StepTLS {
		return
	}
	evidence := []string{"step " + r.Step + ": " + r.Error}
	proven := false
	if r.After != nil && r.After.Earlier != nil {
		proven = r.After.Earlier.Found
		evidence = append(evidence, r.After.Earlier.words())
	} else if r.AfterError != "" {
		evidence = append(evidence, "the far end could not be asked: "+r.AfterError)
	}
	if r.TLS.Asked && r.TLS.Code != 220 && proven && r.After.Earlier.TLS.Asked {
		r.add(Conclusion{Code: StartTLSRefused, Proven: true, Step: StepSTARTTLS, Way: Down, Text: "The far end agreed to STARTTLS, and something on the way turned its answer into a refusal.",
			Evidence: []string{fmt.Sprintf("sent: 220; arrived: %d", r.TLS.Code)}})
	}
	last := ""
	if n := len(r.Talk); n > 0 {
		last = string(r.Talk[n-1].Command)
	}
	switch {
	case r.Step == StepIdle:
		q := r.Idle[len(r.Idle)-1]
		r.add(Conclusion{Code: IdleCut, Proven: proven, Step: r.Step, Text: fmt.Sprintf("A session that is quiet for %.0f s does not live: %s.", q.Asked, q.How), Evidence: evidence})
	case r.Step == StepLine && r.End == EndSilence && proven:
		way := "it never arrived"
		if string(r.After.Earlier.Command) == clipTo(last, maxCommand) {
			way = "it arrived, and the answer was lost"
		}
		r.add(Conclusion{Code: LargeLost, Proven: true, Step: r.Step, Text: "Full packets are lost on the way, and small ones pass: a line of 1400 bytes was not answered.", Evidence: append(evidence, way)})
	case r.Summary == nil && r.End == EndSilence && r.After != nil:
		r.add(Conclusion{Code: LargeLost, Proven: proven, Step: r.Step, Way: Down, Text: "Full packets of the far end are lost on the way: its summary came only in segments of 536 bytes.", Evidence: evidence})
	default:
		r.add(Conclusion{Code: Blocked, Proven: proven, Step: r.Step, Text: "The far end was reached, and the session broke off at step " + r.Step + ": " + r.Error + ".", Evidence: evidence})
	}
}

func clipTo(s string, n int) string { return s[:min(len(s), n)] }

// words says what the far end knows of a session.
func (e *Earlier) words() string {
	if !e.Found {
		return "the far end knows nothing of the session"
	}
	end := "for it the session ended: " + e.End
	if e.Open {
		end = "for it the session is still open"
	}
	return fmt.Sprintf("the far end got %d commands, the last %s; %s", e.Count, clipped(e.Command), end)
}
