package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/freeport"
)

// storm is the scene of the worst clients and servers, with healthy conversations in their midst.
type storm struct {
	seed uint64
	// echoes and healthy are where the healthy are served and where they connect, by family; queued is where
	// more of them connect than the server may have.
	echoes, healthy [3]address
	queued          address
	// wild are servers that behave badly, by family; flapping ones go away and come back; mute never
	// answers, refusing does not listen.
	wild           [3]address
	flapping       [2]address
	mute, refusing address
	fronts         []address // where the wild clients connect
	door           []address // those of them where few are let in at a time
	victims        []string  // the names of these frontends, whose streams are killed
}

const stormDefaults = `
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 300ms
    timeout client 1s
    timeout server 1s
    timeout queue 300ms
    retries 3
    option redispatch
`

// healthyTimeouts are for conversations that must not be hurt by a machine that is busy.
const healthyTimeouts = `    timeout connect 30s
    timeout client 1m
    timeout server 1m
    timeout queue 1m
    retries 0
`

// doorName is the name of the frontend whose limit keeps most clients in the kernel's queue, and most of the
// others out of it: a connection that does not fit is tried again by the kernel, after a second, two, four.
const doorName = "door"

// wildTimeouts are those of the frontend where the wild meet each other.
const wildTimeouts = `    timeout tunnel 1500ms
    timeout client-fin 500ms
    timeout server-fin 500ms
`

