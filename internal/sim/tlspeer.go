package sim

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/tlsconn"
)

// tlsPeer is the TLS of a peer. The handshake and what comes from the engine are crypto/tls's; what the peer
// sends after the handshake is sealed here, so that it can be what crypto/tls would never send.
type tlsPeer struct {
	peer    *peer
	version string
	conn    *tlsconn.Conn
	in      []byte // has come from the engine and was not read by crypto/tls
	eof     bool   // the engine's end has come
	keys    strings.Builder
	hellos  [2]hello // the client's and the server's
	seal    *sealer
	waiting int // bytes to be sent after the handshake
	sealed  int // bytes that were sealed
	asked   int // how often the engine was asked for new keys

	out     []byte // records that are to be sent at once
	marks   []mark // of out
	late    bool   // what is to be sent waits, by a hazard
	limit   int    // after how many bytes the connection is cut, -1 for never
	way     cutWay
	silent  bool // nothing that is sent arrives any more, nor the end
	mute    bool // sends nothing more
	strange bool // has sent what it should not have: the engine may refuse it
	foreign bool // does not speak TLS
	ends    bool // when what waits is sent, nothing more comes
	half    bool // has said in TLS that nothing more comes, and has not shut its direction

	crowded   bool // the engine closed after a write found no room: word of the end may be lost with it
	announced bool // the engine has said in TLS that nothing more comes
	failed    error
	wire      wireLog
}

// cutWay is how a connection is cut.
type cutWay int

const (
	cutFIN cutWay = iota
	cutReset
	cutSilence
	cutWays
)

// secure begins the TLS of a peer, if it is to have any.
func (p *peer) secure() {
	w, version := p.world, p.world.scenario.TLSServer
	if p.client >= 0 {
		version = w.scenario.TLSClient
	}
	if version == "" {
		return
	}
	l := &tlsPeer{peer: p, version: version, limit: -1}
	p.tls = l
	config := w.peerTLS(version, p.client >= 0)
	if p.client >= 0 {
		l.conn = tlsconn.Client(config, l, &w.tls.buffers)
	} else {
		l.conn = tlsconn.Server(config, l, &w.tls.buffers)
	}
	for way, h := range [cutWays]Hazard{CutByFIN, CutByReset, CutBySilence} {
		if w.chance(h) {
			l.limit, l.way = w.random.IntN(maxCut), cutWay(way)
		}
	}
	if len(p.steps) > 0 && p.steps[0].Do >= CutFIN && p.steps[0].Do <= CutSilence {
		l.limit, l.way = p.steps[0].N, cutWay(p.steps[0].Do-CutFIN)
		p.steps = p.steps[1:]
	}
	if w.strikes(NotTLS) {
		l.foreign, l.strange = true, true
		p.steps = nil
		l.add([]byte("GET / HTTP/1.1\r\nHost: server.test\r\n\r\n"), mark{kind: markBad})
		l.flush()
		return
	}
	if l.limit == 0 {
		l.cut()
	}
	l.work()
}

// maxCut is above the bytes of a peer's handshake and a few records.
const maxCut = 1200

// Read reads what has come, for crypto/tls.
func (l *tlsPeer) Read(p []byte) (int, error) {
	switch {
	case len(l.in) > 0:
		n := copy(p, l.in)
		l.in = l.in[n:]
		return n, nil
	case l.eof:
		return 0, io.EOF
	}
	return 0, tlsconn.ErrWouldBlock
}

// Send sends what crypto/tls has made: the handshake. What it has to say later it would say with keys that
// are not its own any more.
func (l *tlsPeer) Send(b []byte) {
	if l.seal != nil {
		return
	}
	l.hellos[l.side()].take(b)
	if !l.strange && l.peer.world.strikes(Alert) {
		l.strange = true
		const handshakeFailure = 40
		l.add([]byte{recordAlert, 3, 3, 0, 2, 2, handshakeFailure}, mark{kind: markBad})
		l.flush()
		l.mute = true
		return
	}
	kind := markRecord
	if l.strange {
		kind = markDoubt
	}
	if !l.strange && l.peer.world.strikes(Corrupt) {
		l.strange, kind = true, markDoubt
		b = append([]byte(nil), b...)
		b[l.peer.world.random.IntN(len(b))] ^= 1 << l.peer.world.random.IntN(8)
		l.add(b, mark{kind: kind})
		l.flush()
		return
	}
	for len(b) >= recordHeader {
		n := recordHeader + int(b[3])<<8 + int(b[4])
		l.add(b[:n], mark{kind: kind})
		b = b[n:]
	}
	if l.peer.world.strikes(LateHandshake) {
		l.delay()
	}
	l.flush()
}

