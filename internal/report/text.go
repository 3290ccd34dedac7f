package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
)

// maxLines is how long the text form gets at most: what fits on a terminal at three in the morning.
const maxLines = 40

// The shares of the lines: the first finding is told in full, the others in a line each.
const (
	maxOthers  = 4
	maxThreads = 4
	maxUnknown = 4
	maxFacts   = 10
	maxUnseen  = 3
	maxSteps   = 6
)

// Text writes the diagnosis for people: the verdict first, at most 40 lines.
func Text(w io.Writer, d *correlate.Diagnosis) error {
	p := &printer{}
	p.headline(d)
	if len(d.Findings) > 0 {
		p.finding(&d.Findings[0])
		p.others(d.Findings[1:])
	}
	p.inefficiencies(d)
	p.threads(d)
	p.unknown(d)
	lines := p.lines
	if len(lines) > maxLines {
		lines = append(lines[:maxLines-1], "  ... cut; the whole is in the JSON form (--json)")
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// Finding writes one finding for people, as Text does.
func Finding(w io.Writer, f *correlate.Finding) error {
	p := &printer{}
	p.finding(f)
	_, err := io.WriteString(w, strings.Join(p.lines, "\n")+"\n")
	return err
}

type printer struct{ lines []string }

// line adds a line. What is in it may come from outside, so that nothing but characters to be seen is
// printed; a text of several lines, such as an error with its causes, becomes one.
func (p *printer) line(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	p.lines = append(p.lines, Printable(strings.ReplaceAll(text, "\n", "; ")))
}

func (p *printer) headline(d *correlate.Diagnosis) {
	who := fmt.Sprintf("%s (pid %d)", d.Process.Command, d.Process.PID)
	switch d.Verdict {
	case correlate.Spin:
		p.line("SPIN: %s is kept awake without progress", who)
	case correlate.Partial:
		p.line("PARTIAL SPIN: %s is kept awake by something that brings no progress, beside its work", who)
	case correlate.Boundary:
		p.line("NOT ITS EVENT LOOP: a thread of %s burns its CPU elsewhere", who)
	case correlate.TrafficLoop:
		p.line("TRAFFIC LOOP: %s is its own client", who)
	case correlate.Stall:
		p.line("STALL: %s has work left that nobody will be told of again; it costs no CPU", who)
	case correlate.Inefficient:
		p.line("INEFFICIENT: %s gets on with its work, at a higher price than it need be", who)
	case correlate.Leak:
		p.line("LEAK: %s keeps what nobody will ever use; it costs no CPU at present", who)
	case correlate.Configured:
		p.line("CONFIGURED: %s does not sleep because its configuration says so (busy polling)", who)
	case correlate.Healthy:
		p.line("HEALTHY: nothing keeps %s awake without progress", who)
	default:
		p.line("NOT OBSERVED: too little could be seen of %s to say whether it spins", who)
	}
	streams := ""
	if n, ok := d.Streams.Get(); ok {
		streams = fmt.Sprintf("; %d streams", n)
	}
	p.line("  watched for %.1f s; %s%s", d.Window.Seconds(), hooks(d.Hooks), streams)
	about := d.Process.Surroundings
	if d.Process.Program != nil {
		about = append([]string{d.Process.Program.String()}, about...)
	}
	if len(about) > 0 {
		p.line("  %s", strings.Join(about, "; "))
	}
}

// hooks names what watched.
func hooks(h evidence.Hooks) string {
	var names []string
	add := func(signal string, hook evidence.Observed[string]) {
		if name, ok := hook.Get(); ok {
			names = append(names, signal+" by "+name)
		}
	}
	add("system calls", h.Syscall)
	add("sockets", h.Socket)
	add("stacks", h.Samples)
	if len(names) == 0 {
		names = append(names, "no probes")
	}
	add("descriptors", h.Files)
	return strings.Join(names, ", ")
}

func (p *printer) finding(f *correlate.Finding) {
	p.line("")
	p.line("%s (confidence %.2f)", title(f), f.Confidence)
	if s := f.Stream; s != nil {
		p.stream(s)
	}
	if f.FD != nil {
		p.line("  fd       %s", descriptor(f.FD))
	}
	if l := f.Listener; l != nil {
		waiting := "an unknown number of"
		if n, ok := l.Waiting.Get(); ok {
			waiting = fmt.Sprint(n)
		}
		if n, ok := l.Backlog.Get(); ok {
			waiting += fmt.Sprintf(" of %d", n)
		}
		p.line("  listener %s, %s connections waiting%s", or(l.Address, "address unknown"), waiting,
			limits(l))
	}
	if f.Destination != "" {
		p.line("  to       %s", f.Destination)
	}
	if t := f.Timer; t != nil {
		by := "overdue by an amount that is not known"
		if d, ok := t.Overdue.Get(); ok {
			by = fmt.Sprintf("overdue by %.1f s", d.Seconds())
		}
		if d, ok := t.Ahead.Get(); ok {
			by = fmt.Sprintf("passes in %.1f s", d.Seconds())
		}
		p.line("  timer    %s, %s", t.Name, by)
	}
	p.line("  because  (together the facts leave a doubt of %.2f)", 1-f.Confidence)
	for i, e := range f.Evidence {
		if i == maxFacts {
			p.line("    ... and %d more facts (--json)", len(f.Evidence)-i)
			break
		}
		count := "-"
		if n, ok := e.Count.Get(); ok {
			count = fmt.Sprint(n)
		}
		p.line("    %10s  %s  [%s]", count, e.Text, e.Source)
	}
	for _, u := range f.Unknown[:min(len(f.Unknown), maxUnseen)] {
		p.line("    %10s  %s", "not seen", u)
	}
	p.history(f.History)
	p.line("  do       %s", f.Remedy)
}

// history tells the last steps that led to it.
func (p *printer) history(steps []correlate.Step) {
	if len(steps) == 0 {
		return
	}
	p.line("  before")
	for _, s := range steps[max(0, len(steps)-maxSteps):] {
		p.line("    %10s  %s", since(s.Since), s.Text)
	}
}

// since prints a moment as a distance from another: "-3.10 ms", "+0.00 ms", "-2.5 s".
func since(d time.Duration) string {
	if d.Abs() < time.Second {
		return fmt.Sprintf("%+.2f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%+.3f s", d.Seconds())
}

func (p *printer) stream(s *evidence.Stream) {
	if s.ClientState == "" {
		p.line("  stream   %s, which gives no account of itself", s.ID)
		return
	}
	p.line("  stream   %s  client %s, server %s, age %s, %d wakeups", s.ID, s.ClientState, s.ServerState,
		age(s.Age), s.Calls)
	p.line("  path     %s -> %s -> %s", or(s.Client, "client unknown"), route(s), or(s.Upstream, "no server"))
}

// limits says what keeps a listener from accepting, as far as its process says so.
func limits(l *correlate.Listener) string {
	text := ""
	if l.Frontend != "" {
		text += ", frontend " + l.Frontend
	}
	if l.Limit != "" {
		text += ", " + l.Limit + " reached"
	}
	if l.Error != "" {
		text += ", latest error: " + l.Error
	}
	return text
}

// descriptor says in one line what a descriptor is.
func descriptor(d *correlate.Descriptor) string {
	text := fmt.Sprint(d.Number)
	if d.Side != "" {
		text += ", " + d.Side + " side"
	}
	text += ", " + or(d.Kind, "of unknown kind")
	if d.Role != "" {
		text += ", " + d.Role
	}
	if d.Kind == "tcp" {
		text += " " + or(d.State, "(state not observed)")
	}
	switch {
	case d.Remote != "":
		text += ", " + or(d.Local, "?") + " to " + d.Remote
	case d.Local != "":
		text += ", " + d.Local
	}
	if mask := d.Mask.Or(""); mask != "" {
		text += ", delivered " + mask
	}
	return text
}

func title(f *correlate.Finding) string {
	if f.Class == correlate.Unknown {
		return f.Class.Name()
	}
	return string(f.Class) + " " + f.Class.Name()
}

func route(s *evidence.Stream) string {
	if s.Backend == "" {
		return s.Frontend
	}
	return fmt.Sprintf("%s -> %s/%s", s.Frontend, s.Backend, or(s.Server, "<NOSRV>"))
}

func (p *printer) others(findings []correlate.Finding) {
	if len(findings) == 0 {
		return
	}
	p.line("")
	p.line("%d more", len(findings))
	for i := range findings {
		if i == maxOthers {
			p.line("  ... and %d more (--json)", len(findings)-i)
			return
		}
		f := &findings[i]
		p.line("  %s (%.2f)%s", title(f), f.Confidence, culprit(f))
	}
}

// culprit names in a few words whom a finding blames.
func culprit(f *correlate.Finding) string {
	s := f.Stream
	switch {
	case s != nil && s.ClientState == "":
		return fmt.Sprintf("  stream %s", s.ID)
	case s != nil:
		return fmt.Sprintf("  stream %s, client %s, server %s, age %s", s.ID, s.ClientState, s.ServerState,
			age(s.Age))
	case f.FD != nil:
		return "  fd " + descriptor(f.FD)
	case f.Listener != nil:
		return "  listener " + or(f.Listener.Address, "of unknown address") + limits(f.Listener)
	case f.Destination != "":
		return "  to " + f.Destination
	}
	return ""
}

// inefficiencies are told in two lines each: what they cost, and on which streams.
func (p *printer) inefficiencies(d *correlate.Diagnosis) {
	for i := range d.Inefficiencies {
		e := &d.Inefficiencies[i]
		if i == maxOthers {
			p.line("  ... and %d more (--json)", len(d.Inefficiencies)-i)
			return
		}
		cost := "a share of a CPU that is not known"
		if v, ok := e.CPU.Get(); ok {
			cost = fmt.Sprintf("%.0f%% of a CPU, by %s", 100*v, e.By)
		}
		p.line("")
		p.line("%s %s: %s; %d calls moved %d bytes", e.Class, e.Class.Name(), cost, e.Calls, e.Bytes)
		var on []string
		for _, s := range e.Streams {
			on = append(on, fmt.Sprintf("stream %s (%s)", s.ID, route(s)))
		}
		if len(on) == 0 {
			for _, fd := range e.Descriptors {
				on = append(on, fmt.Sprintf("fd %d", fd))
			}
		}
		p.line("  on       %s", strings.Join(on, ", "))
	}
}

func (p *printer) threads(d *correlate.Diagnosis) {
	if len(d.Threads) == 0 {
		return
	}
	p.line("")
	p.line("%8s  %6s  %6s  %12s  %12s  %s", "thread", "CPU", "asleep", "waits/s", "timeout 0", "empty")
	for i, t := range d.Threads {
		if i == maxThreads {
			p.line("  ... and %d more threads (--json)", len(d.Threads)-i)
			return
		}
		zero, empty := percent(t.Zero), percent(t.Empty)
		if t.Waits.Or(1) == 0 { // no share of nothing
			zero, empty = "-", "-"
		}
		p.line("%8d  %6s  %6s  %12s  %12s  %s", t.TID, percent(t.CPU), percent(t.Slept), number(t.Waits),
			zero, empty)
	}
}

func (p *printer) unknown(d *correlate.Diagnosis) {
	if len(d.Unknown) == 0 {
		return
	}
	p.line("")
	p.line("not observed")
	for i, u := range d.Unknown {
		if i == maxUnknown {
			p.line("  ... and %d more (--json)", len(d.Unknown)-i)
			return
		}
		p.line("  - %s", u)
	}
}

// notSeen stands for a number that was not observed.
const notSeen = "?"

func percent(x evidence.Observed[float64]) string {
	if v, ok := x.Get(); ok {
		return fmt.Sprintf("%.1f%%", 100*v)
	}
	return notSeen
}

func number(x evidence.Observed[float64]) string {
	if v, ok := x.Get(); ok {
		return fmt.Sprintf("%.0f", v)
	}
	return notSeen
}

// age prints a duration as HAProxy does: the two largest units.
func age(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%dm", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%dd%dh", s/86400, s%86400/3600)
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
