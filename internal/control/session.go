package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

const (
	// maxLine is how long a line with its payload may be, in bytes: HAProxy's default tune.bufsize.
	maxLine = 16 << 10
	// outputBuffer is how much of an answer is written at once.
	outputBuffer = 16 << 10
	// lingerBytes and lingerTime are how much, and for how long, of a line that was too long is still read
	// so that the client can read why it was refused: a connection closed with unread bytes is reset.
	lingerBytes = 1 << 20
	lingerTime  = time.Second
)

// session is one connection of the runtime API. All but the atomic fields belong to its goroutine or do not
// change.
type session struct {
	server  *Server
	id      uint64 // below 2^32, so never that of a stream
	socket  *listener
	conn    net.Conn
	fd      int
	opened  time.Time
	level   config.Level
	timeout atomic.Int64 // time.Duration
	waits   atomic.Int64 // since when it waits for the client, in Unix nanoseconds; 0: it is answering
	calls   atomic.Uint64
	read    atomic.Uint64 // bytes
	written atomic.Uint64

	in       *bufio.Reader
	out      *bufio.Writer
	prompt   bool // interactive: stays open after an answer and shows the prompt
	quit     bool
	severity severityOutput
	// payload is what came after the line that is being answered; nil when it announced none. It may have
	// a secret in it: it is shown to nobody and forgotten after the line.
	payload []byte
}

func newSession(s *Server, l *listener, conn net.Conn) *session {
	c := &session{
		server: s, socket: l, conn: conn, fd: descriptorOf(conn), opened: time.Now(), level: l.config.Level,
	}
	c.timeout.Store(int64(s.timeout))
	c.in = bufio.NewReaderSize(countingReader{c}, maxLine)
	c.out = bufio.NewWriterSize(deadlineWriter{c}, outputBuffer)
	return c
}

// descriptorOf returns the number of the descriptor of a socket, -1 when it is closed already.
func descriptorOf(socket any) int {
	number := -1
	if s, ok := socket.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { number = int(fd) }) // its error is that it is closed
		}
	}
	return number
}

// countingReader and deadlineWriter are the connection as the buffers see it.
type countingReader struct{ *session }

func (r countingReader) Read(p []byte) (int, error) {
	n, err := r.conn.Read(p)
	r.read.Add(uint64(n))
	return n, err
}

type deadlineWriter struct{ *session }

// Write gives the client as long to take a chunk as it may be idle.
func (w deadlineWriter) Write(p []byte) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(time.Duration(w.timeout.Load()))); err != nil {
		return 0, err
	}
	n, err := w.conn.Write(p)
	w.written.Add(uint64(n))
	w.server.countSent(n)
	return n, err
}

func (s *Server) countSent(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent += uint64(n)
	s.sentRate.Add(sys.Now(), uint64(n))
}

// serve answers lines until the client or the protocol ends the connection. Without a prompt that is when
// everything the client has sent so far is answered, as in HAProxy.
func (c *session) serve() {
	defer c.survive()
	for !c.quit {
		line, err := c.readLine()
		if errors.Is(err, bufio.ErrBufferFull) {
			c.message(severityError, "The line is too long: it may have up to %d bytes.\n", maxLine-1)
			c.out.WriteString("\n")
			c.out.Flush()
			c.linger()
			return
		}
		if err != nil {
			// An unfinished line is not carried out: it may be the beginning of another one.
			return
		}
		c.answerLine(line)
		if c.out.Flush() != nil || !c.prompt && c.in.Buffered() == 0 {
			return
		}
	}
}

// readLine returns the next line without its end. It is valid until the next call.
func (c *session) readLine() ([]byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(time.Duration(c.timeout.Load()))); err != nil {
		return nil, err
	}
	c.waits.Store(time.Now().UnixNano())
	line, err := c.in.ReadSlice('\n')
	c.waits.Store(0)
	if err != nil {
		return nil, err
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

// answerLine carries out the commands of one line. After each comes an empty line, and the prompt if there
// is one.
func (c *session) answerLine(line []byte) {
	text := string(line)
	payload := false
	if text, payload = cutPayloadMark(text); payload && !c.readPayload() {
		c.quit = true
		return
	}
	defer c.forgetPayload()
	for _, args := range splitLine(text) {
		c.calls.Add(1)
		c.execute(args)
		if c.quit {
			return
		}
		c.out.WriteString("\n")
		if c.prompt {
			c.out.WriteString("> ")
		}
	}
}

// forgetPayload wipes the payload.
func (c *session) forgetPayload() {
	clear(c.payload)
	c.payload = nil
}

// readPayload reads the lines that follow a "<<", up to an empty one. It is read whether a command wants it
// or not, so that it is not taken for commands.
func (c *session) readPayload() bool {
	c.payload = make([]byte, 0, maxLine) // so that it never moves and leaves a copy behind
	for size := 0; size < maxLine; {
		if c.prompt {
			c.out.WriteString("+ ")
		}
		if c.out.Flush() != nil {
			return false
		}
		line, err := c.readLine()
		if err != nil {
			return false
		}
		if len(line) == 0 {
			return true
		}
		if size += len(line) + 1; size < maxLine {
			c.payload = append(append(c.payload, line...), '\n')
		}
	}
	c.forgetPayload()
	c.message(severityError, "The payload is too long: it may have up to %d bytes.\n", maxLine-1)
	c.out.WriteString("\n")
	c.out.Flush()
	c.linger()
	return false
}

// linger ends the answers and reads on for a while.
func (c *session) linger() {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil &&
		c.conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		// Whatever ends it, the connection is closed next.
		_, _ = io.CopyN(io.Discard, c.conn, lingerBytes)
	}
}

// survive keeps a bug in a dump from ending the proxy: it ends this connection only.
func (c *session) survive() {
	if cause := recover(); cause != nil {
		stack := strings.Join(strings.Fields(string(debug.Stack())), " ")
		c.server.alert("BUG: an answer of the runtime API broke off: %v; %s", cause, stack)
		fmt.Fprintf(c.out, "Internal error: %v\n\n", cause)
		c.out.Flush()
	}
}

// failed reports whether the client takes no more, so that a dump can break off.
func (c *session) failed() bool {
	_, err := c.out.Write(nil)
	return err != nil
}

// client returns the client's address, the zero Address for a unix socket.
func (c *session) client() sys.Address { return addressOf(c.conn.RemoteAddr()) }

// local returns the address that the client connected to, the zero Address for a unix socket.
func (c *session) local() sys.Address { return addressOf(c.conn.LocalAddr()) }

func addressOf(a net.Addr) sys.Address {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return sys.Address{IP: unmapped(tcp.AddrPort())}
	}
	return sys.Address{}
}

// severityOutput says how messages that are not dumps show their severity ("set severity-output").
type severityOutput uint8

const (
	severityNone severityOutput = iota
	severityNumber
	severityString
)

// The severities of messages, numbered as in syslog.
const (
	severityError = 3
	severityInfo  = 6
)

// message writes the answer of a command that is one message.
func (c *session) message(severity int, format string, args ...any) {
	switch c.severity {
	case severityNone:
	case severityNumber:
		fmt.Fprintf(c.out, "[%d]: ", severity)
	case severityString:
		name := "info"
		if severity == severityError {
			name = "err"
		}
		fmt.Fprintf(c.out, "[%s]: ", name)
	}
	fmt.Fprintf(c.out, format, args...)
}
