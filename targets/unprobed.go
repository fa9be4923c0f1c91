package targets

// An Unprobed says why an endpoint or a name is not contacted. It is a row all
// the same, with state unknown.
type Unprobed string

const (
	Excluded     Unprobed = "excluded"       // the user excluded the address
	Reserved     Unprobed = "reserved"       // a special address that is not contacted without a flag, or never
	DNSNXDomain  Unprobed = "dns-nxdomain"   // the name does not exist
	DNSNoAddress Unprobed = "dns-no-address" // the name exists and has no address
	DNSError     Unprobed = "dns-error"      // SERVFAIL, REFUSED, time-out: nothing is known
	NoMail       Unprobed = "no-mail"        // null MX: the domain accepts no mail (RFC 7505)
	BadName      Unprobed = "bad-name"       // not a domain name
)
