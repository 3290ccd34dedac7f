package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// load is what wrk is to do: on one thread, as many requests as it gets answered.
type load struct {
	connections int
	path        string
	secure      bool // over TLS
	over        time.Duration
}

// wrkSlack is how much longer than its time wrk may take.
const wrkSlack = 10 * time.Second

// leastWrk is the shortest run that wrk takes: it counts whole seconds.
const leastWrk = time.Second

// wrk runs a load against a proxy. The units are requests.
func (b *bench) wrk(address string, l load) (sample, error) {
	program, err := find("wrk")
	if err != nil {
		return sample{}, err
	}
	over := max(l.over, leastWrk).Round(time.Second)
	ctx, cancel := context.WithTimeout(b.ctx, over+wrkSlack)
	defer cancel()
	scheme := "http://"
	if l.secure {
		scheme = "https://"
	}
	c := exec.CommandContext(ctx, program, "-t1", fmt.Sprintf("-c%d", l.connections),
		fmt.Sprintf("-d%d", int(over.Seconds())), "--latency", scheme+address+l.path)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("running wrk: %w: %s", err, out)
	}
	return parseWrk(string(out))
}

var (
	wrkRequests = regexp.MustCompile(`(?m)^\s+(\d+) requests in ([0-9.]+)(ms|s|m),`)
	wrkP50      = regexp.MustCompile(`(?m)^\s+50%\s+([0-9.]+)(us|ms|s)`)
	wrkP99      = regexp.MustCompile(`(?m)^\s+99%\s+([0-9.]+)(us|ms|s)`)
)

// parseWrk reads what wrk prints. Lost work is an error: it would make a proxy look cheap.
func parseWrk(text string) (sample, error) {
	for _, trouble := range [...]string{"Socket errors", "Non-2xx"} {
		if _, after, found := strings.Cut(text, trouble); found {
			line, _, _ := strings.Cut(after, "\n")
			return sample{}, fmt.Errorf("wrk reports %s%s", trouble, line)
		}
	}
	var s sample
	m := wrkRequests.FindStringSubmatch(text)
	if m == nil {
		return s, fmt.Errorf("wrk printed no number of requests:\n%s", text)
	}
	units, err1 := strconv.ParseFloat(m[1], 64)
	wall, err2 := time.ParseDuration(m[2] + m[3])
	s.units, s.wall = units, wall
	if err := errors.Join(err1, err2); err != nil {
		return s, fmt.Errorf("reading what wrk printed: %w", err)
	}
	for _, p := range []struct {
		pattern *regexp.Regexp
		into    *time.Duration
	}{{wrkP50, &s.p50}, {wrkP99, &s.p99}} {
		m := p.pattern.FindStringSubmatch(text)
		if m == nil {
			return s, fmt.Errorf("wrk printed no latencies:\n%s", text)
		}
		var err error
		if *p.into, err = time.ParseDuration(m[1] + m[2]); err != nil {
			return s, fmt.Errorf("reading what wrk printed: %w", err)
		}
	}
	return s, nil
}
