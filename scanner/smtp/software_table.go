package smtp

import "strings"

// A softwareRule recognises one product by its greeting. All conditions that
// are given must hold.
type softwareRule struct {
	name  string                         // as reported
	host  string                         // domain that the greeting's host name is, or is below
	text  string                         // whole words of the greeting after the host name, lower case
	after string                         // a version follows this text (lower case); "" if the product never says one
	check func(g *softwareGreeting) bool // what a contained text cannot express
}

// softwareTable is in order of precedence: services before the server software
// that they run, products that wrap another before that, specific texts before
// general ones. It is written from what these servers say in public.
var softwareTable = []softwareRule{
	// Hosted services that say who they are, or greet with a domain of their own.
	{name: "Gmail", text: " - gsmtp"},
	{name: "Gmail", text: " - gcdp", host: "google.com"},
	{name: "Outlook.com", host: "hotmail.com"},
	{name: "Exchange Online", text: "microsoft esmtp mail service", host: "outlook.com"},
	{name: "Exchange Online", text: "microsoft esmtp mail service", host: "outlook.office365.com"},
	{name: "Exchange Online", text: "microsoft esmtp mail service", host: "outlook.de"},
	{name: "Exchange Online", text: "microsoft esmtp mail service", host: "outlook.cn"},
	{name: "Amazon SES", text: "esmtp simpleemailservice"},
	{name: "Amazon SES", host: "amazonaws.com", check: softwareSESInbound},
	{name: "Yahoo", host: "yahoo.com"},
	{name: "Yahoo", host: "yahoodns.net"},
	{name: "Yahoo Japan", host: "yahoo.co.jp"},
	{name: "iCloud", text: "icloud smtp"},
	{name: "iCloud", host: "icloud.com"},
	{name: "iCloud", host: "me.com"},
	{name: "Fastmail", host: "messagingengine.com"},
	{name: "Fastmail", host: "fastmail.com"},
	{name: "Zoho", host: "zoho.com"},
	{name: "Zoho", host: "zoho.eu"},
	{name: "Zoho", host: "zohomail.com"},
	{name: "Yandex", text: "yandex.mail for your domain"},
	{name: "Yandex", host: "yandex.net"},
	{name: "Yandex", host: "yandex.ru"},
	{name: "Mail.ru", host: "mail.ru"},
	{name: "GMX/IONOS Nemesis", text: "nemesis esmtp service"},
	{name: "T-Online", text: "t-online esmtp receiver"},
	{name: "Cloudflare Email Routing", text: "cloudflare email"},
	{name: "SendGrid", text: "sg esmtp service ready"},
	{name: "SendGrid", text: "esmtp service ready at geopod"},
	{name: "Mailgun", text: "mailgun influx"},
	{name: "Mailgun", host: "mailgun.org"},
	{name: "Momentum", text: "esmtp ecelerity", after: "esmtp ecelerity "},
	{name: "SparkPost", host: "sparkpostmail.com"},
	{name: "Postmark", host: "postmarkapp.com"},
	{name: "Mailjet", text: "esmtp mailjet"},
	{name: "Mailjet", host: "mailjet.com"},
	{name: "Brevo", host: "sendinblue.com"},
	{name: "Brevo", host: "brevo.com"},
	{name: "Mailtrap", host: "mailtrap.io"},
	{name: "QQ Mail", text: "qq mail server"},
	{name: "Seznam", text: "seznam smtp server"},
	{name: "GoDaddy", host: "secureserver.net", text: "bizsmtp"},
	{name: "Rackspace Email", host: "emailsrvr.com"},

	// Filtering services and gateways.
	{name: "Proofpoint", host: "pphosted.com"},
	{name: "Proofpoint", host: "gpphosted.com"},
	{name: "Proofpoint Essentials", host: "ppe-hosted.com"},
	{name: "Proofpoint", text: "esmtp mfa-", check: softwareProofpoint},
	{name: "Proofpoint", text: "esmtp cm-", check: softwareProofpoint},
	{name: "Mimecast", host: "mimecast.com"},
	{name: "Mimecast", host: "mimecast.co.za"},
	{name: "Symantec Email Security.cloud", host: "messagelabs.com"},
	{name: "Symantec Messaging Gateway", text: "symantec messaging gateway", after: "symantec messaging gateway "},
	{name: "Symantec Email Proxy", text: "symantec email proxy"},
	{name: "Cisco IronPort", host: "iphmx.com"},
	{name: "Barracuda", host: "cudaops.com"},
	{name: "Barracuda", host: "barracudanetworks.com"},
	{name: "Barracuda", text: "esmtp (", check: softwareBarracuda},
	{name: "FortiMail", text: "esmtp smtpd;"},
	{name: "Sophos Email", host: "sophos.com"},
	{name: "Trend Micro Email Security", host: "trendmicro.com"},
	{name: "Trend Micro Email Security", host: "trendmicro.eu"},
	{name: "Trend Micro InterScan", text: "interscan", after: "version: "},
	{name: "Hornetsecurity", host: "hornetsecurity.com"},
	{name: "Hornetsecurity", host: "antispameurope.com"},
	{name: "SpamTitan", host: "spamtitan.com"},
	{name: "MailRoute", host: "mailroute.net"},
	{name: "SpamExperts", host: "antispamcloud.com"},
	{name: "SpamExperts", host: "spamexperts.com"},
	{name: "Retarus", host: "retarus.com"},
	{name: "MailMarshal", text: "mailmarshal", after: "mailmarshal ("},
	{name: "MIMEsweeper", text: "mailsweeper esmtp receiver", after: "version "},
	{name: "NoSpamProxy", text: "nospamproxy"},
	{name: "Proxmox Mail Gateway", text: "esmtp proxmox"},
	{name: "spamd (OpenBSD)", text: "esmtp spamd ip-based spam blocker"},
	{name: "AVG mail shield", text: "avg esmtp proxy server", after: "avg esmtp proxy server "},
	{name: "GNU Anubis", text: "gnu anubis", after: "gnu anubis v"},

	// Server software, and the packages around it.
	{name: "Zimbra", text: "esmtp zimbra", after: "esmtp zimbra "},
	{name: "Zimbra", text: "zimbra esmtp"},
	{name: "Postfix", text: "esmtp postfix", after: "esmtp postfix "},
	{name: "Postfix", text: "(postfix)"},
	{name: "Exim", text: "esmtp exim", after: "esmtp exim "},
	{name: "Exim", text: "smtp exim", after: "smtp exim "},
	{name: "Sendmail", text: "esmtp sendmail", after: "esmtp sendmail "},
	{name: "Sendmail", text: "sendmail ready"},
	{name: "IIS SMTP", text: "microsoft esmtp mail service, version:", after: "mail service, version: "},
	{name: "Microsoft Exchange", text: "microsoft esmtp mail service"},
	{name: "Microsoft Exchange", text: "microsoft exchange internet mail service", after: "internet mail service "},
	{name: "OpenSMTPD", text: "esmtp opensmtpd", after: "esmtp opensmtpd "},
	{name: "Haraka", text: "esmtp haraka", after: "esmtp haraka"},
	{name: "Stalwart", text: "stalwart esmtp"},
	{name: "Stalwart", text: "stalwart smtp"},
	{name: "mox", text: "esmtp mox", after: "esmtp mox "},
	{name: "Kerio Connect", text: "kerio connect", after: "kerio connect "},
	{name: "Kerio MailServer", text: "kerio mailserver", after: "kerio mailserver "},
	{name: "MDaemon", text: "esmtp mdaemon", after: "esmtp mdaemon "},
	{name: "hMailServer", text: "hmailserver", after: "hmailserver "},
	{name: "Domino", text: "domino release", after: "domino release "},
	{name: "Domino", text: "lotus domino"},
	{name: "GroupWise", text: "groupwise internet agent", after: "groupwise internet agent "},
	{name: "MailEnable", text: "mailenable service", after: "version: "},
	{name: "IceWarp", text: "esmtp icewarp", after: "esmtp icewarp "},
	{name: "Merak (IceWarp)", text: "esmtp merak", after: "esmtp merak "},
	{name: "CommuniGate Pro", text: "communigate pro", after: "communigate pro "},
	{name: "PowerMTA", text: "powermta(tm)", after: "powermta(tm) "},
	{name: "KumoMTA", text: "kumomta", after: "kumomta "},
	{name: "MailerQ", text: "mailerq", after: "mailerq "},
	{name: "Hurricane MTA", text: "hurricane server"},
	{name: "Courier", text: "courier mail server"},
	{name: "Courier", text: "esmtp courier", after: "esmtp courier "},
	{name: "Apache James", text: "james smtp server", after: "james smtp server "},
	{name: "Apache James", text: "apache james"},
	{name: "Oracle Messaging Server", text: "oracle communications messaging", after: "messaging server "},
	{name: "Oracle Messaging Server", text: "(sun java(tm) system messaging server", after: "messaging server "},
	{name: "Dovecot submission", text: "dovecot", check: softwareDovecot},
	{name: "chasquid", text: "esmtp chasquid", after: "esmtp chasquid "},
	{name: "aiosmtpd", text: "python smtp ", check: softwareAiosmtpd, after: "python smtp "},
	{name: "Python smtpd", text: "python smtp proxy version", after: "python smtp proxy version "},
	{name: "Twisted Mail", text: "no uce no ube no relay probes"},
	{name: "MailHog", text: "esmtp mailhog"},
	{name: "Mailpit", text: "mailpit esmtp"},
	{name: "MailCatcher (EventMachine)", text: "eventmachine smtp server"},
	{name: "smtp4dev", text: "smtp4dev", after: "smtp4dev "},
	{name: "Inbucket", text: "inbucket smtp", after: "inbucket smtp "},
	{name: "Postal", text: "esmtp postal/"},
	{name: "GreenMail", text: "greenmail smtp service", after: "greenmail smtp service "},
	{name: "ZoneMTA", text: "zonemta", after: "zonemta"},
	{name: "qpsmtpd", text: "esmtp qpsmtpd", after: "esmtp qpsmtpd "},
	{name: "MasqMail", text: "masqmail", after: "masqmail "},
	{name: "ZMailer", text: "zmailer server", after: "zmailer server "},
	{name: "XMail", text: "[xmail ", after: "[xmail "},
	{name: "Mercury/32", text: "mercury/32", after: "mercury/32 "},
	{name: "SmarterMail", text: "smartermail", after: "smartermail "},
	{name: "SurgeMail", text: "surgesmtp", after: "(version "},
	{name: "ArGoSoft Mail Server", text: "argosoft mail server", after: "version "},
	{name: "IMail", text: "(imail ", after: "(imail "},
	{name: "MailSite", text: "mailsite esmtp receiver", after: "version "},
	{name: "InterMail", text: "esmtp server (intermail", after: "(intermail vm."},
	{name: "LSMTP", text: "lsmtp for windows", after: " v"},
	{name: "Gordano Messaging Suite", text: "gordano messaging"},

	// Names that may stand anywhere in the text, after all that are surer.
	{name: "Postmark", text: "postmark smtp"},
	{name: "ImprovMX", text: "improvmx"},
	{name: "Coremail", text: "coremail"},
	{name: "Cisco IronPort", text: "ironport"},
	{name: "Cisco IronPort", text: "sending mta's poor reputation"},
	{name: "FortiMail", text: "fortimail"},
	{name: "Sophos", text: "sophos"},
	{name: "Trend Micro", text: "trend micro"},
	{name: "SpamTitan", text: "spamtitan"},
	{name: "eXpurgate", text: "expurgate"},
	{name: "McAfee Email Gateway", text: "mcafee"},
	{name: "Clearswift", text: "clearswift"},
	{name: "Avast mail shield", text: "avast"},
	{name: "ESET mail shield", text: "eset mail"},
	{name: "BitDefender mail shield", text: "bitdefender"},
	{name: "Kaspersky mail shield", text: "kaspersky"},
	{name: "GroupWise", text: "groupwise"},
	{name: "Axigen", text: "axigen"},
	{name: "GreenArrow", text: "greenarrow"},
	{name: "Maddy", text: "maddy"},
	{name: "Papercut", text: "papercut"},
	{name: "WildDuck", text: "wildduck"},
	{name: "VPOP3", text: "vpop3"},

	// FTP greets with 220 too (RFC 959).
	{name: "FTP: vsftpd", text: "(vsftpd ", after: "(vsftpd "},
	{name: "FTP: ProFTPD", text: "proftpd ", after: "proftpd "},
	{name: "FTP: Pure-FTPd", text: "pure-ftpd"},
	{name: "FTP: FileZilla Server", text: "filezilla server", after: "filezilla server "},
	{name: "FTP: Microsoft FTP Service", text: "microsoft ftp service"},
}

