package process

import (
	"crypto/tls"
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

// listenerTLS returns how the clients of a listener are spoken to, nil for those without TLS. After a mistake
// in the certificates it is nil, too; then nothing starts, and an engine would take no such listener.
func (p *Prepared) listenerTLS(b *config.Bind) *tls.Config {
	if b.TLS == nil || p.Certificates == nil {
		return nil
	}
	return p.Certificates.Listener(b.TLS)
}

// ServerTLS returns how a server is spoken to, nil for one without TLS; it is what engine.Options.ServerTLS
// wants.
func (p *Prepared) ServerTLS(s *config.Server) *tls.Config {
	if s.TLS == nil {
		return nil
	}
	return p.Certificates.Server(s.TLS)
}
