package engine

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/rules"
)

// condition reads a condition.
func condition(t *testing.T, text string) *rules.Condition {
	t.Helper()
	var acls rules.ACLs
	c, _, err := acls.Condition(strings.Fields(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestAStreamFollowsTheBackendItIsGivenTo: in all that backend says, and in what is counted.
func TestAStreamFollowsTheBackendItIsGivenTo(t *testing.T) {
	var other *config.Proxy
	p := start(t, settings{change: func(c *config.Config, front *config.Proxy) {
		other = &config.Proxy{Name: "other", ID: 3, IsBackend: true, Retries: 1,
			Timeouts: front.Timeouts, Servers: front.Servers[1:]}
		front.Servers = front.Servers[:1]
		front.Switches = []config.Switch{
			{If: condition(t, "if { src 192.0.2.0/24 }")}, {If: condition(t, "if { src 127.0.0.0/8 }")},
		}
		front.Switches[0].Backend, front.Switches[1].Backend = front, other
		c.Proxies = append(c.Proxies, other)
	}}, serve(t, greet), refusing(t))
	c := p.dial()
	if said, err := io.ReadAll(c); len(said) > 0 || err != nil {
		t.Errorf("the client is told %q, %v", said, err)
	}
	r := p.ended(1)[0]
	if r.Backend != other || r.Retries != 1 || r.Ending.String() != "SC" {
		t.Errorf("backend %s, %d retries, %v", r.Backend.Name, r.Retries, r.Ending)
	}
	for _, b := range p.engine.backends {
		if n, want := b.cumulated.Load(), map[bool]int64{true: 1}[b.config == other]; n != want ||
			b.conns.Load() != 0 {
			t.Errorf("backend %s has had %d streams and has %d", b.config.Name, n, b.conns.Load())
		}
	}
}

// TestWhoIsRejectedTakesNoPlace: however often, and whichever rule it is.
func TestWhoIsRejectedTakesNoPlace(t *testing.T) {
	for name, change := range map[string]func(*config.Proxy, []rules.Rule){
		"connection": func(p *config.Proxy, r []rules.Rule) { p.Connection = r },
		"session":    func(p *config.Proxy, r []rules.Rule) { p.Session = r },
		"content":    func(p *config.Proxy, r []rules.Rule) { p.Content = r },
		"content behind a header": func(p *config.Proxy, r []rules.Rule) {
			p.Content, p.Binds[0].AcceptProxy = r, true
		},
		"session behind a header": func(p *config.Proxy, r []rules.Rule) {
			p.Session, p.Binds[0].AcceptProxy = r, true
		},
	} {
		p := start(t, settings{maxConn: 2, change: func(_ *config.Config, front *config.Proxy) {
			change(front, []rules.Rule{{If: condition(t, "if { src 127.0.0.1 } or { src 192.0.2.1 }")}})
		}}, serve(t, greet))
		for range 5 {
			c, err := net.Dial("tcp", p.address)
			if err != nil {
				continue // rejected before that was told of the connection
			}
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, introduction+"hello")
			if said, _ := io.ReadAll(c); len(said) > 0 {
				t.Errorf("%s: the client is told %q", name, said)
			}
			c.Close()
		}
		eventually(t, "the last to be gone", func() bool {
			taken := uint64(0)
			for _, l := range p.engine.listeners {
				taken += l.accepted.Load()
			}
			return taken == 5 && p.engine.Streams() == 0
		})
		p.mu.Lock()
		records := p.records
		p.mu.Unlock()
		for _, r := range records {
			if r.Ending.String() != "PR" || r.ToClient > 0 {
				t.Errorf("%s: it ended with %v", name, r.Ending)
			}
		}
		logged := strings.HasPrefix(name, "content") || strings.HasSuffix(name, "header")
		if (len(records) == 5) != logged {
			t.Errorf("%s: %d are logged", name, len(records))
		}
		p.engine.Stop()
		for _, w := range p.engine.workers {
			if w.buffers.count != 0 {
				t.Errorf("%s: %d buffers are in use", name, w.buffers.count)
			}
		}
	}
}
