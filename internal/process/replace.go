package process

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/whyspin/whyspin/internal/config"
)

// proxies are the programs that a proxy may replace, by the name that the kernel has of them. Our own is one
// of them whatever it is called.
var proxies = []string{"haproxy", "whyspin"}

// Replace tells the processes that this one replaces to stop: with SIGUSR1 when their streams have ended,
// with SIGTERM at once. It is called when everything that may fail has succeeded, while the process still
// may send signals to others. What is wrong is in the warnings; a process that is gone is not.
//
// A pid file may be old, and the number another program's by now, which such a signal would end: so only a
// haproxy or a whyspin is told.
func Replace(pids []int, s syscall.Signal) (warnings []string) {
	for _, pid := range pids {
		name, err := programOf(pid)
		switch {
		case err != nil:
		case !isProxy(name) || pid == os.Getpid():
			err = fmt.Errorf("it is %q, not a proxy", name)
		default:
			err = syscall.Kill(pid, s)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			warnings = append(warnings, fmt.Sprintf("process %d is not told to stop: %v", pid, err))
		}
	}
	return warnings
}

// programOf returns the name that the kernel has of a process.
func programOf(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(text)), err
}

func isProxy(name string) bool {
	own, err := programOf(os.Getpid())
	return slices.Contains(proxies, name) || err == nil && name == own
}

// takeOver asks the process that is replaced for its listeners and for the secrets of its tickets, and
// makes ready to offer those of this one. Without a socket on the command line it asks at that of the
// configuration, and does without when there is no answer.
func (p *Prepared) takeOver() error {
	from := p.options.TakeFrom
	for i := range p.config.Global.StatsSockets {
		s := &p.config.Global.StatsSockets[i]
		if !s.ExposeListeners {
			continue
		}
		p.Handover = &Handover{certificates: p.Certificates}
		if from == "" && p.options.Replaces && s.Address.Kind == config.AddressUnix && !s.Address.Abstract {
			from = s.Address.Path
		}
	}
	if from == "" {
		return nil
	}
	i, err := inherit(from)
	if err == nil && p.Certificates != nil {
		err = p.Certificates.AdoptTickets(i.tickets)
	}
	p.inherited = i
	if err != nil && p.options.TakeFrom == "" {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%v; the ports are shared until the old process stops,"+
			" and connections that it has not accepted by then are lost", err))
		return nil
	}
	return err
}
