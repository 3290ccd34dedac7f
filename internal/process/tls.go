package process

import (
	"errors"
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/config"
)

// loadCertificates reads the files that lines about TLS name, while they can be read.
func (p *Prepared) loadCertificates() error {
	var warnings []string
	var err error
	p.Certificates, warnings, err = certificate.Load(p.config, time.Now)
	p.Warnings = append(p.Warnings, warnings...)
	return err
}

// refuseTLS reports the lines that ask for TLS: the engine does not speak it yet, and what is to be encrypted
// must never be sent as it is.
func refuseTLS(c *config.Config) error {
	var wrong []error
	var last config.Position
	for _, p := range c.Proxies {
		for _, b := range p.Binds {
			if b.TLS != nil && b.Position != last {
				last = b.Position
				wrong = append(wrong, at(b.Position, errors.New(`"bind": "ssl" is not supported yet`)))
			}
		}
		for _, s := range p.Servers {
			if s.TLS != nil {
				wrong = append(wrong, at(s.Position,
					fmt.Errorf(`server %q: "ssl" is not supported yet`, s.Name)))
			}
		}
	}
	return errors.Join(wrong...)
}
