// Package profile turns what was seen of a process into one pprof file: stacks, and counters under frames
// that stand for thread, frontend, backend, server, stream and cause, so that the tools that show where CPU
// time goes also show where wakeups without progress come from.
//
// The package is pure. A pprof value cannot be "not observed": what was not seen has no sample at all, and
// the sentences about it are in the profile's comments.
package profile

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"strconv"
	"time"

	"github.com/google/pprof/profile"

	"github.com/whyspin/whyspin/internal/evidence"
)

// The values of a sample, in the order of the profile's sample types.
const (
	valueCPU = iota
	valueWakeups
	valueNoProgress
	valueZeroWaits
	valueTinyIO
	valueResets
	values
)

var sampleTypes = [values]profile.ValueType{
	{Type: "cpu", Unit: "nanoseconds"},
	{Type: "wakeups", Unit: "count"},
	{Type: "no_progress", Unit: "count"},
	{Type: "zero_timeout_waits", Unit: "count"},
	{Type: "tiny_io", Unit: "count"},
	{Type: "resets", Unit: "count"},
}

// Frames that stand for what has no function.
const (
	frameLost       = "[lost samples]"
	frameTruncated  = "[not unwound to the start]"
	frameNotSampled = "[not sampled]"
	frameGenerated  = "[code made at run time]"
	frameOther      = "[other streams]"
)

// Write writes the profile of a case, compressed. began is the wall-clock time of its window.
func Write(w io.Writer, c *evidence.Case, began time.Time) error {
	p := Build(c, began)
	if err := p.CheckValid(); err != nil {
		panic("BUG: a profile that is not valid: " + err.Error())
	}
	if err := p.Write(w); err != nil {
		return fmt.Errorf("writing the profile: %w", err)
	}
	return nil
}

// Build makes the profile of a case.
func Build(c *evidence.Case, began time.Time) *profile.Profile {
	b := &builder{
		c: c, own: c.Process.Kind == evidence.KindWhyspin,
		p:         &profile.Profile{TimeNanos: began.UnixNano(), DefaultSampleType: "cpu"},
		functions: map[function]*profile.Function{}, locations: map[place]*profile.Location{},
		mappings: map[string]*profile.Mapping{}, threads: map[int]string{},
	}
	for i := range sampleTypes {
		b.p.SampleType = append(b.p.SampleType, &sampleTypes[i])
	}
	b.p.PeriodType = &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}
	b.comment()
	if w := c.Window; w != nil {
		b.p.DurationNanos = int64(w.Length())
		for i := range w.Threads {
			b.threads[w.Threads[i].TID] = w.Threads[i].Name
		}
		b.addCPU(w)
		b.addResets(w)
		b.addTinyIO(w)
	}
	b.addWaits()
	b.addStreams()
	return b.p
}

// Summary is what a profile holds, in numbers.
type Summary struct {
	// Samples is how many were taken, Lost how many more could not be stored.
	Samples, Lost uint64
	// Unwound is the share of those with a stack in the program that were unwound to its first function. Not
	// observed when there are none.
	Unwound evidence.Observed[float64]
}

// Summarize counts the samples of a case.
func Summarize(c *evidence.Case) (s Summary) {
	if c.Window == nil || c.Window.Samples == nil {
		return s
	}
	s.Lost = c.Window.Samples.Lost
	var inProgram, complete uint64
	for i := range c.Window.Samples.Stacks {
		k := &c.Window.Samples.Stacks[i]
		s.Samples += k.Count
		if len(k.User) > 0 {
			inProgram += k.Count
			if !k.Truncated {
				complete += k.Count
			}
		}
	}
	if inProgram > 0 {
		s.Unwound = evidence.Know(float64(complete) / float64(inProgram))
	}
	return s
}

// builder puts a profile together.
type builder struct {
	c   *evidence.Case
	own bool // the process is a whyspin, whose streams and threads have frames
	p   *profile.Profile

	functions map[function]*profile.Function
	locations map[place]*profile.Location
	mappings  map[string]*profile.Mapping
	threads   map[int]string // names by id
}

