package probe

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/whyspin/whyspin/internal/sys"
)

// Signal is one thing that probes can show, the ways to get it in order of preference, and what each came
// to on this machine.
type Signal struct {
	// Name is "syscall", "resets", "outgoing", "files", "threads" or "traffic".
	Name string
	// Shows says what the signal shows.
	Shows string
	Tries []Try
	// Missing says what stays unknown when every try fails.
	Missing string
}

// Try is one way to get a signal.
type Try struct {
	// Hook is how the kernel calls it: "tp_btf", "raw_tp", "tracepoint", "fexit", "iter", "procfs".
	Hook string
	// On are the hooks by name: "sys_exit" ...
	On string
	// Loses says what is not seen by this way that a better one would show; empty when nothing is lost.
	Loses string
	// Err is nil for a try that can be used, and otherwise a *HookError.
	Err error
}

// Taken returns the try that is in use or will be: the first without an error. It is not ok when there is
// none.
func (s Signal) Taken() (try Try, ok bool) {
	for _, t := range s.Tries {
		if t.Err == nil {
			return t, true
		}
	}
	return Try{}, false
}

// Unknown returns a sentence that says what is not known and why, empty when the signal is to be had.
func (s Signal) Unknown() string {
	if _, ok := s.Taken(); ok {
		return ""
	}
	// Tries often fail for one reason; say it once.
	var reasons []string
	for _, t := range s.Tries {
		reason := t.Err.Error()
		var hook *HookError
		if errors.As(t.Err, &hook) {
			reason = hook.Reason
		}
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	return fmt.Sprintf("%s: %s", s.Missing, strings.Join(reasons, "; "))
}

// HookError says why a hook is not to be had, in words that tell what to do. The library's own advice
// does not fit: it suspects the limit of locked memory, which kernels since 5.11 do not use.
type HookError struct {
	// Doing is "loading" or "attaching", Hook the hook as in "tp_btf/sys_exit".
	Doing, Hook string
	// Reason is the error of the kernel and what it means here.
	Reason string
	cause  error
}

// Error implements error.
func (e *HookError) Error() string { return e.Doing + " " + e.Hook + ": " + e.Reason }

// Unwrap returns the cause, for errors.Is with EPERM, ENOENT and the like.
func (e *HookError) Unwrap() error { return e.cause }

func hookError(doing, hook string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ebpf.ErrNotSupported) && len(lacking()) > 0 {
		// The library asks the kernel by trying, and takes a refusal for a no.
		err = errors.Join(syscall.EPERM, err)
	}
	why := reason(err)
	var verifier *ebpf.VerifierError
	if doing == loading && !isRefused(err) && !errors.As(err, &verifier) && missing(kernelTypes) {
		why = "the kernel has no type information: there is no " + kernelTypes + " (CONFIG_DEBUG_INFO_BTF)"
	}
	return &HookError{Doing: doing, Hook: hook, Reason: why, cause: err}
}

// What HookError.Doing may be.
const (
	loading   = "loading"
	attaching = "attaching"
	opening   = "opening"
)

// isRefused reports whether the kernel refused for lack of permission. The verifier uses the same numbers
// for programs that it does not like.
func isRefused(err error) bool {
	var verifier *ebpf.VerifierError
	return (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES)) && !errors.As(err, &verifier)
}

// Where the kernel says what it is and allows.
const (
	kernelTypes   = "/sys/kernel/btf/vmlinux"
	lockdownState = "/sys/kernel/security/lockdown"
	tracefs       = "/sys/kernel/tracing"
)

// enotsupp is the kernel's internal ENOTSUPP of include/linux/errno.h, which BPF calls return.
const enotsupp = syscall.Errno(524)

// reason words the error of a load or an attachment.
func reason(err error) string {
	var verifier *ebpf.VerifierError
	var number syscall.Errno
	hasNumber := errors.As(err, &number)
	switch {
	case isRefused(err):
		return "operation not permitted: " + refusal()
	case errors.Is(err, errNoTracefs):
		return err.Error()
	case errors.As(err, &verifier):
		return "the kernel's verifier refuses the program: " + lastLine(verifier)
	case errors.Is(err, btf.ErrNotFound):
		return "this kernel does not have the hook, or a field that the program reads"
	case errors.Is(err, ebpf.ErrNotSupported) || hasNumber && (number == enotsupp ||
		number == syscall.ENOTSUP):
		return "this kernel does not support it"
	case hasNumber && number == syscall.EINVAL:
		return number.Error() + ": this kernel does not know the request"
	case hasNumber && number == syscall.ENOENT:
		return number.Error() + ": this kernel does not have the hook"
	case hasNumber:
		return number.Error()
	}
	return err.Error()
}

// lacking names the capabilities that tracing needs and the calling thread does not have.
func lacking() (names []string) {
	if sys.HasCapability(sys.CapAdmin) {
		return nil
	}
	if !sys.HasCapability(sys.CapBPF) {
		names = append(names, "CAP_BPF")
	}
	if !sys.HasCapability(sys.CapPerfmon) {
		names = append(names, "CAP_PERFMON")
	}
	return names
}

// refusal says why the kernel may have refused for lack of permission.
func refusal() string {
	if names := lacking(); len(names) > 0 {
		return "this process lacks " + strings.Join(names, " and ")
	}
	text, err := os.ReadFile(lockdownState)
	if err == nil && !strings.Contains(string(text), "[none]") {
		return "kernel lockdown refuses it: " + lockdownState + " says " + strings.TrimSpace(string(text))
	}
	return "kernel lockdown, a user namespace, a security module or a seccomp filter refuses it"
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}

// lastLine returns the line in which the verifier says what it dislikes: the last that is not a statistic.
func lastLine(err *ebpf.VerifierError) string {
	for i := len(err.Log) - 1; i >= 0; i-- {
		line := strings.TrimSpace(err.Log[i])
		if line != "" && !strings.HasPrefix(line, "processed ") {
			return line
		}
	}
	if err.Cause != nil {
		return err.Cause.Error()
	}
	return "without a word"
}
