package smtp

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"iter"
	"net"
	"slices"
	"time"
	"unicode/utf16"
)

// facts reads what a certificate says of itself where crypto/x509 refuses it as
// a whole: subject, issuer, validity and names (RFC 5280, 4.1). It returns nil
// if it is not even shaped like a certificate. Nothing in it was verified.
func facts(der []byte) *x509.Certificate {
	var outer struct{ TBS asn1.RawValue }
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil
	}
	fields := slices.Collect(elements(outer.TBS.Bytes))
	if len(fields) > 0 && fields[0].Class == asn1.ClassContextSpecific { // version
		fields = fields[1:]
	}
	const issuer, validity, subject, key = 2, 3, 4, 5
	if len(fields) <= key {
		return nil
	}
	cert := &x509.Certificate{
		RawIssuer: fields[issuer].FullBytes, Issuer: looseName(fields[issuer].Bytes),
		RawSubject: fields[subject].FullBytes, Subject: looseName(fields[subject].Bytes),
	}
	var times []time.Time
	for e := range elements(fields[validity].Bytes) {
		var t time.Time
		asn1.Unmarshal(e.FullBytes, &t) // zero if it is none
		times = append(times, t)
	}
	if len(times) == 2 {
		cert.NotBefore, cert.NotAfter = times[0], times[1]
	}
	for _, e := range fields[key+1:] {
		if e.Class == asn1.ClassContextSpecific && e.Tag == 3 {
			looseExtensions(cert, e.Bytes)
		}
	}
	return cert
}

// elements yields the values that stand one after another, up to the first that
// is none.
func elements(b []byte) iter.Seq[asn1.RawValue] {
	return func(yield func(asn1.RawValue) bool) {
		for len(b) > 0 {
			var e asn1.RawValue
			rest, err := asn1.Unmarshal(b, &e)
			if err != nil || len(rest) >= len(b) || !yield(e) {
				return
			}
			b = rest
		}
	}
}

// looseName reads a distinguished name without a look at what its strings may have.
func looseName(b []byte) (name pkix.Name) {
	var sequence pkix.RDNSequence
	for set := range elements(b) {
		var attributes pkix.RelativeDistinguishedNameSET
		for pair := range elements(set.Bytes) {
			parts := slices.Collect(elements(pair.Bytes))
			var kind asn1.ObjectIdentifier
			if len(parts) != 2 {
				continue
			}
			if _, err := asn1.Unmarshal(parts[0].FullBytes, &kind); err == nil {
				attributes = append(attributes, pkix.AttributeTypeAndValue{Type: kind, Value: looseString(parts[1])})
			}
		}
		sequence = append(sequence, attributes)
	}
	name.FillFromRDNSequence(&sequence)
	return name
}

// looseString returns a string of any type as it is, but for UTF-16.
func looseString(v asn1.RawValue) string {
	if v.Tag != asn1.TagBMPString {
		return string(v.Bytes)
	}
	var units []uint16
	for pair := range slices.Chunk(v.Bytes, 2) {
		if len(pair) == 2 {
			units = append(units, uint16(pair[0])<<8|uint16(pair[1]))
		}
	}
	return string(utf16.Decode(units))
}

// subjectAltName is the OID 2.5.29.17 as it is encoded.
var subjectAltName = []byte{0x55, 0x1d, 0x11}

// looseExtensions reads the names in a list of extensions (RFC 5280, 4.2.1.6).
func looseExtensions(cert *x509.Certificate, list []byte) {
	for all := range elements(list) {
		for ext := range elements(all.Bytes) {
			parts := slices.Collect(elements(ext.Bytes))
			if len(parts) < 2 || !bytes.Equal(parts[0].Bytes, subjectAltName) {
				continue
			}
			for names := range elements(parts[len(parts)-1].Bytes) {
				for name := range elements(names.Bytes) {
					looseAltName(cert, name)
				}
			}
		}
	}
}

func looseAltName(cert *x509.Certificate, name asn1.RawValue) {
	const dns, ip = 2, 7
	switch {
	case name.Class != asn1.ClassContextSpecific:
	case name.Tag == dns:
		cert.DNSNames = append(cert.DNSNames, string(name.Bytes))
	case name.Tag == ip && (len(name.Bytes) == net.IPv4len || len(name.Bytes) == net.IPv6len):
		cert.IPAddresses = append(cert.IPAddresses, net.IP(bytes.Clone(name.Bytes)))
	}
}
