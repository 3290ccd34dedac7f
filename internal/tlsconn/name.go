package tlsconn

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"github.com/whyspin/whyspin/internal/rules"
)

// attributes are the short names of the parts of distinguished names, RFC 4514 section 3 and OpenSSL's.
var attributes = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L",
	"2.5.4.8": "ST", "2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title",
	"2.5.4.42": "GN", "2.5.4.46": "dnQualifier", "2.5.4.97": "organizationIdentifier",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
	"1.2.840.113549.1.9.1": "emailAddress",
}

// DistinguishedName reads a name of a certificate, with OpenSSL's short names of its parts. It is nil for
// what is none.
func DistinguishedName(raw []byte) rules.Name {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &sequence); err != nil || len(rest) > 0 {
		return nil
	}
	var name rules.Name
	for _, set := range sequence {
		for _, a := range set {
			kind := a.Type.String()
			if short, ok := attributes[kind]; ok {
				kind = short
			}
			name = append(name, rules.Attribute{Type: kind, Value: fmt.Sprint(a.Value)})
		}
	}
	return name
}