// newStorm chooses the addresses: ports of both families of loopback, and unix sockets.
func newStorm(directory string, seed uint64) (*storm, error) {
	s := &storm{seed: seed}
	for _, set := range []*[3]address{&s.echoes, &s.healthy, &s.wild} {
		for i, family := range []string{"127.0.0.1", "::1", ""} {
			var err error
			if set[i], err = freeAddress(directory, family); err != nil {
				return nil, err
			}
		}
	}
	for _, one := range []*address{&s.queued, &s.flapping[0], &s.flapping[1], &s.mute, &s.refusing} {
		var err error
		if *one, err = freeAddress(directory, "127.0.0.1"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// freeAddress returns an address of loopback, or a unix socket when host is empty.
func freeAddress(directory, host string) (address, error) {
	port, err := freeport.Get()
	if host == "" {
		return address{"unix", filepath.Join(directory, fmt.Sprintf("%d.sock", port))}, err
	}
	return address{"tcp", net.JoinHostPort(host, fmt.Sprint(port))}, err
}

// String is the address as the configuration has it.
func (a address) String() string {
	if a.network == "unix" {
		return "unix@" + a.at
	}
	return a.at
}

// front adds a section with a listener at each address, and servers.
func front(b *strings.Builder, name, lines string, binds []address, servers ...string) {
	fmt.Fprintf(b, "listen %s\n%s", name, lines)
	for _, a := range binds {
		fmt.Fprintf(b, "    bind %v\n", a)
	}
	for i, server := range servers {
		fmt.Fprintf(b, "    server s%d %s\n", i+1, server)
	}
}

func (s *storm) configuration(directory string) (string, error) {
	var b strings.Builder
	b.WriteString(stormDefaults)
	for i := range s.healthy {
		front(&b, fmt.Sprintf("healthy%d", i+1), healthyTimeouts, s.healthy[i:i+1], s.echoes[i].String())
	}
	front(&b, "queued", healthyTimeouts, []address{s.queued}, s.echoes[0].String()+" maxconn 3")
	wild := []string{s.wild[0].String(), s.wild[1].String(), s.wild[2].String(), s.flapping[0].String()}
	for _, one := range []struct {
		name, lines string
		servers     []string
	}{
		{"wild", wildTimeouts, wild},
		{"bad", "", []string{s.refusing.String(), s.mute.String(), s.flapping[1].String()}},
		{"abort", "    option abortonclose\n    timeout client 500ms\n",
			[]string{s.mute.String(), s.flapping[0].String(), s.wild[0].String()}},
		{"narrow", "", []string{s.wild[0].String() + " maxconn 3", s.flapping[1].String() + " maxconn 2"}},
		{doorName, "    maxconn 5\n", wild[:1]},
	} {
		var binds []address
		for _, family := range []string{"127.0.0.1", "::1", ""} {
			a, err := freeAddress(directory, family)
			if err != nil {
				return "", err
			}
			binds = append(binds, a)
		}
		front(&b, one.name, one.lines, binds, one.servers...)
		if one.name == doorName {
			s.door = binds
		}
		s.fronts, s.victims = append(s.fronts, binds...), append(s.victims, one.name)
	}
	return b.String(), nil
}

// How many there are of each at a time.
const (
	stormTalkers = 5 // of each family
	stormQueued  = 8 // where three are served
	stormClients = 60
)

// mixed is how the healthy talk in the storm: often a little, now and then more than all buffers hold.
var mixed = talk{
	messages: 60,
	size: func(r *rand.Rand) int {
		switch n := r.IntN(100); {
		case n < 80:
			return 1 + r.IntN(smallMessage)
		case n < 98:
			return 1 + r.IntN(64<<10)
		}
		return 1 + r.IntN(largestMessage)
	},
	rest: func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(40)) * time.Millisecond },
}

func (s *storm) measured() (client, server address) { return s.healthy[0], s.echoes[0] }

func (s *storm) begin(c *crew, p *proxy) error {
	for _, at := range s.echoes {
		if err := c.serve(at, echo); err != nil {
			return err
		}
	}
	var connections atomic.Uint64
	badly := func(conn net.Conn) {
		c.behave("server", conn, rand.New(rand.NewPCG(s.seed, connections.Add(1))))
	}
	for _, at := range s.wild {
		if err := c.serve(at, badly); err != nil {
			return err
		}
	}
	for i, at := range s.flapping {
		r := rand.New(rand.NewPCG(s.seed, uint64(1<<32+i)))
		c.flap(at, func() time.Duration { return time.Duration(r.IntN(600)) * time.Millisecond },
			func() time.Duration { return time.Duration(r.IntN(600)) * time.Millisecond }, badly)
	}
	if err := c.neverAnswer(s.mute); err != nil {
		return err
	}
	for i, at := range s.healthy {
		c.converse(at, nil, c.times*stormTalkers, s.seed+uint64(i), mixed)
	}
	c.converse(s.queued, nil, c.times*stormQueued, s.seed+10, mixed)
	for i := range c.times * stormClients {
		r := rand.New(rand.NewPCG(s.seed, uint64(2<<32+i)))
		c.running.Go(func() { s.storms(c, r) })
	}
	c.running.Go(func() { s.meddle(c, p) })
	return nil
}

// storms is the life of one bad client: connection after connection.
func (s *storm) storms(c *crew, r *rand.Rand) {
	for c.ctx.Err() == nil {
		to := s.fronts[r.IntN(len(s.fronts))]
		conn, forget, err := c.dial(to)
		switch {
		case err == nil:
			c.behave("client", conn, r)
			forget()
		case errors.Is(err, syscall.EAGAIN):
			c.note("client finds the queue of a unix socket full") // where TCP would wait
		case timedOut(err) && slices.Contains(s.door, to):
			c.note("client is not let in for long")
		case c.ctx.Err() == nil && !c.leaving.Load():
			c.fail("a bad client connects: %v", err)
		}
		c.pause(time.Duration(r.IntN(20)) * time.Millisecond)
	}
}

// timedOut reports whether an attempt to connect was given up.
func timedOut(err error) bool {
	var late net.Error
	return errors.As(err, &late) && late.Timeout()
}

// meddle kills streams of the storm, in whatever state they are, and asks for everything that there is to be
// asked for.
func (s *storm) meddle(c *crew, p *proxy) {
	r := rand.New(rand.NewPCG(s.seed, 3<<32))
	orders := []string{"show sess all", "show fd", "show activity", "show info typed", "show spin json"}
	for n := 0; c.ctx.Err() == nil && !c.leaving.Load(); n++ {
		order := orders[n%len(orders)]
		_, err := p.order(c.ctx, order)
		if err == nil {
			err = s.kill(c, p, r)
		}
		if err != nil && c.ctx.Err() == nil && !c.leaving.Load() {
			c.fail("%v", err)
		}
		c.pause(time.Duration(r.IntN(200)) * time.Millisecond)
	}
}

// kill kills a few streams.
func (s *storm) kill(c *crew, p *proxy, r *rand.Rand) error {
	text, err := p.order(c.ctx, "show sess")
	if err != nil {
		return err
	}
	var ids []string
	for line := range strings.Lines(text) {
		id, rest, _ := strings.Cut(line, ":")
		for _, name := range s.victims {
			if strings.Contains(rest, " fe="+name+" ") {
				ids = append(ids, id)
			}
		}
	}
	for range min(len(ids), r.IntN(4)) {
		// It may have ended meanwhile.
		if _, err := p.order(c.ctx, "shutdown session "+ids[r.IntN(len(ids))]); err != nil {
			return err
		}
		c.note("kill order")
	}
	return nil
}

// neverAnswer listens with an accept queue that is full: the kernel drops every attempt to connect.
func (c *crew) neverAnswer(at address) error {
	to, err := net.ResolveTCPAddr(at.network, at.at)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making the mute server: %w", err)
	}
	c.running.Go(func() {
		<-c.ctx.Done()
		unix.Close(fd)
	})
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())})
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	if err == nil {
		_, _, err = c.dial(at) // the one connection that fits; it is closed at the end
	}
	if err != nil {
		return fmt.Errorf("making the mute server: %w", err)
	}
	return nil
}
