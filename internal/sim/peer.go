package sim

import (
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/sys"
)

// peer is a client, or a server's end of one connection, following its script.
type peer struct {
	world   *World
	name    string
	client  int // its number from 0, -1 for a server
	server  int
	address sys.Address
	steps   []Step
	socket  *socket

	waiting  bool // for what the next step awaits
	paused   bool
	hold     bool
	finSent  bool
	closed   bool // both directions: whatever arrives is answered with a reset
	gone     bool // the engine has closed both directions
	over     bool // the connection is broken
	endSeen  bool // everything the engine sent has been read, up to its end
	endSent  bool // the engine has sent its end, perhaps behind unread bytes
	scripted bool // all steps are done

	transit   []byte // given to the network and still under way
	sent      int    // bytes given to the network
	taken     int    // of these, read by the engine
	unread    int    // bytes received while paused
	crowd     int    // bytes that came while paused, sealed ones as they came
	received  int    // bytes received and read
	discarded int    // bytes that came after the close
	from      int    // whose bytes they are: the sender's number, -1 when there are none yet
	number    int    // of a server's connection that has sent something, by which the pattern knows it
	broke     bool   // has reset the connection itself
	facts     facts  // of a client's stream
	of        *peer  // of an attempt to reach a server, the client
	partner   *peer  // the server's end of a client's stream, as far as that was seen
	tls       *tlsPeer
}

// firstServer is the first number of a server's connection. The first byte of what it sends is its number;
// there are fewer clients than that. Those above are given again when all have been.
const firstServer = 128

// pattern is byte i of what a sender sends. The first byte tells who it is.
func pattern(sender, i int) byte {
	if i == 0 {
		return byte(sender)
	}
	return byte(sender*31 + i*7 + i>>8)
}

// sender is the number by which the pattern knows a peer that is about to send.
func (p *peer) sender() int {
	if p.client >= 0 {
		return p.client
	}
	if p.number == 0 {
		p.number = firstServer + p.world.talking%(256-firstServer)
		p.world.talking++
	}
	return p.number
}

// newClient makes a client; it connects when the scenario says.
func (w *World) newClient(i int) {
	script := &w.scenario.Clients[i]
	p := &peer{
		world: w, name: fmt.Sprintf("client %d", i+1), client: i, server: -1, address: clientAddress(i),
		steps: script.Steps, from: -1,
	}
	w.peers = append(w.peers, p)
	w.client[p.address] = p
	w.after(script.At, func() {
		if w.listen.closed {
			w.tell("%s: is refused", p.name)
			p.over, p.gone = true, true
			return
		}
		p.socket = &socket{world: w, peer: p, state: established, urgent: -1}
		p.facts.queued, p.facts.failed = ktime.Never, ktime.Never
		w.listen.backlog = append(w.listen.backlog, p.socket)
		w.tell("%s: connects", p.name)
		for _, i := range w.listen.interests {
			i.raise()
		}
		p.begin()
	})
}

// newPeer makes a server's end of a connection attempt.
func (w *World) newPeer(v *server) *peer {
	p := &peer{
		world: w, name: fmt.Sprintf("server %d #%d", v.index+1, v.attempts), client: -1, server: v.index,
		steps: v.script.Steps, from: -1,
	}
	w.peers = append(w.peers, p)
	return p
}

// begin starts the script, and the handshake.
func (p *peer) begin() {
	p.secure()
	p.next()
}

// next arranges for the next step.
func (p *peer) next() {
	if p.over {
		return
	}
	if len(p.steps) == 0 {
		p.scripted = true
		p.finale()
		return
	}
	p.world.after(p.steps[0].After, p.step)
}

// step does the next step, or waits for what it awaits.
func (p *peer) step() {
	if p.over || len(p.steps) == 0 {
		return
	}
	s := p.steps[0]
	switch {
	case s.Do == Await && p.received < s.N && !p.endSeen, s.Do == AwaitEnd && !p.endSeen:
		p.waiting = true
		return
	}
	p.waiting = false
	p.steps = p.steps[1:]
	p.do(s)
	p.next()
}

func (p *peer) do(s Step) {
	switch s.Do {
	case Send:
		p.send(s.N)
	case Urgent:
		p.sendUrgent()
	case Fin:
		p.fin()
	case Close:
		p.closeBoth()
	case Reset:
		if !p.over {
			p.world.did(ScriptedReset)
		}
		p.reset()
	case Pause:
		p.paused = true
		p.world.did(SlowReader)
	case Resume:
		p.resume()
	case Hold:
		p.hold = true
	case Await, AwaitEnd, CutFIN, CutReset, CutSilence:
	}
}

func (p *peer) send(n int) {
	if p.finSent {
		return
	}
	if p.gone {
		// The engine's socket is closed: its kernel answers with a reset.
		p.over = true
		return
	}
	if p.tls != nil {
		p.tls.send(n)
		return
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = pattern(p.sender(), p.sent+i)
	}
	p.sent += n
	p.transmit(b)
}

// transmit gives bytes to the network. They arrive at once, or in pieces.
func (p *peer) transmit(b []byte) {
	p.arriveAtEngine()
	p.world.tell("%s: sends %d", p.name, len(b))
	p.transit = append(p.transit, b...)
	p.arriveInPieces()
}

