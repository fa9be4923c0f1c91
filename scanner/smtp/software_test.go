package smtp

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// softwareLines has at least one greeting for every rule of softwareTable;
// TestEveryFingerprintHasAGreeting holds it to that.
var softwareLines = []struct{ banner, want string }{
	{"220 mx.google.com ESMTP 4fb4d7f45d1cf-5d1b2-3a4si1234567.17 - gsmtp", "Gmail"},
	{"220 mx.google.com ESMTP d2e1a72fcca58-72a9 - gcdp", "Gmail"},
	{"220 SNT004-MC1F5.hotmail.com Sending unsolicited commercial or bulk e-mail is prohibited.", "Outlook.com"},
	{"220 AM7EUR06FT032.mail.protection.outlook.com Microsoft ESMTP MAIL Service ready at Mon, 1 Jan 2024 10:00:00 +0000 [08DC0]", "Exchange Online"},
	{"220 FR0P281CA0001.outlook.office365.com Microsoft ESMTP MAIL Service ready at Mon, 1 Jan 2024 10:00:00 +0000", "Exchange Online"},
	{"220 BE0P281MB0001.mail.protection.outlook.de Microsoft ESMTP MAIL Service ready at Mon, 1 Jan 2024 10:00:00 +0000", "Exchange Online"},
	{"220 SHXPR01.partner.outlook.cn Microsoft ESMTP MAIL Service ready at Mon, 1 Jan 2024 10:00:00 +0000", "Exchange Online"},
	{"220 email-smtp.amazonaws.com ESMTP SimpleEmailService-d-ABCDEFGH1 aBcDeFgHiJkLmNoP", "Amazon SES"},
	{"220 inbound-smtp.us-east-1.amazonaws.com ESMTP aBcD1234efGH", "Amazon SES"},
	{"220 mtaproxy516.free.mail.ne1.yahoo.com ESMTP ready", "Yahoo"},
	{"220 mta7.am0.yahoodns.net ESMTP ready", "Yahoo"},
	{"220 mta1.mail.vip.kks.yahoo.co.jp ESMTP service ready", "Yahoo Japan"},
	{"220 iCloud SMTP - p00-icloudmta-asmtp-us-east-1", "iCloud"},
	{"220 mx01.mail.icloud.com ESMTP", "iCloud"},
	{"220 ms11p00im-qufv17091201.me.com ESMTP", "iCloud"},
	{"220 mx1.messagingengine.com ESMTP . No UCE permitted.", "Fastmail"},
	{"220 smtp.fastmail.com ESMTP ready", "Fastmail"},
	{"220 mx.zoho.com SMTP Server ready January 1, 2024 10:00:00 AM PST", "Zoho"},
	{"220 mx.zoho.eu SMTP Server ready January 1, 2024 10:00:00 AM CET", "Zoho"},
	{"220 mx.zohomail.com SMTP Server ready January 1, 2024 10:00:00 AM PST", "Zoho"},
	{"220 mxfront12.mail.example.net (Want to use Yandex.Mail for your domain? Visit http://pdd.yandex.ru)", "Yandex"},
	{"220 mail-nwsmtp-mxfront-production-main-1.iva.yp-c.yandex.net ESMTP", "Yandex"},
	{"220 smtp1.mail.yandex.ru ESMTP", "Yandex"},
	{"220 mxs.mail.ru ESMTP (Looking for Mail for your domain? Visit https://biz.mail.ru)", "Mail.ru"},
	{"220 gmx.net (mxgmx016) Nemesis ESMTP Service ready", "GMX/IONOS Nemesis"},
	{"554-gmx.net (mxgmx016) Nemesis ESMTP Service not available\n554-No SMTP service\n554 Bad DNS PTR resource record.", "GMX/IONOS Nemesis"},
	{"220 mailin12.aul.t-online.de T-Online ESMTP receiver ssmtpd ready.", "T-Online"},
	{"220 mx.cloudflare.net Cloudflare Email ESMTP Service ready", "Cloudflare Email Routing"},
	{"220 SG ESMTP service ready at geopod-ismtpd-1-0", "SendGrid"},
	{"220 smtp.example.net ESMTP service ready at geopod-ismtpd-3-1", "SendGrid"},
	{"220 Mailgun Influx ready", "Mailgun"},
	{"220 smtp.mailgun.org ESMTP ready", "Mailgun"},
	{"220 2.0.0 smtp.example.com ESMTP ecelerity 4.2.1.55028 r(Core:4.2.1.12) Mon, 01 Jan 2024 10:00:00 +0000", "Momentum 4.2.1.55028"},
	{"220 smtp.sparkpostmail.com ESMTP", "SparkPost"},
	{"220 Postmark SMTP relay", "Postmark"},
	{"220 smtp.postmarkapp.com ESMTP", "Postmark"},
	{"220 in.example.net ESMTP Mailjet", "Mailjet"},
	{"220 in-v3.mailjet.com ESMTP", "Mailjet"},
	{"220 smtp-relay.sendinblue.com ESMTP Service Ready", "Brevo"},
	{"220 smtp-relay.brevo.com ESMTP Service Ready", "Brevo"},
	{"220 smtp.mailtrap.io ESMTP ready", "Mailtrap"},
	{"220 mx1.example.net ESMTP ImprovMX", "ImprovMX"},
	{"220 newxmmxszc11.qq.com MX QQ Mail Server.", "QQ Mail"},
	{"220 163.com Anti-spam GT for Coremail System (163com[20141201])", "Coremail"},
	{"220 2.0.0 email-smtpd12.ng.seznam.cz Seznam SMTP server waiting for your commands", "Seznam"},
	{"220 p3plibsmtp02-04.prod.phx3.secureserver.net bizsmtp ESMTP server ready", "GoDaddy"},
	{"220 smtp25.gate.ord1d.rsapps.emailsrvr.com ESMTP", "Rackspace Email"},

	{"220 mx0a-00000000.pphosted.com ESMTP mfa-m0000000", "Proofpoint"},
	{"220 mx0a-00000000.gpphosted.com ESMTP ready", "Proofpoint"},
	{"220 mx1-us1.ppe-hosted.com ESMTP", "Proofpoint Essentials"},
	{"220 mx0a.example.org ESMTP mfa-m0012345", "Proofpoint"},
	{"220 mx0b.example.org ESMTP cm-m0012345", "Proofpoint"},
	{"220 us-smtp-inbound-1.mimecast.com ESMTP; Mon, 01 Jan 2024 10:00:00 +0000 [abc.us1]", "Mimecast"},
	{"220 za-smtp-inbound-1.mimecast.co.za ESMTP; Mon, 01 Jan 2024 10:00:00 +0000", "Mimecast"},
	{"220 server-8.tower-123.messagelabs.com ESMTP", "Symantec Email Security.cloud"},
	{"220 gw.example.org ESMTP Symantec Messaging Gateway", "Symantec Messaging Gateway"},
	{"220 Symantec Email Proxy Ready", "Symantec Email Proxy"},
	{"220 esa1.hc1234-56.iphmx.com ESMTP", "Cisco IronPort"},
	{"220 mail.example.org ESMTP IronPort", "Cisco IronPort"},
	{"554-mail.example.org\n554 Your access to this mail system has been rejected due to the sending MTA's poor reputation.", "Cisco IronPort"},
	{"220 mx-inbound12-34.us-east-2a.ess.aws.cudaops.com ESMTP (aabbccdd00112233aabbccdd00112233)", "Barracuda"},
	{"220 barracuda.barracudanetworks.com ESMTP", "Barracuda"},
	{"220 filter.example.org ESMTP (0123456789abcdef0123456789abcdef)", "Barracuda"},
	{"220 fml.example.org ESMTP Smtpd; Mon, 1 Jan 2024 10:00:00 +0000", "FortiMail"},
	{"220 fml.example.org FortiMail ready", "FortiMail"},
	{"220 mx-01-us-west-2.prod.hydra.sophos.com ESMTP", "Sophos Email"},
	{"220 mail.example.org ESMTP Sophos Email Appliance v4.5.3.0", "Sophos"},
	{"220 in.hes.trendmicro.com Trend Micro Email Security ESMTP service ready", "Trend Micro Email Security"},
	{"220 in.hes.trendmicro.eu ESMTP service ready", "Trend Micro Email Security"},
	{"220 gw.example.org InterScan Messaging Security Suite, Version: 9.1.0 ready at Mon, 01 Jan 2024", "Trend Micro InterScan 9.1.0"},
	{"220 gw.example.org Trend Micro ESMTP ready", "Trend Micro"},
	{"220 mx-gate12-hz1.hornetsecurity.com ESMTP", "Hornetsecurity"},
	{"220 mx-gate12.antispameurope.com ESMTP", "Hornetsecurity"},
	{"220 gw.example.org ESMTP SpamTitan", "SpamTitan"},
	{"220 mx1.spamtitan.com ESMTP", "SpamTitan"},
	{"220 mx1.mailroute.net ESMTP", "MailRoute"},
	{"220 mx12.antispamcloud.com ESMTP ready", "SpamExperts"},
	{"220 filter1.spamexperts.com ESMTP ready", "SpamExperts"},
	{"220 mx.example.org ESMTP eXpurgate", "eXpurgate"},
	{"220 mx1.retarus.com ESMTP", "Retarus"},
	{"220 gw.example.org McAfee Email Gateway ESMTP ready", "McAfee Email Gateway"},
	{"220 gw.example.org ESMTP MailMarshal (v8.2.0.12345) Ready", "MailMarshal 8.2.0.12345"},
	{"220 gw.example.org MAILsweeper ESMTP Receiver Version 4.3.20.0 Ready", "MIMEsweeper 4.3.20.0"},
	{"220 gw.example.org ESMTP Clearswift SECURE Email Gateway", "Clearswift"},
	{"220 gw.example.org NoSpamProxy ESMTP ready", "NoSpamProxy"},
	{"220 pmg.example.org ESMTP Proxmox", "Proxmox Mail Gateway"},
	{"220 mx.example.org ESMTP spamd IP-based SPAM blocker; Mon Jan  1 10:00:00 2024", "spamd (OpenBSD)"},
	{"220 localhost Avast! anti-virus SMTP proxy ready", "Avast mail shield"},
	{"220 AVG ESMTP Proxy Server 8.0.138 [270.4.6]", "AVG mail shield 8.0.138"},
	{"220 localhost ESMTP ESET Mail Security", "ESET mail shield"},
	{"220 localhost BitDefender SMTP proxy", "BitDefender mail shield"},
	{"220 localhost Kaspersky SMTP proxy", "Kaspersky mail shield"},
	{"220 localhost (GNU Anubis v4.2 [Linux]) ESMTP ready", "GNU Anubis 4.2"},

	{"220 mail.example.org ESMTP Zimbra 9.0.0", "Zimbra 9.0.0"},
	{"220 mail.example.org Zimbra ESMTP ready", "Zimbra"},
	{"220 mx.example.org ESMTP Postfix", "Postfix"},
	{"220 mx.example.org ESMTP Postfix (Debian/GNU)", "Postfix"},
	{"220 mx.example.org ESMTP Postfix 3.7.11", "Postfix 3.7.11"},
	{"220 mx.example.org ESMTP server (Postfix)", "Postfix"},
	{"220-mx.example.org ESMTP Postfix\n220 mx.example.org ESMTP Postfix", "Postfix (postscreen)"},
	{"220 mx.example.org ESMTP Exim 4.96 Mon, 01 Jan 2024 10:00:00 +0000", "Exim 4.96"},
	{"220-host.example.org ESMTP Exim 4.94.2 #2 Mon, 01 Jan 2024 10:00:00 +0000 \n220-We do not authorize the use of this system to transport unsolicited, \n220 and/or bulk e-mail.", "Exim 4.94.2"},
	{"220 mx.example.org SMTP Exim 4.98-RC3 ready", "Exim 4.98-RC3"},
	{"220 mx.example.org ESMTP Sendmail 8.17.1/8.17.1/Debian-1; Mon, 1 Jan 2024 10:00:00 GMT", "Sendmail 8.17.1"},
	{"220 mx.example.org Sendmail ready at Mon, 1 Jan 2024", "Sendmail"},
	{"220 mx.example.org Microsoft ESMTP MAIL Service, Version: 10.0.17763.1 ready at  Mon, 1 Jan 2024 10:00:00 +0000", "IIS SMTP 10.0.17763.1"},
	{"220 EX01.corp.example Microsoft ESMTP MAIL Service ready at Mon, 1 Jan 2024 10:00:00 +0000", "Microsoft Exchange"},
	{"220 nt.example.org ESMTP Server (Microsoft Exchange Internet Mail Service 5.5.2653.13) ready", "Microsoft Exchange 5.5.2653.13"},
	{"220 mx.example.org ESMTP OpenSMTPD", "OpenSMTPD"},
	{"220 mx.example.org ESMTP Haraka 3.0.3 ready", "Haraka 3.0.3"},
	{"220 mx.example.org ESMTP Haraka/2.8.28 ready", "Haraka 2.8.28"},
	{"220 mx.example.org Stalwart ESMTP at your service", "Stalwart"},
	{"220 mx.example.org Stalwart SMTP ready", "Stalwart"},
	{"220 mx.example.org ESMTP mox v0.0.11", "mox 0.0.11"},
	{"220 mail.example.org Kerio Connect 9.2.7 ESMTP ready", "Kerio Connect 9.2.7"},
	{"220 mail.example.org Kerio MailServer 6.7.3 ESMTP ready", "Kerio MailServer 6.7.3"},
	{"220 mail.example.org ESMTP MDaemon 23.0.2; Mon, 01 Jan 2024 10:00:00 +0000", "MDaemon 23.0.2"},
	{"220 mail.example.org ESMTP hMailServer 4.4.1-B272", "hMailServer 4.4.1-B272"},
	{"220 dom.example.org ESMTP Service (HCL Domino Release 12.0.2FP1) ready at Mon, 1 Jan 2024", "Domino 12.0.2FP1"},
	{"220 dom.example.org ESMTP Service (Lotus Domino Build V55) ready", "Domino"},
	{"220 gw.example.org GroupWise Internet Agent 18.4.1 Copyright (c) 1993-2022 Ready", "GroupWise 18.4.1"},
	{"220 gw.example.org GroupWise SMTP ready", "GroupWise"},
	{"220 mail.example.org ESMTP MailEnable Service, Version: 10.44--10.44 ready at 01/01/24 10:00:00", "MailEnable 10.44--10.44"},
	{"220 mail.example.org Axigen ESMTP ready", "Axigen"},
	{"220-mail ESMTP\n220 by (Axigen)", "Axigen"},
	{"220 mail.example.org ESMTP IceWarp 13.0.3.7; Mon, 01 Jan 2024 10:00:00 +0000", "IceWarp 13.0.3.7"},
	{"220 mail.example.org ESMTP Merak 8.3.8; Mon, 01 Jan 2024 10:00:00 +0000", "Merak (IceWarp) 8.3.8"},
	{"220 mail.example.org ESMTP CommuniGate Pro 6.2.14", "CommuniGate Pro 6.2.14"},
	{"220 out.example.org (PowerMTA(TM) v5.0r7) ESMTP service ready", "PowerMTA 5.0r7"},
	{"220 2.0.0 (PowerMTA(TM) v3.5r13) ESMTP service ready", "PowerMTA 3.5r13"},
	{"220 out.example.org KumoMTA", "KumoMTA"},
	{"220 out.example.org ESMTP GreenArrow", "GreenArrow"},
	{"220 out.example.org ESMTP MailerQ 5.13", "MailerQ 5.13"},
	{"220 out.example.org ESMTP Hurricane Server ready", "Hurricane MTA"},
	{"220 mail.example.org Courier Mail Server ESMTP", "Courier"},
	{"220 mail.example.org ESMTP Courier 1.0.14", "Courier 1.0.14"},
	{"220 mail.example.org SMTP Server (JAMES SMTP Server 2.3.2) ready Mon, 1 Jan 2024", "Apache James 2.3.2"},
	{"220 mail.example.org Apache JAMES awesome SMTP Server", "Apache James"},
	{"220 mail.example.org ESMTP Maddy Mail Server", "Maddy"},
	{"220 mail.example.org -- Server ESMTP (Oracle Communications Messaging Server 8.1.0.1.20200619 64bit)", "Oracle Messaging Server 8.1.0.1.20200619"},
	{"220 mail.example.org -- Server ESMTP (Sun Java(tm) System Messaging Server 6.3-7.02)", "Oracle Messaging Server 6.3-7.02"},
	{"220 mail.example.org Dovecot ready.", "Dovecot submission"},
	{"220 mail.example.org ESMTP chasquid", "chasquid"},
	{"220 mail.example.org Python SMTP 1.4.4", "aiosmtpd 1.4.4"},
	{"220 localhost Python SMTP proxy version 0.3", "Python smtpd 0.3"},
	{"220 mail.example.org NO UCE NO UBE NO RELAY PROBES", "Twisted Mail"},
	{"220 mailhog.example ESMTP MailHog", "MailHog"},
	{"220 localhost Mailpit ESMTP Service ready", "Mailpit"},
	{"220 EventMachine SMTP Server", "MailCatcher (EventMachine)"},
	{"220 localhost smtp4dev ready", "smtp4dev"},
	{"220 localhost ESMTP Papercut", "Papercut"},
	{"220 inbucket.example Inbucket SMTP ready", "Inbucket"},
	{"220 postal.example.org ESMTP Postal/ABC123", "Postal"},
	{"220 /127.0.0.1 GreenMail SMTP Service v1.6.0 ready", "GreenMail 1.6.0"},
	{"220 out.example.org ESMTP ZoneMTA/1.0", "ZoneMTA 1.0"},
	{"220 mx.example.org ESMTP WildDuck", "WildDuck"},
	{"220 mx.example.org ESMTP qpsmtpd 0.96 ready; send us your mail, but not your spam.", "qpsmtpd 0.96"},
	{"220 mx.example.org MasqMail 0.2.21 ESMTP", "MasqMail 0.2.21"},
	{"220 mx.example.org ZMailer Server 2.99.57 ESMTP ready at Mon, 1 Jan 2024", "ZMailer 2.99.57"},
	{"220 mx.example.org <1704103200.1@mx.example.org> [XMail 1.27 ESMTP Server] service ready; Mon, 1 Jan 2024", "XMail 1.27"},
	{"220 mx.example.org Mercury/32 v4.80 ESMTP server ready.", "Mercury/32 4.80"},
	{"220 mx.example.org SmarterMail 100.0.8000 ready", "SmarterMail 100.0.8000"},
	{"220 mx.example.org. SurgeSMTP (Version 7.4b-2) http://surgemail.com", "SurgeMail 7.4b-2"},
	{"220 ArGoSoft Mail Server Pro for WinNT/2000/XP, Version 1.8 (1.8.9.5)", "ArGoSoft Mail Server 1.8"},
	{"220 mx.example.org (IMail 9.23 12345-1) NT-ESMTP Server X1", "IMail 9.23"},
	{"220 mx.example.org MailSite ESMTP Receiver Version 10.3.0 Ready", "MailSite 10.3.0"},
	{"220 mx.example.org ESMTP server (InterMail vM.8.04.03.22.02) ready Mon, 1 Jan 2024", "InterMail 8.04.03.22.02"},
	{"220 mx.example.org (LSMTP for Windows NT v1.1b) ESMTP server", "LSMTP 1.1b"},
	{"220 mx.example.org VPOP3 SMTP Server Ready", "VPOP3"},
	{"220 mx.example.org Gordano Messaging Suite SMTP Server", "Gordano Messaging Suite"},

	{"220 (vsFTPd 3.0.3)", "FTP: vsftpd 3.0.3"},
	{"220 ProFTPD 1.3.7a Server (Debian) [192.0.2.1]", "FTP: ProFTPD 1.3.7a"},
	{"220---------- Welcome to Pure-FTPd [privsep] [TLS] ----------", "FTP: Pure-FTPd"},
	{"220-FileZilla Server 0.9.60 beta\n220 hello", "FTP: FileZilla Server 0.9.60"},
	{"220 Microsoft FTP Service", "FTP: Microsoft FTP Service"},
}

