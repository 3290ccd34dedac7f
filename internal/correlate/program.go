package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// wakeupRole is what a descriptor is that the event loop has for itself.
const wakeupRole = "the event loop's own wakeup descriptor"

// role says what a descriptor is to its program, empty when that is not known.
func (in *input) role(d *evidence.Descriptor) string {
	socket, known := d.Socket.Get()
	p := in.Process.Program
	if !known || p == nil || d.EpollFD < 0 || socket.Interest&evidence.EventIn == 0 {
		return ""
	}
	switch p.EventLoop {
	case evidence.LoopLibuv:
		// uv__async_start in libuv's src/unix/async.c.
		if socket.Kind == "eventfd" {
			return wakeupRole
		}
	case evidence.LoopAsyncio:
		// BaseSelectorEventLoop makes the set and then a pair of sockets, of which it registers the first.
		if d.FD == d.EpollFD+1 && socket.Kind == "unix" && in.isIdleSocket(d.FD+1) {
			return wakeupRole
		}
	}
	return ""
}

// isIdleSocket reports whether a number is that of a unix socket that is in no epoll set.
func (in *input) isIdleSocket(fd int) bool {
	d := in.descriptor(fd)
	if d == nil {
		return false
	}
	socket, known := d.Socket.Get()
	return known && socket.Kind == "unix" && !socket.Registered
}

// look is how to find out with the program's own means what it does, empty when none is known.
func (in *input) look() string {
	p := in.Process.Program
	if p == nil {
		return ""
	}
	pid := in.Process.PID
	switch p.Name {
	case "Node.js":
		return fmt.Sprintf("have Node start its inspector (kill -USR1 %d; it listens on 127.0.0.1:9229) and "+
			"take a CPU profile there, or restart it with --cpu-prof", pid)
	case "Go":
		return fmt.Sprintf("take a goroutine dump: from net/http/pprof if it serves that, otherwise with "+
			"kill -QUIT %d, which prints it and ends the program", pid)
	case "Python":
		return "see with a profiler that reads Python's frames from outside which callback runs"
	}
	return ""
}

// replace is how the program itself gets rid of a process that spins, empty when it cannot.
func (in *input) replace(class Class) string {
	p := in.Process.Program
	if p == nil || p.Name != "nginx" || p.Role != evidence.RoleWorker {
		return ""
	}
	pid := in.Process.PID
	if class.boundary() {
		return fmt.Sprintf("keep its state first (gcore %d), then end this worker with: kill -KILL %d, for "+
			"it may not come back to where it heeds others; its master starts another", pid, pid)
	}
	return fmt.Sprintf("keep its state first (gcore %d), then end this worker with: kill -TERM %d; its "+
		"master starts another. To let its connections end by themselves: nginx -s reload", pid, pid)
}

// cut is how the program itself ends the connection of a finding, empty when it cannot.
func (in *input) cut(f *Finding) string {
	p := in.Process.Program
	if p == nil || p.Name != "Redis" || f.FD == nil || f.FD.Side != evidence.SideClient || f.FD.Remote == "" {
		return ""
	}
	return fmt.Sprintf("redis-cli CLIENT KILL ADDR %s ends that connection (CLIENT LIST says whose it is)",
		f.FD.Remote)
}