// arriveInPieces is arriveAtEngine, perhaps of a part, with the rest a little later.
func (p *peer) arriveInPieces() {
	n := len(p.transit)
	if n < 2 || p.over || p.gone || !p.world.strikes(SplitSend) {
		p.arriveAtEngine()
		return
	}
	n = 1 + p.world.random.IntN(n-1)
	p.socket.receive = append(p.socket.receive, p.transit[:n]...)
	p.transit = append([]byte(nil), p.transit[n:]...)
	p.socket.edge()
	p.world.after(p.world.soon(), p.arriveInPieces)
}

// arriveAtEngine ends the way of what was sent and has not arrived; whatever else a peer does arrives behind
// it.
func (p *peer) arriveAtEngine() {
	if len(p.transit) == 0 || p.over || p.gone {
		return
	}
	p.socket.receive = append(p.socket.receive, p.transit...)
	p.transit = p.transit[:0]
	p.socket.edge()
}

func (p *peer) sendUrgent() {
	if p.finSent || p.gone || p.socket.urgent >= 0 {
		return
	}
	p.arriveAtEngine()
	p.world.did(UrgentData)
	p.socket.urgent = len(p.socket.receive)
	p.socket.receive = append(p.socket.receive, '!')
	p.world.tell("%s: sends urgent data", p.name)
	p.socket.edge()
}

// fin says that nothing more comes: in TLS, if it may, and by shutting the direction, which with TLS is not
// the same.
func (p *peer) fin() {
	if p.finSent || p.over {
		return
	}
	if !p.endSent && !p.closed {
		h := HalfCloseServer
		if p.client >= 0 {
			h = HalfCloseClient
		}
		p.world.did(h)
	}
	if p.tls != nil && !p.gone && p.tls.finish() {
		return
	}
	p.shut()
}

// shut shuts the direction to the engine.
func (p *peer) shut() {
	if p.over || p.socket.fin || p.tls != nil && p.tls.silent {
		return
	}
	if !p.gone {
		p.arriveAtEngine()
	}
	p.finSent = true
	p.socket.fin = true
	p.world.tell("%s: FIN", p.name)
	p.socket.edge()
}

// closeBoth closes: bytes that arrive later are answered with a reset.
func (p *peer) closeBoth() {
	if p.crowd > 0 {
		p.reset()
		return
	}
	p.steps, p.closed = nil, true
	if !p.over && !p.finSent {
		p.world.did(CloseBoth)
	}
	p.fin()
	p.shut()
}

func (p *peer) reset() {
	if p.over {
		return
	}
	p.over, p.broke = true, true
	p.world.tell("%s: RST", p.name)
	if p.gone {
		return
	}
	s := p.socket
	s.broken, s.err = true, sys.ECONNRESET
	s.edge()
}

func (p *peer) resume() {
	p.paused = false
	p.received += p.unread
	p.unread, p.crowd = 0, 0
	if p.endSent {
		p.endSeen = true
	}
	p.socket.freed()
	p.progress()
}

// arrive takes bytes that the engine has written.
func (p *peer) arrive(b []byte) {
	if p.paused {
		p.crowd += len(b)
	}
	if p.tls != nil {
		b = p.tls.receive(b)
	}
	if p.from < 0 && len(b) > 0 {
		p.from = int(b[0])
	}
	if p.closed {
		p.discarded += len(b)
		p.over, p.broke = true, true
		p.socket.broken, p.socket.err = true, sys.EPIPE
		p.world.tell("%s: RST to what arrives after its close", p.name)
		p.socket.edge()
		return
	}
	p.take(b)
	if p.tls != nil && p.tls.announced {
		p.endOfData()
	}
}

// take takes bytes of the other side's.
func (p *peer) take(b []byte) {
	at := p.received + p.unread
	for i, c := range b {
		if want := pattern(p.from, at+i); c != want {
			p.world.fail("bytes", "%s got byte %#x at %d, should be %#x of sender %d", p.name, c, at+i,
				want, p.from)
			break
		}
	}
	if p.paused {
		p.unread += len(b)
		return
	}
	p.received += len(b)
	if len(b) > 0 {
		p.progress()
	}
}

// end takes the end of what the engine sends.
func (p *peer) end() {
	if p.over {
		return
	}
	if p.tls != nil {
		p.tls.eof = true
		p.take(p.tls.work())
	}
	p.endOfData()
}

// endOfData takes the end of the bytes that the engine sends, which with TLS may come before that of its
// direction.
func (p *peer) endOfData() {
	if p.endSent || p.over {
		return
	}
	p.endSent = true
	p.world.tell("%s: sees the end", p.name)
	if !p.paused {
		p.endSeen = true
		p.progress()
	}
}

// broken takes a reset by the engine.
func (p *peer) broken() {
	if !p.over {
		p.over = true
		p.world.tell("%s: is reset", p.name)
	}
}

// progress goes on with a script that waited.
func (p *peer) progress() {
	if p.waiting {
		p.waiting = false
		p.step()
		return
	}
	if p.scripted {
		p.finale()
	}
}

// answerEnd is how long a peer takes to answer an end with an end.
const answerEnd = 200 * time.Microsecond

// finale is what a peer does after its script: it answers an end with an end, unless it holds.
func (p *peer) finale() {
	if p.paused && !p.hold {
		p.resume()
	}
	if p.endSeen && !p.hold && !p.finSent {
		p.world.after(answerEnd, p.fin)
	}
	if p.endSeen && !p.hold && p.tls != nil && p.tls.half {
		p.world.after(answerEnd, p.shut)
	}
}
