package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// echo sends back what it gets, and its end when it gets the end.
func echo(c net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := c.Read(buffer)
		if n > 0 {
			if _, err := c.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// talk is how a healthy client talks: messages that an echo sends back, one after the other.
type talk struct {
	messages int                            // of a conversation, at most
	size     func(*rand.Rand) int           // of a message, in bytes
	rest     func(*rand.Rand) time.Duration // between two messages
}

// smallMessage is up to how many bytes the time of an exchange is a latency: what is larger takes its time.
const smallMessage = 1024

// calm is how those talk whose latencies are measured.
var calm = talk{
	messages: 100,
	size:     func(r *rand.Rand) int { return 1 + r.IntN(smallMessage) },
	rest:     func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(20)) * time.Millisecond },
}

// calmTalkers is how many of them there are at each of the two proxies.
const calmTalkers = 6

// measure has the calm talk through the proxy and through the idle one.
func (c *crew) measure(proxy, idle address, seed uint64) {
	c.converse(proxy, &c.through, calmTalkers, seed, calm)
	c.converse(idle, &c.beside, calmTalkers, seed+1, calm)
}

// converse has healthy clients hold conversation after conversation, several at a time. The times of small
// messages are latencies, where through is not nil.
func (c *crew) converse(to address, through *course, together int, seed uint64, how talk) {
	for i := range together {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		c.running.Go(func() {
			for c.ctx.Err() == nil && !c.leaving.Load() {
				c.talks(to, through, r, how)
			}
		})
	}
}

// errNotServed is the error of a conversation that failed before its first message came back.
var errNotServed = errors.New("nothing came back")

// talks holds one conversation and counts it. One that the end of the phase breaks off has failed at nothing,
// nor has one that came to a proxy that takes no more.
func (c *crew) talks(to address, through *course, r *rand.Rand, how talk) {
	c.begun.Add(1)
	err := c.conversation(to, through, r, how)
	switch {
	case err == nil:
		c.verified.Add(1)
	case c.ctx.Err() != nil || c.leaving.Load() && errors.Is(err, errNotServed):
		c.begun.Add(^uint64(0))
	default:
		c.fail("a healthy conversation with %s: %v", to.at, err)
	}
}

// conversation holds one conversation: connect, messages, the end of it, which comes back, too.
func (c *crew) conversation(to address, through *course, r *rand.Rand, how talk) error {
	conn, forget, err := c.dial(to)
	if err != nil {
		return errors.Join(err, errNotServed)
	}
	defer forget()
	defer conn.Close()
	messages := 1 + r.IntN(how.messages)
	var back []byte
	for i := range messages {
		// Who is served when the proxy is told to leave is served once more at least.
		last := c.leaving.Load()
		message := pick(how.size(r), r)
		back = slices.Grow(back[:0], len(message))[:len(message)]
		began := time.Now()
		if err := exchange(conn, message, back); err != nil {
			if i == 0 {
				err = errors.Join(err, errNotServed)
			}
			return fmt.Errorf("message %d of %d, %d bytes: %w", i+1, messages, len(message), err)
		}
		if len(message) <= smallMessage && through != nil {
			through.add(time.Since(began))
		}
		c.exchanges.Add(1)
		if d := how.rest(r); d > 0 {
			c.pause(d)
		}
		if c.ctx.Err() != nil || last {
			break
		}
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return fmt.Errorf("ending it: %w", err)
	}
	if n, err := io.Copy(io.Discard, conn); err != nil || n > 0 {
		return fmt.Errorf("after its end come %d bytes more than were sent: %v", n, err)
	}
	return nil
}

// wholeMessage is what the sockets on the way hold in any case: sending it does not wait for an answer.
const wholeMessage = 16 << 10

// largestMessage is the most that a talk may ask for.
const largestMessage = 4 << 20

// stock are the bytes of which messages are pieces, each from a place of its own, so that bytes which come
// late or twice are found.
var stock = sync.OnceValue(func() []byte {
	bytes := make([]byte, 2*largestMessage)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(bytes) // it never fails
	return bytes
})

// pick returns a message. It is not to be written to.
func pick(size int, r *rand.Rand) []byte {
	from := r.IntN(len(stock()) - size)
	return stock()[from : from+size]
}

// exchange sends a message to an echo and compares it with what comes back, which is read into a buffer of
// the same size.
func exchange(c net.Conn, message, back []byte) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	send := func() {
		_, err := c.Write(message)
		sent <- err
	}
	if len(message) > wholeMessage {
		go send() // an echo that nobody reads from does not read
	} else {
		send()
	}
	n, err := io.ReadFull(c, back)
	if err != nil {
		c.Close() // so that the sender ends, too
		return errors.Join(fmt.Errorf("%d bytes of it came back: %w", n, err), <-sent)
	}
	if err := <-sent; err != nil {
		return err
	}
	if !bytes.Equal(back, message) {
		return errors.New("it came back changed")
	}
	return nil
}
