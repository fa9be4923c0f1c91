package explain

import "strings"

// ownWords returns what words of smtpsweep's own reports mean, if the text
// consists of nothing else: "no-response", "filtered no-response",
// "finding=cert-expired;tls-old", "exit 5". Otherwise nil.
func ownWords(text string) []topic {
	if len(text) > 1024 {
		return nil
	}
	orig, lower := ownTokens(text)
	if n, ok := exitCode(lower); ok {
		return []topic{n}
	}
	var out []topic
	for i := 0; i < len(lower); {
		ts, n := ownAt(lower[i:], orig[i:], true)
		if n == 0 {
			if t, ok := columnWord(lower); ok {
				return []topic{t}
			}
			return nil
		}
		for _, t := range ts {
			out = appendOnce(out, t)
		}
		i += n
	}
	return out[:min(len(out), maxWords)]
}

// ownWord looks one word up, with or without the column it stood in.
func ownWord(tok string) (topic, bool) {
	if k, v, ok := strings.Cut(tok, "="); ok {
		if t, ok := ownTopics[k+"="+v]; ok {
			return named(t, v), true
		}
		if t, ok := findingTopic(v); ok && k == "finding" {
			return named(t, v), true
		}
		tok = v
	}
	tok = strings.Trim(tok, ".:()")
	t, ok := lookupOwn(tok)
	return named(t, tok), ok
}

// findOwn returns what those of our own words mean that are not ordinary
// English, in a text that has other words too: a row of the table, for instance.
func findOwn(text string) []topic {
	orig, lower := ownTokens(text)
	var out []topic
	for i := 0; i < len(lower) && len(out) < maxWordings; {
		ts, n := ownAt(lower[i:], orig[i:], false)
		for _, t := range ts {
			out = appendOnce(out, t)
		}
		i += max(n, 1)
	}
	return out[:min(len(out), maxWordings)]
}

func named(t topic, word string) topic {
	t.id = word
	t.name = t.name + " " + word
	return t
}

func appendOnce(out []topic, t topic) []topic {
	for _, have := range out {
		if have.id == t.id {
			return out
		}
	}
	return append(out, t)
}

// exitCode reads "exit 5", "exit code 5" and "exit status 5".
func exitCode(tokens []string) (topic, bool) {
	if len(tokens) < 2 || len(tokens) > 3 || tokens[0] != "exit" {
		return topic{}, false
	}
	if len(tokens) == 3 && tokens[1] != "code" && tokens[1] != "status" {
		return topic{}, false
	}
	t, ok := exitTopics[tokens[len(tokens)-1]]
	t.name, t.id = "exit code "+tokens[len(tokens)-1]+" of smtpsweep", "exit "+tokens[len(tokens)-1]
	return t, ok
}

// What the names of our words begin with; the word itself is appended.
const (
	aState    = "state"
	aReason   = "reason"
	aFate     = "fate"
	aService  = "service"
	aStartTLS = "starttls"
	aTrust    = "certificate trust"
	aFinding  = "finding"
	aResult   = "result"
)

