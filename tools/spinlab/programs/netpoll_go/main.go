// Command netpoll_go is an echo server in ordinary Go, a goroutine for each connection, with one defect: see
// ../epoll_c/server.c for the words and the rules. The runtime's poller waits for it, edge-triggered, so
// what is left of the catalogue are loops around calls that fail at once, and loops without any call.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	longestLife = 2 * time.Minute
	fewFiles    = 24 // F5: the limit that is soon reached
)

type server struct {
	defect, upstream string
	listener         net.Listener
	once             sync.Once
}

// must ends the program: it is a tool of tests, and what fails here is the machine's fault.
func must(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

// announce says who the culprit is, once.
func (s *server) announce(c syscall.Conn) {
	s.once.Do(func() {
		truth := map[string]any{"class": s.defect, "listener": s.listener.Addr().String()}
		raw, err := c.SyscallConn()
		must("the descriptor", err)
		must("the descriptor", raw.Control(func(fd uintptr) { truth["fd"] = fd }))
		if c, ok := c.(net.Conn); ok {
			truth["local"], truth["peer"] = c.LocalAddr().String(), c.RemoteAddr().String()
		}
		if s.defect == "C1" {
			truth["destination"] = s.upstream
		}
		must("announcing", json.NewEncoder(os.Stdout).Encode(truth))
	})
}

// serve sends back what it gets.
func (s *server) serve(c *net.TCPConn) {
	defer c.Close()
	var buffer [4096]byte
	met, ended := false, false
	for {
		n, err := c.Read(buffer[:])
		if err != nil && s.defect == "F3" && met {
			if ended {
				s.announce(c)
			}
			ended = true
			continue // defect F3: "try again" for every error, the end of the stream among them
		}
		if err != nil {
			return
		}
		if _, err := c.Write(buffer[:n]); err != nil {
			return
		}
		if met = met || buffer[0] == '!'; met && s.defect == "C1" {
			s.retryUpstream(c)
		}
	}
}

// retryUpstream tries to connect until it can.
func (s *server) retryUpstream(client *net.TCPConn) {
	for {
		c, err := net.Dial("tcp", s.upstream)
		if err == nil {
			c.Close()
			return
		}
		s.announce(client) // defect C1: no delay before the next attempt
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintf(os.Stderr, "usage: %s CLASS PORT-OF-THE-UPSTREAM\n", os.Args[0])
		os.Exit(2)
	}
	time.AfterFunc(longestLife, func() { os.Exit(0) })
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must("listening", err)
	s := &server{defect: os.Args[1], upstream: "127.0.0.1:" + os.Args[2], listener: l}
	if s.defect == "F5" {
		few := syscall.Rlimit{Cur: fewFiles, Max: fewFiles}
		must("setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	}
	must("announcing", json.NewEncoder(os.Stdout).Encode(map[string]string{"listener": l.Addr().String()}))
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			go s.serve(c.(*net.TCPConn))
		case s.defect == "F5":
			s.announce(l.(*net.TCPListener)) // defect F5: the next attempt follows at once
		default:
			must("accepting", err)
		}
	}
}
