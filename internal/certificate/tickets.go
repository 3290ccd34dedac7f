package certificate

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// secret is what the keys of session tickets are derived from.
type secret [32]byte

// String keeps a secret out of what is printed.
func (secret) String() string { return "(secret)" }

// GoString does so for %#v.
func (secret) GoString() string { return "(secret)" }

// rotation is how often made-up secrets are replaced, at least: what is encrypted with one that becomes known
// is of sessions of no longer than two such periods.
const rotation = time.Hour

// keptSecrets is how many there are: no session lasts for more than a period, so one older one is enough.
const keptSecrets = 2

// secrets are made up and replaced in turn. The first one encrypts.
type secrets struct {
	mu     sync.Mutex
	period time.Duration
	made   time.Time
	all    []secret
	// version counts the replacements.
	version uint64
}

func newSecrets(lifetime time.Duration) *secrets { return &secrets{period: max(rotation, lifetime)} }

// current returns the secrets and their version; it makes a new one when it is time.
func (s *secrets) current(now time.Time) ([]secret, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 || now.Sub(s.made) >= s.period {
		var fresh secret
		rand.Read(fresh[:]) // never fails: crypto/rand
		s.all = append([]secret{fresh}, s.all[:min(len(s.all), keptSecrets-1)]...)
		s.made = now
		s.version++
	}
	return s.all, s.version
}

// keysFor derives keys of tickets: purpose keeps sessions of one kind of listener from being resumed at
// another, which may ask more of its clients.
func keysFor(all []secret, purpose string) ([][32]byte, error) {
	var keys [][32]byte
	for _, s := range all {
		key, err := hkdf.Key(sha256.New, s[:], nil, "whyspin session tickets: "+purpose, 32)
		if err != nil {
			return nil, fmt.Errorf("deriving keys of tickets: %w", err)
		}
		keys = append(keys, [32]byte(key))
	}
	return keys, nil
}

// handedTickets is the form in which secrets go to the process that replaces this one.
type handedTickets struct {
	Made    time.Time
	Secrets [][]byte
}

// Tickets returns the secrets of the tickets that this process has made up, for the process that replaces it,
// so that sessions go on there. They are to be handed to nobody else, and wiped.
func (s *Store) Tickets() []byte {
	all, _ := s.secrets.current(s.now())
	s.secrets.mu.Lock()
	h := handedTickets{Made: s.secrets.made}
	s.secrets.mu.Unlock()
	for i := range all {
		h.Secrets = append(h.Secrets, all[i][:])
	}
	text, err := json.Marshal(h)
	if err != nil {
		panic("BUG: secrets cannot be encoded")
	}
	return text
}

// AdoptTickets takes what Tickets of another process has returned. It must be called before the first
// handshake. The error has nothing of the secrets.
func (s *Store) AdoptTickets(text []byte) error {
	var h handedTickets
	if err := json.Unmarshal(text, &h); err != nil || len(h.Secrets) == 0 {
		return errors.New("the secrets of tickets cannot be read")
	}
	var all []secret
	for _, raw := range h.Secrets[:min(len(h.Secrets), keptSecrets)] {
		if len(raw) != len(secret{}) {
			return errors.New("the secrets of tickets are of another length")
		}
		all = append(all, secret(raw))
		clear(raw)
	}
	s.secrets.mu.Lock()
	defer s.secrets.mu.Unlock()
	s.secrets.all, s.secrets.made = all, h.Made
	s.secrets.version++
	return nil
}
