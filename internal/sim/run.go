package sim

import (
	"crypto/tls"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// Violation is a broken rule.
type Violation struct {
	// Rule names the rule in a word or two: violations with the same Rule are the same kind.
	Rule    string
	Message string
	// At is the time since the start of the scenario.
	At time.Duration
}

// String prints the violation on one line.
func (v Violation) String() string { return fmt.Sprintf("%v: %s: %s", v.At, v.Rule, v.Message) }

// Result is what came of a scenario.
type Result struct {
	Violations []Violation
	// Turns is the number of turns of the workers, Events that of the events they took, Streams the number of
	// streams that ended.
	Turns, Events, Streams int
	// Spliced is the bytes that were written out of pipes.
	Spliced uint64
	// Transcript is what happened, one line each, when Options.Transcript was set.
	Transcript []string
	// Reached are the pairs of side states in which streams were seen between two turns.
	Reached map[[2]stream.SideState]int
	// Met are the situations in which streams were advanced.
	Met map[stream.Situation]int
	// Happened counts what the world did to the engine.
	Happened [Hazards]int
}

// Options say how to run a scenario.
type Options struct {
	// Transcript records what happens.
	Transcript bool
	// GoOn goes on after a broken rule, each kind of which is then reported once, so that the consequences
	// show.
	GoOn bool
	// Alone says that nothing else runs in the process, so that coroutines that are left can be counted.
	Alone bool
	// Deaf makes the world lose every edge of this number, counted from 1: a broken kernel, for testing
	// that the checks of the simulator can fail.
	Deaf int
}

// horizon returns when a scenario must be over at the latest: nothing in it takes longer than its longest
// timeout, and its clients may have to take turns.
func (s *Scenario) horizon() time.Duration {
	t := &s.Timeouts
	const least, turns = 10 * time.Minute, 100
	return max(least, turns*max(t.Connect, t.Client, t.Server, t.Tunnel, t.ClientFin, t.ServerFin, t.Queue))
}

// maxTurns bounds the turns of a scenario. Generated scenarios need a few hundred to a few thousand.
const maxTurns = 200_000

// restless is how many turns in a row, without anything else happening in the world, make a spin: many
// times what the work of all streams takes.
const restless = 5_000

// run is a scenario in progress.
type run struct {
	world   *World
	engine  *engine.Engine
	workers []*workerRun
	result  Result
	options Options
	records map[sys.Address]*engine.Record
	base    int   // descriptors that are open without any stream
	kills   []int // orders of the operator that are due
	killing []killing
	stop    bool // a soft stop is due
	endless bool // a worker does not come back to its loop
	// timed is the client of the last stream that a timer woke in the present turn.
	timed *peer
	// buffered is the size of all buffers of streams, when the workers last rested; rests counts how often
	// they did.
	buffered, rests int
	secured         int     // connections with TLS, when the workers last rested
	line            []*peer // the clients of streams that wait for a slot, in the order in which they came
}

// killing is an order of the operator that was given.
type killing struct {
	client int
	answer <-chan bool
	// unblamed is true exactly when nobody had been blamed for the stream's end yet.
	unblamed bool
}

// workerRun is one worker as a coroutine: it is suspended in its wait.
type workerRun struct {
	set     int
	resume  func() (int, bool)
	stop    func()
	wakeAt  ktime.Time // when its wait times out
	wantsIn bool       // its wait has a timeout of zero
}

// Run lets a scenario happen.
func Run(s *Scenario, o Options) *Result {
	before := runtime.NumGoroutine()
	r := &run{world: newWorld(s), options: o, records: map[sys.Address]*engine.Record{}}
	r.world.deaf = o.Deaf
	r.result.Reached, r.result.Met = map[[2]stream.SideState]int{}, map[stream.Situation]int{}
	w := r.world
	w.fail = r.fail
	w.tell = r.tell
	if err := r.start(s); err != nil {
		r.fail("start", "%v", err)
		return &r.result
	}
	for i := range s.Clients {
		w.newClient(i)
	}
	for _, k := range s.Kills {
		// The control plane acts between two turns, whatever the world is doing.
		w.after(k.At, func() { r.kills = append(r.kills, k.Client) })
	}
	r.schedule(s)
	r.play()
	r.finish(s)
	for _, p := range w.peers {
		if p.tls != nil {
			p.tls.conn.Close()
		}
	}
	if n := runtime.NumGoroutine() - before; o.Alone && n > 0 {
		r.fail("coroutines", "%d coroutines are left of TLS handshakes", n)
	}
	r.result.Happened = w.happened
	return &r.result
}

// schedule arranges for what the operator does once, and for the outages.
func (r *run) schedule(s *Scenario) {
	w := r.world
	if s.Stop > 0 {
		w.after(s.Stop, func() { r.stop = true })
	}
	if s.Renew > 0 {
		w.after(s.Renew, func() {
			w.did(NewSets)
			r.tell("operator: new epoll sets")
			r.engine.RenewSets()
		})
	}
	for _, o := range s.Outages {
		v := w.server[s.serverAddress(o.Server-1)]
		w.after(o.At, func() { w.breakDown(v, true) })
		w.after(o.At+o.For, func() { w.breakDown(v, false) })
	}
}

func (r *run) fail(rule, format string, args ...any) {
	v := Violation{Rule: rule, Message: fmt.Sprintf(format, args...), At: r.world.now.Sub(epoch)}
	if r.options.GoOn {
		for _, known := range r.result.Violations {
			if known.Rule == rule {
				return
			}
		}
	}
	r.tell("!!! %s: %s", v.Rule, v.Message)
	r.result.Violations = append(r.result.Violations, v)
}

func (r *run) tell(format string, args ...any) {
	if r.options.Transcript {
		at := r.world.now.Sub(epoch).Truncate(time.Microsecond)
		r.result.Transcript = append(r.result.Transcript,
			fmt.Sprintf("%10v  ", at)+fmt.Sprintf(format, args...))
	}
}

// flightMoments is enough for a simulation, which reads no history and makes thousands of engines.
const flightMoments = 64

// start makes the engine and its workers.
func (r *run) start(s *Scenario) error {
	c := configure(s)
	w := r.world
	// Either the frontend or the process is the one with the limit.
	maxConn := s.MaxConn
	c.Proxies[0].MaxConn = 2 * s.MaxConn
	if s.Seed%2 == 1 {
		maxConn, c.Proxies[0].MaxConn = 2*s.MaxConn, s.MaxConn
	}
	w.listen = &listener{}
	fd := w.open(file{listener: w.listen})
	e, err := engine.New(engine.Options{
		Config: c, Kernel: w, Workers: s.Workers, MaxConn: maxConn, Seed: s.Seed,
		MaxPipes: s.Pipes, PipeSize: pipeSize,
		Listeners: []engine.Listener{{
			FD: fd, Proxy: c.Proxies[0], Bind: c.Proxies[0].Binds[0], TLS: w.frontTLS(),
		}},
		ServerTLS: func(*config.Server) *tls.Config { return w.backTLS() },
		Resolve: func(v *config.Server) (sys.Address, error) {
			return s.serverAddress(v.ID - 1), nil
		},
		Log: r.record, FlightMoments: flightMoments,
		Observe: r.observe,
		Audit: func(id string, err error) {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				rule, _, _ := strings.Cut(line, ":")
				if !strings.HasPrefix(rule, "rule ") {
					rule = "state"
				}
				if strings.HasPrefix(line, "orphaned") {
					rule = "orphan"
				}
				if strings.HasPrefix(line, "a server is being reached") {
					rule = "pointless attempt"
				}
				r.fail(rule, "stream %s: %s", id, line)
			}
		},
	})
	if err != nil {
		return err
	}
	r.engine = e
	r.base = w.openFiles()
	w.running = true
	for i, v := range e.Workers() {
		r.workers = append(r.workers, r.coroutine(i, v.EpollFD))
	}
	return nil
}

