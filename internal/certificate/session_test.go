package certificate

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

// remembers is a client that resumes sessions.
func remembers(name string, version uint16) *tls.Config {
	c := asks(name)
	c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	c.MinVersion, c.MaxVersion = version, version
	return c
}

// resumes makes a connection and reports whether it goes on with an earlier session.
func resumes(t *testing.T, client, server *tls.Config) bool {
	t.Helper()
	c, s, err, _ := shake(client, server)
	must(t, err)
	if c.DidResume != s.DidResume {
		t.Errorf("the client says %t, the server %t", c.DidResume, s.DidResume)
	}
	return c.DidResume
}

var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func TestSessionsLastForTheirLifetime(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	for _, options := range []string{"", "no-tls-tickets", "alpn h2"} {
		for _, version := range versions {
			t.Run(fmt.Sprint(options, " ", tls.VersionName(version)), func(t *testing.T) {
				now := newClock()
				c := a.parse("tune.ssl.lifetime 100", "ssl crt DIR/a.pem "+options, "")
				s := a.load(c, now.now)
				server := s.Listener(c.Proxies[0].Binds[0].TLS)
				client := remembers("a.example", version)
				if resumes(t, client, server) {
					t.Error("the first connection resumes a session")
				}
				now.move(99 * time.Second)
				if !resumes(t, client, server) {
					t.Error("within the lifetime the session is not resumed")
				}
				now.move(201 * time.Second)
				if resumes(t, client, server) {
					t.Error("after the lifetime the session is resumed")
				}
				counted := s.Counters()
				want := Counters{}
				if options == "no-tls-tickets" {
					want = Counters{Lookups: 2, Misses: 1}
				}
				if counted != want {
					t.Errorf("counted are %+v, want %+v", counted, want)
				}
			})
		}
	}
}

func TestKeysOfTicketsAreReplaced(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	now := newClock()
	c := a.parse("tune.ssl.lifetime 1d", "ssl crt DIR/a.pem", "")
	s := a.load(c, now.now)
	server := s.Listener(c.Proxies[0].Binds[0].TLS)
	client := remembers("a.example", tls.VersionTLS12)
	resumes(t, client, server)
	before, version := s.secrets.current(now.now())
	oldest := before[0]
	now.move(23 * time.Hour)
	if _, v := s.secrets.current(now.now()); v != version {
		t.Error("the keys are replaced too early")
	}
	now.move(2 * time.Hour)
	fresh := remembers("a.example", tls.VersionTLS12)
	resumes(t, fresh, server)
	after, v := s.secrets.current(now.now())
	if v != version+1 || len(after) != 2 || after[1] != oldest || after[0] == oldest {
		t.Errorf("after a day there are %d secrets of version %d", len(after), v)
	}
	if !resumes(t, fresh, server) {
		t.Error("a session under the new key is not resumed")
	}
	now.move(25 * time.Hour)
	if all, _ := s.secrets.current(now.now()); len(all) != 2 || all[1] == oldest {
		t.Errorf("after two days the first key is still there, of %d", len(all))
	}
}

// A session must not be carried to a listener that asks for more.
func TestASessionBelongsToItsListener(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	for _, options := range []string{"", "no-tls-tickets"} {
		c := a.parse("", strings.ReplaceAll("ssl crt DIR/a.pem X|ssl crt DIR/a.pem verify optional "+
			"ca-file DIR/ca.pem X|ssl crt DIR/a.pem verify required ca-file DIR/ca.pem X", "X", options), "")
		s := a.load(c, time.Now)
		binds := c.Proxies[0].Binds
		for _, version := range versions {
			client := remembers("a.example", version)
			resumes(t, client, s.Listener(binds[0].TLS))
			if resumes(t, client, s.Listener(binds[1].TLS)) {
				t.Errorf("%q: a session is resumed where certificates are asked for", options)
			}
			if _, _, err, _ := shake(client, s.Listener(binds[2].TLS)); err == nil {
				t.Errorf("%q: a session got past the listener that requires a certificate", options)
			}
		}
	}
}

func TestKeysOfTicketsFromAFile(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	var lines []string
	for range 5 {
		key := make([]byte, shortTicketKey)
		rand.Read(key)
		lines = append(lines, base64.StdEncoding.EncodeToString(key))
	}
	load := func(keys ...string) *tls.Config {
		a.write("keys", strings.Join(keys, "\n")+"\n")
		_, server := a.bound("", "ssl crt DIR/a.pem tls-ticket-keys DIR/keys")
		return server
	}
	first := load(lines[0], lines[1], lines[2], lines[3]) // encrypts with the third
	client := remembers("a.example", tls.VersionTLS12)
	resumes(t, client, first)
	kept := client.ClientSessionCache
	for _, test := range []struct {
		name string
		keys []string
		want bool
	}{
		{"the same file", lines[:4], true},
		{"the next in turn", lines[1:5], true},
		{"the one that encrypts as the oldest", []string{lines[2], lines[3], lines[4]}, true},
		{"the one that encrypts as the newest", []string{lines[4], lines[0], lines[2]}, true},
		{"without it", []string{lines[0], lines[1], lines[3]}, false},
	} {
		one := remembers("a.example", tls.VersionTLS12)
		session, _ := kept.Get("a.example")
		one.ClientSessionCache.Put("a.example", session)
		if got := resumes(t, one, load(test.keys...)); got != test.want {
			t.Errorf("%s: resumed is %t", test.name, got)
		}
	}
}

