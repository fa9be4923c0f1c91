package smtp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// maxKeptRecord is the largest record of a handshake whose memory serves the next
// one: a usual chain has 3 to 6 KB.
const maxKeptRecord = 16 << 10

// curves leaves out X25519MLKEM768: offering it costs a third more CPU a host,
// and a server's answer to it says nothing about mail.
var curves = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// suites is every suite that crypto/tls can speak, good ones first: what a
// server can do is learned by agreeing to it.
var suites = suiteIDs(tls.CipherSuites(), tls.InsecureCipherSuites())

func suiteIDs(lists ...[]*tls.CipherSuite) (ids []uint16) {
	for _, list := range lists {
		for _, suite := range list {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

// tlsConfig returns how we speak TLS: with everyone, judging later. Names of
// the DNS are sent as SNI (RFC 6066, 3), addresses never.
func (s *session) tlsConfig(keys io.Writer) *tls.Config {
	return &tls.Config{
		ServerName:             s.obs.Target.Host(),
		InsecureSkipVerify:     true, // the chain is judged after the handshake, not by it
		MinVersion:             tls.VersionTLS10,
		MaxVersion:             tls.VersionTLS13,
		CipherSuites:           suites,
		CurvePreferences:       curves,
		SessionTicketsDisabled: true, // a ticket would hide the certificate
		Renegotiation:          tls.RenegotiateNever,
		KeyLogWriter:           keys,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			s.certAsked = true
			return new(tls.Certificate), nil // none
		},
	}
}

// handshake starts TLS on the connection and reports whether it stands. It
// fills the service's TLS either way, with the certificate if one came.
func (s *session) handshake() bool {
	s.w.begin() // it may take its time: what a handshake needs is made afterwards
	keys := new(keyLog)
	conn := tls.Client(s.w, s.tlsConfig(keys))
	record := s.p.records.Get().(*[]byte)
	s.w.record = (*record)[:0]
	defer func() {
		s.w.finish()
		*record, s.w.record = s.w.record, nil
		if cap(*record) <= maxKeptRecord { // else a few hostile chains would make all of them large
			s.p.records.Put(record)
		}
	}()
	err := conn.Handshake()

	s.showed(conn.ConnectionState(), keys.secret, err)
	if err != nil {
		s.handshakeFailed(err)
		return false
	}
	s.log.remark(tls.VersionName(s.svc.TLS.Version) + " " + tls.CipherSuiteName(s.svc.TLS.Cipher))
	s.tls, s.in.src = conn, conn
	return true
}

// showed notes what a handshake showed, also one that ended with err.
func (s *session) showed(state tls.ConnectionState, secret []byte, err error) {
	found := sent{certs: state.PeerCertificates}
	if len(found.certs) == 0 && err != nil {
		found = dig(s.w.record, secret)
	}
	t, finding := s.p.verdicts.judge(found, s.obs.Target.Host(), s.p.now(), s.p.roots())
	t.Version, t.Cipher = state.Version, state.CipherSuite
	if len(t.Chain) == 0 && err != nil {
		const hidden = "it was sent under a cipher that hid it (ChaCha20)"
		switch {
		case strings.HasPrefix(err.Error(), "tls: failed to parse certificate"):
			t.Trust, t.Note, finding = scanner.TrustBad, "the certificate cannot be parsed; "+hidden, certBad
		case ourLimit(err) != "":
			t.Note = hidden
		}
	}
	s.svc.TLS = &t
	if err != nil && isText(s.w.record) {
		s.plain = bytes.Clone(s.w.record)
	}
	if finding != "" {
		s.find(finding)
	}
	if t.NameOK != nil && !*t.NameOK {
		s.find(certNameMismatch)
	}
	if t.Version != 0 && t.Version < tls.VersionTLS12 {
		s.find(tlsOld)
	}
}

// handshakeFailed notes why there is no TLS.
func (s *session) handshakeFailed(err error) {
	s.svc.TLS.Err = tlsWords(err)
	if s.svc.TLS.Trust != scanner.TrustBad { // then it is not the leaf
		s.svc.TLS.Err = strings.Replace(s.svc.TLS.Err, "the certificate cannot be parsed", "a certificate sent with it cannot be parsed", 1)
	}
	switch {
	case s.interrupted():
		s.svc.TLS.Err = interrupted
		return
	case isTimeout(err):
		s.find(tlsStalled)
		s.resetAtClose()
	case s.certAsked && isAlert(err):
		s.find(clientCertNeeded)
	case s.obs.Target.Host() == "" && isAlert(err) && strings.HasSuffix(err.Error(), "unrecognized name"):
		s.svc.TLS.Err += ": it does TLS with those who ask for it by name, and no name was given"
		s.find(sniRequired)
	case s.obs.Target.Role.ClientFirst(): // the kind says it
	case ourLimit(err) != "": // others may manage
	case s.svc.TLS.Trust == scanner.TrustBad && !isAlert(err): // cert-bad says it: our side gave up
	default:
		s.find(tlsFailed)
	}
	s.log.remark("TLS: " + s.svc.TLS.Err)
}

// implicitTLS starts TLS on a port where it comes first (RFC 8314, 3.3).
func (s *session) implicitTLS() bool {
	if s.handshake() {
		s.in.head = nil
		return true
	}
	s.lost = true
	switch {
	case s.plain != nil:
		s.plainInstead()
	case !s.interrupted():
		s.svc.Kind, s.svc.Err = scanner.KindTLSFailed, s.svc.TLS.Err
	}
	return false
}

// plainInstead keeps what a server said in plain text where TLS was expected:
// usually its greeting. crypto/tls consumed it, so it is read again from the
// record, and what follows from the connection.
func (s *session) plainInstead() {
	s.in.src = io.MultiReader(bytes.NewReader(s.plain), s.w)
	r, _ := s.firstReply()
	s.svc.Banner, s.svc.Code = r.joined(maxBanner), r.code
	s.svc.Kind, s.svc.Err = scanner.KindWrongMode, "plain text where TLS was expected"
	if name := classify(s.in.head); name != "" {
		s.other(name, "in plain text instead of TLS")
	}
	s.svc.TLS.Err = s.svc.Err // "the peer did not answer in TLS" says less
}

// isText reports whether this is a line of text and not a TLS record.
func isText(head []byte) bool {
	return len(head) > 0 && head[0] >= ' ' && head[0] <= '~'
}

// turnedAway reports whether an error in TLS is a refusal of ours that came
// after our side had finished: TLS 1.3 servers refuse a client without a
// certificate then. Their alert may be lost to the reset that follows it.
func (s *session) turnedAway(err error) bool {
	return s.tls != nil && (isAlert(err) || s.certAsked && !s.heard && !isTimeout(err))
}

// alerted notes such a refusal.
func (s *session) alerted(err error) {
	s.lost = true
	s.svc.TLS.Err = tlsWords(err)
	s.svc.Err = s.svc.TLS.Err
	switch {
	case s.certAsked:
		s.find(clientCertNeeded)
	case !s.obs.Target.Role.ClientFirst():
		s.find(tlsFailed)
	}
	if s.obs.Target.Role.ClientFirst() {
		s.svc.Kind = scanner.KindTLSFailed
	}
}

// isAlert reports whether an error is an alert of the peer.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// ourLimit says, in words, why crypto/tls gave up what others may manage, or
// returns "". It is no fault of the peer's.
func ourLimit(err error) string {
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "tls: server sent certificate containing RSA key larger"):
		return "a certificate's RSA key has more than 8192 bits, which this program does not take"
	case strings.HasPrefix(text, "tls: handshake message of length") && strings.HasSuffix(text, "maximum of 262144 bytes"):
		return "the server's certificates have more than 256 KiB, which this program does not take"
	case strings.HasPrefix(text, "tls: server's certificate contains an unsupported type of public key"):
		return "the certificate's key is of a kind that this program does not know"
	case strings.HasPrefix(text, "tls: failed to parse certificate") && isUnknownCurve(err):
		return unknownCurve
	case text == "local error: tls: no renegotiation": // Renegotiation is RenegotiateNever
		return "the peer asked for a new TLS handshake, which this program does not do"
	}
	return ""
}