// configure builds the configuration that the scenario describes.
func configure(s *Scenario) *config.Config {
	p := &config.Proxy{
		Name: "mail", ID: 2, IsFrontend: true, IsBackend: true, TCPLog: true, Retries: s.Retries,
		Redispatch: s.Redispatch, AbortOnClose: s.AbortOnClose,
		Timeouts: config.Timeouts{
			Connect: s.Timeouts.Connect, Client: s.Timeouts.Client, Server: s.Timeouts.Server,
			Tunnel: s.Timeouts.Tunnel, ClientFin: s.Timeouts.ClientFin, ServerFin: s.Timeouts.ServerFin,
			Queue: s.Timeouts.Queue, ClientHS: s.Timeouts.ClientHandshake,
		},
		Logs:  []config.LogTarget{{}},
		Binds: []*config.Bind{{ID: 1}},
	}
	p.DefaultBackend = p
	for i := range s.Servers {
		p.Servers = append(p.Servers, &config.Server{
			Name: fmt.Sprintf("s%d", i+1), ID: i + 1, Weight: 1, MaxConn: s.ServerMaxConn,
			Disabled: s.NoServers,
		})
	}
	c := &config.Config{Proxies: []*config.Proxy{p}}
	c.Global.BufferSize = s.BufferSize
	c.Global.MaxAccept = 4
	c.Global.TLS.MaxConn = s.MaxSSLConn
	if s.Fault != 0 {
		c.Global.Whyspin.Faults = []config.Fault{{Fault: s.Fault, Probability: 1}}
	}
	return c
}

