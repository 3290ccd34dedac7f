package main

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// runtimeCalls are what the Go runtime makes of the time that strace takes: a worker that is preempted gives
// its place away and is woken again, every 10 ms at most, whatever the work.
var runtimeCalls = []string{"futex", "sched_yield", "getpid", "tgkill"}

// ignored are calls that are no part of the work: HAProxy reads a clock with a system call before and after
// every wait, and a thread that is interrupted by strace goes on with its wait.
var ignored = []string{"clock_gettime", "restart_syscall", "rt_sigreturn"}

// read counts the calls in a listing of strace. Threads that are not among the workers are others.
func (c *count) read(listing string, workers []int) error {
	c.calls, c.again = map[string]int{}, map[string]int{}
	pending := map[int]string{} // the call that a thread is in, when strace had to interrupt its line
	for line := range strings.Lines(listing) {
		field, rest, found := strings.Cut(strings.TrimSpace(line), " ")
		thread, err := strconv.Atoi(field)
		if err != nil || !found {
			continue // strace's own words
		}
		rest = strings.TrimSpace(rest)
		name, _, isCall := strings.Cut(rest, "(")
		switch {
		case strings.HasPrefix(rest, "<... "):
			name = pending[thread] // counted when it began
			delete(pending, thread)
		case !isCall || strings.ContainsAny(name, " +-"):
			continue // a signal, or the end of a thread
		default:
			if strings.HasSuffix(rest, "<unfinished ...>") {
				pending[thread] = name
			}
			c.add(name, slices.Contains(workers, thread))
		}
		if strings.Contains(rest, "= -1 EAGAIN") && slices.Contains(workers, thread) {
			c.again[name]++
		}
	}
	if sum(c.calls) == 0 {
		return errors.New("strace lists no call of a worker:\n" + listing[:min(len(listing), 1<<10)])
	}
	return nil
}

func (c *count) add(name string, worker bool) {
	switch {
	case slices.Contains(ignored, name):
	case !worker:
		c.others++
	case slices.Contains(runtimeCalls, name):
		c.runtime++
	case strings.HasPrefix(name, "epoll_") && strings.Contains(name, "wait"):
		c.waits++
	default:
		c.calls[name]++
	}
}

// names returns the names of the calls that either made more than a few times.
func names(counts ...*count) []string {
	all := map[string]bool{}
	for _, c := range counts {
		for name, n := range c.calls {
			if c.perUnit(n) >= noise {
				all[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func sum(calls map[string]int) int {
	n := 0
	for _, v := range calls {
		n += v
	}
	return n
}