func TestMistakesInAFileOfKeys(t *testing.T) {
	short := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), shortTicketKey))
	long := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), longTicketKey))
	for text, want := range map[string]string{
		short + "\n" + short + "\n": "it has less than three keys",
		"":                          "line 1 has 0 bytes, a key has 48 or 80",
		short + "\nmöp\n":           "line 2 is not in base64",
		short + "\n" + long + "\n" + short + "\n": "line 2 has a key of another length than those before",
		short + "\n" + short[:20] + "\n":          "line 2 has 15 bytes, a key has 48 or 80",
	} {
		if _, err := readTicketKeys([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if f, err := readTicketKeys([]byte(strings.Repeat(long+"\n", 3))); err != nil || len(f.keys) != 3 {
		t.Errorf("three long keys are %v and %v", f, err)
	}
}

func TestTheCacheOfSessionsHasItsSize(t *testing.T) {
	s := newSessions(2)
	now := time.Now()
	end := now.Add(time.Minute)
	one, two := s.put([]byte("1"), end), s.put([]byte("2"), end)
	s.get(one, now) // so that the other is the oldest
	three := s.put([]byte("3"), end)
	for name, want := range map[*[]byte]string{&one: "1", &two: "", &three: "3"} {
		if got := string(s.get(*name, now)); got != want {
			t.Errorf("of three sessions in a cache for two, one is %q, want %q", got, want)
		}
	}
	if got := s.get(one, end); got != nil || s.used.Len() != 1 || len(s.byName) != 1 {
		t.Errorf("at its end a session is %q, and %d are kept", got, s.used.Len())
	}
	large := s.put(make([]byte, placeSize), end)
	if s.get(large, now) == nil || len(s.byName) != 1 {
		t.Errorf("beside a session that needs both places there are %d", len(s.byName)-1)
	}
	s.put(make([]byte, 2*placeSize), end)
	if len(s.byName) != 0 || s.used.Len() != 0 || s.taken != 0 {
		t.Errorf("with a session that is too large there are %d", len(s.byName))
	}
	if s.get(one[:5], now) != nil || s.lookups.Load() != 7 || s.misses.Load() != 3 {
		t.Errorf("%d lookups, %d misses", s.lookups.Load(), s.misses.Load())
	}
}

func TestSessionsWithServers(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	const verified = "ssl ca-file DIR/ca.pem sni str(a.example)"
	c := a.parse("", "ssl crt DIR/a.pem", verified+"|"+verified+" no-ssl-reuse|"+verified+" no-tls-tickets")
	s := a.load(c, time.Now)
	there := s.Listener(c.Proxies[0].Binds[0].TLS)
	servers := c.Proxies[0].Servers
	for n, want := range []bool{false, true} {
		if got := resumes(t, s.Server(servers[0].TLS), there); got != want {
			t.Errorf("connection %d resumes a session: %v", n+1, got)
		}
	}
	if got, want := s.Counters(), (Counters{ServerLookups: 2, ServerMisses: 1}); got != want {
		t.Errorf("counted are %+v, want %+v", got, want)
	}
	for _, v := range servers[1:] {
		for range 2 {
			if resumes(t, s.Server(v.TLS), there) {
				t.Errorf("%s resumes a session", v.Name)
			}
		}
	}
}

// TestSecretsOfTicketsGoToTheNextProcess: its clients' sessions go on, and what it cannot read changes
// nothing.
func TestSecretsOfTicketsGoToTheNextProcess(t *testing.T) {
	old, next := &Store{now: time.Now, secrets: newSecrets(0)}, &Store{now: time.Now, secrets: newSecrets(0)}
	before, _ := old.secrets.current(time.Now())
	own, _ := next.secrets.current(time.Now())
	for _, text := range []string{"", "{", "{}", `{"Secrets":["AAAA"]}`, `{"Secrets":[]}`} {
		if err := next.AdoptTickets([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
		if now, _ := next.secrets.current(time.Now()); now[0] != own[0] {
			t.Fatalf("%q has changed the secrets", text)
		}
	}
	if err := next.AdoptTickets(old.Tickets()); err != nil {
		t.Fatal(err)
	}
	if now, version := next.secrets.current(time.Now()); now[0] != before[0] || version != 2 {
		t.Errorf("the secrets of the old process are not taken, version %d", version)
	}
	// They are as old as they are.
	later, _ := next.secrets.current(time.Now().Add(rotation))
	if later[0] == before[0] || later[1] != before[0] {
		t.Error("the secret is not replaced when its time is over")
	}
}

// A session that began with one name is no way around "strict-sni" for another.
func TestASessionDoesNotEvadeStrictSNI(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	for _, options := range []string{"", "no-tls-tickets"} {
		_, server := a.bound("", "ssl strict-sni crt DIR/a.pem "+options)
		for _, version := range versions {
			client := remembers("a.example", version)
			resumes(t, client, server)
			session, _ := client.ClientSessionCache.Get("a.example")
			if !resumes(t, client, server) {
				t.Error("the session is not resumed at all")
			}
			client.ServerName, client.InsecureSkipVerify = "b.example", true
			client.ClientSessionCache.Put("b.example", session)
			_, _, err, _ := shake(client, server)
			if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("%q, %s: another name gets %v", options, tls.VersionName(version), err)
			}
		}
	}
}