func TestSoftwareIsNamedByItsGreeting(t *testing.T) {
	for _, c := range softwareLines {
		if got := Software(c.banner, 220, "", nil, nil); got != c.want {
			t.Errorf("%q: got %q, want %q", c.banner, got, c.want)
		}
	}
}

func TestEveryFingerprintHasAGreeting(t *testing.T) {
	seen := make([]bool, len(softwareTable))
	for _, c := range softwareLines {
		g := softwareRead(c.banner)
		if i := softwareFind(&g); i >= 0 {
			seen[i] = true
		}
	}
	names := map[string]bool{}
	for i, ok := range seen {
		r := softwareTable[i]
		names[r.name] = true
		if !ok {
			t.Errorf("rule %d (%s, host %q, text %q) is reached by no test greeting", i, r.name, r.host, r.text)
		}
		if r.text != strings.ToLower(r.text) || r.after != strings.ToLower(r.after) || r.host != strings.ToLower(r.host) {
			t.Errorf("rule %d (%s): not in lower case", i, r.name)
		}
		if r.host == "" && r.text == "" {
			t.Errorf("rule %d (%s): has no condition", i, r.name)
		}
	}
	if len(names) < 45 {
		t.Errorf("%d products, want at least 45", len(names))
	}
}

func TestSoftwareIsNotGuessedFromWhatAnybodyCanSay(t *testing.T) {
	for _, banner := range []string{
		"",
		"220",
		"220 ",
		"220 ESMTP",
		"220 mx.example.org",
		"220 mx.example.org ESMTP",
		"220 mx.example.org ESMTP ready",
		"220 mx.example.org SMTP service ready",
		"220 postfix.example.org ESMTP",
		"220 exim4.sendmail.haraka.example.org ESMTP ready",
		"220 mx.google.com.example.org ESMTP ready",
		"220 evilyahoo.com ESMTP ready",
		"220 fake-mimecast.com ESMTP",
		"220 postfix ESMTP",
		"220 exim Hello",
		"220 mx.example.org ESMTP we do not run Postfix, nor Exim 4.96",
		"220 ec2-192-0-2-1.compute-1.amazonaws.com ESMTP ready",
		"220 mx.example.org ESMTP (0123456789abcdef)",
		"220 mx.example.org ESMTP (zz23456789abcdef0123456789abcdef)",
		"220 groupwise ESMTP ready",
		"220 maddy ESMTP",
		"220 mx.example.org ESMTP eximious mail",
		"220 mx.example.org ESMTP moxie",
		"220 mx.example.org ESMTP cm-mail",
		"220 AVAST ESMTP",
		"220 hmailserver",
		"220 mx.example.org ESMTP of Savastian Ltd",
		"220 mx.example.org ESMTP relay for sophos.example.net",
		"220 mx.example.org ESMTP philosophos",
		"220-mx.example.org ESMTP\n220-maddying mail since 1999\n220 bye",
		"220 ec2-192-0-2-1.compute-1.amazonaws.com ESMTP relay-4a7f91",
		"220 ****",
		"220 mx.example.org ESMTP \x1b[31mPostfi\x00x",
		"\n\n\n",
		"220-\n220-\n220 ",
	} {
		got := Software(banner, 220, "", nil, nil)
		if banner == "220 ****" {
			if got != "Cisco PIX/ASA (masked)" {
				t.Errorf("%q: got %q", banner, got)
			}
			continue
		}
		if got != "" {
			t.Errorf("%q: got %q, want nothing", banner, got)
		}
	}
}

