package report

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/targets"
)

var xmlFormat = Format{
	Name: "xml", Help: "nmap's XML, for ndiff and whatever reads nmap -oX", Endings: []string{".xml"}, New: newXML,
}

// xmlOutputVersion is the version of nmap's DTD that this follows.
const xmlOutputVersion = "1.05"

// A xmlEncoder writes nmap's XML (nmap.dtd of nmap 7.93). Where the DTD has no
// place for what we know, one script element a host has it: id "smtpsweep".
type xmlEncoder struct {
	w       io.Writer
	roles   map[string]targets.Role
	started time.Time
	host    xmlHost
	up      uint64
	down    uint64
	total   uint64
	buf     bytes.Buffer
}

// A xmlHost is the host whose rows are arriving.
type xmlHost struct {
	key         hostKey
	rows        int
	ports       bytes.Buffer // port elements
	said        bytes.Buffer // what was said on the ports, for people
	tables      bytes.Buffer // the same for programs: table elements
	start, end  int64        // Unix times of the first and the last row; 0 if not known
	status      string       // up, down, unknown, skipped
	reason      string       // why
	statusGrade int          // how much the status is worth
}

func newXML(w io.Writer, h Header, _ Options) (Encoder, error) {
	e := &xmlEncoder{w: w, roles: make(map[string]targets.Role), started: h.Started}
	services := make([]string, len(h.Ports))
	for i, p := range h.Ports {
		services[i] = strconv.Itoa(int(p.Number))
		e.roles[services[i]] = p.Role
	}
	b := &e.buf
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE nmaprun>\n<nmaprun scanner=\"nmap\"")
	attr(b, "args", Clean(firstOf(h.Args, "smtpsweep")))
	if !h.Started.IsZero() {
		attr(b, "start", strconv.FormatInt(h.Started.Unix(), 10))
		attr(b, "startstr", h.Started.UTC().Format(time.ANSIC))
	}
	attr(b, "version", Clean(strings.TrimSpace("smtpsweep "+h.Version)))
	attr(b, "xmloutputversion", xmlOutputVersion)
	scan := "connect"
	if h.Engine == "syn" {
		scan = "syn"
	}
	fmt.Fprintf(b, ">\n<scaninfo type=%q protocol=\"tcp\" numservices=\"%d\" services=%q/>\n", scan, len(services), strings.Join(services, ","))
	b.WriteString("<verbose level=\"0\"/>\n<debugging level=\"0\"/>\n")
	return e, e.flush()
}

// flush hands the buffer to the writer.
func (e *xmlEncoder) flush() error {
	_, err := e.buf.WriteTo(e.w)
	return err
}

// Row takes one row.
func (e *xmlEncoder) Row(r *Row) error {
	c := &r.Cells
	key := hostKey{address: c[ColAddress], host: c[ColHost], target: c[ColTarget]}
	if key.address != "" && key.host == "" {
		key.target = "" // an address is one host, whatever range it was typed in
	}
	if e.host.rows > 0 && key != e.host.key {
		if err := e.endHost(); err != nil {
			return err
		}
	}
	if key.address == "" { // a name without an address: no host, says nmap too
		return e.target(key.place())
	}
	h := &e.host
	h.key = key
	h.rows++
	h.judge(r)
	h.seen(c[ColTime])
	e.port(&h.ports, r)
	h.script(r)
	return nil
}

// target writes a target that is not a host.
func (e *xmlEncoder) target(spec string) error {
	e.buf.WriteString("<target")
	attr(&e.buf, "specification", spec)
	e.buf.WriteString(" status=\"skipped\" reason=\"invalid\"/>\n")
	return e.flush()
}

// seen notes when a row was decided.
func (h *xmlHost) seen(text string) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return
	}
	if unix := t.Unix(); h.start == 0 {
		h.start, h.end = unix, unix
	} else {
		h.start, h.end = min(h.start, unix), max(h.end, unix)
	}
}