// coroutine makes a worker that runs until its next wait each time it is resumed.
func (r *run) coroutine(index, set int) *workerRun {
	v := &workerRun{set: set, wakeAt: ktime.Never}
	v.resume, v.stop = iter.Pull(func(yield func(int) bool) {
		over := false
		r.world.yield[set] = func(timeout int) bool {
			if !over {
				over = !yield(timeout)
			}
			return !over
		}
		for !over {
			r.engine.Step(index)
		}
	})
	return v
}

// play lets workers and world take turns until nothing is left to happen.
func (r *run) play() {
	w := r.world
	for _, v := range r.workers {
		r.advance(v) // up to the first wait
	}
	quiet := 0 // turns since the world last did something
	for r.result.Turns < maxTurns && !r.endless && (r.options.GoOn || len(r.result.Violations) == 0) {
		r.operate()
		if v := r.runnable(); v != nil {
			happenings := w.sequence
			if w.strikes(Stall) {
				w.pass(w.now.Add(time.Duration(w.random.Int64N(int64(longestStall)))))
			}
			r.advance(v)
			r.result.Turns++
			if w.sequence != happenings {
				quiet = 0
			}
			r.hearSuspicions()
			if quiet++; quiet > restless {
				r.fail("spin", "%d turns in a row without anything else happening", quiet)
				return
			}
			w.call()
			continue
		}
		next := ktime.Never
		if len(w.plan) > 0 {
			next = w.plan[0].at
		}
		for _, v := range r.workers {
			next = ktime.Min(next, v.wakeAt)
		}
		r.atRest()
		if !next.IsSet() || next.Sub(epoch) > w.scenario.horizon() {
			return
		}
		if len(w.plan) > 0 && next == w.plan[0].at {
			quiet = 0
		}
		w.pass(next)
	}
	if r.result.Turns == maxTurns {
		r.fail("endless", "not over after %d turns", maxTurns)
	}
}

// longestStall is how late a worker may be that does not get the processor.
const longestStall = 30 * time.Millisecond

