package certificate

import (
	"container/list"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sessions keeps the state of clients' sessions here ("no-tls-tickets"); the clients get a name of it that
// says nothing. The least recently used go first.
type sessions struct {
	size            int // in places, see session.places
	lookups, misses atomic.Uint64

	mu     sync.Mutex
	byName map[sessionName]*list.Element
	used   *list.List // of session, the latest first
	taken  int        // places
}

// sessionName is the name of a session: long enough not to be guessed.
type sessionName [32]byte

type session struct {
	name    sessionName
	state   []byte
	expires time.Time
}

// placeSize is how many bytes one place in the cache has: enough for a session without certificates of the
// client. Those it may have sent as many as it liked, so they take as many places as they need.
const placeSize = 512

func (s *session) places() int { return 1 + len(s.state)/placeSize }

func newSessions(size int) *sessions {
	return &sessions{size: size, byName: map[sessionName]*list.Element{}, used: list.New()}
}

// put keeps a session under a new name.
func (s *sessions) put(state []byte, expires time.Time) []byte {
	one := &session{state: state, expires: expires}
	rand.Read(one.name[:]) // never fails: crypto/rand
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byName[one.name] = s.used.PushFront(one)
	s.taken += one.places()
	for s.taken > s.size {
		s.remove(s.used.Back())
	}
	return one.name[:]
}

func (s *sessions) remove(e *list.Element) {
	one := e.Value.(*session)
	delete(s.byName, one.name)
	s.used.Remove(e)
	s.taken -= one.places()
}

// get returns the state of a session, nil when there is none.
func (s *sessions) get(name []byte, now time.Time) []byte {
	if len(name) == 0 {
		return nil // a client that could take a ticket and has none yet
	}
	s.lookups.Add(1)
	if len(name) != len(sessionName{}) {
		s.misses.Add(1)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byName[sessionName(name)]
	if e == nil {
		s.misses.Add(1)
		return nil
	}
	one := e.Value.(*session)
	if !now.Before(one.expires) {
		s.remove(e)
		s.misses.Add(1)
		return nil
	}
	s.used.MoveToFront(e)
	return one.state
}

// stampPrefix marks the time in what a ticket carries beside the session.
const stampPrefix = "whyspin-until:"

// stamp notes in a session until when it may be resumed.
func stamp(state *tls.SessionState, expires time.Time) {
	mark := binary.BigEndian.AppendUint64([]byte(stampPrefix), uint64(expires.UnixNano()))
	state.Extra = append(state.Extra, mark)
}

// fresh reports whether a session may still be resumed.
func fresh(state *tls.SessionState, now time.Time) bool {
	for _, extra := range state.Extra {
		if text, ok := strings.CutPrefix(string(extra), stampPrefix); ok && len(text) == 8 {
			return now.UnixNano() < int64(binary.BigEndian.Uint64([]byte(text)))
		}
	}
	return false
}

// serverSessions are the sessions with one server, by the name it was asked for.
type serverSessions struct {
	cache           tls.ClientSessionCache
	lookups, misses *atomic.Uint64
}

// serverSessionNames is the number of names whose sessions are kept for each server.
const serverSessionNames = 64

func (s *serverSessions) Get(key string) (*tls.ClientSessionState, bool) {
	state, ok := s.cache.Get(key)
	s.lookups.Add(1)
	if !ok {
		s.misses.Add(1)
	}
	return state, ok
}

func (s *serverSessions) Put(key string, state *tls.ClientSessionState) { s.cache.Put(key, state) }