func TestSoftwareOfRentedMachineIsNotItsLandlords(t *testing.T) {
	got := Software("220 ec2-192-0-2-1.compute-1.amazonaws.com ESMTP Postfix", 220, "", nil, nil)
	if got != "Postfix" {
		t.Errorf("got %q, want Postfix", got)
	}
}

func TestSoftwareNamesOtherProtocols(t *testing.T) {
	for banner, want := range map[string]string{
		"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3":   "OpenSSH 9.2p1",
		"SSH-2.0-dropbear":                         "SSH server",
		"HTTP/1.1 400 Bad Request":                 "HTTP server",
		"<html><body>Bad Request</body></html>":    "HTTP server",
		"* OK [CAPABILITY IMAP4rev1] ready":        "IMAP server",
		"+OK POP3 ready":                           "POP3 server",
		"RFB 003.008":                              "VNC server",
		"@RSYNCD: 31.0":                            "rsync server",
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 25":      "",
		"\x15\x03\x01\x00\x02\x02\x46":             "",
		"220 mx.example.org ESMTP Exim 4.96 Mon, ": "Exim 4.96",
	} {
		if got := Software(banner, 0, "", nil, nil); got != want {
			t.Errorf("%q: got %q, want %q", banner, got, want)
		}
	}
}

func TestCiscoMaskIsRecognised(t *testing.T) {
	for _, banner := range []string{
		"220 *************************************0*2******0***",
		"220 ****** ******* 2 0 * 0 ***",
		"********************",
	} {
		if got := Software(banner, 220, "", nil, nil); got != "Cisco PIX/ASA (masked)" {
			t.Errorf("%q: got %q", banner, got)
		}
	}
	if got := Software("220 * * *", 220, "", nil, nil); got != "" {
		t.Errorf("three asterisks: got %q, want nothing", got)
	}
}

