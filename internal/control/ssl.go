package control

import (
	"errors"
	"fmt"
	"strings"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/report"
)

// certificateDate is how a certificate's dates are shown, OpenSSL's way.
const certificateDate = "Jan _2 15:04:05 2006 GMT"

// certificates returns the certificates; without any it has answered and returns nil.
func (c *session) certificates() *certificate.Store {
	s := c.server.options.Certificates
	if s == nil {
		c.message(severityError, "There are no certificates: no line asks for \"ssl\".\n")
	}
	return s
}

// showSSLCert lists the certificates, or shows one; a "*" before the name means the one that is prepared.
func showSSLCert(c *session, args []string) {
	s := c.certificates()
	if s == nil {
		return
	}
	if len(args) == 0 {
		names, ongoing := s.Names()
		if ongoing != "" {
			fmt.Fprintf(c.out, "# transaction\n*%s\n", report.Printable(ongoing))
		}
		c.out.WriteString("# filename\n")
		for _, name := range names {
			fmt.Fprintf(c.out, "%s\n", report.Printable(name))
		}
		return
	}
	name, ongoing := strings.CutPrefix(args[0], "*")
	d, ok := s.Details(name, ongoing)
	if !ok {
		c.message(severityError, "Can't display the certificate: Not found or the certificate is a bundle!\n")
		return
	}
	c.certificate(args[0], d)
}

// certificate shows one.
func (c *session) certificate(name string, d *certificate.Details) {
	status := "Unused"
	if d.Used {
		status = "Used"
	}
	show := func(field, value string) { fmt.Fprintf(c.out, "%s: %s\n", field, report.Printable(value)) }
	show("Filename", name)
	if d.Serial == "" {
		show("Status", "Empty")
		show("OCSP Response Key", "")
		return
	}
	show("Status", status)
	show("Serial", d.Serial)
	show("notBefore", d.NotBefore.UTC().Format(certificateDate))
	show("notAfter", d.NotAfter.UTC().Format(certificateDate))
	if len(d.Names) > 0 {
		show("Subject Alternative Name", "DNS:"+strings.Join(d.Names, ", DNS:"))
	}
	show("Algorithm", d.Algorithm)
	show("SHA1 FingerPrint", d.Fingerprint)
	show("Subject", d.Subject)
	show("Issuer", d.Issuer)
	for i := range d.ChainSubjects {
		show("Chain Subject", d.ChainSubjects[i])
		show("Chain Issuer", d.ChainIssuers[i])
	}
	show("OCSP Response Key", d.OCSP)
}

// showSSLCrtList lists the lists of certificates, or shows one, with -n with the numbers of its lines.
func showSSLCrtList(c *session, args []string) {
	s := c.certificates()
	if s == nil {
		return
	}
	numbered := len(args) > 0 && args[0] == "-n"
	if numbered {
		args = args[1:]
	}
	if len(args) == 0 {
		for _, list := range s.Lists() {
			fmt.Fprintf(c.out, "%s\n", report.Printable(list.Name))
		}
		return
	}
	for _, list := range s.Lists() {
		if list.Name == args[0] {
			c.certificateList(list, numbered)
			return
		}
	}
	c.message(severityError, "didn't find the specified filename\n")
}

func (c *session) certificateList(list *certificate.List, numbered bool) {
	fmt.Fprintf(c.out, "# %s\n", report.Printable(list.Name))
	for i := range list.Lines {
		line := &list.Lines[i]
		text := line.File
		if numbered {
			text = fmt.Sprintf("%s:%d", text, line.Line)
		}
		if line.HasOptions {
			text += " [" + line.OptionText + "]"
		}
		if len(line.Filters) > 0 {
			text += " " + strings.Join(line.Filters, " ")
		}
		fmt.Fprintf(c.out, "%s\n", report.Printable(text))
		if c.failed() {
			return
		}
	}
}

// setSSLCert prepares the replacement of a certificate by the payload. Nothing of that is ever shown.
func setSSLCert(c *session, args []string) {
	if len(args) == 0 || c.payload == nil {
		c.message(severityError, "'set ssl cert expects a filename and a certificate as a payload\n")
		return
	}
	s := c.certificates()
	if s == nil {
		return
	}
	name, began, err := s.Set(args[0], c.payload)
	var ongoing *certificate.OngoingError
	switch {
	case errors.Is(err, certificate.ErrNotFound), errors.As(err, &ongoing):
		c.message(severityError, "%v\nCan't update %s!\n", err, report.Printable(args[0]))
	case err != nil:
		c.message(severityError, "unable to load certificate from file '%s': %v.\nCan't load the payload\n"+
			"Can't update %s!\n", report.Printable(args[0]), err, report.Printable(args[0]))
	case began:
		c.message(severityInfo, "Transaction created for certificate %s!\n", report.Printable(name))
	default:
		c.message(severityInfo, "Transaction updated for certificate %s!\n", report.Printable(name))
	}
}

// commitSSLCert puts the certificate that was prepared into use. As in HAProxy there is a dot for each place
// where it is used.
func commitSSLCert(c *session, args []string) {
	if len(args) == 0 {
		c.message(severityError, "'commit ssl cert expects a filename\n")
		return
	}
	s := c.certificates()
	if s == nil {
		return
	}
	uses, err := s.Commit(args[0])
	switch {
	case errors.Is(err, certificate.ErrNoTransaction):
		c.message(severityError, "No ongoing transaction! !\nCan't commit %s!\n", report.Printable(args[0]))
	case err != nil:
		c.message(severityError, "%v\nCan't commit %s!\n", err, report.Printable(args[0]))
	default:
		name, dots := report.Printable(args[0]), strings.Repeat(".", uses)
		fmt.Fprintf(c.out, "Committing %s%s\nSuccess!\n", name, dots)
	}
}

func abortSSLCert(c *session, args []string) {
	if len(args) == 0 {
		c.message(severityError, "'abort ssl cert' expects a filename\n")
		return
	}
	s := c.certificates()
	if s == nil {
		return
	}
	var ongoing *certificate.OngoingError
	err := s.Abort(args[0])
	switch {
	case errors.As(err, &ongoing):
		c.message(severityError, "The ongoing transaction is about '%s' but you are trying to abort a "+
			"transaction for '%s'\n", report.Printable(ongoing.Ongoing), report.Printable(ongoing.Asked))
	case err != nil:
		c.message(severityError, "%v\n", err)
	default:
		c.message(severityInfo, "Transaction aborted for certificate '%s'!\n", report.Printable(args[0]))
	}
}
