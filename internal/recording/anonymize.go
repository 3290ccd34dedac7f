package recording

import (
	"encoding/json"
	"path"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Anonymize returns a copy of a case that does not tell whose process it is: addresses, paths, and the names
// of proxies, servers, threads and programs are replaced, the same one by the same everywhere, so that what
// belongs together still does. Ports, numbers, times, states, and the names of functions and system
// libraries stay: the diagnosis goes by them. A loopback address stays one, a private one stays private.
func Anonymize(c *evidence.Case) *evidence.Case {
	c = clone(c)
	m := newMask()
	m.program(&c.Process)
	m.window(c.Window)
	for _, s := range []*evidence.Snapshot{c.Before, c.After} {
		m.snapshot(s)
	}
	c.Socket = m.address(c.Socket)
	// Sentences last: what they name is known by now.
	m.sentences(c.Unknown)
	m.sentences(c.Process.Surroundings)
	if c.Window != nil {
		m.sentences(c.Window.Unknown)
		if c.Window.Samples != nil {
			m.sentences(c.Window.Samples.Unknown)
		}
	}
	for _, s := range []*evidence.Snapshot{c.Before, c.After} {
		if s == nil {
			continue
		}
		m.sentences(s.Unknown)
		m.sentences(s.Process.Surroundings)
		for i := range s.Workers {
			s.Workers[i].Stack = m.sentence(s.Workers[i].Stack)
		}
	}
	return c
}

// clone returns a deep copy.
func clone(c *evidence.Case) *evidence.Case {
	text, err := json.Marshal(c)
	if err != nil {
		panic("BUG: a case that is not JSON: " + err.Error())
	}
	copied := &evidence.Case{}
	if err := json.Unmarshal(text, copied); err != nil {
		panic("BUG: a case that is not read as it was written: " + err.Error())
	}
	return copied
}

// program replaces the names of a program, but for what whyspin and HAProxy are usually called.
func (m *mask) program(p *evidence.Process) {
	proxy := p.Kind == evidence.KindWhyspin || p.Kind == evidence.KindHAProxy
	if proxy && (p.Command == "haproxy" || p.Command == "whyspin") {
		m.keep[p.Command] = true
	}
	if !proxy {
		p.Version = ""
	}
	p.Command = m.name("program", p.Command)
}

func (m *mask) window(w *evidence.Window) {
	if w == nil {
		return
	}
	for i := range w.Threads {
		w.Threads[i].Name = m.name("thread", w.Threads[i].Name)
	}
	for i := range w.Descriptors {
		d := &w.Descriptors[i]
		d.Before, d.Socket = m.socket(d.Before), m.socket(d.Socket)
	}
	for i := range w.Resets {
		r := &w.Resets[i]
		r.Local, r.Remote = m.address(r.Local), m.address(r.Remote)
	}
	for i := range w.Destinations {
		w.Destinations[i].Address = m.address(w.Destinations[i].Address)
	}
	if w.Samples == nil {
		return
	}
	for i := range w.Samples.Stacks {
		s := &w.Samples.Stacks[i]
		m.frames(s.User)
		m.frames(s.Kernel)
	}
}

func (m *mask) socket(o evidence.Observed[evidence.Socket]) evidence.Observed[evidence.Socket] {
	s, known := o.Get()
	if !known {
		return o
	}
	s.Local, s.Remote = m.address(s.Local), m.address(s.Remote)
	return evidence.Know(s)
}

func (m *mask) frames(frames []evidence.Frame) {
	for i := range frames {
		f := &frames[i]
		f.Object = m.path(f.Object)
		if f.File != "" {
			f.File = path.Base(f.File)
		}
	}
}

func (m *mask) snapshot(s *evidence.Snapshot) {
	if s == nil {
		return
	}
	m.program(&s.Process)
	for i := range s.Listeners {
		l := &s.Listeners[i]
		l.Address, l.Frontend = m.address(l.Address), m.name("proxy", l.Frontend)
		l.Error = m.sentence(l.Error)
	}
	for i := range s.Claims {
		v := &s.Claims[i]
		v.Frontend = m.name("proxy", v.Frontend)
		if backend, server, ok := strings.Cut(v.Server, "/"); ok {
			v.Server = m.name("proxy", backend) + "/" + m.name("server", server)
		} else {
			v.Server = m.name("server", v.Server)
		}
	}
	for i := range s.Streams {
		v := &s.Streams[i]
		v.Frontend, v.Backend = m.name("proxy", v.Frontend), m.name("proxy", v.Backend)
		v.Server = m.name("server", v.Server)
		v.Client, v.Upstream = m.address(v.Client), m.address(v.Upstream)
	}
}

// isSystem reports whether a path is the same on every machine.
func isSystem(name string) bool {
	for _, directory := range []string{"/bin/", "/lib/", "/lib64/", "/proc/", "/sbin/", "/sys/", "/usr/lib",
		"/usr/sbin/", "/usr/bin/"} {
		if strings.HasPrefix(name, directory) {
			return true
		}
	}
	return false
}