// isFault reports whether an error is of TLS itself, and neither an alert of the
// peer's nor of the network.
func isFault(err error) bool {
	var op *net.OpError
	var record tls.RecordHeaderError
	return strings.HasPrefix(err.Error(), "tls: ") || errors.As(err, &op) && op.Op == "local error" || errors.As(err, &record)
}

// broke notes that TLS broke after the handshake, when what was awaited.
func (s *session) broke(err error, what string) {
	s.lost = true
	if s.svc.Kind == "" { // no greeting came
		s.svc.Kind = scanner.KindTLSFailed
	}
	if s.svc.Err = ourLimit(err); s.svc.Err != "" {
		return
	}
	text := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "tls: ", ""), "local error: ")
	s.svc.Err = "the peer broke the TLS connection (" + text + ") " + what
	s.find(tlsFailed)
}

// tlsWords says why TLS failed, for people.
func tlsWords(err error) string {
	var record tls.RecordHeaderError
	text := strings.ReplaceAll(err.Error(), "tls: ", "")
	switch {
	case isTimeout(err):
		return "the TLS handshake stalled"
	case isAlert(err):
		return "the peer ended TLS with the alert \"" + strings.TrimPrefix(text, "remote error: ") + "\""
	case errors.As(err, &record) && strings.HasPrefix(record.Msg, "received record"):
		return "the peer sent what is not TLS in the middle of the TLS handshake"
	case errors.As(err, &record):
		return "the peer did not answer in TLS"
	case ourLimit(err) != "":
		return ourLimit(err)
	case strings.HasPrefix(text, "failed to parse certificate"):
		return "the certificate cannot be parsed: " + text[strings.LastIndex(text, ": ")+2:]
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the peer closed the connection during the TLS handshake"
	}
	var op *net.OpError // of the network, or of crypto/tls
	network := errors.As(err, &op) && op.Op != "local error"
	if how := closing(err); network || !strings.HasPrefix(how, "lost") {
		return "the peer " + how + " during the TLS handshake"
	}
	text = strings.Replace(strings.TrimPrefix(text, "local error: "), "version 300", "version 300, SSL 3.0", 1)
	return "the peer's part of the TLS handshake is faulty (" + text + ")"
}
