package egress

import "fmt"

// A Snippet is how a mail server is told to send through a relay.
type Snippet struct {
	Server string // "Postfix"
	Where  string // file or place
	Lines  []string
	Verify string // a command that shows that it works
}

// HowTo returns the snippets for a relay on a port: 587 and 2525 begin in plain
// text and are made to need STARTTLS, 465 is TLS from the first byte.
func HowTo(port uint16) []Snippet {
	implicit := port == 465
	const relay = "smtp.YOURPROVIDER"
	postfix := []string{
		fmt.Sprintf("relayhost = [%s]:%d", relay, port),
		"smtp_sasl_auth_enable = yes",
		"smtp_sasl_password_maps = hash:/etc/postfix/sasl_passwd",
		"smtp_sasl_security_options = noanonymous",
		"smtp_tls_security_level = secure",
	}
	exim := []string{
		"# a router, before dnslookup:",
		"smarthost:", "  driver = manualroute", "  domains = ! +local_domains", "  transport = relay_smtp",
		fmt.Sprintf("  route_list = * %s::%d byname", relay, port),
		"# a transport:",
		"relay_smtp:", "  driver = smtp", "  hosts_require_auth = *", "  hosts_require_tls = *",
		"  tls_verify_certificates = system",
		"# an authenticator:",
		"relay_login:", "  driver = plaintext", "  public_name = PLAIN", "  client_send = ^USER^PASSWORD",
	}
	exchange := []string{
		fmt.Sprintf("New-SendConnector -Name Relay -AddressSpaces * -SmartHosts %s -Port %d `", relay, port),
		"  -DNSRoutingEnabled $false -RequireTLS $true -SmartHostAuthMechanism BasicAuthRequireTLS `",
		"  -AuthenticationCredential (Get-Credential)",
	}
	if implicit {
		postfix = append(postfix, "smtp_tls_wrappermode = yes")
		exim = append(exim[:12:12], append([]string{"  protocol = smtps"}, exim[12:]...)...)
		exchange = []string{"Exchange cannot begin with TLS: use port 587"}
	}
	return []Snippet{
		{"Postfix", "/etc/postfix/main.cf; then: echo '[" + relay + fmt.Sprintf("]:%d", port) + " USER:PASSWORD' >/etc/postfix/sasl_passwd; chmod 600 /etc/postfix/sasl_passwd; postmap /etc/postfix/sasl_passwd; postfix reload", postfix,
			"postconf -n relayhost; echo test | sendmail -v you@example.org; mailq"},
		{"Exim", "its configuration (Debian: dpkg-reconfigure exim4-config, \"mail sent by smarthost\")", exim, "exim -bt you@example.org; exim -bp"},
		{"Exchange", "Exchange Management Shell", exchange, "Get-SendConnector Relay | Format-List; Get-Queue"},
	}
}
