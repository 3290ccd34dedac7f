package control

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/report"
)

// newSSLCert makes a certificate that has nothing yet, to be filled in by "set ssl cert".
func newSSLCert(c *session, args []string) {
	if len(args) == 0 {
		c.message(severityError, "'new ssl cert' expects a filename\n")
		return
	}
	s := c.certificates()
	if s == nil {
		return
	}
	if err := s.Create(args[0]); err != nil {
		c.message(severityError, "%s\n", report.Printable(err.Error()))
		return
	}
	c.message(severityInfo, "New empty certificate store '%s'!\n", report.Printable(args[0]))
}

// delSSLCert forgets a certificate that nothing shows.
func delSSLCert(c *session, args []string) {
	if len(args) == 0 {
		c.message(severityError, "'del ssl cert' expects a certificate name\n")
		return
	}
	s := c.certificates()
	if s == nil {
		return
	}
	err := s.Delete(args[0])
	switch _, ongoing := errors.AsType[*certificate.InTransactionError](err); {
	case err == nil:
		c.message(severityInfo, "Certificate '%s' deleted!\n", report.Printable(args[0]))
	case ongoing:
		c.message(severityError, "Can't remove the certificate: %s\n", report.Printable(err.Error()))
	default:
		c.message(severityError, "Can't remove the certificate: %s\n\n", report.Printable(err.Error()))
	}
}

// addSSLCrtList adds a certificate to a list, or the line of a payload.
func addSSLCrtList(c *session, args []string) {
	if len(args) == 0 || len(args) < 2 && c.payload == nil {
		c.message(severityError, "'add ssl crtlist' expects a filename and a certificate name\n")
		return
	}
	s := c.certificates()
	if s == nil {
		return
	}
	list, line := listName(args[0]), c.payload
	if line == nil {
		line = []byte(args[1])
	}
	_, name, err := s.AddToList(list, line)
	if err != nil {
		c.message(severityError, "Can't edit the crt-list: %s\n", report.Printable(err.Error()))
		return
	}
	fmt.Fprintf(c.out, "Inserting certificate '%s' in crt-list '%s'.\nSuccess!\n", report.Printable(name),
		report.Printable(list))
}

// listName is the name of a list, or of a directory without slashes at its end.
func listName(text string) string {
	for len(text) > 1 && strings.HasSuffix(text, "/") {
		text = text[:len(text)-1]
	}
	return text
}

// delSSLCrtList takes a certificate out of a list, that of a line where the name has ":" and its number
// behind it.
func delSSLCrtList(c *session, args []string) {
	if len(args) < 2 {
		c.message(severityError, "'del ssl crtlist' expects a filename and a certificate name\n")
		return
	}
	s := c.certificates()
	if s == nil {
		return
	}
	list, name, line := listName(args[0]), args[1], 0
	if at := strings.LastIndexByte(name, ':'); at >= 0 {
		if n, err := strconv.Atoi(name[at+1:]); err == nil {
			name, line = name[:at], n
		}
	}
	if err := s.RemoveFromList(list, name, line); err != nil {
		var lines []string
		for text := range strings.SplitSeq(err.Error(), "\n") {
			indent := strings.TrimLeft(text, "\t")
			lines = append(lines, text[:len(text)-len(indent)]+report.Printable(indent))
		}
		c.message(severityError, "Can't delete the entry: %s\n", strings.Join(lines, "\n"))
		return
	}
	c.message(severityInfo, "Entry '%s' deleted in crtlist '%s'!\n", report.Printable(name),
		report.Printable(list))
}

// showTLSKeys lists the files of keys. Other than HAProxy's it never shows the keys themselves: whoever has
// them can read what was sent.
func showTLSKeys(c *session, args []string) {
	var names []string
	if s := c.server.options.Certificates; s != nil {
		names = s.TicketFiles()
	}
	if len(args) > 0 {
		for i, name := range names {
			if args[0] == "*" || args[0] == name || args[0] == fmt.Sprint("#", i) {
				c.message(severityError, "The keys of tickets are secret and never shown.\n")
				return
			}
		}
		c.message(severityError, "'show tls-keys' unable to locate referenced filename\n")
		return
	}
	c.out.WriteString("# id (file)\n")
	for i, name := range names {
		fmt.Fprintf(c.out, "%d (%s)\n", i, report.Printable(name))
	}
}

// setSSLTLSKey adds a key of tickets to those of a file, in memory only.
func setSSLTLSKey(c *session, args []string) {
	if len(args) < 2 {
		c.message(severityError, "'set ssl tls-key' expects a filename and the new TLS key in base64 "+
			"encoding.\n")
		return
	}
	s := c.certificates()
	if s == nil {
		return
	}
	if err := s.AddTicketKey(args[0], args[1]); err != nil {
		c.message(severityError, "%v\n", err)
		return
	}
	c.message(severityInfo, "TLS ticket key updated!\n")
}

// setSSLOCSPResponse replaces a response of OCSP: the argument or the payload, in base64.
func setSSLOCSPResponse(c *session, args []string) {
	text := c.payload
	if text == nil && len(args) > 0 {
		text = []byte(args[0])
	}
	if text == nil {
		c.message(severityError, "'set ssl ocsp-response' expects response in base64 encoding.\n")
		return
	}
	s := c.certificates()
	if s == nil {
		return
	}
	raw, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	if err != nil {
		c.message(severityError, "'set ssl ocsp-response' received invalid base64 encoded response.\n")
		return
	}
	if err := s.SetOCSP(raw); err != nil {
		c.message(severityError, "%s\n", report.Printable(err.Error()))
		return
	}
	c.message(severityInfo, "OCSP Response updated!\n")
}

// showSSLOCSPResponse lists the responses of OCSP.
func showSSLOCSPResponse(c *session, args []string) {
	s := c.certificates()
	if s == nil {
		return
	}
	keys := s.OCSPKeys()
	if len(args) > 0 {
		for _, k := range keys {
			if k.Key == args[0] {
				c.message(severityError, "The content of a response is not shown in this version.\n")
				return
			}
		}
		c.message(severityError, "Certificate ID does not match any certificate.\n")
		return
	}
	for i, k := range keys {
		if i == 0 {
			c.out.WriteString("# Certificate IDs\n")
		}
		fmt.Fprintf(c.out, "  Certificate ID key : %s\n    Certificate ID:\n      Issuer Name Hash: %s\n"+
			"      Issuer Key Hash: %s\n      Serial Number: %s\n\n", k.Key, k.NameHash, k.KeyHash, k.Serial)
	}
}
