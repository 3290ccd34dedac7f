package evidence

import "time"

// Samples are stacks, taken at regular intervals of CPU time.
type Samples struct {
	// Period is the CPU time between two samples of one thread.
	Period time.Duration `json:"period_ns"`
	// Stacks are the distinct stacks of each thread.
	Stacks []Stack `json:"stacks"`
	// Lost counts the samples that were taken and could not be stored.
	Lost uint64 `json:"lost,omitempty"`
	// Unknown are sentences about what could not be unwound or named, and why.
	Unknown []string `json:"unknown,omitempty"`
}

// Stack is one stack and how often it was found.
type Stack struct {
	TID   int    `json:"tid"`
	Count uint64 `json:"count"`
	// User and Kernel are the frames in the program and in the kernel, innermost first. Kernel is empty
	// for a thread that was not in the kernel.
	User   []Frame `json:"user,omitempty"`
	Kernel []Frame `json:"kernel,omitempty"`
	// Truncated is true exactly when the unwinding of User ended before the thread's first function.
	Truncated bool `json:"truncated,omitempty"`
}

// Frame is one function of a stack.
type Frame struct {
	// Function is its name, empty when it is not known.
	Function string `json:"function,omitempty"`
	// Object is the file that it is in: a path, or "[kernel]", "[vdso]".
	Object string `json:"object,omitempty"`
	// Address is where in the object: what a symbol table of the file has, for position-independent files
	// too.
	Address uint64 `json:"address"`
	// Start is the begin of the function when only that is known of it, from its unwind information.
	Start uint64 `json:"start,omitempty"`
	// File and Line are the place in the source, when the program has line numbers.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}