func softwareTestLines(s string) []string { return strings.Split(s, "|") }

var softwareEHLOs = []struct{ banner, hello, ehlo, want string }{
	{"220 mx.example.org ESMTP", "mx.example.org", "PIPELINING|SIZE 10240000|VRFY|ETRN|STARTTLS|AUTH PLAIN LOGIN|AUTH=PLAIN LOGIN|ENHANCEDSTATUSCODES|8BITMIME|DSN|SMTPUTF8|CHUNKING", "Postfix (by its EHLO)"},
	{"220 mx.example.org welcome", "mx.example.org", "PIPELINING|SIZE|ENHANCEDSTATUSCODES|8BITMIME|DSN", "Postfix (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "PIPELINING|SIZE|DSN|ENHANCEDSTATUSCODES|8BITMIME", ""},
	{"220 mx.example.org ESMTP Postfix", "mx.example.org", "SIZE 10240000|VRFY|ETRN|STARTTLS|ENHANCEDSTATUSCODES|8BITMIME|DSN", "Postfix (postscreen)"},
	{"220 mx.example.org ready", "mx.example.org Hello probe.example.net [192.0.2.1]", "SIZE 52428800|8BITMIME|PIPELINING|CHUNKING|STARTTLS|PRDR|HELP", "Exim (by its EHLO)"},
	{"220 mx.example.org ready", "mx.example.org Hello probe.example.net [192.0.2.1]", "SIZE 52428800|LIMITS MAILMAX=1000 RCPTMAX=50000|8BITMIME|PIPELINING|PIPECONNECT|AUTH PLAIN LOGIN|CHUNKING|STARTTLS|HELP", "Exim (by its EHLO)"},
	{"220 mx.example.org ready", "mx.example.org Hello [192.0.2.1]", "SIZE 37748736|PIPELINING|DSN|ENHANCEDSTATUSCODES|STARTTLS|X-ANONYMOUSTLS|AUTH NTLM|X-EXPS GSSAPI NTLM|8BITMIME|BINARYMIME|CHUNKING|XRDST", "Microsoft Exchange (by its EHLO)"},
	{"220 mx.example.org ready", "mx.example.org Hello [192.0.2.1]", "TURN|SIZE 2097152|ETRN|PIPELINING|DSN|ENHANCEDSTATUSCODES|8bitmime|BINARYMIME|CHUNKING|VRFY|OK", "IIS SMTP (by its EHLO)"},
	{"220 mx.example.org ready", "mx.example.org Hello probe [192.0.2.1], pleased to meet you", "ENHANCEDSTATUSCODES|PIPELINING|8BITMIME|SIZE|DSN|ETRN|AUTH DIGEST-MD5|STARTTLS|DELIVERBY|HELP", "Sendmail (by its EHLO)"},
	{"220 mx.example.org ready", "mx.example.org Hello probe [192.0.2.1], pleased to meet you", "8BITMIME|ENHANCEDSTATUSCODES|SIZE 36700160|DSN|STARTTLS|HELP", "OpenSMTPD (by its EHLO)"},
	{"220 mx.example.org ready", "mx.example.org", "PIPELINING|SIZE 104857600|STARTTLS|ENHANCEDSTATUSCODES|8BITMIME|LIMITS RCPTMAX=1000", "mox (by its EHLO)"},
	{"220 mx.example.org ESMTP Service Ready", "Hello probe.example.net", "PIPELINING|8BITMIME|ENHANCEDSTATUSCODES|CHUNKING|STARTTLS|SIZE 33554432", "go-smtp (Maddy and others) (by its EHLO)"},
	{"220 mx.example.org ready", "mx.example.org", "SIZE 33554432|8BITMIME|SMTPUTF8|HELP", "aiosmtpd (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "SIZE 20480000|STARTTLS|AUTH LOGIN PLAIN|HELP", "hMailServer (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "8BITMIME|SIZE 20971520|STARTTLS", "Cisco IronPort (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "PIPELINING|8BITMIME", "qmail (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "STARTTLS|PIPELINING|8BITMIME|SIZE 20000000|AUTH LOGIN PLAIN", "qmail (by its EHLO)"},
	{"220 mail ESMTP", "mail", "PIPELINING|8BITMIME", "qmail (by its EHLO)"},
	{"220 mx.example.org ready", "mx.example.org", "PIPELINING|8BITMIME", ""},

	{"220 mx.example.org ready", "mx.example.org you had me at HELO", "STARTTLS", "Stalwart (by its EHLO)"},
	{"220 mx.example.org ready", "mx.example.org Hello probe [192.0.2.1], Haraka is at your service.", "PIPELINING", "Haraka (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org Nice to meet you, probe.example.net", "PIPELINING|8BITMIME|SMTPUTF8", "Nodemailer smtp-server (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org at your service, [192.0.2.1]", "SIZE 157286400", "Gmail (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org [192.0.2.1], this server offers 4 extensions", "AUTH LOGIN|SIZE 5120000|HELP|AUTH=LOGIN", "MailEnable (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org says EHLO to 192.0.2.1:5678", "8BITMIME", "Momentum (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org says hello", "8BITMIME", "PowerMTA (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org Cloudflare Email greets 192.0.2.1", "8BITMIME", "Cloudflare Email Routing (by its EHLO)"},

	{"220 mx.example.org ESMTP", "mx.example.org Ok.", "AUTH LOGIN PLAIN|STARTTLS|XVERP=Courier|PIPELINING|8BITMIME|DSN", "Courier (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "HELP|X-ANONYMOUSTLS", "Microsoft Exchange (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "HELP|X-EXPS NTLM", "Microsoft Exchange (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "HELP|XRDST", "Microsoft Exchange (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "HELP|XSHADOWREQUEST", "Microsoft Exchange (by its EHLO)"},
	{"220 mx.example.org ESMTP", "mx.example.org", "8BITMIME|XLOOP 0123456789", "Oracle Messaging Server (by its EHLO)"},

	{"220 mx.example.org ESMTP", "mx.example.org", "XXXXXXXA|XXXXXXXB", ""},
	{"220 mx.example.org ESMTP", "postfix.example.org", "STARTTLS", ""},
	{"220 mx.example.org ESMTP Exim 4.96", "mx.example.org", "PIPELINING|SIZE|ENHANCEDSTATUSCODES|8BITMIME|DSN", "Exim 4.96"},
}

func TestSoftwareIsConcludedFromEHLO(t *testing.T) {
	found := map[string]bool{}
	for _, c := range softwareEHLOs {
		got := Software(c.banner, 220, c.hello, softwareTestLines(c.ehlo), nil)
		if got != c.want {
			t.Errorf("%q %q: got %q, want %q", c.hello, c.ehlo, got, c.want)
		}
		found[strings.TrimSuffix(got, softwareByEHLO)] = true
	}
	for _, h := range softwareHellos {
		if !found[h.name] {
			t.Errorf("EHLO wording of %s has no test line", h.name)
		}
	}
	for _, o := range softwareOrders {
		if !found[o.name] {
			t.Errorf("EHLO order of %s has no test line", o.name)
		}
	}
	for _, c := range softwareTells {
		if !found[c.name] {
			t.Errorf("EHLO keyword of %s has no test line", c.name)
		}
	}
}

func TestSoftwareIsConcludedFromReplies(t *testing.T) {
	for reply, want := range map[string]string{
		"221 mx.example.org closing connection. Have a jolly good day.": "Haraka (by its replies)",
		"221 2.7.0 Error: I can break rules, too. Goodbye.":             "Postfix (by its replies)",
		"221 2.0.0 closing connection d2e1a72fcca58 - gsmtp":            "Gmail (by its replies)",
		"554 SMTP synchronization error":                                "Exim (by its replies)",
		"500 #5.5.1 command not recognized":                             "Cisco IronPort (by its replies)",
		"214 netqmail home page: http://pobox.com/~djb/qmail.html":      "qmail (by its replies)",
		"220 TLS go ahead": "Exim (by its replies)",
		"221 2.0.0 Bye":    "",
		strings.Repeat("x", softwareMaxText) + "have a jolly good day, too late": "",
	} {
		if got := Software("220 mx.example.org ready", 220, "mx.example.org", nil, []string{reply}); got != want {
			t.Errorf("%q: got %q, want %q", reply, got, want)
		}
	}
}

func TestSoftwareVersionIsBounded(t *testing.T) {
	for banner, want := range map[string]string{
		"220 mx.example.org ESMTP Exim " + strings.Repeat("9", 400):  "Exim " + strings.Repeat("9", 32),
		"220 mx.example.org ESMTP Exim 4.96\x1b[2J":                  "Exim 4.96",
		"220 mx.example.org ESMTP Exim <script>":                     "Exim",
		"220 mx.example.org ESMTP Exim =cmd":                         "Exim",
		"220 mx.example.org ESMTP Exim 4.96-.+":                      "Exim 4.96",
		"220 mx.example.org ESMTP Exim":                              "Exim",
		"220 mx.example.org " + strings.Repeat("x", 600) + " gsmtp ": "",
	} {
		if got := Software(banner, 220, "", nil, nil); got != want {
			t.Errorf("%.60q: got %q, want %q", banner, got, want)
		}
	}
}

func FuzzSoftware(f *testing.F) {
	for _, c := range softwareLines {
		f.Add(c.banner, 220, "", "", "")
	}
	for _, c := range softwareEHLOs {
		f.Add(c.banner, 220, c.hello, c.ehlo, "221 Bye")
	}
	f.Add("SSH-2.0-OpenSSH_9.2p1", 0, "\xff", "AUTH=|AUTH|\x00", "\n")
	f.Fuzz(func(t *testing.T, banner string, code int, hello, ehlo, reply string) {
		got := Software(banner, code, hello, softwareTestLines(ehlo), []string{reply})
		if len(got) > 100 || !utf8.ValidString(got) {
			t.Fatalf("%q is not a name of ours", got)
		}
		for _, c := range got {
			if c < ' ' || c > '~' {
				t.Fatalf("%q has a byte of the stranger's", got)
			}
		}
	})
}

func BenchmarkSoftware(b *testing.B) {
	for name, c := range map[string]struct{ banner, hello, ehlo string }{
		"first":   {softwareLines[0].banner, "", ""},
		"postfix": {"220 mx.example.org ESMTP Postfix (Debian/GNU)", "mx.example.org", ""},
		"ehlo":    {softwareEHLOs[0].banner, softwareEHLOs[0].hello, softwareEHLOs[0].ehlo},
		"unknown": {"220 mx.example.org ESMTP ready at Mon, 1 Jan 2024 10:00:00 +0000", "mx.example.org Hello", "FOO|BAR|BAZ"},
	} {
		ehlo := softwareTestLines(c.ehlo)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Software(c.banner, 220, c.hello, ehlo, nil)
			}
		})
	}
}