// side is 0 for a client and 1 for a server.
func (l *tlsPeer) side() int {
	if l.peer.client >= 0 {
		return 0
	}
	return 1
}

// delay holds back what is to be sent, for a moment or until about the timeout of the handshake.
func (l *tlsPeer) delay() {
	w, t := l.peer.world, &l.peer.world.scenario.Timeouts
	limit := t.Connect
	if l.peer.client >= 0 {
		if limit = t.ClientHandshake; limit == 0 {
			limit = t.Client
		}
	}
	d := w.soon()
	if w.random.IntN(2) == 0 {
		const before, around = 200 * time.Microsecond, 1400 * time.Microsecond
		d = max(0, limit-before) + time.Duration(w.random.Int64N(int64(around)))
	}
	l.late = true
	w.after(d, func() {
		l.late = false
		l.flush()
	})
}

// add makes a record one of those that are to be sent.
func (l *tlsPeer) add(record []byte, m mark) {
	l.out = append(l.out, record...)
	m.end = len(l.out)
	l.marks = append(l.marks, m)
}

// flush sends what is to be sent, up to where the connection is cut.
func (l *tlsPeer) flush() {
	if l.late {
		return
	}
	p, out, marks := l.peer, l.out, l.marks
	l.out, l.marks = nil, nil
	if l.silent || l.mute || p.over || p.gone || p.finSent || len(out) == 0 {
		return
	}
	cut := l.limit >= 0 && l.wire.sent+len(out) >= l.limit
	if cut {
		out = out[:l.limit-l.wire.sent]
	}
	p.sent += l.wire.enter(marks, len(out))
	if len(out) > 0 {
		p.transmit(out)
	}
	if cut {
		l.cut()
	}
}

// cut ends what the peer sends.
func (l *tlsPeer) cut() {
	p := l.peer
	l.limit = -1
	p.world.did(CutByFIN + Hazard(l.way))
	switch l.way {
	case cutFIN:
		p.shut()
	case cutReset:
		p.reset()
	case cutSilence:
		p.world.tell("%s: falls silent", p.name)
		l.silent, p.hold = true, true
	}
}

// receive takes what has come from the engine and returns what it means.
func (l *tlsPeer) receive(b []byte) []byte {
	l.hellos[1-l.side()].take(b)
	l.in = append(l.in, b...)
	return l.work()
}

// work lets crypto/tls do what it can, and returns the bytes that it has made out.
func (l *tlsPeer) work() (plain []byte) {
	if l.foreign || l.failed != nil {
		l.in = nil
		return nil
	}
	w := l.peer.world
	if l.seal == nil {
		w.tls.logging = l
		done, err := l.conn.Handshake()
		switch {
		case err != nil:
			l.fail(err)
			return nil
		case !done:
			return nil
		}
		l.seal = newSealer(l)
		w.tell("%s: the handshake is complete", l.peer.name)
		l.send(l.waiting)
		if l.ends {
			l.peer.fin()
		}
	}
	for {
		var piece [2048]byte
		n, err := l.conn.Read(piece[:])
		plain = append(plain, piece[:n]...)
		switch {
		case err == nil:
			continue
		case err == io.EOF:
			l.announced = !l.conn.Unannounced()
		case err != tlsconn.ErrWouldBlock:
			l.fail(err)
		}
		return plain
	}
}

// fail takes an error of the peer's TLS: it closes, soon. Unless the peer gave cause for it, or the engine
// broke off, the engine has made a mistake.
func (l *tlsPeer) fail(err error) {
	p := l.peer
	l.failed = err
	p.world.tell("%s: its TLS ends: %v", p.name, err)
	switch e, _ := errors.AsType[*tlsconn.Error](err); {
	case e != nil && (e.Cause == tlsconn.CauseClosed || e.Cause == tlsconn.CauseCut ||
		e.Cause == tlsconn.CauseTruncated):
	case !l.strange:
		p.world.fail("tls", "%s: it does not understand the engine: %v", p.name, err)
	}
	l.waiting = 0
	p.steps = nil
	p.world.after(answerEnd, p.closeBoth)
}