// operate gives the orders of the operator that are due.
func (r *run) operate() {
	w := r.world
	for _, client := range r.kills {
		if r.kill(client) {
			w.did(ScriptedKill)
		}
	}
	r.kills = r.kills[:0]
	if w.chance(KillAny) {
		if client := r.anyStream(); client > 0 && r.kill(client) {
			w.did(KillAny)
		}
	}
	if r.stop {
		r.stop = false
		w.did(SoftStop)
		r.tell("operator: soft stop")
		r.engine.StopListening()
	}
}

// anyStream chooses the client of a stream, in any pair of side states that there is alike.
func (r *run) anyStream() (client int) {
	type choice struct{ n, client int }
	pairs := map[[2]stream.SideState]choice{}
	var order [][2]stream.SideState
	r.engine.Visit(func(v *engine.StreamView) bool {
		pair := [2]stream.SideState{v.ClientState, v.ServerState}
		c := pairs[pair]
		if c.n++; c.n == 1 {
			order = append(order, pair)
		}
		if r.world.random.IntN(c.n) == 0 {
			c.client = r.world.client[v.Client].client + 1
		}
		pairs[pair] = c
		return true
	})
	if len(order) == 0 {
		return 0
	}
	return pairs[order[r.world.random.IntN(len(order))]].client
}

// hearSuspicions: no stream is woken again and again without progress (rule 3).
func (r *run) hearSuspicions() {
	for len(r.engine.Suspicions()) > 0 {
		s := <-r.engine.Suspicions()
		r.fail("rule 3", "%s: %d wakeups without progress since %v (%s)", s.Subject(), s.Wakeups,
			s.Since.Sub(epoch), s.Cause)
	}
}

// runnable returns a worker whose wait is over, at random among several; nil when all sleep.
func (r *run) runnable() *workerRun {
	var found *workerRun
	n := 0
	for _, v := range r.workers {
		if v.wantsIn || v.wakeAt.Passed(r.world.now) || r.world.HasEvents(v.set) {
			if n++; found == nil || r.world.random.IntN(n) == 0 {
				found = v
			}
		}
	}
	return found
}

// turn lets a worker act and reports whether it was in a turn without an end, which is then given up, with
// the worker.
func (r *run) turn(act func()) (endless bool) {
	r.world.turn, r.world.calls = true, 0
	defer func() {
		r.world.turn = false
		switch p := recover(); p.(type) {
		case nil:
		case endlessTurn:
			endless = true
		default:
			panic(p)
		}
	}()
	act()
	return false
}

// advance resumes a worker until its next wait.
func (r *run) advance(v *workerRun) {
	timeout, ok := 0, false
	r.timed = nil
	r.endless = r.turn(func() { timeout, ok = v.resume() })
	if r.endless {
		return
	}
	if !ok {
		panic("BUG: a worker left its loop")
	}
	v.wantsIn = timeout == 0
	v.wakeAt = ktime.Never
	if timeout > 0 {
		v.wakeAt = r.world.now.Add(time.Duration(timeout) * time.Millisecond)
	}
}

// kill orders the end of a client's stream. It reports whether there is one.
func (r *run) kill(client int) bool {
	address := clientAddress(client - 1)
	id, unblamed := "", false
	r.engine.Visit(func(v *engine.StreamView) bool {
		if v.Client == address {
			id, unblamed = v.ID, v.Ending.By == 0
		}
		return id == ""
	})
	if id == "" {
		return false
	}
	r.tell("operator: shutdown session of client %d", client)
	r.world.client[address].facts.killed = true
	r.killing = append(r.killing, killing{client, r.engine.OrderKill(id, stream.KillAdmin), unblamed})
	return true
}

func (r *run) record(record *engine.Record) {
	r.result.Streams++
	r.records[record.Client] = record
	r.tell("stream of %v: ended %s after %v, %d bytes up, %d down, %d retries", record.Client,
		record.Ending, record.Total.Truncate(time.Millisecond), record.FromClient, record.ToClient,
		record.Retries)
}
