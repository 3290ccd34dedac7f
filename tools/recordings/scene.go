package main

// scene is one recording to be made.
type scene struct {
	// name is that of the file. It begins with the class, or with the look-alike's number in the catalogue.
	name string
	// story says in one line what happens.
	story string
	// verdict is what whyspin must say, in two words: the verdict and the class of the first finding.
	verdict string
	// begin brings it about and returns the process to look at.
	begin func(p *place) (pid int, err error)
}

// talkers is how many healthy connections there are beside a defect.
const talkers = 4

// scenes are those of foreign programs; the lab has those of whyspin itself. The programs of spinlab know
// nothing of whyspin: there is the kernel's view alone.
var scenes = []scene{
	{"T1-foreign", "a timer in the past is queued again and again; from outside its class is not to be seen",
		"spin", spinlab("epoll-c", "T1")},
	{"T6-foreign", "a flag says readable, every read says EAGAIN, and the flag stays",
		"spin T6", spinlab("epoll-c", "T6")},
	{"F1-foreign", "interest in writing stays armed though there is nothing to write",
		"spin F1", spinlab("epoll-c", "F1")},
	{"F1-asyncio", "a writer callback of asyncio is never removed", "spin F1", spinlab("asyncio-py", "F1")},
	{"F2-foreign", "a paused reader's interest in reading stays armed",
		"spin F2", spinlab("epoll-c", "F2")},
	{"F3-foreign", "a client has ended its side; each wakeup reads the end again",
		"spin F3", spinlab("epoll-c", "F3")},
	{"F3-netpoll", "a goroutine takes the end of the input for a reason to read again",
		"spin F3", spinlab("netpoll-go", "F3")},
	{"F4-foreign", "a reset connection is reported with an error that nobody reads",
		"spin F4", spinlab("epoll-c", "F4")},
	{"F5-foreign", "out of descriptors, accept fails and the listener stays armed",
		"spin F5", spinlab("epoll-c", "F5")},
	{"F6-foreign", "a descriptor is closed without leaving the epoll set, while a copy lives",
		"spin F6", spinlab("epoll-c", "F6")},
	{"F7-foreign", "threads share an epoll set; one may act and all are woken",
		"spin F7", spinlab("epoll-c", "F7")},
	{"F8-foreign", "each turn sets the interest again, which reports the event again",
		"spin F8", spinlab("epoll-c", "F8")},
	{"C1-foreign", "a refused connection is tried again at once", "spin C1", spinlab("epoll-c", "C1")},
	{"B1-foreign", "a handler does not return", "boundary B1", spinlab("epoll-c", "B1")},
	{"B2-foreign", "a thread asks for a lock whose owner does not run", "boundary B2",
		spinlab("epoll-c", "B2")},
	{"B3-busy-poll", "an epoll set is set to poll its device busily: each wait burns the CPU in the kernel",
		"boundary B3", busyPoll},

	{"L1-haproxy", "HAProxy answers as fast as it can", "healthy", haproxy("", webPage, true)},
	{"L2-haproxy-idle", "HAProxy busy polls, as configured, and has nothing to do", "configured",
		haproxy("busy-polling", webPage, false)},
	{"L2-haproxy-loaded", "HAProxy busy polls, as configured, and is loaded", "configured",
		haproxy("busy-polling", webPage, true)},
	{"L1-nginx", "nginx answers as fast as it can", "healthy", nginx},
	{"L1-redis", "Redis under redis-benchmark", "healthy", redis("1")},
	{"L1-redis-pipelined", "Redis under redis-benchmark with 16 requests at a time", "healthy", redis("16")},
	{"L4-node", "Node echoes to busy clients", "healthy", node},
	{"L10-haproxy", "HAProxy checks dead servers every 100 ms", "healthy",
		haproxy("", "server dead 127.0.0.1:1 check inter 100ms\n mode http", false)},
}