// ownTopics are the states, reasons, services and findings of our reports
// (DESIGN.md, section 3). A word that means something else in another column
// is there as column=word.
var ownTopics = map[string]topic{
	"open":     {name: aState, means: []string{"A TCP connection to the port was established: something listens there and nothing on the way prevents it."}, do: []string{"Nothing. The column service says what answered."}, see: []string{"nc -vz {host} 25"}, who: whoNobody, source: "RFC 9293, section 3.5"},
	"closed":   {name: aState, means: []string{"The port answered with a TCP reset: the machine (or a firewall in its name) says that nobody listens there."}, cause: []string{"no mail server runs, or it listens only on another address", "a firewall with a reject rule that answers with a reset"}, do: []string{"On that machine: see whether the server runs and on which address it listens."}, see: []string{"ss -ltnp 'sport = :25'", "postconf inet_interfaces"}, who: whoReceiver, source: "RFC 9293, section 3.10.7"},
	"filtered": {name: aState, means: []string{"No TCP answer came: silence, or an ICMP message instead. Something on the way drops or rejects, or there is no such machine; the column reason says what was seen."}, do: []string{"Test another port of the same machine: if that answers, this port is blocked on the way.", "Test the same port from another network, to know on whose side."}, see: []string{"sudo traceroute -T -p 25 {ip}", "sudo traceroute -T -p 443 {ip}"}, who: whoNetwork},
	"unknown":  {name: aState, means: []string{"Nothing was decided. The column reason says why; it is never a statement about the other side."}, do: []string{"Look up the reason: smtpsweep explain REASON."}, who: whoYou},

	"syn-ack":          {name: aReason, means: []string{"The port accepted the connection."}, do: []string{"Nothing."}, see: []string{"nc -vz {host} 25"}, who: whoNobody, source: "RFC 9293, section 3.5"},
	"conn-refused":     {name: aReason, means: []string{"The port answered with a TCP reset: \"connection refused\"."}, cause: []string{"nobody listens on that port and address", "a firewall rejects with a reset"}, do: []string{"On the machine: is the server running, does it listen on this address?", "If it does: look for a reject rule in its firewall."}, see: []string{"ss -ltnp 'sport = :25'", "nft list ruleset | grep -i reject"}, who: whoReceiver, source: "RFC 9293, section 3.10.7"},
	"reset":            {name: aReason, means: []string{"A TCP reset came as the answer (seen by the SYN engine; the same fact as conn-refused)."}, do: []string{"On the machine: is the server running, does it listen on this address?"}, see: []string{"ss -ltnp 'sport = :25'"}, who: whoReceiver, source: "RFC 9293, section 3.10.7"},
	"no-response":      {name: aReason, means: []string{"No answer at all to any of the attempts. A firewall that drops silently, a port blocked by a provider, and an address without a machine look alike from here."}, cause: []string{"your provider or firewall blocks outgoing port 25", "their firewall drops", "there is no machine at this address"}, do: []string{"Test port 443 or 587 of the same address: an answer there means that this port is blocked.", "Test port 25 of several well-known servers: silence from all means the block is on your side."}, see: []string{"sudo traceroute -T -p 25 {ip}", "sudo traceroute -T -p 587 {ip}"}, who: whoNetwork},
	"admin-prohibited": {name: aReason, means: []string{"A router or firewall answered: forbidden by the administrator. The column icmp_from says which one: that is who to ask."}, cause: []string{"a reject rule in the firewall with that address"}, do: []string{"Ask whoever runs the device in icmp_from to allow the port.", "If the address is yours: look at its rules."}, see: []string{"sudo traceroute -T -p 25 {ip}", "nft list ruleset"}, who: "whoever runs the device in icmp_from", source: "RFC 1812, section 5.2.7.1 (ICMP 3/13); RFC 4443, section 3.1 (ICMPv6 1/1)"},
	"host-prohibited":  {name: aReason, means: []string{"A router or firewall answered: contact to this host is forbidden by the administrator (ICMP 3/10)."}, do: []string{"Ask whoever runs the device in icmp_from. On Red Hat systems this is the default answer of the host firewall: open the port there."}, see: []string{"firewall-cmd --list-all", "nft list ruleset"}, who: "whoever runs the device in icmp_from", source: "RFC 1122, section 3.2.2.1"},
	"net-prohibited":   {name: aReason, means: []string{"A router answered: contact to this network is forbidden by the administrator (ICMP 3/9)."}, do: []string{"Ask whoever runs the device in icmp_from."}, see: []string{"sudo traceroute -T -p 25 {ip}"}, who: "whoever runs the device in icmp_from", source: "RFC 1122, section 3.2.2.1"},
	"host-unreach":     {name: aReason, means: []string{"A router answered that the host cannot be reached: it is off, or does not exist. Not a mail problem."}, do: []string{"Check the address, and whether the machine is up.", "If only the mail port gives this answer: a firewall rejects in these words."}, see: []string{"ping -c 3 {ip}", "sudo traceroute -T -p 25 {ip}"}, who: "whoever runs that host", source: "RFC 792; RFC 4443, section 3.1"},
	"net-unreach":      {name: aReason, means: []string{"A router answered that it knows no way to this network. Not a mail problem."}, do: []string{"Check the address; then the routing of the router in icmp_from."}, see: []string{"ip route get 198.51.100.25", "sudo traceroute {ip}"}, who: whoNetwork, source: "RFC 792; RFC 4443, section 3.1"},
	"port-unreach":     {name: aReason, means: []string{"A firewall answered with ICMP port-unreachable: the common reject rule. A host without a listener would have sent a TCP reset, so this is a filter, not a closed port."}, do: []string{"Ask whoever runs the device in icmp_from; on Linux it is a rule with REJECT and no reset."}, see: []string{"nft list ruleset | grep -i reject", "iptables -S | grep REJECT"}, who: "whoever runs the device in icmp_from", source: "RFC 792; RFC 1122, section 4.2.3.9"},
	"proto-unreach":    {name: aReason, means: []string{"The host or a firewall answered that it does not do TCP (ICMP 3/2). Likely a reject rule in unusual words."}, do: []string{"Look at the rules of the device in icmp_from."}, see: []string{"nft list ruleset"}, who: "whoever runs the device in icmp_from", source: "RFC 792"},
	"time-exceeded":    {name: aReason, means: []string{"The packet ran out of hops: it goes in a circle between routers."}, do: []string{"Trace the path: the pair of addresses that repeats is the loop. Tell whoever runs them."}, see: []string{"sudo traceroute -T -p 25 {ip}"}, who: whoNetwork, source: "RFC 792"},
	"no-neighbor":      {name: aReason, means: []string{"The address belongs to your own network and nobody answered the ARP (or ND) question: no machine uses it now."}, cause: []string{"the machine is off or has another address", "it is in another VLAN", "the netmask here is too large"}, do: []string{"Nothing, if no machine is expected there. Otherwise check cable, VLAN and address."}, see: []string{"ip neigh show 192.0.2.40", "arping -c 3 192.0.2.40"}, who: "whoever runs that machine", source: "RFC 826; RFC 4861, section 7.2"},
	"local-error":      {name: aReason, means: []string{"This machine could not send the probe. It says nothing about the target; another run may decide it (exit code 5)."}, cause: []string{"no route, or no IPv6 here", "the host firewall forbids it", "no free ports, descriptors or buffers"}, do: []string{"Read the column error, correct that, then go on: smtpsweep scan --resume JOURNAL."}, see: []string{"ip route get 198.51.100.25", "nft list ruleset", "ulimit -n"}, who: whoYou},
	"excluded":         {name: aReason, means: []string{"You excluded this address (--exclude, --exclude-file); it was not contacted."}, do: []string{"Nothing, or change the exclusion."}, who: whoYou},
	"reserved":         {name: aReason, means: []string{"A special address that is not contacted without being asked to: private and reached by a name from a file or MX, documentation, multicast, and so on."}, cause: []string{"an MX or a name of a list leads to an internal address"}, do: []string{"If it is meant: --allow-private or --allow-reserved, or type the address itself.", "If a public MX leads there: correct the DNS."}, see: []string{"dig +short MX {domain}"}, who: whoYou, source: "IANA special-purpose address registries; RFC 6890"},
	"dns-nxdomain":     {name: aReason, means: []string{"The name does not exist in DNS."}, cause: []string{"a typing error", "the domain has expired or the record was removed"}, do: []string{"Check the spelling, then the zone."}, see: []string{"dig {host} A", "dig +trace {host} A"}, who: whoDNS, source: "RFC 2308, section 2.1; RFC 8020"},
	"dns-no-address":   {name: aReason, means: []string{"The name exists and has no address (A or AAAA), or none of the family asked for."}, do: []string{"Add an address record, or leave out -4 or -6."}, see: []string{"dig {host} A", "dig {host} AAAA"}, who: whoDNS, source: "RFC 2308, section 2.2"},
	"dns-error":        {name: aReason, means: []string{"DNS gave no usable answer: SERVFAIL, REFUSED or a time-out. Whether the name exists is not known; another run may decide it (exit code 5)."}, cause: []string{"the resolver here does not work", "the domain's own servers do not answer, or DNSSEC fails"}, do: []string{"Try another resolver (--resolver). If it works there, the one you have is at fault; if not, the domain's servers.", "With +cd it works and without not: a DNSSEC fault of the domain."}, see: []string{"dig {host} A", "dig +cd {host} A", "dig +trace {host} A"}, who: "whoever runs the resolver, or the domain's DNS", source: "RFC 1035, section 4.1.1"},
	"no-mail":          {name: aReason, means: []string{"The domain declares with a null MX (\"MX 0 .\") that it accepts no mail."}, do: []string{"Nothing: it is by intention. If it is your domain and should get mail, replace the record."}, see: []string{"dig +short MX {domain}"}, who: whoDNS, source: "RFC 7505, section 3"},
	"bad-name":         {name: aReason, means: []string{"What stands there is no domain name: a label is empty or longer than 63 characters, or a character is not allowed."}, do: []string{"Correct it in the list or in the MX record."}, see: []string{"dig +short MX {domain}"}, who: whoYou, source: "RFC 1035, section 2.3.4"},
	"interrupted":      {name: aReason, means: []string{"The run was stopped before this endpoint was decided."}, do: []string{"Go on where it stopped: smtpsweep scan --resume JOURNAL."}, who: whoYou},

	"smtp":       {name: aService, means: []string{"A mail server greeted with a 2xx code."}, do: []string{"Nothing. Findings, if any, say what is wrong with it."}, see: []string{"nc {host} 25"}, who: whoNobody, source: "RFC 5321, section 3.1"},
	"refusing":   {name: aService, means: []string{"A mail server greeted with 4xx or 5xx: it is there and does not want to talk to this machine, at least now."}, cause: []string{"your address has no reverse DNS, or is on a blocklist", "too many connections (421)", "it only talks to known partners"}, do: []string{"Read the banner; explain it: smtpsweep explain \"BANNER\".", "Test from an address that may send mail."}, see: []string{"nc {host} 25", "dig +short -x {me}", "dig +short {rme}.zen.spamhaus.org"}, who: whoSender, source: "RFC 5321, section 3.1"},
	"mute":       {name: aService, means: []string{"The port accepted the connection and sent nothing for as long as we waited."}, cause: []string{"a long deliberate pause before the greeting", "the server waits for its own DNS or ident look-up", "a TLS port: the client must speak first", "a firewall or load balancer accepts, and nobody is behind it"}, do: []string{"Wait longer: --patience 5m.", "Try TLS on the same port.", "On the server: check that its resolver answers; behind a balancer: whether a backend is up."}, see: []string{"nc {host} 25", "openssl s_client -connect {host}:25"}, who: whoReceiver, source: "RFC 5321, section 4.5.3.2.1 (a client waits up to 5 minutes)"},
	"closing":    {name: aService, means: []string{"The port accepted the connection and closed it before a greeting."}, cause: []string{"a limit of connections, or an allow-list", "TCP wrappers or a blocklist that closes without a word", "a PROXY header is expected (behind a load balancer)", "the server process crashes at start"}, do: []string{"On the server: look at its log at that moment.", "Check hosts.deny, postscreen or connection limits."}, see: []string{"journalctl -u postfix --since -10min", "nc {host} 25"}, who: whoReceiver},
	"tls-failed": {name: aService, means: []string{"The port is for implicit TLS (465), and the TLS handshake failed. Nothing of SMTP was seen."}, cause: []string{"no certificate, or a broken one, is set up", "no common TLS version", "the port speaks plain SMTP"}, do: []string{"Read the column error, then test by hand.", "Check the certificate and key files of the server."}, see: []string{"openssl s_client -connect {host}:465 -servername {host}"}, who: whoReceiver, source: "RFC 8314, section 3.3"},
	"wrong-mode": {name: aService, means: []string{"TLS where plain SMTP was expected (25, 587), or plain SMTP where TLS was expected (465)."}, cause: []string{"the listener's settings are exchanged (Postfix: smtpd_tls_wrappermode on the wrong line of master.cf)", "a forwarding rule leads to the wrong port"}, do: []string{"465 begins with TLS; 25 and 587 begin in plain text and offer STARTTLS. Set the listener accordingly."}, see: []string{"openssl s_client -connect {host}:465", "openssl s_client -starttls smtp -connect {host}:587", "postconf -M"}, who: whoReceiver, source: "RFC 8314, section 3.3"},
	"tarpit":     {name: aService, means: []string{"The server drips its answer byte by byte, or never ends its greeting: made to hold spammers, or us, as long as possible."}, cause: []string{"a tarpit or spamd in front of the mail server", "your address is on its list"}, do: []string{"If it is yours: take your monitoring's address off its list.", "Otherwise leave it alone."}, see: []string{"nc {host} 25"}, who: whoReceiver},
	"other":      {name: aService, means: []string{"Something answers on the mail port that is not SMTP; the column software names it if it was recognised."}, do: []string{"Look at the banner; close the port or move the service if it is yours."}, see: []string{"nc {host} 25"}, who: whoReceiver},

	"offered":          {name: aStartTLS, means: []string{"The server lists STARTTLS and does not refuse it."}, do: []string{"Nothing."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25"}, who: whoNobody, source: "RFC 3207, section 4"},
	"refused":          {name: aStartTLS, means: []string{"The server lists STARTTLS, and refuses it when asked."}, cause: []string{"its certificate or key cannot be read", "a device on the way answers in its name"}, do: []string{"On the server: check the certificate files and the log."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25"}, who: whoReceiver, source: "RFC 3207, section 4"},
	"absent":           {name: aStartTLS, means: []string{"The server answered EHLO and does not offer STARTTLS: mail and passwords travel in plain text."}, cause: []string{"TLS is not set up", "a device on the way removes the keyword"}, do: []string{"Set up a certificate (Postfix: smtpd_tls_security_level = may, smtpd_tls_chain_files).", "If the server is set up: compare from its own network, and switch off SMTP inspection on the firewall."}, see: []string{"swaks --server {host} --quit-after EHLO"}, who: whoReceiver, source: "RFC 3207, section 4; RFC 8314"},
	"masked":           {name: aStartTLS, means: []string{"The keyword STARTTLS was overwritten with X on the way: a firewall inspects SMTP and prevents encryption."}, do: []string{"Switch off ESMTP inspection on the Cisco ASA or the like (no inspect esmtp, or allow-tls)."}, see: []string{"swaks --server {host} --quit-after EHLO"}, who: whoNetwork, source: "RFC 3207, section 6"},
	"fate=reached":     {name: aFate, means: []string{"The SYNs to the port reached the host, which accepted or refused the connection. Nothing on the way stops them."}, do: []string{"Nothing on the way. What the host says is in the columns state and reason."}, see: []string{"sudo traceroute -T -p 25 {ip}"}, who: whoNobody},
	"fate=lost":        {name: aFate, means: []string{"From some hop on nothing answers SYNs to the port, while those to another port of the same host get through: something drops them without a word. It sits after hop after_hop, where they were still seen, and at hop no_later_than at the latest: in the rules of the one for what it forwards, of the other for what arrives, or in a device between that no trace shows."}, do: []string{"Ask whoever runs these two hops whether they filter the port: the network words and names of the hops say whose they are.", "If hop no_later_than is the host itself, it may be the host's own firewall."}, see: []string{"sudo traceroute -T -p 25 {ip}", "sudo traceroute -T -p 587 {ip}"}, who: "whoever runs the hops after_hop and no_later_than"},
	"fate=rejected":    {name: aFate, means: []string{"A device on the way, or the host, answers SYNs to the port with an ICMP message that says no. Its address is in stopped_by; stopped_hop is where it stands on the path, if a hop has that address."}, do: []string{"Ask whoever runs the device with that address to let the port through.", "Explain the message: smtpsweep explain \"ICMP 3/13\"."}, see: []string{"sudo traceroute -T -p 25 {ip}"}, who: "whoever runs the device in stopped_by"},
	"fate=cut":         {name: aFate, means: []string{"SYNs to the port are refused by a TCP reset that comes from nearer than the host is: other ports of the same host are answered from farther. A device between after_hop and no_later_than refuses in the host's name."}, do: []string{"Ask whoever runs the hops after_hop and no_later_than: it is a rule that rejects with a reset."}, see: []string{"sudo traceroute -T -p 25 {ip}", "sudo traceroute -T -p 587 {ip}"}, who: "whoever runs the hops after_hop and no_later_than"},
	"fate=interposed":  {name: aFate, means: []string{"A connection to the port is accepted nearer than the host is: other ports of the same host are answered from farther. A transparent proxy between after_hop and no_later_than takes the connections, and may read and change what is said."}, do: []string{"Do not believe greetings, STARTTLS or certificates that come through it.", "Ask whoever runs these hops for a way around it, or use a port that it does not take."}, see: []string{"sudo traceroute -T -p 25 {ip}", "openssl s_client -connect {ip}:25 -starttls smtp"}, who: "whoever runs the hops after_hop and no_later_than"},
	"fate=untraced":    {name: aFate, means: []string{"The port could not be traced, because no SYN to it leaves this machine, or the trace was interrupted. The column error says why. It says nothing about the network or the host."}, do: []string{"Mend what the column error says, and trace again."}, see: []string{"sudo nft list ruleset", "ip route get {ip}"}, who: whoYou},
	"starttls=unknown": {name: aStartTLS, means: []string{"EHLO failed, so it cannot be known whether the server offers STARTTLS."}, do: []string{"See why EHLO failed: the column finding or error."}, see: []string{"swaks --server {host} --quit-after EHLO"}, who: whoReceiver, source: "RFC 3207, section 4"},

	"trusted":        {name: aTrust, means: []string{"The certificate chain leads to a root of this machine's store and is in date. Whether the name fits is another column."}, do: []string{"Nothing."}, who: whoNobody, source: "RFC 5280, section 6"},
	"bad":            {name: aTrust, means: []string{"The certificate cannot be parsed, or breaks a rule so that nobody should accept it."}, do: []string{"Issue a new certificate."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -showcerts"}, who: whoReceiver, source: "RFC 5280"},
	"expired":        certExpired(aTrust),
	"not-yet-valid":  certNotYetValid(aTrust),
	"self-signed":    certSelfSigned(aTrust),
	"unknown-issuer": certUnknownIssuer(aTrust),

	"result=pass":      {name: aResult, means: []string{"The policy is kept here: what must be open is open, or what must be blocked is blocked, and the far end is known to be alive."}, do: []string{"Nothing."}, who: whoNobody},
	"fail-open":        {name: aResult, means: []string{"The policy denies this traffic, and a connection was established: the firewall lets out what it must not."}, cause: []string{"a rule of the firewall is missing, or a broader one stands before it", "the traffic takes another way than through that firewall"}, do: []string{"In the firewall: find the rule that lets this source reach this destination and port.", "If it is meant to be open: add it to the policy, for a time as an exception."}, see: []string{"nc -vz {ip} 25"}, who: whoNetwork},
	"fail-blocked":     {name: aResult, means: []string{"The policy allows this traffic, and it does not get through, while the same far end answers on another port or to another vantage."}, cause: []string{"a rule of the firewall is missing or too narrow", "the provider blocks the port"}, do: []string{"Ask whoever runs the device in stopped_at, if there is one; else trace the path of this port and of one that works.", "If it is meant to be blocked: take it out of the policy."}, see: []string{"sudo traceroute -T -p 25 {ip}", "sudo traceroute -T -p 587 {ip}"}, who: whoNetwork},
	"result=exception": {name: aResult, means: []string{"Open by an exception of the policy that still counts; the columns owner and expires say whose it is and until when."}, do: []string{"Nothing, until the day in expires."}, who: whoNobody},
	"result=expired":   {name: aResult, means: []string{"Open by an exception of the policy whose last day is over: what it permitted is denied again, and is still open."}, do: []string{"Ask the owner of the exception whether it is still needed: renew it in the policy, or close it in the firewall and take it out."}, who: "whoever is named in the column owner"},
	"untested":         {name: aResult, means: []string{"Nobody looked from there, or what was seen proves nothing: silence of a far end that answered nothing else within 10 minutes may be a dead server, and a refusal may be its own. The column note says which."}, do: []string{"Look from that segment: smtpsweep scan FAR-END --source ADDRESS --vantage SEGMENT -o SEGMENT.jsonl.", "Take far ends that have another of the ports open, and look from all segments within 10 minutes."}, who: whoYou},
}

// exitTopics are the exit codes (DESIGN.md, section 2).
var exitTopics = map[string]topic{
	"0":   {means: []string{"Done, and nothing is wrong."}, do: []string{"Nothing."}, who: whoNobody},
	"1":   {means: []string{"It could not run: privilege, environment, or a fault of the program."}, do: []string{"Read the sentence on stderr."}, who: whoYou},
	"2":   {means: []string{"The command or its input is wrong; nothing was sent."}, do: []string{"Correct what the sentence on stderr names."}, who: whoYou},
	"3":   {means: []string{"Done, and the answer is bad: a policy is violated, a text is not known to explain, or a row of the demo is wrong, for instance."}, do: []string{"Read the report: it says what and why."}, who: whoYou},
	"4":   {means: []string{"An output could not be written. The progress is saved in the journal."}, do: []string{"Make room or correct the path, then: smtpsweep report last -o FILE."}, who: whoYou},
	"5":   {means: []string{"Finished, but some endpoints are undecided for a cause that another run may cure (local-error, dns-error), or a part of a policy is untested."}, do: []string{"Cure the cause, then: smtpsweep scan --resume JOURNAL.", "Of a policy: look at what the rows untested name."}, who: whoYou},
	"6":   {means: []string{"Refused for safety; nothing was sent."}, do: []string{"Read what was refused; if you mean it, add the flag that the sentence names."}, who: whoYou},
	"7":   {means: []string{"The journal does not match the command, or is damaged."}, do: []string{"Resume with the same targets and flags, or begin a new journal."}, who: whoYou},
	"130": {means: []string{"Interrupted by Ctrl-C; the progress is saved."}, do: []string{"Go on: smtpsweep scan --resume JOURNAL."}, who: whoYou},
	"143": {means: []string{"Ended by a signal (SIGTERM); the progress is saved."}, do: []string{"Go on: smtpsweep scan --resume JOURNAL."}, who: whoYou},
	"141": {means: []string{"The reader of stdout went away (a closed pipe)."}, do: []string{"Nothing, if that was meant (| head)."}, who: whoNobody},
}
