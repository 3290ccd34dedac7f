package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/whyspin/whyspin/tools/selfsigned"
)

// handshakesDefaults gives a silent client little time, and others much.
const handshakesDefaults = `
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 30s
    timeout client 3s
    timeout client-hs 3s
    timeout server 1m
    retries 0
`

// How many handshakes there are at a time, and which part of them, at most how many, is for warming up: by
// twice as many clients, so that what is kept for later use grows no more afterwards.
const (
	handshakesTogether = 12
	warmHandshakes     = 5000
)

// What the log says of the ends of connections that are cut in their handshake, instead of the states CR, CR
// and cR. They may be cut right after it, too.
const (
	endClosed = "Connection closed during SSL handshake"
	endBroken = "SSL handshake failure"
	endLate   = "Timeout during SSL handshake"
)

var endsOfCuts = []string{endClosed, endBroken, endLate, "CC", "CD", "cD", "CL", "--"}

// goroutinesWithin is by how many the goroutines may be more at the end: those that just answer somebody.
const goroutinesWithin = 3

// handshaking is a proxy with listeners that speak TLS.
type handshaking struct {
	*trial
	count int
	crew  *crew
	hands *handshaker
}

// playHandshakes makes handshakes with a private proxy, of which some are cut, and returns what is wrong
// afterwards.
func (o options) playHandshakes(ctx context.Context, out io.Writer) ([]string, error) {
	t := &trial{options: o, out: out}
	var err error
	if t.directory, err = os.MkdirTemp("", "whyspin-handshakes-"); err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(t.directory)
	if t.log, err = newLogbook(); err != nil {
		return nil, err
	}
	defer t.log.close()
	h := &handshaking{trial: t, count: o.handshakes, crew: newCrew(ctx, o.over, 1)}
	defer h.crew.end()
	h.hands = &handshaker{crew: h.crew, share: o.cut, silent: make(chan struct{}, silentAtOnce),
		lengths: map[kind]length{}}
	sections, err := h.prepare()
	if err != nil {
		return nil, err
	}
	t.proxy, err = startProxy(ctx, o.whyspin, filepath.Join(t.directory, "proxy"), t.log.address(), o.workers,
		o.global+sections)
	if err != nil {
		return nil, err
	}
	defer t.proxy.stop()
	err = h.run(ctx)
	return t.wrong, err
}

// prepare starts the servers, one of them with TLS, and returns the sections of the proxy: a listener with a
// certificate of ECDSA, one with one of RSA, and one with TLS on both sides.
func (h *handshaking) prepare() (string, error) {
	file := func(name string) string { return filepath.Join(h.directory, name+".pem") }
	certificate, err1 := selfsigned.Write(file("ecdsa"), selfsigned.ECDSA)
	_, err2 := selfsigned.Write(file("rsa"), selfsigned.RSA)
	plain, err3 := freeAddress(h.directory, "127.0.0.1")
	secured, err4 := freeAddress(h.directory, "127.0.0.1")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return "", err
	}
	if err := h.crew.serve(plain, echo); err != nil {
		return "", err
	}
	config := &tls.Config{Certificates: []tls.Certificate{*certificate}}
	if err := h.crew.serve(secured, func(c net.Conn) {
		s := tls.Server(c, config)
		echo(s)
		s.Close()
	}); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(handshakesDefaults)
	for _, one := range []struct{ name, certificate, server string }{
		{"ecdsa", "ecdsa", plain.at}, {"rsa", "rsa", plain.at},
		{"both", "ecdsa", secured.at + " ssl verify none"},
	} {
		at, err := freeAddress(h.directory, "127.0.0.1")
		if err != nil {
			return "", err
		}
		h.hands.listeners = append(h.hands.listeners, at)
		bind := fmt.Sprintf("    bind %s ssl crt %s\n", at, file(one.certificate))
		front(&b, one.name, bind, nil, one.server)
	}
	return b.String(), nil
}

func (h *handshaking) run(ctx context.Context) error {
	h.say("%d handshakes with %d workers, seed %d", h.count, h.workers, h.seed)
	warm := min(h.count/warmShare, warmHandshakes)
	h.hands.run(warm, warmTimes*handshakesTogether, h.seed)
	reference, err := h.rest(ctx, "after the warm-up")
	if err != nil {
		return err
	}
	h.hands.run(h.count-warm, handshakesTogether, h.seed+1)
	if err := errors.Join(ctx.Err(), h.proxy.alive()); err != nil {
		return err
	}
	end, err := h.rest(ctx, "at the end")
	if err != nil {
		return err
	}
	h.judgeHandshakes()
	h.judgeGrowth(h.growth(reference, end))
	if more := end.goroutines - reference.goroutines; more > goroutinesWithin {
		h.complain("there are %d goroutines more than after the warm-up", more)
	}
	for _, text := range h.log.warned() {
		h.complain("the proxy has logged: %s", text)
	}
	return nil
}

// judgeHandshakes looks at how the streams ended.
func (h *handshaking) judgeHandshakes() {
	whole := int(h.crew.begun.Load())
	aborted := 0
	for _, name := range cuttingNames {
		aborted += h.crew.done[name]
	}
	ends := h.log.counts()
	logged := 0
	for _, n := range ends {
		logged += n
	}
	h.say("%d whole, cut and otherwise: %s; ends of streams: %v", whole, listed(h.crew.done), h.log)
	for _, f := range h.crew.failures {
		h.complain("%s", f)
	}
	if h.crew.failed > len(h.crew.failures) {
		h.complain("%d failures in all", h.crew.failed)
	}
	if whole+aborted+h.crew.failed != h.count {
		h.complain("%d handshakes are whole, %d cut, %d failed: should be %d", whole, aborted, h.crew.failed,
			h.count)
	}
	if logged > h.count {
		h.complain("%d ends were logged of %d connections", logged, h.count)
	}
	// What is sent to a syslog server may be lost.
	if lost := h.count - logged; ends["--"]+lost < whole {
		h.complain("%d handshakes were whole, but %d streams ended in order (%d are not logged)", whole,
			ends["--"], lost)
	}
	for _, one := range [...]struct {
		end string
		how cutting
	}{{endClosed, cutFIN}, {endBroken, cutReset}, {endLate, cutSilence}} {
		if n, most := ends[one.end], h.crew.done[cuttingNames[one.how]]; n > most {
			h.complain("%q is said of %d connections, but %d were cut by %s", one.end, n, most,
				cuttingNames[one.how])
		}
	}
	for _, end := range endsOfCuts {
		delete(ends, end)
	}
	if len(ends) > 0 {
		h.complain("streams ended as they should not: %s", listed(ends))
	}
}
