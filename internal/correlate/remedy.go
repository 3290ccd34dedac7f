package correlate

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/whyspin/whyspin/internal/evidence"
)

// remedy is what the operator can do now. It must work on that very process: a real HAProxy ignores
// "shutdown session" for an orphaned stream, our own kill is total.
func (in *input) remedy(class Class, s *evidence.Stream) string {
	switch {
	case s != nil && in.Process.Kind == evidence.KindWhyspin:
		order := "shutdown session " + s.ID
		if in.Socket == "" {
			return fmt.Sprintf("give the order %q on a stats socket of level admin: it ends only that stream",
				order)
		}
		return fmt.Sprintf("echo %q | socat - %s   (level admin; it ends that stream and no other)", order,
			socatAddress(in.Socket))
	case s != nil && in.Process.Kind == evidence.KindHAProxy && (class == T3 || class == T3i):
		if in.After != nil && in.After.Stopping {
			return fmt.Sprintf("this HAProxy ignores \"shutdown session\" for such a stream, and it is"+
				" stopping already: wait until it holds only that stream, then end it with: kill -TERM %d",
				in.Process.PID)
		}
		return "this HAProxy ignores \"shutdown session\" for such a stream: reload it, wait until the old " +
			fmt.Sprintf("process holds only that stream, then end the old process with: kill -TERM %d",
				in.Process.PID)
	case class == Unknown:
		return "keep the process and look longer (--for 10s), then at its functions with a CPU profiler"
	}
	return in.restart(class)
}

// restart is the remedy when nothing milder is known to work.
func (in *input) restart(class Class) string {
	if replace := in.replace(class); replace != "" {
		return replace
	}
	if look := in.look(); look != "" {
		return fmt.Sprintf("%s; keep its state (gcore %d) and restart it when its other work allows", look,
			in.Process.PID)
	}
	return fmt.Sprintf("keep its state first (gcore %d), then restart the process when its other work allows",
		in.Process.PID)
}

// readyRemedy is what to do about a descriptor that keeps a loop awake.
func (in *input) readyRemedy(f *Finding, r *repeat) string {
	if f.Stream != nil && in.Process.Kind == evidence.KindWhyspin {
		return in.remedy(f.Class, f.Stream)
	}
	switch {
	case f.Class == F5:
		return in.acceptRemedy(f)
	case f.Class != F6 && in.cut(f) != "":
		return in.cut(f)
	case r.socket.Kind == "tcp" && r.socket.Remote != "" && f.Class != F6:
		return fmt.Sprintf("have %s end that connection, which may end the spin; otherwise restart the"+
			" process when its other work allows (gcore %d keeps its state)", r.socket.Remote, in.Process.PID)
	}
	return in.restart(f.Class)
}

// acceptRemedy is what to do when nothing is accepted: the process says which limit is reached, or it is
// mostly out of descriptors, which can be mended while it runs.
func (in *input) acceptRemedy(f *Finding) string {
	if f.Listener != nil && f.Listener.Limit != "" {
		return fmt.Sprintf("%s is reached: the spin ends when connections end; raise the limit in the"+
			" configuration, and restart the process when its other work allows", f.Listener.Limit)
	}
	return fmt.Sprintf("see whether it is out of descriptors (ls /proc/%d/fd | wc -l; its limit is in"+
		" /proc/%d/limits); then raise that: prlimit --pid %d --nofile=N", in.Process.PID, in.Process.PID,
		in.Process.PID)
}

// socatAddress writes the address of a socket as socat takes it, quoted for a shell where that is needed.
func socatAddress(socket string) string {
	text := socket
	switch {
	case strings.HasPrefix(socket, "@"):
		text = "ABSTRACT-CONNECT:" + socket[1:]
	case strings.HasPrefix(socket, "["):
		text = "TCP6:" + socket
	case !strings.Contains(socket, "/"):
		text = "TCP:" + socket
	case strings.ContainsAny(socket, ",:!"):
		text = "UNIX-CONNECT:" + strings.NewReplacer(",", `\,`, ":", `\:`, "!", `\!`).Replace(socket)
	}
	if strings.ContainsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("/-_.,:@[]", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		text = "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
	}
	return text
}
