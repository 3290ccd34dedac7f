package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/whyspin/whyspin/internal/evidence"
)

// TestReasons words the errors that kernels give.
func TestReasons(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		is   error
		want string
	}{
		{"no such tracepoint", fmt.Errorf("find target: %w", btf.ErrNotFound), btf.ErrNotFound,
			"loading tp_btf/x: this kernel does not have the hook, or a field that the program reads"},
		{"not supported", fmt.Errorf("map: %w", ebpf.ErrNotSupported), ebpf.ErrNotSupported,
			"loading tp_btf/x: this kernel does not support it"},
		{"ENOTSUPP", syscall.Errno(524), syscall.Errno(524),
			"loading tp_btf/x: this kernel does not support it"},
		{"EINVAL", fmt.Errorf("link: %w", syscall.EINVAL), syscall.EINVAL,
			"loading tp_btf/x: invalid argument: this kernel does not know the request"},
		{"ENOENT", fmt.Errorf("link: %w", syscall.ENOENT), fs.ErrNotExist,
			"loading tp_btf/x: no such file or directory: this kernel does not have the hook"},
		{"another number", fmt.Errorf("link: %w", syscall.ENOMEM), syscall.ENOMEM,
			"loading tp_btf/x: cannot allocate memory"},
		{"EPERM for root", fmt.Errorf("load: %w (MEMLOCK may be too low)", syscall.EPERM), syscall.EPERM,
			"loading tp_btf/x: operation not permitted: kernel lockdown"},
		{"no tracefs", fmt.Errorf("%w: %w", errNoTracefs, syscall.ENOENT), errNoTracefs,
			"loading tp_btf/x: tracefs is not mounted at /sys/kernel/tracing, or may not be read"},
	} {
		if os.Getuid() != 0 && c.is == syscall.EPERM {
			continue // an ordinary user is told of capabilities, see TestWithoutPrivileges
		}
		err := hookError(loading, "tp_btf/x", c.err)
		if !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %q, want %q", c.name, err, c.want)
		}
		if !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", c.name, err, c.is)
		}
	}
	s := Signal{Missing: "it is dark", Tries: []Try{
		{Err: hookError(loading, "a", syscall.EINVAL)}, {Err: hookError(attaching, "b", syscall.EINVAL)},
		{Err: hookError(loading, "c", syscall.ENOMEM)},
	}}
	want := "it is dark: invalid argument: this kernel does not know the request; cannot allocate memory"
	if got := s.Unknown(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s.Tries[1].Err = nil
	if got := s.Unknown(); got != "" {
		t.Errorf("%q, want nothing", got)
	}
}

// TestNextHookIsTaken lets hooks fail when they are attached, one after the other: the next one is taken,
// the plan says why, and when none is left the window says what is not known.
func TestNextHookIsTaken(t *testing.T) {
	s := startScript(t)
	event := s.do("eventfd 0")
	p := load(t, Options{PID: s.pid()})
	write := func() { s.do("send %d 8", event) }

	p.hooks[0].loaded.Close() // an attachment that fails
	w := window(t, p, write)
	if n := descriptor(t, w, event).Write.Calls; w.Hooks.Syscall != evidence.Know("raw_tp") || n != 1 {
		t.Errorf("%d writes by %v, want 1 by raw_tp", n, w.Hooks.Syscall)
	}
	plan := p.Plan()[0]
	if try, ok := plan.Taken(); !ok || try.Hook != "raw_tp" {
		t.Errorf("taken is %+v, want raw_tp", try)
	}
	if err := plan.Tries[0].Err; err == nil || !strings.HasPrefix(err.Error(),
		"attaching tp_btf/sys_exit: ") {
		t.Errorf("the first try: %v", err)
	}

	for _, h := range p.hooks {
		if h.loaded != nil {
			h.loaded.Close()
		}
	}
	w = window(t, p, write)
	if n := descriptor(t, w, event).Write.Calls; w.Hooks.Syscall.IsKnown() || n != 0 {
		t.Errorf("%d writes by %v, want none by nothing", n, w.Hooks.Syscall)
	}
	for _, thread := range w.Threads {
		if thread.Calls.IsKnown() || !thread.Run.IsKnown() {
			t.Errorf("thread %+v, want scheduler data and no calls", thread)
		}
	}
	mustSay(t, w, "system calls are not seen")
}

// TestSparingLoadsWhatIsNeeded: what stands in for another is loaded when that cannot be attached.
func TestSparingLoadsWhatIsNeeded(t *testing.T) {
	s := startScript(t)
	set := s.do("epoll")
	for i, hook := range []string{"tp_btf", "raw_tp", "tracepoint"} {
		p := load(t, Options{PID: s.pid(), Sparing: true, only: hook})
		if loaded := p.counter.hooks[2].loaded != nil; loaded {
			t.Errorf("%s: the last one is loaded", hook)
		}
		w := window(t, p, func() { s.do("wait %d 0", set) })
		if got := w.Hooks.Syscall.Or("none"); got != hook {
			t.Errorf("the hook is %s, want %s", got, hook)
		}
		for j, h := range p.counter.hooks {
			if loaded := h.loaded != nil; loaded != (j == 0 || j == i) {
				t.Errorf("%s: whether %s is loaded is %v", hook, h.try.Hook, loaded)
			}
		}
	}
}
