// Package certificate holds the certificates of the proxy and says which of them is shown to whom: it reads
// the files that the configuration names, and makes of them what crypto/tls wants for each listener and each
// server. Certificates can be replaced while connections run; new handshakes see the new one at once.
//
// Keys and what sessions are made of are secret: nothing of them is in an error, a message or an answer.
package certificate

import (
	"crypto/tls"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/config"
)

// Store holds all certificates. Its methods may be called from any goroutine.
type Store struct {
	global *config.GlobalTLS
	now    func() time.Time

	// What is below is made by Load and does not change, except for the parts in files, and for the entries
	// of listeners.
	binds   map[*config.BindTLS]*listener
	servers map[*config.ServerTLS]*server
	tickets []*ticketFile
	cache   *sessions
	secrets *secrets

	serverLookups, serverMisses atomic.Uint64

	mu          sync.Mutex // guards what follows
	lists       []*List
	files       map[string]*file
	transaction *transaction
}

// file is one certificate of the configuration.
type file struct {
	name  string
	parts *parts
	// listeners and servers are those that use it, uses how often they do.
	listeners []*listener
	servers   []*server
	uses      int
}

// List is a list of certificates, or a directory of them. It does not change.
type List struct {
	Name  string
	Lines []config.CertificateLine
	// last is the highest number of a line that was ever given.
	last int
}

// Counters are what the store has counted since the start.
type Counters struct {
	// Lookups are sessions that clients wanted to resume and that were looked for here, Misses those that
	// were not found.
	Lookups, Misses uint64
	// ServerLookups are connections to servers for which a session was looked for, ServerMisses those that
	// began anew.
	ServerLookups, ServerMisses uint64
}

// Counters returns the counters.
func (s *Store) Counters() Counters {
	return Counters{
		Lookups: s.cache.lookups.Load(), Misses: s.cache.misses.Load(),
		ServerLookups: s.serverLookups.Load(), ServerMisses: s.serverMisses.Load(),
	}
}

// Listener returns how the listeners of a bind line speak TLS, nil for a line that was not loaded. The
// caller must not change it.
func (s *Store) Listener(b *config.BindTLS) *tls.Config {
	if l := s.binds[b]; l != nil {
		return l.config
	}
	return nil
}

// Server returns how a server is spoken to, nil for one that was not loaded. The caller may put a name
// into a clone; it must not change the original.
func (s *Store) Server(t *config.ServerTLS) *tls.Config {
	if v := s.servers[t]; v != nil {
		return v.config
	}
	return nil
}

// Lists returns the lists of certificates by name.
func (s *Store) Lists() []*List {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lists)
}
