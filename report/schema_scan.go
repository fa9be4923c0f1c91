package report

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A Kind says what the text of a cell is.
type Kind uint8

const (
	Text   Kind = iota
	Number      // a JSON number: decimal digits, perhaps a fraction
	Bool        // "true" or "false"
	List        // elements joined with ";" (a ";" inside an element is \x3b)
)

// A Field is a column.
type Field struct {
	Name string // JSON key and column name
	Help string // what it is, one line
	Kind Kind
}

// A Schema is what a kind of result has.
type Schema struct {
	Name    string
	Version int
	Fields  []Field // in the order of columns
}

// A Column is the place of a cell in a Row: an index of Scan.Fields.
type Column int

// The columns of a scan, in the order of files.
const (
	ColTime Column = iota
	ColVantage
	ColSource
	ColTarget
	ColHost
	ColAddress
	ColPort
	ColState
	ColReason
	ColICMPFrom
	ColICMP
	ColRTT
	ColAttempts
	ColService
	ColBanner
	ColCode
	ColGreeting
	ColSoftware
	ColStartTLS
	ColTLSVersion
	ColTLSCipher
	ColCertSubject
	ColCertNames
	ColCertIssuer
	ColCertNotAfter
	ColCertSHA256
	ColCertTrust
	ColCertNameOK
	ColAuth
	ColAuthTLS
	ColSize
	ColEHLO
	ColFinding
	ColError
	NumColumns // how many there are
)

// Scan is the schema of a sweep. A column is one line here and one in RowOf.
var Scan = Schema{Name: "scan", Version: SchemaVersion, Fields: []Field{
	ColTime:         {"time", "when it was decided, RFC 3339 in UTC", Text},
	ColVantage:      {"vantage", "label of where we looked from", Text},
	ColSource:       {"source", "our address on this path", Text},
	ColTarget:       {"target", "as the user typed it", Text},
	ColHost:         {"host", "name that the address came from", Text},
	ColAddress:      {"address", "address that was probed", Text},
	ColPort:         {"port", "TCP port", Number},
	ColState:        {"state", "open, closed, filtered or unknown", Text},
	ColReason:       {"reason", "the evidence for the state", Text},
	ColICMPFrom:     {"icmp_from", "who sent the ICMP answer", Text},
	ColICMP:         {"icmp", "its type/code", Text},
	ColRTT:          {"rtt_ms", "from SYN to answer, in milliseconds", Number},
	ColAttempts:     {"attempts", "SYNs sent", Number},
	ColService:      {"service", "what answered on an open port", Text},
	ColBanner:       {"banner", "first reply; lines joined with \" | \"", Text},
	ColCode:         {"code", "code of the first reply", Number},
	ColGreeting:     {"greeting_ms", "from connect to the last line of the greeting, in milliseconds", Number},
	ColSoftware:     {"software", "mail server or product, with its version if it says so", Text},
	ColStartTLS:     {"starttls", "offered, refused, absent, masked or unknown", Text},
	ColTLSVersion:   {"tls_version", "negotiated version", Text},
	ColTLSCipher:    {"tls_cipher", "negotiated suite", Text},
	ColCertSubject:  {"cert_subject", "subject of the certificate", Text},
	ColCertNames:    {"cert_names", "names and addresses it is for", List},
	ColCertIssuer:   {"cert_issuer", "who issued it", Text},
	ColCertNotAfter: {"cert_not_after", "when it expires, RFC 3339 in UTC", Text},
	ColCertSHA256:   {"cert_sha256", "SHA-256 of its DER, hexadecimal", Text},
	ColCertTrust:    {"cert_trust", "bad, expired, not-yet-valid, self-signed, unknown-issuer or trusted", Text},
	ColCertNameOK:   {"cert_name_ok", "does it match the name asked for", Bool},
	ColAuth:         {"auth", "login mechanisms offered before TLS", List},
	ColAuthTLS:      {"auth_tls", "login mechanisms offered inside TLS", List},
	ColSize:         {"size", "largest message in bytes", Number},
	ColEHLO:         {"ehlo", "keywords of the first EHLO reply, in order", List},
	ColFinding:      {"finding", "codes of what is wrong", List},
	ColError:        {"error", "our words for what went wrong", Text},
}}

