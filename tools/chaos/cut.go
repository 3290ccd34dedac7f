package main

import (
	"errors"
	"io"
	"net"
	"time"
)

// cutting is how a client leaves in the middle of a handshake.
type cutting int

const (
	cutFIN     cutting = iota // it ends its direction, and reads on
	cutReset                  // it is gone
	cutSilence                // it says nothing more, and waits for what comes of that
	cuttings
)

var cuttingNames = [...]string{"FIN", "RST", "silence"}

// errCut is the error of a connection that has come to the point where it is to be cut.
var errCut = errors.New("the connection is cut here")

// counted is a connection that counts the bytes in both directions, and stops before a number of them.
type counted struct {
	net.Conn
	sent, received int
	// mayBeSent and mayBeReceived are the numbers, negative for no end.
	mayBeSent, mayBeReceived int
}

func (c *counted) Write(p []byte) (int, error) {
	all := len(p)
	if c.mayBeSent >= 0 {
		p = p[:min(all, c.mayBeSent-c.sent)]
	}
	n := 0
	var err error
	if len(p) > 0 || all == 0 {
		n, err = c.Conn.Write(p)
	}
	c.sent += n
	if err == nil && n < all {
		err = errCut
	}
	return n, err
}

func (c *counted) Read(p []byte) (int, error) {
	if c.mayBeReceived >= 0 {
		if c.received == c.mayBeReceived {
			return 0, errCut
		}
		p = p[:min(len(p), c.mayBeReceived-c.received)]
	}
	n, err := c.Conn.Read(p)
	c.received += n
	return n, err
}

// leave leaves a connection in the given way. It reports what is wrong when the proxy does not end it, too.
func leave(conn net.Conn, how cutting) error {
	defer conn.Close()
	tcp := conn.(*net.TCPConn)
	switch how {
	case cutReset:
		return tcp.SetLinger(0)
	case cutFIN:
		_ = tcp.CloseWrite() // fails when the proxy was faster
	case cutSilence:
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var late net.Error
	if _, err := io.Copy(io.Discard, conn); errors.As(err, &late) && late.Timeout() {
		return errors.New("the proxy does not end it, either")
	}
	return nil
}
