package certificate

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// ocspResponse is what an authority says about a certificate, to be sent with it (RFC 6960, RFC 6066).
type ocspResponse struct {
	raw []byte
	// until is when newer information will be there; the zero Time when that is not said.
	until time.Time
	// key is how HAProxy names it: the DER of the certificate's identification in the response.
	key []byte
}

// good reports whether the response may still be sent.
func (r *ocspResponse) good(now time.Time) bool { return r.until.IsZero() || now.Before(r.until) }

// The parts of a response that are looked at, RFC 6960 section 4.2.1.
type (
	responseASN1 struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	basicASN1 struct {
		Data      dataASN1
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
		Certs     []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	dataASN1 struct {
		Version   int `asn1:"optional,default:0,explicit,tag:0"`
		Responder asn1.RawValue
		Produced  time.Time `asn1:"generalized"`
		Responses []singleASN1
	}
	singleASN1 struct {
		ID         certIDASN1
		Good       asn1.Flag        `asn1:"tag:0,optional"`
		Revoked    asn1.RawValue    `asn1:"tag:1,optional"`
		Unknown    asn1.Flag        `asn1:"tag:2,optional"`
		ThisUpdate time.Time        `asn1:"generalized"`
		NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	certIDASN1 struct {
		Raw    asn1.RawContent
		Hash   pkix.AlgorithmIdentifier
		Name   []byte
		Key    []byte
		Serial *big.Int
	}
)

// oidBasic is the type of response that there is.
var oidBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}

// errStale is that a response is no longer good.
var errStale = errors.New("it is a response of OCSP that is out of date")

// readOCSP reads the response for a certificate. The signature is for the clients to verify.
func readOCSP(raw []byte, leaf *x509.Certificate, now time.Time) (*ocspResponse, error) {
	var response responseASN1
	rest, err := asn1.Unmarshal(raw, &response)
	if err != nil || len(rest) > 0 {
		return nil, errors.New("it is no response of OCSP in DER")
	}
	if response.Status != 0 || !response.Bytes.Type.Equal(oidBasic) {
		return nil, fmt.Errorf("it is a response of OCSP without an answer (status %d)", response.Status)
	}
	var basic basicASN1
	if _, err := asn1.Unmarshal(response.Bytes.Response, &basic); err != nil {
		return nil, errors.New("it is no basic response of OCSP")
	}
	if len(basic.Data.Responses) == 0 {
		return nil, errors.New("it is a response of OCSP about no certificate")
	}
	one := &basic.Data.Responses[0]
	switch {
	case leaf != nil && (one.ID.Serial == nil || one.ID.Serial.Cmp(leaf.SerialNumber) != 0):
		return nil, errors.New("it is a response of OCSP about another certificate")
	case len(one.Revoked.FullBytes) > 0:
		return nil, errors.New("it is a response of OCSP that says that the certificate is revoked")
	case !bool(one.Good):
		return nil, errors.New("it is a response of OCSP that does not say that the certificate is good")
	}
	r := &ocspResponse{raw: bytes.Clone(raw), until: one.NextUpdate, key: one.ID.Raw}
	if !r.good(now) {
		return nil, fmt.Errorf("%w: it was good until %s", errStale, r.until.UTC().Format(time.DateTime))
	}
	return r, nil
}

// name is how HAProxy names the response.
func (r *ocspResponse) name() string { return strings.ToLower(hex.EncodeToString(r.key)) }

// describe returns the response's name and its parts.
func (r *ocspResponse) describe() OCSPKey {
	k := OCSPKey{Key: r.name()}
	var id certIDASN1
	if _, err := asn1.Unmarshal(r.key, &id); err == nil {
		k.NameHash, k.KeyHash = fmt.Sprintf("%X", id.Name), fmt.Sprintf("%X", id.Key)
		if id.Serial != nil {
			k.Serial = fmt.Sprintf("%02X", id.Serial.Bytes())
		}
	}
	return k
}
