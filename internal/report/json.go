// Package report writes a diagnosis for people and for programs. The JSON form is a contract (schema 1):
// keys are never renamed, a key that does not apply is absent, and null means "not observed" and is
// explained in "unknown".
package report

import (
	"bytes"
	"encoding/json"
	"io"
	"math"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
)

// schema is the version of the JSON form.
const schema = 1

type document struct {
	Schema   int       `json:"schema"`
	Target   target    `json:"target"`
	Window   window    `json:"window"`
	Verdict  *string   `json:"verdict"`
	Threads  []thread  `json:"threads"`
	Findings []finding `json:"findings"`
	// Inefficiencies is what costs CPU without being a spin.
	Inefficiencies []inefficiency `json:"inefficiencies"`
}

type inefficiency struct {
	Class string `json:"class"`
	Name  string `json:"name"`
	// CPUShare is of one CPU, by what CPUShareBy says: "samples" or "call counts".
	CPUShare   evidence.Observed[float64] `json:"cpu_share"`
	CPUShareBy string                     `json:"cpu_share_by,omitempty"`
	// Thread is absent when it is not known.
	Thread  int      `json:"thread,omitempty"`
	Calls   uint64   `json:"calls"`
	Bytes   uint64   `json:"bytes"`
	FDs     []int    `json:"fds"`
	Streams []stream `json:"streams"`

	Evidence []fact   `json:"evidence"`
	Unknown  []string `json:"unknown"`
}

type target struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Kind    string `json:"kind"`
	Version string `json:"version,omitempty"`
	// Program is absent when it is not recognised.
	Program *evidence.Program `json:"program,omitempty"`
	// Surroundings are what is out of the ordinary around it, in sentences.
	Surroundings []string `json:"surroundings,omitempty"`
}

type window struct {
	Seconds float64        `json:"seconds"`
	Probes  evidence.Hooks `json:"probes"`
	Unknown []string       `json:"unknown"`
}

type thread struct {
	TID            int                        `json:"tid"`
	CPUShare       evidence.Observed[float64] `json:"cpu_share"`
	BlockedShare   evidence.Observed[float64] `json:"blocked_share"`
	WaitsPerSecond evidence.Observed[float64] `json:"waits_per_second"`
	// The shares are absent for a thread that made no wait: there is nothing of which they could be one.
	ZeroTimeout     *evidence.Observed[float64] `json:"zero_timeout_share,omitempty"`
	ZeroReturnShare *evidence.Observed[float64] `json:"zero_return_share,omitempty"`
}