// softwareProofpoint looks for the number of a machine: "mfa-m0012345".
func softwareProofpoint(g *softwareGreeting) bool {
	_, s, _ := strings.Cut(g.lower, "-m")
	return len(s) >= 6 && softwareDigits(s[:6])
}

// softwareBarracuda looks for "esmtp (" and 32 hexadecimal digits in parentheses:
// the greeting of the Barracuda appliances.
func softwareBarracuda(g *softwareGreeting) bool {
	_, s, _ := strings.Cut(g.lower, "esmtp (")
	if len(s) < 33 || s[32] != ')' {
		return false
	}
	return strings.Trim(s[:32], "0123456789abcdef") == ""
}

// softwareSESInbound keeps a mail server on a rented EC2 machine, whose name is
// below amazonaws.com as well, from being taken for Amazon's own service.
func softwareSESInbound(g *softwareGreeting) bool {
	return strings.HasPrefix(g.host, "inbound-smtp.") || strings.HasPrefix(g.host, "email-smtp.")
}

// softwareDovecot wants the name as a word of the greeting "Dovecot ready.".
func softwareDovecot(g *softwareGreeting) bool {
	return strings.HasPrefix(g.lower, "dovecot ") || strings.HasPrefix(g.lower, "esmtp dovecot")
}

// softwareAiosmtpd tells "Python SMTP 1.4.4" from "Python SMTP proxy version 0.3".
func softwareAiosmtpd(g *softwareGreeting) bool {
	return strings.HasPrefix(g.lower, "python smtp ") && !strings.HasPrefix(g.lower, "python smtp proxy")
}