// send sends n bytes of the peer's, or notes that they are to be sent after the handshake.
func (l *tlsPeer) send(n int) {
	if l.seal == nil {
		l.waiting += n
		return
	}
	p, w := l.peer, l.peer.world
	l.waiting = 0
	if n == 0 || l.strangely() {
		return
	}
	w.tell("%s: seals %d", p.name, n)
	bytewise := w.chance(TinyRecord) && w.random.IntN(fewBytewise) == 0
	for n > 0 {
		if w.strikes(EmptyRecord) {
			l.add(l.seal.seal(recordData, nil), mark{kind: markRecord})
		}
		size := n
		if w.strikes(TinyRecord) {
			size = 1 + w.random.IntN(min(n, morsel))
		}
		if bytewise {
			size = 1
		}
		plain := make([]byte, size)
		for i := range plain {
			plain[i] = pattern(p.sender(), l.sealed+i)
		}
		l.addData(plain)
		l.sealed, n = l.sealed+size, n-size
	}
	l.flush()
}

// fewBytewise is of how many sends with tiny records one is byte by byte: it is so many records that one
// wakeup is not for all of them.
const fewBytewise = 8

// mostAsked is how often a peer asks for new keys: crypto/tls takes 16 answers in a row for an attack, and
// they may all be on their way together.
const mostAsked = 10

// addData seals one record, perhaps after new keys, perhaps with a wrong bit.
func (l *tlsPeer) addData(plain []byte) {
	w := l.peer.world
	if l.seal.version == tlsVersions["1.3"] && w.strikes(KeyUpdate) {
		const message, request = 24, 1
		update := []byte{message, 0, 0, 1, 0}
		if l.asked < mostAsked && w.random.IntN(2) == 0 {
			update[4] = request
			l.asked++
		}
		l.add(l.seal.seal(recordHandshake, update), mark{kind: markRecord})
		l.seal.update()
	}
	record := l.seal.seal(recordData, plain)
	m := mark{kind: markRecord, data: len(plain)}
	if !l.strange && w.strikes(Corrupt) {
		l.strange, m = true, mark{kind: markBad}
		at := w.random.IntN(len(record))
		if at < recordHeader {
			m.kind = markDoubt
		}
		record[at] ^= 1 << w.random.IntN(8)
	}
	l.add(record, m)
}

// strangely sends an alert instead of what is to be sent, and reports whether it is the last that is.
func (l *tlsPeer) strangely() bool {
	if l.strange {
		return true
	}
	w := l.peer.world
	if !w.strikes(Alert) {
		return false
	}
	const warning, fatal = 1, 2
	const internalError, userCanceled, noRenegotiation = 80, 90, 100
	switch w.random.IntN(3) {
	case 0:
		l.strange = true
		l.add(l.seal.seal(recordAlert, []byte{fatal, internalError}), mark{kind: markBad})
	case 1:
		l.add(l.seal.seal(recordAlert, []byte{warning, userCanceled}), mark{kind: markRecord})
	case 2:
		m := mark{kind: markRecord}
		if l.version == "1.3" { // where every alert is fatal, but for two
			l.strange, m.kind = true, markBad
		}
		l.add(l.seal.seal(recordAlert, []byte{warning, noRenegotiation}), m)
	}
	l.flush()
	return l.strange
}

// finish says in TLS that nothing more comes, if it is to be said there. It reports whether that does, or the
// connection was cut at it, or it is too early.
func (l *tlsPeer) finish() bool {
	p := l.peer
	if l.ends = l.seal == nil && l.waiting > 0; l.ends {
		return true // what is to be said comes first
	}
	if l.late {
		l.late = false
		l.flush()
	}
	if l.seal == nil || l.strange || p.world.strikes(Truncated) {
		return p.finSent || p.over
	}
	l.add(l.seal.seal(recordAlert, []byte{1, 0}), mark{kind: markEnd})
	l.flush()
	if p.finSent || p.over || l.silent {
		return true
	}
	if l.half = p.world.strikes(HalfClosed); l.half {
		p.finSent = true
		p.world.tell("%s: says that nothing more comes", p.name)
	}
	return l.half
}