type finding struct {
	Class      *string `json:"class"`
	Name       string  `json:"name"`
	Confidence float64 `json:"confidence"`
	Stream     *stream `json:"stream,omitempty"`
	FD         *fd     `json:"fd,omitempty"`
	// Listener and Destination are absent when the class has none.
	Listener    *listener  `json:"listener,omitempty"`
	Destination string     `json:"destination,omitempty"`
	Timer       *timer     `json:"timer,omitempty"`
	Functions   []function `json:"functions,omitempty"`
	Evidence    []fact     `json:"evidence,omitzero"`
	Unknown     []string   `json:"unknown,omitzero"`
	// History is absent when the process does not remember what happened to the stream.
	History []step `json:"history,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
}

type stream struct {
	ID string `json:"id"`
	// The rest is not observed when the stream gives no account of itself, because its worker does not.
	Frontend    evidence.Observed[string]  `json:"frontend"`
	Backend     string                     `json:"backend,omitempty"`
	Server      string                     `json:"server,omitempty"`
	Client      string                     `json:"client,omitempty"`
	Upstream    string                     `json:"upstream,omitempty"`
	AgeSeconds  evidence.Observed[float64] `json:"age_seconds"`
	ClientState evidence.Observed[string]  `json:"client_state"`
	ServerState evidence.Observed[string]  `json:"server_state"`
	Calls       evidence.Observed[uint64]  `json:"calls"`
}

type fd struct {
	Number int `json:"number"`
	// Side is absent for what is on no side of a proxy.
	Side string `json:"side,omitempty"`
	// Role is absent when it is not known what the descriptor is to the program.
	Role string `json:"role,omitempty"`
	// Kind is null when it was not observed; State too, and absent for what is not a TCP socket.
	Kind  *string                    `json:"kind"`
	State *evidence.Observed[string] `json:"state,omitempty"`
	// Mask is absent when no event was delivered, null when that was not observed.
	Mask   *evidence.Observed[string] `json:"mask,omitempty"`
	Local  string                     `json:"local,omitempty"`
	Remote string                     `json:"remote,omitempty"`
}

type listener struct {
	Number  int                       `json:"number"`
	Address string                    `json:"address,omitempty"`
	Waiting evidence.Observed[uint32] `json:"waiting"`
	Backlog evidence.Observed[uint32] `json:"backlog"`
	// Frontend, Limit and Error are absent when there is none, and when the process does not say.
	Frontend string `json:"frontend,omitempty"`
	Limit    string `json:"limit,omitempty"`
	Error    string `json:"error,omitempty"`
}

type function struct {
	Name    string   `json:"name"`
	Callers []string `json:"callers,omitempty"`
	Share   float64  `json:"share"`
}

type timer struct {
	Name string `json:"name"`
	// OverdueSeconds is absent for a timer that lies ahead, AheadSeconds for one that has passed.
	OverdueSeconds *evidence.Observed[float64] `json:"overdue_seconds,omitempty"`
	AheadSeconds   evidence.Observed[float64]  `json:"ahead_seconds,omitzero"`
}

// step is one thing that happened to the stream, so many seconds after it was first woken for nothing; what
// came before has a negative number.
type step struct {
	Seconds float64 `json:"seconds"`
	What    string  `json:"what"`
}

type fact struct {
	Fact   string  `json:"fact"`
	Count  *uint64 `json:"count,omitempty"`
	Source string  `json:"source"`
	// Weight is how likely the fact alone makes the finding, absent when it proves nothing. The confidence is
	// what the doubts, 1-weight each, leave when they are multiplied.
	Weight float64 `json:"weight,omitempty"`
}

// JSON writes the diagnosis as one indented object and a newline.
func JSON(w io.Writer, d *correlate.Diagnosis) error {
	doc := document{
		Schema: schema,
		Target: target{d.Process.PID, d.Process.Command, string(d.Process.Kind), d.Process.Version,
			d.Process.Program, d.Process.Surroundings},
		Window: window{round(d.Window.Seconds()), d.Hooks, nonNil(d.Unknown)},
		// Empty lists are written as such: a program that iterates need not ask first.
		Threads: []thread{}, Findings: []finding{}, Inefficiencies: []inefficiency{},
	}
	if d.Verdict != correlate.NotObserved {
		verdict := string(d.Verdict)
		doc.Verdict = &verdict
	}
	for _, t := range d.Threads {
		out := thread{TID: t.TID, CPUShare: rounded(t.CPU), BlockedShare: rounded(t.Slept),
			WaitsPerSecond: rounded(t.Waits)}
		if t.Waits.Or(1) > 0 {
			zero, empty := rounded(t.Zero), rounded(t.Empty)
			out.ZeroTimeout, out.ZeroReturnShare = &zero, &empty
		}
		doc.Threads = append(doc.Threads, out)
	}
	for i := range d.Findings {
		doc.Findings = append(doc.Findings, jsonFinding(&d.Findings[i]))
	}
	for i := range d.Inefficiencies {
		doc.Inefficiencies = append(doc.Inefficiencies, jsonInefficiency(&d.Inefficiencies[i]))
	}
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	if err := out.Encode(doc); err != nil {
		return err
	}
	_, err := w.Write(escapeHidden(text.Bytes()))
	return err
}

func jsonFinding(f *correlate.Finding) finding {
	j := finding{
		Name: f.Class.Name(), Confidence: round(f.Confidence), Evidence: []fact{}, Unknown: nonNil(f.Unknown),
		Remedy: f.Remedy,
	}
	if f.Class != correlate.Unknown {
		class := string(f.Class)
		j.Class = &class
	}
	if s := f.Stream; s != nil {
		out := jsonStream(s)
		j.Stream = &out
	}
	if d := f.FD; d != nil {
		j.FD = jsonDescriptor(d)
	}
	if l := f.Listener; l != nil {
		j.Listener = &listener{l.Number, l.Address, l.Waiting, l.Backlog, l.Frontend, l.Limit, l.Error}
	}
	j.Destination = f.Destination
	for _, v := range f.Functions {
		j.Functions = append(j.Functions, function{v.Name, v.Callers, round(v.Share)})
	}
	if t := f.Timer; t != nil {
		j.Timer = jsonTimer(t)
	}
	for _, s := range f.History {
		const micro = 1e6 // steps lie close together
		j.History = append(j.History, step{math.Round(s.Since.Seconds()*micro) / micro, s.Text})
	}
	j.Evidence = append(j.Evidence, jsonFacts(f.Evidence)...)
	return j
}

func jsonStream(s *evidence.Stream) stream {
	if s.ClientState == "" {
		return stream{ID: s.ID}
	}
	return stream{
		ID: s.ID, Frontend: evidence.Know(s.Frontend), Backend: s.Backend, Server: s.Server,
		Client: s.Client, Upstream: s.Upstream, AgeSeconds: evidence.Know(round(s.Age.Seconds())),
		ClientState: evidence.Know(s.ClientState), ServerState: evidence.Know(s.ServerState),
		Calls: evidence.Know(s.Calls),
	}
}

func jsonFacts(facts []correlate.Fact) []fact {
	list := []fact{}
	for _, e := range facts {
		out := fact{Fact: e.Text, Source: e.Source, Weight: e.Weight}
		if n, ok := e.Count.Get(); ok {
			out.Count = &n
		}
		list = append(list, out)
	}
	return list
}

func jsonInefficiency(e *correlate.Inefficiency) inefficiency {
	j := inefficiency{
		Class: string(e.Class), Name: e.Class.Name(), CPUShare: rounded(e.CPU), CPUShareBy: e.By,
		Thread: e.TID, Calls: e.Calls, Bytes: e.Bytes, FDs: e.Descriptors, Streams: []stream{},
		Evidence: jsonFacts(e.Evidence), Unknown: nonNil(e.Unknown),
	}
	for _, s := range e.Streams {
		j.Streams = append(j.Streams, jsonStream(s))
	}
	return j
}

func jsonTimer(t *correlate.Timer) *timer {
	if ahead, ok := t.Ahead.Get(); ok {
		return &timer{Name: t.Name, AheadSeconds: evidence.Know(round(ahead.Seconds()))}
	}
	j := &timer{Name: t.Name, OverdueSeconds: &evidence.Observed[float64]{}}
	if by, ok := t.Overdue.Get(); ok {
		*j.OverdueSeconds = evidence.Know(round(by.Seconds()))
	}
	return j
}

func jsonDescriptor(d *correlate.Descriptor) *fd {
	j := &fd{Number: d.Number, Side: d.Side, Role: d.Role, Local: d.Local, Remote: d.Remote}
	if mask, seen := d.Mask.Get(); !seen || mask != "" {
		j.Mask = &d.Mask
	}
	if d.Kind != "" {
		j.Kind = &d.Kind
	}
	switch {
	case d.State != "":
		state := evidence.Know(d.State)
		j.State = &state
	case d.Kind == "tcp" || d.Kind == "":
		j.State = &evidence.Observed[string]{}
	}
	return j
}

// round keeps three decimals: what is measured here is not known better.
func round(x float64) float64 { return math.Round(x*1000) / 1000 }

func rounded(x evidence.Observed[float64]) evidence.Observed[float64] {
	if v, ok := x.Get(); ok {
		return evidence.Know(round(v))
	}
	return x
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// LogLine returns who is to blame as one line of JSON, in the form of the "findings" of a report without the
// evidence: log lines of 1024 bytes are usual, and the evidence is in "show spin".
func LogLine(f *correlate.Finding) string {
	short := jsonFinding(f)
	short.Evidence, short.Unknown, short.Functions, short.Remedy = nil, nil, nil, ""
	short.History = nil
	return line(short)
}

// Line returns a finding as one line of JSON, in the form of the "findings" of a report.
func Line(f *correlate.Finding) string { return line(jsonFinding(f)) }

func line(f finding) string {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	if err := out.Encode(f); err != nil {
		panic("BUG: a finding that is not JSON: " + err.Error())
	}
	return string(escapeHidden(bytes.TrimSuffix(text.Bytes(), []byte{'\n'})))
}
