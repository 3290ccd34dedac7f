package control

import (
	"strings"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/stream"
)

// The flags in dumps are whyspin's own, but each has the value of HAProxy 2.6's flag of the same meaning, so
// that people and programs that decode HAProxy's need not learn others. Bits without a counterpart here are
// never set.

// Flags of a stream ("flags=").
const (
	streamAssigned   = 0x002 // a server is assigned
	streamBackend    = 0x008 // a backend is
	streamOnServer   = 0x040 // counted among the server's connections: connecting or connected
	streamRedispatch = 0x100 // a retry went to another server
)

func streamFlags(v *engine.StreamView) uint32 {
	flags := uint32(0)
	if v.Server != nil {
		flags |= streamAssigned
	}
	if v.Backend != nil {
		flags |= streamBackend
	}
	if v.Server != nil && (v.ServerState == stream.Connecting || v.ServerState == stream.Established) {
		flags |= streamOnServer
	}
	if v.Redispatched {
		flags |= streamRedispatch
	}
	return flags
}

// Flags of a channel ("f=").
const (
	channelInShut      = 0x00000020 // nothing more is read into it
	channelOutShut     = 0x00002000 // nothing more is written from it
	channelOutPending  = 0x00004000 // is to be shut when it is empty
	channelAutoClose   = 0x00008000 // the end of one side is passed on to the other: always
	channelWrote       = 0x00040000 // bytes were written
	channelAutoConnect = 0x00800000 // the server is connected without waiting for bytes: always
	channelResponse    = 0x80000000 // is the one to the client
)

func requestFlags(v *engine.StreamView) uint32 {
	return channelFlags(&v.Request) | channelAutoConnect | channelAutoClose
}

func responseFlags(v *engine.StreamView) uint32 {
	flags := channelFlags(&v.Response) | channelResponse
	if v.Times.Connected.IsSet() {
		flags |= channelAutoClose
	}
	return flags
}

func channelFlags(c *stream.ChannelView) uint32 {
	flags := uint32(0)
	if c.In == stream.Shut {
		flags |= channelInShut
	}
	switch c.Out {
	case stream.Shut:
		flags |= channelOutShut
	case stream.Pending:
		flags |= channelOutPending
	case stream.Open:
	}
	if c.Written > 0 {
		flags |= channelWrote
	}
	return flags
}

// Flags of a side ("scf=", "scb=") and of its endpoint ("endp=").
const (
	sideBack = 0x001 // it is the server's

	endpointConnection = 0x00000001 // there is a connection
	endpointApplet     = 0x00000002 // there is an applet: the runtime API itself
	endpointDetached   = 0x00000010 // there is nothing
	endpointOutShut    = 0x00000400 // its write side was shut
	endpointInShut     = 0x00008000 // its end of file was read
)

// Flags of a connection.
const (
	connectionReady      = 0x00000300 // transport and control layer are there: always
	connectionInShut     = 0x00040000 // the end of file was read
	connectionOutShut    = 0x00080000 // the write side was shut
	connectionConnecting = 0x00400000 // waits for the connect to succeed
	connectionBack       = 0x10000000 // it goes to a server
)

// Flags of a descriptor ("fd.state=", "st=").
const (
	fdReadActive  = 0x000001 // it is wanted to read
	fdReadReady   = 0x000002 // there is, or may be, something to read
	fdReadShut    = 0x000004
	fdWriteActive = 0x000010 // it is wanted to write
	fdWriteReady  = 0x000020 // there is room to write
	fdWriteShut   = 0x000040
	fdHangUp      = 0x001000 // the kernel reported ERR or HUP
	fdListener    = 0x100000 // a listener
)

// sessionFDFlags are those of a connection of the runtime API: it is read by a goroutine of its own, which
// waits unless it writes an answer.
const sessionFDFlags = fdReadActive | fdWriteReady

// side is one side of a stream with all that its dump needs.
type side struct {
	end       *engine.EndView
	state     stream.SideState
	in, out   *stream.ChannelView // what is read from it, and what is written to it
	back      bool
	connected bool // has a descriptor
}

func sideOf(v *engine.StreamView, which stream.Side) side {
	s := side{end: &v.Ends[which], connected: v.Ends[which].FD >= 0}
	if which == stream.Client {
		s.state, s.in, s.out = v.ClientState, &v.Request, &v.Response
		return s
	}
	s.state, s.in, s.out, s.back = v.ServerState, &v.Response, &v.Request, true
	return s
}

func (s *side) flags() uint32 {
	if s.back {
		return sideBack
	}
	return 0
}

func (s *side) endpointFlags() uint32 {
	if !s.connected {
		return endpointDetached
	}
	flags := uint32(endpointConnection)
	if s.in.In == stream.Shut {
		flags |= endpointInShut
	}
	if s.out.Out == stream.Shut {
		flags |= endpointOutShut
	}
	return flags
}

func (s *side) connectionFlags() uint32 {
	flags := uint32(connectionReady)
	if s.in.In == stream.Shut {
		flags |= connectionInShut
	}
	if s.out.Out == stream.Shut {
		flags |= connectionOutShut
	}
	if s.state == stream.Connecting {
		flags |= connectionConnecting
	}
	if s.back {
		flags |= connectionBack
	}
	return flags
}

// wantsRead and wantsWrite report what the side waits for.
func (s *side) wantsRead() bool {
	return s.connected && s.state == stream.Established && s.in.In == stream.Open && !s.in.Full
}

func (s *side) wantsWrite() bool {
	return s.connected && (s.state == stream.Connecting || s.out.Buffered > 0 && s.out.Out != stream.Shut)
}

// subscribed is which of the two the side waits for a descriptor event for: 1 to read, 2 to write.
func (s *side) subscribed() int {
	n := 0
	if s.wantsRead() && !isReady(s.end.Ready, 'R') {
		n |= 1
	}
	if s.wantsWrite() && !isReady(s.end.Ready, 'W') {
		n |= 2
	}
	return n
}

func (s *side) fdFlags() uint32 {
	flags := readyFlags(s.end.Ready)
	if s.wantsRead() {
		flags |= fdReadActive
	}
	if s.wantsWrite() {
		flags |= fdWriteActive
	}
	return flags
}

// isReady reports whether the engine's letters for what a descriptor is ready for have that one.
func isReady(ready string, letter byte) bool { return strings.IndexByte(ready, letter) >= 0 }

func readyFlags(ready string) uint32 {
	flags := uint32(0)
	if isReady(ready, 'R') {
		flags |= fdReadReady
	}
	if isReady(ready, 'W') {
		flags |= fdWriteReady
	}
	if isReady(ready, 'H') {
		flags |= fdHangUp
	}
	return flags
}

// stateNumber is HAProxy's number of a state, in the short dump: it has one more, RDY, before EST, and one
// more, DIS, before CLO.
func stateNumber(s stream.SideState) int {
	switch s {
	case stream.Established:
		return 8
	case stream.Closed:
		return 10
	}
	return int(s)
}