// A Row is one endpoint, as text. Its zero value says nothing.
type Row struct {
	Cells [NumColumns]string // clean; "" is not probed or not seen
	// Detail is what JSON has beyond the columns: members of an object, joined
	// with commas, without braces. From RowOf: "banner_base64" (and the same of
	// other columns: the bytes as they came, where cleaning changed them),
	// "ehlo_tls", "mute_ms", "conversed_ms", "tls_note", "chain", "transcript".
	// ParseRow keeps unknown members here as they are.
	Detail []byte
}

// maxChain bounds the DER bytes of a certificate chain that a row carries.
const maxChain = 64 << 10

// bannerLine separates the lines of a first reply in its cell.
const bannerLine = " | "

// RowOf makes a row of a result. This is the one place where what strangers
// sent becomes text of ours.
func RowOf(r *scanner.Result, vantage string) Row {
	var row Row
	row.observation(r, vantage)
	if r.Service != nil {
		row.service(r.Service)
	}
	if r.Mute > 0 {
		row.setIfEmpty(ColService, string(scanner.KindMute))
		row.setIfEmpty(ColError, "no greeting in "+span(r.Mute))
		row.member("mute_ms", strconv.FormatInt(r.Mute.Milliseconds(), 10))
	}
	return row
}

// observation fills in the columns of what an engine saw.
func (row *Row) observation(r *scanner.Result, vantage string) {
	var buf [64]byte
	c := &row.Cells
	if !r.At.IsZero() {
		c[ColTime] = string(appendTime(buf[:0], r.At))
	}
	row.text(ColVantage, vantage)
	c[ColSource] = addrText(r.Source)
	row.text(ColTarget, r.Target.Spec())
	row.text(ColHost, r.Target.Host())
	switch {
	case !r.Target.Addr.IsValid():
	case r.Target.From == nil:
		c[ColAddress] = c[ColTarget]
	default:
		c[ColAddress] = addrText(r.Target.Addr)
	}
	if r.Target.Port != 0 {
		c[ColPort] = strconv.Itoa(int(r.Target.Port))
	}
	c[ColState] = r.State.String()
	c[ColReason] = string(r.Reason)
	if r.ICMP.From.IsValid() {
		c[ColICMPFrom] = addrText(r.ICMP.From)
		c[ColICMP] = string(appendICMP(buf[:0], r.ICMP))
	}
	if r.RTT > 0 {
		c[ColRTT] = string(appendMillis(buf[:0], r.RTT))
	}
	if r.Attempts > 0 {
		c[ColAttempts] = strconv.Itoa(r.Attempts)
	}
	row.text(ColError, r.Err)
}

// service fills in the columns of a conversation.
func (row *Row) service(s *scanner.Service) {
	c := &row.Cells
	c[ColService] = Clean(string(s.Kind))
	row.banner(s.Banner)
	if s.Code > 0 {
		c[ColCode] = strconv.Itoa(s.Code)
	}
	if s.GreetingIn > 0 {
		c[ColGreeting] = string(appendMillis(nil, s.GreetingIn))
	}
	row.text(ColSoftware, s.Software)
	c[ColStartTLS] = Clean(string(s.StartTLS))
	row.list(ColAuth, s.Auth)
	row.list(ColAuthTLS, s.AuthTLS)
	if s.Size > 0 {
		c[ColSize] = strconv.FormatUint(s.Size, 10)
	}
	row.list(ColEHLO, s.EHLO)
	row.list(ColFinding, s.Findings)
	row.addError(s.Err)
	if s.TLS != nil {
		row.tls(s.TLS)
	}
	if s.EHLOTLS != nil && !slices.Equal(s.EHLO, s.EHLOTLS) {
		row.member("ehlo_tls", string(appendCleanList(nil, s.EHLOTLS)))
	}
	if s.ConversedIn > 0 {
		row.member("conversed_ms", string(appendMillis(nil, s.ConversedIn)))
	}
	row.transcript(s.Transcript)
}