type function struct{ name, file string }

type place struct {
	object  string
	address uint64
	function
	line int
}

// comment says who this is and what was not seen.
func (b *builder) comment() {
	c := b.c
	b.p.Comments = append(b.p.Comments,
		fmt.Sprintf("process %d (%s), kind %s", c.Process.PID, c.Process.Command, c.Process.Kind))
	b.p.Comments = append(b.p.Comments, c.Unknown...)
	if c.Window != nil {
		b.p.Comments = append(b.p.Comments, c.Window.Unknown...)
		if c.Window.Samples != nil {
			b.p.Comments = append(b.p.Comments, c.Window.Samples.Unknown...)
		}
	}
}

// labels are the labels of a sample by name; empty ones are left out.
type labels map[string]string

// add adds a sample with one value.
func (b *builder) add(value int, n uint64, l labels, stack ...*profile.Location) {
	if n == 0 {
		return
	}
	s := &profile.Sample{Location: stack, Value: make([]int64, values), Label: map[string][]string{}}
	s.Value[value] = int64(n)
	for name, text := range l {
		if text != "" {
			s.Label[name] = []string{text}
		}
	}
	b.p.Sample = append(b.p.Sample, s)
}

// synthetic returns a location that stands for something without code.
func (b *builder) synthetic(name string) *profile.Location {
	return b.location(place{function: function{name: name}})
}

// frame returns the location of a function.
func (b *builder) frame(f *evidence.Frame) *profile.Location {
	at := place{object: f.Object, address: f.Address, line: f.Line}
	at.function = function{f.Function, cmp.Or(f.File, f.Object)}
	if f.Function == "" {
		at.name = unnamed(f)
	}
	return b.location(at)
}

// unnamed stands for a function without a name: its object and where it begins in it, or, when that is not
// known either, the address.
func unnamed(f *evidence.Frame) string {
	switch {
	case f.Object == "":
		return frameGenerated
	case f.Object[0] == '[':
		return f.Object // the kernel, which does not show its addresses
	}
	return path.Base(f.Object) + "+0x" + strconv.FormatUint(cmp.Or(f.Start, f.Address), 16)
}

func (b *builder) location(at place) *profile.Location {
	if l := b.locations[at]; l != nil {
		return l
	}
	l := &profile.Location{ID: uint64(len(b.p.Location) + 1), Address: at.address}
	if at.object != "" {
		l.Mapping = b.mapping(at.object)
	}
	f := b.functions[at.function]
	if f == nil {
		f = &profile.Function{ID: uint64(len(b.p.Function) + 1), Name: at.name, SystemName: at.name,
			Filename: at.file}
		b.functions[at.function] = f
		b.p.Function = append(b.p.Function, f)
	}
	l.Line = []profile.Line{{Function: f, Line: int64(at.line)}}
	b.locations[at] = l
	b.p.Location = append(b.p.Location, l)
	return l
}

// mapping returns the mapping of a file. Everything in it has its name already, so that no tool looks for the
// file, which may be another one where the profile is read.
func (b *builder) mapping(object string) *profile.Mapping {
	if m := b.mappings[object]; m != nil {
		return m
	}
	m := &profile.Mapping{ID: uint64(len(b.p.Mapping) + 1), File: object, HasFunctions: true,
		HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true}
	b.mappings[object] = m
	b.p.Mapping = append(b.p.Mapping, m)
	return m
}

// thread returns the frame of a thread.
func (b *builder) thread(tid int) *profile.Location {
	if tid == 0 {
		return b.synthetic("thread unknown")
	}
	return b.synthetic("thread " + cmp.Or(b.threads[tid], strconv.Itoa(tid)))
}

// ofThread returns the labels of a thread.
func (b *builder) ofThread(tid int) labels {
	if tid == 0 {
		return labels{}
	}
	return labels{"thread": b.threads[tid], "tid": strconv.Itoa(tid)}
}
