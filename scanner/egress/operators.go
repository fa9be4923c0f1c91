package egress

// ListDate is when the built-in list was last gone through.
const ListDate = "2026-11-25"

// An Operator runs mail servers on the Internet, apart from all others of a plan.
type Operator struct {
	Name  string
	Doors []Door
	// Control is a host that answers on the control port, 443; empty means the
	// host of the first door.
	Control string
	// Domains are the operator's own: its greetings and certificates name one of
	// them. Empty if that is not known.
	Domains []string
	Listed  bool // it is of the built-in list: known to listen, and to offer STARTTLS on 25, 587 and 2525
}

// A Door is a host with the mail ports that the operator documents for it.
type Door struct {
	Host  string
	Ports []uint16
}

// builtIn are public mail operators that serve everybody, and document these
// ports. Two of them take 25 and 587 at one and the same host, so that nothing
// but the port differs. They are asked for nothing but a greeting and EHLO.
var builtIn = []Operator{
	{Name: "Google", Control: "www.google.com", Domains: []string{"google.com", "gmail.com", "googlemail.com"}, Doors: []Door{
		{"gmail-smtp-in.l.google.com", []uint16{25}}, {"smtp.gmail.com", []uint16{465, 587}}}},
	{Name: "Microsoft", Control: "outlook.office365.com", Domains: []string{"outlook.com", "office365.com", "office.com", "microsoft.com"}, Doors: []Door{
		{"smtp.office365.com", []uint16{25, 587}}}},
	{Name: "Yahoo", Control: "login.yahoo.com", Domains: []string{"yahoo.com", "yahoodns.net"}, Doors: []Door{
		{"mta5.am0.yahoodns.net", []uint16{25}}, {"smtp.mail.yahoo.com", []uint16{465}}}},
	{Name: "Mailgun", Control: "api.mailgun.net", Domains: []string{"mailgun.org", "mailgun.net", "mailgun.com"}, Doors: []Door{
		{"smtp.mailgun.org", []uint16{25, 465, 587, 2525}}}},
	{Name: "Postmark", Control: "api.postmarkapp.com", Domains: []string{"postmarkapp.com", "mtasv.net"}, Doors: []Door{
		{"smtp.postmarkapp.com", []uint16{587, 2525}}}},
}

// BuiltIn returns the built-in list. Names are resolved when an audit runs.
func BuiltIn() []Operator {
	out := make([]Operator, len(builtIn))
	for i, op := range builtIn {
		op.Listed = true
		out[i] = op
	}
	return out
}

// Named returns the operator of a destination that the user named: a host that is
// asked on all ports, and may listen on some of them only.
func Named(spec, host string, ports []uint16) Operator {
	return Operator{Name: spec, Doors: []Door{{host, ports}}}
}