// judge lets a row say whether the host is up: an answer of its own says so, no
// neighbour says the opposite, what was not probed says that it was skipped, and
// silence or a router's ICMP says nothing.
func (h *xmlHost) judge(r *Row) {
	c := &r.Cells
	status, grade := "unknown", 1
	switch c[ColReason] {
	case "syn-ack", "conn-refused", "reset":
		status, grade = "up", 4
	case "no-neighbor":
		status, grade = "down", 3
	case "excluded", "reserved":
		status, grade = "skipped", 2
	default:
		if c[ColICMPFrom] != "" && c[ColICMPFrom] == c[ColAddress] {
			status, grade = "up", 4
		}
	}
	if grade > h.statusGrade {
		h.status, h.reason, h.statusGrade = status, c[ColReason], grade
	}
}

// endHost writes the host whose rows are complete.
func (e *xmlEncoder) endHost() error {
	h, b := &e.host, &e.buf
	b.WriteString("<host")
	if h.start != 0 {
		attr(b, "starttime", strconv.FormatInt(h.start, 10))
		attr(b, "endtime", strconv.FormatInt(h.end, 10))
	}
	b.WriteString("><status")
	attr(b, "state", h.status)
	attr(b, "reason", h.reason)
	b.WriteString(" reason_ttl=\"0\"/>\n<address")
	attr(b, "addr", h.key.address)
	kind := "ipv4"
	if strings.Contains(h.key.address, ":") {
		kind = "ipv6"
	}
	attr(b, "addrtype", kind)
	b.WriteString("/>\n<hostnames>")
	if h.key.host != "" {
		b.WriteString("<hostname")
		attr(b, "name", h.key.host)
		b.WriteString(" type=\"user\"/>")
	}
	b.WriteString("</hostnames>\n<ports>\n")
	b.Write(h.ports.Bytes())
	b.WriteString("</ports>\n")
	if h.tables.Len() > 0 {
		b.WriteString("<hostscript><script id=\"smtpsweep\"")
		attr(b, "output", h.said.String())
		b.WriteString(">\n" + h.tables.String() + "</script></hostscript>\n")
	}
	b.WriteString("</host>\n")
	e.total++
	switch h.status {
	case "up":
		e.up++
	case "down":
		e.down++
	}
	e.host = xmlHost{}
	return e.flush()
}

// port writes the port element of a row.
func (e *xmlEncoder) port(b *bytes.Buffer, r *Row) {
	c := &r.Cells
	b.WriteString("<port protocol=\"tcp\"")
	attr(b, "portid", c[ColPort])
	b.WriteString("><state")
	attr(b, "state", c[ColState])
	attr(b, "reason", c[ColReason])
	b.WriteString(" reason_ttl=\"0\"")
	if c[ColICMPFrom] != "" {
		attr(b, "reason_ip", c[ColICMPFrom])
	}
	b.WriteString("/>")
	e.service(b, r)
	b.WriteString("</port>\n")
}

// service writes what answers on a port: a guess from its number, or what the
// conversation showed.
func (e *xmlEncoder) service(b *bytes.Buffer, r *Row) {
	c := &r.Cells
	role, ok := e.roles[c[ColPort]]
	if !ok {
		n, _ := strconv.ParseUint(c[ColPort], 10, 16)
		role = targets.RoleOf(uint16(n))
	}
	name := role.String()
	probed := false
	switch c[ColService] {
	case "smtp", "refusing", "tarpit":
		probed = true
	case "other":
		name, probed = "unknown", true
	}
	b.WriteString("<service")
	attr(b, "name", name)
	if !probed {
		b.WriteString(" method=\"table\" conf=\"3\"/>")
		return
	}
	product, version := splitVersion(c[ColSoftware])
	optional(b, "product", product)
	optional(b, "version", version)
	if c[ColService] == "refusing" {
		attr(b, "extrainfo", "refusing "+c[ColCode])
	}
	if tlsFirst(r) {
		b.WriteString(" tunnel=\"ssl\"")
	}
	optional(b, "hostname", greetingName(r))
	b.WriteString(" method=\"probed\" conf=\"10\"/>")
}

