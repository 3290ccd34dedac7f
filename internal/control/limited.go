package control

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// acceptPause is how long a listener rests after an error of accept that may last: out of descriptors, out
// of memory. Without it the listener would be tried again at once, for ever.
const acceptPause = 100 * time.Millisecond

// limited is a listener whose connections are limited in number. At the limit it accepts nothing: further
// clients wait in the kernel's queue, with what they have sent, until a connection ends. A client that is
// accepted to be turned away would lose the order that it has sent already, and could not even read why:
// closing a connection with unread bytes resets it.
type limited struct {
	net.Listener
	name   string        // for messages, as the configuration names it
	places chan struct{} // holds an element for each connection, and one for the accept that is going on
	open   atomic.Int64  // connections
	done   chan struct{}
	ending sync.Once
	alert  func(message string)
}

// limit makes a listener one of at most so many connections. alert takes a message for the operator; nil
// drops them.
func limit(l net.Listener, name string, most int, alert func(string)) *limited {
	if alert == nil {
		alert = func(string) {}
	}
	return &limited{
		Listener: l, name: name, places: make(chan struct{}, most), done: make(chan struct{}), alert: alert,
	}
}

// take returns the next connection, once there is a place for it. Whoever closes the connection must call
// release then. The error is net.ErrClosed, after Close: all others are waited out.
func (l *limited) take() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	for told := false; ; {
		conn, err := l.Listener.Accept()
		switch {
		case err == nil:
			l.open.Add(1)
			return conn, nil
		case errors.Is(err, net.ErrClosed):
			return l.ended()
		case !told:
			told = true
			l.alert(fmt.Sprintf("%s: cannot accept, tries again every %v: %v",
				l.name, acceptPause, cause(err)))
		}
		select {
		case <-l.done:
			return l.ended()
		case <-time.After(acceptPause):
		}
	}
}

// ended gives back the place that was taken for a connection that will not come.
func (l *limited) ended() (net.Conn, error) {
	<-l.places
	return nil, net.ErrClosed
}

// cause takes off an error of accept what package net puts before it: the name that the socket was bound
// under, which for a unix socket is a temporary one.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// release gives the place of a connection back.
func (l *limited) release() {
	l.open.Add(-1)
	<-l.places
}

// full reports whether the limit is reached.
func (l *limited) full() bool { return l.open.Load() >= int64(cap(l.places)) }

// Accept is take for those who do not know of places: the connection gives its own back when it is closed.
func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.take()
	if err != nil {
		return nil, err
	}
	return &placed{Conn: conn, release: sync.OnceFunc(l.release)}, nil
}

// Close ends take and Accept. The connections stay.
func (l *limited) Close() error {
	l.ending.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// placed is a connection that has a place.
type placed struct {
	net.Conn
	release func()
}

// Close may be called more than once.
func (p *placed) Close() error {
	defer p.release()
	return p.Conn.Close()
}
