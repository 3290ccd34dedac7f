package evidence

// Program is what a process runs, as far as that is sure.
type Program struct {
	// Name is "nginx", "Redis", "Node.js", "Python", or "Go" for a program that is written in it; empty when
	// only the event loop is known.
	Name string `json:"name,omitempty"`
	// Version is that of the program, of the interpreter, or of Go.
	Version string `json:"version,omitempty"`
	// Role is which of the processes of a program it is, as that names it.
	Role string `json:"role,omitempty"`
	// EventLoop is what its event loop is made of, empty for one of its own.
	EventLoop string `json:"event_loop,omitempty"`
}

// The roles of processes of nginx.
const (
	RoleWorker = "worker process"
	RoleMaster = "master process"
)

// Event loops that are told apart further: by their descriptors.
const (
	LoopLibuv   = "libuv"
	LoopNetpoll = "netpoll" // of the Go runtime
	LoopAsyncio = "asyncio"
)

// String names the program for people.
func (p *Program) String() string {
	name := p.Name
	switch {
	case name == "Go":
		name = "Go program"
	case name == "":
		name = "event loop"
	case p.Version != "":
		name += " " + p.Version
	}
	if p.EventLoop != "" {
		name += " (" + p.EventLoop + ")"
	}
	if p.Role != "" {
		name += ", " + p.Role
	}
	return name
}
