package correlate

import (
	"slices"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/evidence"
)

// wakeupSpin is a spin about a descriptor that is in the set 5 beside its neighbour in number.
func wakeupSpin(program *evidence.Program, kind string, fd int, next evidence.Socket) *evidence.Case {
	e := foreign()
	delivered(e, evidence.EventIn)
	e.Process.Program = program
	suspect(e).FD = fd
	suspect(e).Socket = evidence.Know(evidence.Socket{Kind: kind, Registered: true,
		Interest: evidence.EventIn})
	e.Window.Descriptors = append(e.Window.Descriptors, evidence.Descriptor{FD: fd + 1, EpollFD: -1,
		Socket: evidence.Know(next)})
	return e
}

func TestTheEventLoopsOwnDescriptorIsNamed(t *testing.T) {
	node := &evidence.Program{Name: "Node.js", EventLoop: evidence.LoopLibuv}
	python := &evidence.Program{Name: "Python", EventLoop: evidence.LoopAsyncio}
	idle := evidence.Socket{Kind: "unix"}
	for name, c := range map[string]struct {
		e    *evidence.Case
		role string
	}{
		"libuv's eventfd":            {wakeupSpin(node, "eventfd", 9, idle), wakeupRole},
		"a pipe of libuv's":          {wakeupSpin(node, "pipe", 9, idle), ""},
		"an eventfd of nobody knows": {wakeupSpin(nil, "eventfd", 9, idle), ""},
		"asyncio's pair of sockets":  {wakeupSpin(python, "unix", 6, idle), wakeupRole},
		"a connection, further up":   {wakeupSpin(python, "unix", 9, idle), ""},
		"a connection, and another one": {wakeupSpin(python, "unix", 6,
			evidence.Socket{Kind: "unix", Registered: true}), ""},
		"a socket beside a file": {wakeupSpin(python, "unix", 6, evidence.Socket{Kind: "file"}), ""},
	} {
		if suspect(c.e).FD == 6 { // which is that of another in the case from which this one is made
			c.e.Window.Descriptors = slices.Delete(c.e.Window.Descriptors, 1, 2)
		}
		d := Correlate(c.e)
		if len(d.Findings) != 1 || d.Findings[0].FD == nil || d.Findings[0].FD.Role != c.role {
			t.Errorf("%s: %+v, want the role %q", name, d.Findings, c.role)
		}
	}
}

func anEventfd(e *evidence.Case) {
	socketOf(e, func(s *evidence.Socket) { s.Kind, s.Local, s.Remote = "eventfd", "", "" })
}

func TestRemediesAreThoseOfTheProgram(t *testing.T) {
	worker := &evidence.Program{Name: "nginx", Role: evidence.RoleWorker}
	for name, c := range map[string]struct {
		program *evidence.Program
		change  func(*evidence.Case)
		want    string
	}{
		"nginx":              {worker, anEventfd, "kill -TERM 4711; its master starts another"},
		"nginx in a handler": {worker, handler, "kill -KILL 4711"},
		"the master of nginx": {&evidence.Program{Name: "nginx", Role: evidence.RoleMaster}, handler,
			"then restart the process"},
		"Redis": {&evidence.Program{Name: "Redis"}, func(*evidence.Case) {},
			"redis-cli CLIENT KILL ADDR 192.0.2.7:20639 ends that connection"},
		"Redis and its master": {&evidence.Program{Name: "Redis"}, func(c *evidence.Case) {
			socketOf(c, func(s *evidence.Socket) { s.Local, s.Remote = "192.0.2.1:40000", "192.0.2.2:6379" })
		}, "have 192.0.2.2:6379 end that connection"},
		"Redis in a handler": {&evidence.Program{Name: "Redis"}, handler, "then restart the process"},
		"Node":               {&evidence.Program{Name: "Node.js"}, handler, "kill -USR1 4711"},
		"Go":                 {&evidence.Program{Name: "Go"}, handler, "kill -QUIT 4711"},
		"Python":             {&evidence.Program{Name: "Python"}, handler, "Python's frames"},
		"nobody knows":       {nil, handler, "then restart the process"},
	} {
		e := foreign()
		delivered(e, evidence.EventIn)
		e.Process.Program = c.program
		c.change(e)
		d := Correlate(e)
		if len(d.Findings) == 0 || !strings.Contains(d.Findings[0].Remedy, c.want) {
			t.Errorf("%s: findings %+v, should say %q", name, d.Findings, c.want)
		}
	}
}
