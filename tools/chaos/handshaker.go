package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/whyspin/whyspin/tools/selfsigned"
)

// silentAtOnce is how many silent clients there are at a time.
const silentAtOnce = 200

// kind is a kind of handshake.
type kind struct {
	listener int
	version  uint16
	curve    tls.CurveID
	resumes  bool
}

// length is how many bytes a client sends and receives in a handshake.
type length struct{ sent, received int }

// handshaker makes handshakes, some of which it cuts.
type handshaker struct {
	crew      *crew
	listeners []address
	share     float64       // of the handshakes, that are cut
	silent    chan struct{} // a place for each silent client

	mu      sync.Mutex
	lengths map[kind]length // of handshakes that were not cut
}

// run makes so many handshakes, and waits for the end of all of them.
func (h *handshaker) run(count, together int, seed uint64) {
	var working sync.WaitGroup
	for i := range together {
		share := count / together
		if i < count%together {
			share++
		}
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		working.Go(func() {
			sessions := map[kind]tls.ClientSessionCache{}
			for n := 0; n < share && h.crew.ctx.Err() == nil; n++ {
				k := h.choose(r)
				if sessions[k] == nil && k.resumes {
					sessions[k] = tls.NewLRUClientSessionCache(1)
				}
				if err := h.one(k, sessions[k], r, &working); err != nil && h.crew.ctx.Err() == nil {
					h.crew.fail("%s at listener %d (%s): %v", tls.VersionName(k.version), k.listener+1,
						h.listeners[k.listener], err)
				}
			}
		})
	}
	working.Wait()
}

// choose chooses a kind.
func (h *handshaker) choose(r *rand.Rand) kind {
	curves := [...]tls.CurveID{tls.X25519, tls.X25519MLKEM768, tls.CurveP256}
	k := kind{version: tls.VersionTLS13, listener: r.IntN(len(h.listeners)),
		curve: curves[r.IntN(len(curves))], resumes: r.IntN(2) == 0}
	if r.IntN(4) == 0 {
		k.version, k.curve = tls.VersionTLS12, tls.X25519
	}
	return k
}

// one makes one handshake.
func (h *handshaker) one(k kind, sessions tls.ClientSessionCache, r *rand.Rand,
	working *sync.WaitGroup) error {
	to := h.listeners[k.listener]
	dialed, err := net.DialTimeout(to.network, to.at, patience)
	if err != nil {
		return err
	}
	conn := &counted{Conn: dialed, mayBeSent: -1, mayBeReceived: -1}
	how, aborted := h.plan(k, conn, r)
	err = h.converse(k, conn, sessions, r, aborted)
	if !aborted {
		dialed.Close()
		if err == nil {
			h.crew.begun.Add(1)
		}
		return err
	}
	if err != nil && !errors.Is(err, errCut) {
		dialed.Close()
		return fmt.Errorf("before it is cut by %s: %w", cuttingNames[how], err)
	}
	h.crew.note(cuttingNames[how])
	if how == cutSilence {
		h.silent <- struct{}{}
		working.Go(func() {
			if err := leave(dialed, how); err != nil {
				h.crew.fail("after silence: %v", err)
			}
			<-h.silent
		})
		return nil
	}
	return leave(dialed, how)
}

// plan says whether and how a connection is to be cut, and sets the point: any byte of those that one of the
// sides sends. A kind of handshake is not cut before its length is known.
func (h *handshaker) plan(k kind, conn *counted, r *rand.Rand) (how cutting, aborted bool) {
	h.mu.Lock()
	usual, known := h.lengths[k]
	h.mu.Unlock()
	if !known || r.Float64() >= h.share {
		return 0, false
	}
	if at := r.IntN(usual.sent + usual.received); at < usual.sent {
		conn.mayBeSent = at
	} else {
		conn.mayBeReceived = at - usual.sent
	}
	return cutting(r.IntN(int(cuttings))), true
}

// converse makes the handshake, and has a few bytes sent back and the connection ended in an orderly way if
// it is not to be cut. One that is to be cut may be shorter than the usual, and then is whole.
func (h *handshaker) converse(k kind, conn *counted, sessions tls.ClientSessionCache, r *rand.Rand,
	aborted bool) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	c := tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true, ServerName: selfsigned.Name, MinVersion: k.version, MaxVersion: k.version,
		CurvePreferences: []tls.CurveID{k.curve}, ClientSessionCache: sessions,
	})
	err := c.Handshake()
	if err != nil || aborted {
		return err
	}
	if k.resumes = c.ConnectionState().DidResume; k.resumes {
		h.crew.note("sessions taken up")
	}
	h.mu.Lock()
	h.lengths[k] = length{conn.sent, conn.received}
	h.mu.Unlock()
	message := make([]byte, 1+r.IntN(2000))
	for i := range message {
		message[i] = byte(r.Uint32())
	}
	if _, err := c.Write(message); err != nil {
		return err
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, message) {
		return fmt.Errorf("other bytes came back than the %d that were sent", len(message))
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if n, err := c.Read(got); n > 0 || err != io.EOF {
		return fmt.Errorf("at the end came %d bytes and %v", n, err)
	}
	return nil
}