// tls fills in the columns of a handshake.
func (row *Row) tls(t *scanner.TLS) {
	c := &row.Cells
	c[ColTLSVersion] = tlsVersion(t.Version)
	if t.Cipher != 0 {
		c[ColTLSCipher] = tls.CipherSuiteName(t.Cipher)
	}
	row.text(ColCertSubject, t.Subject)
	row.list(ColCertNames, t.Names)
	row.text(ColCertIssuer, t.Issuer)
	if !t.NotAfter.IsZero() {
		c[ColCertNotAfter] = notAfter(t.NotAfter)
	}
	if len(t.Chain) > 0 {
		c[ColCertSHA256] = hex.EncodeToString(t.SHA256[:])
	}
	c[ColCertTrust] = Clean(string(t.Trust))
	if t.NameOK != nil {
		c[ColCertNameOK] = strconv.FormatBool(*t.NameOK)
	}
	row.addError(t.Err)
	if t.Note != "" {
		row.member("tls_note", string(appendString(nil, Clean(t.Note))))
	}
	if t.Trust == scanner.TrustBad && t.Note != "" && !strings.Contains(row.Cells[ColError], Clean(t.Note)) {
		row.addError("certificate: " + strings.TrimPrefix(t.Note, "the certificate ")) // "bad" alone tells nobody what to mend
	}
	row.chain(t.Chain)
}

// notAfter writes an expiry date. GeneralizedTime ends in the year 9999, and so
// does RFC 3339 (section 1); anything else is not a date that we could write.
func notAfter(t time.Time) string {
	t = t.UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return ""
	}
	return t.Format(time.RFC3339)
}

// setIfEmpty fills a cell that is empty.
func (row *Row) setIfEmpty(col Column, s string) {
	if row.Cells[col] == "" {
		row.Cells[col] = s
	}
}

// addError adds words to the column error, unless they are there.
func (row *Row) addError(s string) {
	have := row.Cells[ColError]
	s = Clean(s)
	switch {
	case s == "" || strings.Contains(have, s):
	case have == "":
		row.Cells[ColError] = s
	default:
		row.Cells[ColError] = Clean(have + "; " + s)
	}
}

// text fills a cell with cleaned text, and adds its twin if cleaning changed it.
func (row *Row) text(col Column, raw string) {
	clean := Clean(raw)
	row.Cells[col] = clean
	if clean != raw {
		row.twin(col, []byte(raw))
	}
}

// banner fills the cell of the first reply, whose lines are joined by LF.
func (row *Row) banner(raw []byte) {
	lines := bytes.Split(raw, []byte{'\n'})
	for i, l := range lines {
		lines[i] = bytes.TrimSuffix(l, []byte{'\r'})
	}
	row.Cells[ColBanner] = CleanBytes(bytes.Join(lines, []byte(bannerLine)))
	if row.Cells[ColBanner] != string(raw) {
		row.twin(ColBanner, raw)
	}
}

// list fills a cell with a cleaned list, and adds its twin, a list of base64,
// if cleaning or its length changed it.
func (row *Row) list(col Column, raw []string) {
	elems, changed := cleanList(raw)
	cell, whole := joinList(elems, maxList)
	row.Cells[col] = cell
	if !changed && whole {
		return
	}
	value := []byte{'['}
	for i, s := range raw {
		if i > 0 {
			value = append(value, ',')
		}
		value = appendBase64(value, []byte(s))
	}
	row.member(Scan.Fields[col].Name+"_base64", string(append(value, ']')))
}

// twin adds the bytes of a cell as they came.
func (row *Row) twin(col Column, raw []byte) {
	row.member(Scan.Fields[col].Name+"_base64", string(appendBase64(nil, raw)))
}

// maxDetail bounds Detail, so that a row fits into a record of the journal
// (1 MiB) whatever a stranger sent.
const maxDetail = 640 << 10

// member adds a member to Detail; value is JSON. One that does not fit any more
// is left out: the cells still say what was seen.
func (row *Row) member(key, value string) {
	if len(row.Detail)+len(key)+len(value) > maxDetail {
		return
	}
	if len(row.Detail) > 0 {
		row.Detail = append(row.Detail, ',')
	}
	row.Detail = append(row.Detail, '"')
	row.Detail = append(row.Detail, key...)
	row.Detail = append(row.Detail, '"', ':')
	row.Detail = append(row.Detail, value...)
}

// chain adds the certificates as sent, leaf first.
func (row *Row) chain(certs [][]byte) {
	value := []byte{'['}
	sum := 0
	for _, der := range certs {
		if sum += len(der); sum > maxChain {
			break
		}
		if len(value) > 1 {
			value = append(value, ',')
		}
		value = appendBase64(value, der)
	}
	if len(value) > 1 {
		row.member("chain", string(append(value, ']')))
	}
}