// splitVersion takes "Exim 4.96" apart.
func splitVersion(software string) (product, version string) {
	i := strings.LastIndexByte(software, ' ')
	if i < 0 || digits(software, i+1) == 0 {
		return software, ""
	}
	return software[:i], software[i+1:]
}

// scriptColumns are the columns that nmap's DTD has no place for. Times and
// measured values are not among them: two runs that saw the same must not differ
// in them.
var scriptColumns = []Column{
	ColService, ColICMP, ColBanner, ColCode, ColSoftware, ColEHLO, ColStartTLS, ColTLSVersion, ColTLSCipher,
	ColCertSubject, ColCertNames, ColCertIssuer, ColCertNotAfter, ColCertSHA256, ColCertTrust, ColCertNameOK,
	ColAuth, ColAuthTLS, ColSize, ColFinding, ColError,
}

// script adds what was said on a port to the script of its host, as text and as
// elements named like our columns. It is a script of the host, and one only: ndiff
// 7.93, as in Debian 12, fails on a port whose script differs between two runs
// while its state and service do not, and on two scripts in one place.
//
// ndiff compares the text. The banner is not in it, because many have the date
// and time: they would differ at every run.
func (h *xmlHost) script(r *Row) {
	var elems, text strings.Builder
	for _, col := range scriptColumns {
		v := r.Cells[col]
		if v == "" {
			continue
		}
		if Scan.Fields[col].Kind == List {
			v = strings.Join(splitList(v), ", ")
		}
		name := Scan.Fields[col].Name
		if col != ColBanner {
			text.WriteString("\n  " + name + ": " + v)
		}
		elems.WriteString("<elem key=\"" + name + "\">" + xmlText(v) + "</elem>")
	}
	if elems.Len() == 0 {
		return
	}
	spec := r.Cells[ColPort] + "/tcp"
	h.said.WriteString("\n" + spec + ":" + text.String())
	h.tables.WriteString("<table key=\"" + spec + "\">" + elems.String() + "</table>\n")
}

// optional writes an attribute, if it has a value.
func optional(b *bytes.Buffer, name, value string) {
	if value != "" {
		attr(b, name, value)
	}
}

// attr writes an attribute.
func attr(b *bytes.Buffer, name, value string) {
	b.WriteString(" " + name + "=\"" + xmlText(value) + "\"")
}

// xmlEscaper escapes markup (XML 1.0, 2.4 and 3.3.3). Other controls than the
// line break of our own cannot occur: cells are clean.
var xmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\"", "&quot;", "'", "&apos;", "\n", "&#10;")

// xmlText writes text for an attribute or an element.
func xmlText(s string) string { return xmlEscaper.Replace(s) }

// Close ends the document.
func (e *xmlEncoder) Close(t Totals) error {
	if e.host.rows > 0 {
		if err := e.endHost(); err != nil {
			return err
		}
	}
	b := &e.buf
	ended := t.Ended
	if ended.IsZero() {
		ended = e.started.Add(t.Elapsed)
	}
	unix := int64(0)
	if !ended.IsZero() {
		unix = ended.Unix()
	}
	exit := "success"
	if !t.Complete {
		exit = "error"
	}
	b.WriteString("<runstats><finished")
	attr(b, "time", strconv.FormatInt(unix, 10))
	attr(b, "timestr", time.Unix(unix, 0).UTC().Format(time.ANSIC))
	attr(b, "elapsed", strconv.FormatFloat(t.Elapsed.Seconds(), 'f', 2, 64))
	attr(b, "summary", Summary(t))
	attr(b, "exit", exit)
	if !t.Complete {
		attr(b, "errormsg", t.incomplete())
	}
	fmt.Fprintf(b, "/><hosts up=\"%d\" down=\"%d\" total=\"%d\"/>\n</runstats>\n</nmaprun>\n", e.up, e.down, e.total)
	return e.flush()
}
