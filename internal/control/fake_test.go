package control

import (
	"bufio"
	"bytes"
)

// fake is a session that writes into memory.
type fake struct {
	session
	written bytes.Buffer
}

func fakeSession(s *Server) *fake {
	f := &fake{}
	f.server = s
	f.out = bufio.NewWriter(&f.written)
	return f
}

func (f *fake) text() string {
	f.out.Flush()
	return f.written.String()
}