// transcript adds the conversation: [{"ms":12.3,"from":"S","text":"220 …"}].
func (row *Row) transcript(lines []scanner.Line) {
	if len(lines) == 0 {
		return
	}
	value := []byte{'['}
	for i, l := range lines {
		if i > 0 {
			value = append(value, ',')
		}
		value = append(value, `{"ms":`...)
		value = appendMillis(value, l.At)
		value = append(value, `,"from":`...)
		value = appendString(value, Clean(string(rune(l.From))))
		value = append(value, `,"text":`...)
		text := CleanBytes(l.Text)
		value = appendString(value, text)
		if text != string(l.Text) {
			value = append(value, `,"text_base64":`...)
			value = appendBase64(value, l.Text)
		}
		value = append(value, '}')
	}
	row.member("transcript", string(append(value, ']')))
}

// SilentRow is the row of an endpoint that never answered. Silence of large
// runs is written by blocks of indices, and unfolds to such rows.
func SilentRow(t targets.Target, vantage, source string, attempts int, at time.Time) Row {
	r := scanner.Result{Observation: scanner.Observation{
		Target: t, State: scanner.Filtered, Reason: scanner.NoResponse, Attempts: attempts, At: at,
	}}
	row := RowOf(&r, vantage)
	row.text(ColSource, source)
	return row
}

// curable reports whether another run may decide a row of this reason.
func curable(reason string) bool { return scanner.Reason(reason).Curable() }

// addrText writes an address, and nothing if there is none. A zone is text of
// this machine or of the user.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	if a.Zone() != "" {
		return Clean(a.String())
	}
	return a.String()
}

// tlsVersion writes a version as the table of columns says: "1.3".
func tlsVersion(v uint16) string {
	switch v {
	case 0:
		return ""
	case 0x0300:
		return "SSL 3.0"
	case tls.VersionTLS10:
		return "1.0"
	case tls.VersionTLS11:
		return "1.1"
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return fmt.Sprintf("0x%04x", v)
}

// appendICMP writes "3/13".
func appendICMP(dst []byte, m scanner.ICMP) []byte {
	dst = strconv.AppendUint(dst, uint64(m.Type), 10)
	dst = append(dst, '/')
	return strconv.AppendUint(dst, uint64(m.Code), 10)
}

// appendMillis writes a duration in milliseconds, with at most three decimals:
// "0.213", "12.5", "65000". Something never becomes nothing: at least 0.001.
func appendMillis(dst []byte, d time.Duration) []byte {
	if d <= 0 {
		return append(dst, '0')
	}
	us := max(1, (uint64(min(d, math.MaxInt64-time.Microsecond))+500)/1000)
	dst = strconv.AppendUint(dst, us/1000, 10)
	frac := us % 1000
	if frac == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+frac/100))
	if frac%100 != 0 {
		dst = append(dst, byte('0'+frac/10%10))
	}
	if frac%10 != 0 {
		dst = append(dst, byte('0'+frac%10))
	}
	return dst
}

// appendTime writes a time as RFC 3339 in UTC with milliseconds. It is
// time.Time.AppendFormat at a third of its cost; a sweep writes one for every
// endpoint.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		year = 0
	}
	hour, minute, sec := t.Clock()
	dst = appendDigits(dst, year, 4)
	dst = append(dst, '-')
	dst = appendDigits(dst, int(month), 2)
	dst = append(dst, '-')
	dst = appendDigits(dst, day, 2)
	dst = append(dst, 'T')
	dst = appendDigits(dst, hour, 2)
	dst = append(dst, ':')
	dst = appendDigits(dst, minute, 2)
	dst = append(dst, ':')
	dst = appendDigits(dst, sec, 2)
	dst = append(dst, '.')
	dst = appendDigits(dst, t.Nanosecond()/1e6, 3)
	return append(dst, 'Z')
}

// appendDigits writes n in width digits, n < 10^width.
func appendDigits(dst []byte, n, width int) []byte {
	at := len(dst) + width
	dst = append(dst, "0000"[:width]...)
	for ; n > 0; n /= 10 {
		at--
		dst[at] = byte('0' + n%10)
	}
	return dst
}

// appendBase64 writes bytes as a JSON string of standard base64.
func appendBase64(dst, raw []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, raw)
	return append(dst, '"')
}

// appendCleanList writes a JSON list of strings, cleaned.
func appendCleanList(dst []byte, raw []string) []byte {
	dst = append(dst, '[')
	for i, s := range raw {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, Clean(s))
	}
	return append(dst, ']')
}
