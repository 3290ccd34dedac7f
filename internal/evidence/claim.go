package evidence

// Activity is what one event loop of another program counts of itself since its start.
type Activity struct {
	// Thread counts from 1, in the program's own order.
	Thread int `json:"thread"`
	// Loops is how often the loop has gone round, each time with one wait unless it polls busily.
	Loops uint64 `json:"loops"`
	// Counters are further ones, by the names that the program gives them.
	Counters map[string]uint64 `json:"counters,omitempty"`
}

// Since returns what was counted since an earlier look. A counter of 32 bits may have begun anew meanwhile;
// one that the earlier look lacks is left out.
func (a Activity) Since(earlier Activity) Activity {
	grown := Activity{Thread: a.Thread, Loops: since(a.Loops, earlier.Loops), Counters: map[string]uint64{}}
	for name, n := range a.Counters {
		if before, ok := earlier.Counters[name]; ok {
			grown.Counters[name] = since(n, before)
		}
	}
	return grown
}

func since(now, before uint64) uint64 {
	if now < before {
		return uint64(uint32(now - before))
	}
	return now - before
}

// Claim is what a program says of one of its descriptors, which the kernel may see otherwise.
type Claim struct {
	FD int `json:"fd"`
	// Reads and Writes are true exactly when the program asks to be told when it can read and write.
	Reads  bool `json:"reads"`
	Writes bool `json:"writes"`
	// Events are those that it was told last.
	Events EventMask `json:"events"`
	// Handler is the function that it calls for events, Threads the mask of the threads that may call it;
	// empty when it does not say.
	Handler string `json:"handler,omitempty"`
	Threads string `json:"threads,omitempty"`
	// Frontend is that of a listener or of an accepted connection; Server, as backend/server, that of a
	// connection to one.
	Frontend string `json:"frontend,omitempty"`
	Server   string `json:"server,omitempty"`
	// Suspicious is true exactly when the program itself finds its state odd.
	Suspicious bool `json:"suspicious,omitempty"`
}
