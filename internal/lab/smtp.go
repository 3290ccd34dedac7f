package lab

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"sync"
	"time"
)

// maxMail bounds a message that the server takes.
const maxMail = 1 << 20

// peerTimeout ends a connection of a peer that has hung.
const peerTimeout = time.Minute

// MailServer is an SMTP server on loopback that speaks first, as SMTP servers do, and keeps the hashes of
// the mails it got. Its methods may be called by any goroutine.
type MailServer struct {
	listener net.Listener
	handlers sync.WaitGroup

	mu    sync.Mutex
	mails map[[sha256.Size]byte]int
	open  map[net.Conn]bool
	done  bool
}

// StartMailServer starts a server on a free port of 127.0.0.1. The caller closes it.
func StartMailServer() (*MailServer, error) { return StartMailServerAt("127.0.0.1:0") }

// StartMailServerAt starts a server on an address; port 0 is a free one. The caller closes it.
func StartMailServerAt(address string) (*MailServer, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("starting the mail server: %w", err)
	}
	s := &MailServer{listener: l, mails: map[[sha256.Size]byte]int{}, open: map[net.Conn]bool{}}
	s.handlers.Go(s.accept)
	return s, nil
}

// Address returns where the server listens.
func (s *MailServer) Address() string { return s.listener.Addr().String() }

// Mails returns how many different mails have arrived.
func (s *MailServer) Mails() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mails)
}

func (s *MailServer) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		if !s.enter(c) {
			c.Close()
			return
		}
		s.handlers.Go(func() {
			defer s.leave(c)
			// A client that leaves in the middle is what this server is here for.
			_ = s.converse(c)
		})
	}
}

func (s *MailServer) enter(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.open[c] = true
	}
	return !s.done
}

func (s *MailServer) leave(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	c.Close()
}

// converse speaks the server's part of SMTP (RFC 5321, the commands of a minimum implementation).
func (s *MailServer) converse(c net.Conn) error {
	t := textproto.NewConn(c)
	say := func(line string) error {
		if err := c.SetDeadline(time.Now().Add(peerTimeout)); err != nil {
			return err
		}
		return t.PrintfLine("%s", line)
	}
	if err := say("220 mx.example ESMTP ready"); err != nil {
		return err
	}
	for {
		line, err := t.ReadLine()
		if err != nil {
			return err
		}
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		answer := "500 unknown command"
		switch verb {
		case "EHLO", "HELO":
			answer = "250 mx.example"
		case "MAIL", "RCPT", "RSET", "NOOP":
			answer = "250 ok"
		case "DATA":
			if err := say("354 go on"); err != nil {
				return err
			}
			body, err := io.ReadAll(io.LimitReader(t.DotReader(), maxMail))
			if err != nil {
				return err
			}
			s.keep(body)
			answer = "250 taken"
		case "QUIT":
			return say("221 bye")
		}
		if err := say(answer); err != nil {
			return err
		}
	}
}

func (s *MailServer) keep(body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails[sha256.Sum256(body)]++
}

// got is how often a mail arrived.
func (s *MailServer) got(body string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mails[sha256.Sum256([]byte(body))]
}

// Close ends the server and all connections to it.
func (s *MailServer) Close() {
	s.listener.Close()
	s.mu.Lock()
	s.done = true
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.handlers.Wait()
}

// mailer is one healthy SMTP session that sends mail after mail until it is told to finish.
type mailer struct {
	number int
	sent   []string
}

// mailPause is the longest pause between two mails of one session. It is below the tunnel timeout of the
// demo.
const mailPause = 600 * time.Millisecond

// run sends mails until finish is closed, and checks after the session that each arrived exactly once.
func (m *mailer) run(address string, server *MailServer, finish <-chan struct{}) error {
	c, err := net.DialTimeout("tcp", address, peerTimeout)
	if err != nil {
		return err
	}
	client, err := smtp.NewClient(c, "mx.example")
	if err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	defer client.Close()
	for {
		select {
		case <-finish:
			if err := client.Quit(); err != nil {
				return fmt.Errorf("quitting: %w", err)
			}
			return m.check(server)
		case <-time.After(time.Duration(rand.Int64N(int64(mailPause)))):
		}
		if err := m.send(client); err != nil {
			return fmt.Errorf("mail %d: %w", len(m.sent), err)
		}
	}
}

// send sends one mail with a body of its own.
func (m *mailer) send(client *smtp.Client) error {
	var body strings.Builder
	fmt.Fprintf(&body, "Subject: mail %d of session %d\n\n", len(m.sent), m.number)
	for range 1 + rand.IntN(200) {
		fmt.Fprintf(&body, "%016x%016x\n", rand.Uint64(), rand.Uint64())
	}
	if err := client.Mail("a@client.example"); err != nil {
		return err
	}
	if err := client.Rcpt("b@mx.example"); err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	if _, err := out.WriteString(body.String()); err != nil {
		return err
	}
	if err := errors.Join(out.Flush(), w.Close()); err != nil {
		return err
	}
	m.sent = append(m.sent, body.String())
	return nil
}

func (m *mailer) check(server *MailServer) error {
	if len(m.sent) == 0 {
		return errors.New("no mail was sent")
	}
	for i, body := range m.sent {
		if n := server.got(body); n != 1 {
			return fmt.Errorf("mail %d of %d arrived %d times with its bytes unchanged", i, len(m.sent), n)
		}
	}
	return nil
}
