package correlate

// Class is a class of the spin catalogue.
type Class string

// The classes that the rules of this package know. T: the process asks not to sleep. F: the kernel says
// ready. C: churn. S: a stall. B: a CPU is burnt outside of the event loop, or for little.
const (
	T1  Class = "T1"
	T2  Class = "T2"
	T3  Class = "T3"
	T3i Class = "T3i"
	T4  Class = "T4"
	T5  Class = "T5"
	T6  Class = "T6"
	T7  Class = "T7"
	S1  Class = "S1"
	F1  Class = "F1"
	F2  Class = "F2"
	F3  Class = "F3"
	F4  Class = "F4"
	F5  Class = "F5"
	F6  Class = "F6"
	F7  Class = "F7"
	F8  Class = "F8"
	C1  Class = "C1"
	B1  Class = "B1"
	B2  Class = "B2"
	B3  Class = "B3"
	B4  Class = "B4"
	// L15 is a look-alike with a name of its own.
	L15 Class = "L15"
	// Unknown is a spin that no rule recognises.
	Unknown Class = ""
)

var classNames = map[Class]string{
	T1: "past-due timer requeued", T3: "orphaned half-state", T3i: "orphaned half-state, idle",
	T2: "deadline miscomputed or truncated", T4: "self-wakeup without progress", T5: "back-pressure spin",
	T6: "speculative readiness livelock", T7: "global no-sleep condition", S1: "lost wakeup",
	F1: "idle write interest", F2: "unread read interest", F3: "unlatched EOF", F4: "unmaskable ERR/HUP",
	F5: "accept stall", F6: "orphaned registration", F7: "wrong-recipient wakeup", F8: "interest churn",
	C1: "retry storm",
	B1: "loop inside a handler", B2: "lock spin", B3: "CPU burnt inside epoll_wait by the kernel",
	B4: "tiny-I/O inefficiency", L15: "traffic routed in a circle", Unknown: "spinning, class unknown",
}

// Name is the name of the class in the catalogue.
func (c Class) Name() string { return classNames[c] }

// boundary reports whether the class is one of those that are never called a spin of the event loop.
func (c Class) boundary() bool { return c == B1 || c == B2 || c == B3 }
