package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// What the rows about spinning must reach.
const (
	apiLimit       = 100 * time.Millisecond
	verdictLimit   = 1600 * time.Millisecond
	delayLimit     = 10 * time.Millisecond
	detectionLimit = 200 * time.Millisecond
)

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }

// apiUnderSpin times three orders with every worker spinning.
func (b *bench) apiUnderSpin() (*result, error) {
	s, err := b.startSpinner(0)
	if err != nil {
		return nil, err
	}
	defer s.close()
	idle, err := gather(b.ctx, dialer(s.address), b.crowdSize())
	if err != nil {
		return nil, err
	}
	defer idle.close()
	spinning, err := b.spin(s, 0)
	if err != nil {
		return nil, err
	}
	var slowest []float64
	times := map[string][]float64{}
	rounds := b.roundsOr(2 * defaultRounds)
	for i := range rounds {
		round, err := b.orders(s, idle.members[i])
		if err != nil {
			return nil, err
		}
		worst := 0.0
		for name, took := range round {
			times[name] = append(times[name], milliseconds(took))
			worst = max(worst, milliseconds(took))
		}
		slowest = append(slowest, worst)
	}
	// The figures mean nothing unless the workers spun all the time.
	if still, _, err := b.orphans(s); err != nil || len(workersOf(still)) != len(workersOf(spinning)) {
		return nil, fmt.Errorf("%d workers spun at first and %d in the end: %w", len(workersOf(spinning)),
			len(workersOf(still)), err)
	}
	r := newResult("ms, slowest order", slowest)
	r.limit("limit", milliseconds(apiLimit), slowest)
	r.note("%d streams, %d workers, all of them spinning", b.crowdSize()+len(spinning),
		len(workersOf(spinning)))
	for _, name := range slices.Sorted(mapsKeys(times)) {
		p := r.limit(name, milliseconds(apiLimit), times[name])
		r.note("%-16s %6.1f ms (%.1f to %.1f)", name, median(times[name]), 100*p.RatioMin, 100*p.RatioMax)
	}
	return r, nil
}

// orders times each order once. The connection is the one to shut down.
func (b *bench) orders(s *spinner, victim net.Conn) (map[string]time.Duration, error) {
	took := map[string]time.Duration{}
	timed := func(name, order string) (string, error) {
		began := time.Now()
		answer, err := s.ask(b.ctx, order)
		took[name] = time.Since(began)
		return answer, err
	}
	info, err := timed("show info", "show info")
	if err != nil {
		return nil, err
	}
	if !strings.Contains(info, "\nCurrConns: ") {
		return nil, fmt.Errorf("\"show info\" was answered with:\n%s", info)
	}
	all, err := timed("show sess all", "show sess all")
	if err != nil {
		return nil, err
	}
	sessions := sessionOf(all)
	if len(sessions) < b.crowdSize()/2 {
		return nil, fmt.Errorf("\"show sess all\" shows only %d sessions", len(sessions))
	}
	id, listed := sessions[victim.LocalAddr().String()]
	if !listed {
		return nil, fmt.Errorf("\"show sess all\" does not show the session of %v", victim.LocalAddr())
	}
	answer, err := timed("shutdown session", "shutdown session "+id)
	if err != nil {
		return nil, err
	}
	if answer = strings.TrimSpace(answer); answer != "" {
		return nil, fmt.Errorf("the order to shut down session %s was answered with %q", id, answer)
	}
	// It must have an effect, too.
	if err := victim.SetReadDeadline(time.Now().Add(dialPatience)); err != nil {
		return nil, err
	}
	if n, err := victim.Read(make([]byte, 1)); n != 0 || isTimeout(err) {
		return nil, fmt.Errorf("session %s was shut down, but its client got %d bytes and %w", id, n, err)
	}
	return took, nil
}

func isTimeout(err error) bool {
	var n net.Error
	return err == nil || errors.As(err, &n) && n.Timeout()
}

var sessionLine = regexp.MustCompile(`(?m)^(0x[0-9a-f]+): .*source=([0-9.:]+)`)

// sessionOf reads the ids of the sessions by the addresses of their clients.
func sessionOf(dump string) map[string]string {
	ids := map[string]string{}
	for _, m := range sessionLine.FindAllStringSubmatch(dump, -1) {
		ids[m[2]] = m[1]
	}
	return ids
}

// The others, while one stream spins and is diagnosed: their requests at a constant rate.
const (
	otherRate        = 500
	otherConnections = 20
)

