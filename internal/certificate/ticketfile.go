package certificate

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// ticketFile has the keys of tickets of one file, which may be replaced one after the other. As in HAProxy
// the last three count, and of them the middle one encrypts.
type ticketFile struct {
	name   string
	length int // of its keys, in bytes

	mu      sync.Mutex
	keys    []secret // three
	version uint64   // counts the replacements
}

// The lengths in bytes of the keys in a file: name, HMAC key and AES key, of 128 and 256 bits.
const (
	shortTicketKey = 48
	longTicketKey  = 80
	// ticketKeys is how many count.
	ticketKeys = 3
)

// current returns the secrets, that which encrypts first, and their version.
func (f *ticketFile) current() ([]secret, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []secret{f.keys[1], f.keys[0], f.keys[2]}, f.version
}

// readTicketKeys reads a file of keys, one in base64 on each line. The error has no part of a key.
func readTicketKeys(text []byte) (*ticketFile, error) {
	f := &ticketFile{version: 1}
	for i, line := range bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n")) {
		raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(line)))
		if err != nil {
			return nil, fmt.Errorf("line %d is not in base64", i+1)
		}
		if len(raw) != shortTicketKey && len(raw) != longTicketKey {
			return nil, fmt.Errorf("line %d has %d bytes, a key has %d or %d", i+1, len(raw), shortTicketKey,
				longTicketKey)
		}
		if f.length != 0 && len(raw) != f.length {
			return nil, fmt.Errorf("line %d has a key of another length than those before", i+1)
		}
		f.length = len(raw)
		f.keys = append(f.keys, sha256.Sum256(raw))
	}
	if len(f.keys) < ticketKeys {
		return nil, errors.New("it has less than three keys")
	}
	f.keys = f.keys[len(f.keys)-ticketKeys:]
	return f, nil
}

// TicketFiles returns the names of the files of keys; the index of each is its id.
func (s *Store) TicketFiles() []string {
	var names []string
	for _, f := range s.tickets {
		names = append(names, f.name)
	}
	return names
}

// Why the commands about keys of tickets fail, in HAProxy's words.
var (
	// ErrNoTicketFile is that there is no such file.
	ErrNoTicketFile = errors.New("'set ssl tls-key' unable to locate referenced filename")
	// ErrBadTicketKey is that a key is not one, or of another length than those that there are.
	ErrBadTicketKey = errors.New("'set ssl tls-key' received invalid base64 encoded TLS key.")
)

// AddTicketKey puts a key in base64 behind those of a file, which is named by its name or by "#" and its id.
// The oldest one is forgotten, and the one that was the last encrypts from now on. Files are not changed.
func (s *Store) AddTicketKey(id, key string) error {
	for i, f := range s.tickets {
		if f.name == id || strings.HasPrefix(id, "#") && id[1:] == strconv.Itoa(i) {
			raw, err := base64.StdEncoding.DecodeString(key)
			if err != nil || len(raw) != f.length {
				return ErrBadTicketKey
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.keys = append(f.keys[1:ticketKeys:ticketKeys], sha256.Sum256(raw))
			f.version++
			return nil
		}
	}
	return ErrNoTicketFile
}
