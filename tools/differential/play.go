package main

import (
	"errors"
	"fmt"
	"time"
)

const (
	// patience bounds every wait. Nothing is measured by it: a wait ends with what it is for.
	patience = 30 * time.Second
	// vain is how long a scenario waits for what does not come before that is what happened: with one of
	// the proxies it may not.
	vain = 5 * time.Second
	// pause is between two looks.
	pause = time.Millisecond
)

// inVain is the line of a transcript below a step that waited for what did not come.
const inVain = "    in vain"

// play is one scenario that runs against one proxy. It is driven by one thread: a step, then everything
// that comes of it until nothing moves, then the next step.
type play struct {
	*scenario
	place   place
	proxy   *proxy
	log     *logSocket
	clients []*peer
	servers []*server
	text    []string // the transcript
}

// run plays the scenario and returns what happened: the steps, and after each what they brought about.
func (p *play) run() ([]string, error) {
	if err := p.settle(); err != nil {
		return nil, err
	}
	for _, m := range p.moves {
		p.text = append(p.text, m.String())
		if err := p.make(m); err != nil {
			return nil, fmt.Errorf("%v: %w", m, err)
		}
		if err := p.settle(); err != nil {
			return nil, fmt.Errorf("%v: %w", m, err)
		}
	}
	return p.text, nil
}

// make makes a move.
func (p *play) make(m move) error {
	v := verbs[m.verb]
	if v.ofProxy != nil {
		return v.ofProxy(p.proxy, m.n)
	}
	if v.ofPlay != nil {
		return v.ofPlay(p, m.n)
	}
	if v.ofServer != nil {
		return v.ofServer(p, p.servers[m.actor.number-1])
	}
	if m.verb == "connect" {
		return p.connect(m.actor)
	}
	var c *peer
	if m.verb != "await-connection" {
		if c = p.peer(m.actor); c == nil {
			p.text = append(p.text, "    there is no such connection")
			return nil
		}
	}
	if v.until == nil {
		return v.do(c, m.n)
	}
	return p.await(func() bool { return v.until(p, m, c) })
}

func (p *play) connect(a actor) error {
	if a.isServer || a.number != len(p.clients)+1 {
		return fmt.Errorf("clients connect in turn, and once")
	}
	c, err := dialPeer(p.place.socket(p.front, frontPort), a.String())
	if err == nil {
		p.clients = append(p.clients, c)
	}
	return err
}

// kill has the stream of a client ended by the runtime API.
func (p *play) kill(client int) error {
	c := p.peer(actor{number: client})
	if c == nil {
		return fmt.Errorf("there is no client %d", client)
	}
	return p.place.kill(c)
}

// peer returns the connection of an actor, nil when there is none.
func (p *play) peer(a actor) *peer {
	if !a.isServer {
		if a.number > len(p.clients) {
			return nil
		}
		return p.clients[a.number-1]
	}
	all := p.servers[a.number-1].connections
	n := a.connection
	if n == 0 {
		n = len(all)
	}
	if n == 0 || n > len(all) {
		return nil
	}
	return all[n-1]
}

// await waits for a condition, or till it is in vain.
func (p *play) await(condition func() bool) error {
	for end := time.Now().Add(vain); !condition(); {
		if time.Now().After(end) {
			p.text = append(p.text, inVain)
			return nil
		}
		moved, err := p.move()
		if err != nil {
			return err
		}
		if !moved {
			time.Sleep(pause)
		}
	}
	return nil
}

// move moves whatever can be moved by the clients and servers, and reports whether anything could.
func (p *play) move() (bool, error) {
	moved := false
	for _, c := range p.peers() {
		m, err := c.move()
		if err != nil {
			return moved, err
		}
		moved = moved || m
	}
	for _, s := range p.servers {
		m, err := s.accept()
		if err != nil {
			return moved, err
		}
		moved = moved || m
	}
	return p.log.read() || moved, p.proxy.alive()
}

func (p *play) peers() []*peer {
	all := append([]*peer(nil), p.clients...)
	for _, s := range p.servers {
		all = append(all, s.connections...)
	}
	return all
}

// settle waits until the proxy rests and nothing is left to be moved, and writes down what came of it. What
// a step brings about is there when the system call returns; a second look a moment later is for a kernel
// that had to put something off.
func (p *play) settle() error {
	quiet := 0
	for end := time.Now().Add(patience); quiet < 3; {
		if time.Now().After(end) {
			return errors.New("the proxy does not come to rest")
		}
		rests := p.proxy.rests()
		moved, err := p.move()
		if err != nil {
			return err
		}
		quiet++
		if moved || !rests {
			quiet = 0
		}
		if !moved {
			time.Sleep(pause)
		}
	}
	for _, c := range p.peers() {
		for _, e := range c.tell() {
			p.text = append(p.text, fmt.Sprintf("    %s: %s", c.name, e))
		}
	}
	for _, l := range p.log.tell(p.clients, !p.uncounted) {
		p.text = append(p.text, "    "+l)
	}
	return nil
}

// end closes everything.
func (p *play) end() {
	for _, c := range p.peers() {
		c.drop()
	}
	for _, s := range p.servers {
		s.end()
	}
}