// timeToVerdict times "whyspin diagnose" and looks how long the others' requests take meanwhile.
func (b *bench) timeToVerdict() (*result, error) {
	const unit = "s"
	s, err := b.startSpinner(1)
	if err != nil {
		return nil, err
	}
	defer s.close()
	idle, err := gather(b.ctx, dialer(s.address), b.crowdSize())
	if err != nil {
		return nil, err
	}
	defer idle.close()
	spinning, err := b.spin(s, 1)
	if err != nil {
		return nil, err
	}
	for len(spinning) > 1 {
		if _, err := s.ask(b.ctx, "shutdown session "+spinning[len(spinning)-1].ID); err != nil {
			return nil, err
		}
		spinning = spinning[:len(spinning)-1]
	}
	var walls, delays, before []float64
	for range b.roundsOr(defaultRounds) {
		calm, err := b.others(s, time.Second)
		if err != nil {
			return nil, err
		}
		wall, during, err := b.verdict(s, spinning[0].ID)
		if err != nil {
			return nil, err
		}
		walls = append(walls, wall.Seconds())
		// What the diagnosis adds is what counts; that one stream spins costs the others something, too.
		usual := quantile(calm.latencies, 0.5)
		before = append(before, milliseconds(worst(calm)))
		delays = append(delays, milliseconds(worst(during)-usual))
	}
	r := newResult(unit, walls)
	r.limit("limit", verdictLimit.Seconds(), walls)
	r.limit("delay of others", milliseconds(delayLimit), delays)
	r.note("the slowest of the others' requests in each round: %.2f ms later than usual (%.2f to %.2f)"+
		" during the diagnosis, %.2f ms (%.2f to %.2f) without one", median(delays), slices.Min(delays),
		slices.Max(delays), median(before), slices.Min(before), slices.Max(before))
	return r, nil
}

func worst(p *played) time.Duration { return p.latencies[len(p.latencies)-1] }

// others plays the requests of the streams that do not spin.
func (b *bench) others(s *spinner, over time.Duration) (*played, error) {
	return schedule{address: s.address, connections: otherConnections, request: []byte("ping"),
		answer: len("ping"), rate: otherRate, total: int(otherRate * b.scaled(over).Seconds())}.play(b.ctx)
}

// verdict runs one diagnosis, beside the others' requests, and checks that it names the stream.
func (b *bench) verdict(s *spinner, id string) (wall time.Duration, during *played, err error) {
	type outcome struct {
		played *played
		err    error
	}
	done := make(chan outcome, 1)
	length := time.Second
	go func() {
		p, err := b.others(s, 1500*time.Millisecond)
		done <- outcome{p, err}
	}()
	if b.short {
		length /= 10
	}
	ctx, cancel := context.WithTimeout(b.ctx, startPatience)
	defer cancel()
	c := exec.CommandContext(ctx, b.whyspin, "diagnose", "--pid", fmt.Sprint(s.proxy.pid()), "--for",
		length.String(), "--json")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	out, err := c.Output()
	wall = time.Since(began)
	o := <-done
	const exitSpin = 3
	var exit *exec.ExitError
	switch {
	case o.err != nil:
		return wall, nil, o.err
	case !errors.As(err, &exit) || exit.ExitCode() != exitSpin:
		return wall, nil, fmt.Errorf("diagnose ended with %w, should be code %d: %s", err, exitSpin, out)
	}
	return wall, o.played, checkVerdict(out, id)
}

// checkVerdict requires that the first finding is the founding bug of that stream.
func checkVerdict(text []byte, id string) error {
	var report struct {
		Verdict  string
		Findings []finding
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return fmt.Errorf("reading the verdict: %w", err)
	}
	if report.Verdict != "spin" || len(report.Findings) == 0 {
		return fmt.Errorf("the verdict is %q with %d findings", report.Verdict, len(report.Findings))
	}
	if f := report.Findings[0]; f.Stream.ID != id || f.Class != "T3" {
		return fmt.Errorf("the finding is %s of stream %s, should be T3 of %s", f.Class, f.Stream.ID, id)
	}
	return nil
}

// finding is what is read of a finding.
type finding struct {
	Class  string
	Stream struct{ ID string }
}

// selfDetection times from the first wakeup without progress to the finding in the log.
func (b *bench) selfDetection() (*result, error) {
	s, err := b.startSpinner(1)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var delays []float64
	for range b.roundsOr(defaultRounds) {
		s.found()
		spinning, err := b.spin(s, 1)
		if err != nil {
			return nil, err
		}
		delay, err := b.detection(s, spinning)
		if err != nil {
			return nil, err
		}
		delays = append(delays, milliseconds(delay))
		if err := b.heal(s); err != nil {
			return nil, err
		}
	}
	r := newResult("ms", delays)
	r.limit("limit", milliseconds(detectionLimit), delays)
	return r, nil
}

// detection waits for the first finding and returns how long after the stream's first wakeup without
// progress it was in the log.
func (b *bench) detection(s *spinner, spinning []evidence.Stream) (time.Duration, error) {
	var first logged
	err := until(b.ctx, startPatience, "the finding in the log", func() (bool, error) {
		if all := s.found(); len(all) > 0 {
			first = all[0]
		}
		return first.line != "", s.proxy.alive()
	})
	if err != nil {
		return 0, err
	}
	_, text, _ := strings.Cut(first.line, ": {")
	var f finding
	// What was done about it may follow the object.
	if err := json.NewDecoder(strings.NewReader("{" + text)).Decode(&f); err != nil {
		return 0, fmt.Errorf("reading the finding %q: %w", first.line, err)
	}
	for _, v := range spinning {
		since, known := v.NoProgressSince.Get()
		if v.ID == f.Stream.ID && known {
			return first.at.Sub(since), nil
		}
	}
	return 0, fmt.Errorf("the finding is about stream %s, which does not spin", f.Stream.ID)
}
