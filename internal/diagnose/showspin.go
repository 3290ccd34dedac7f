package diagnose

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/report"
	"github.com/whyspin/whyspin/internal/sys"
)

// ShowSpin writes what the kernel saw in the last window, beside the ledger's count of the same, and the
// findings.
func (s *Supervisor) ShowSpin(w io.Writer) {
	s.mu.Lock()
	window, compared := s.last, s.compared
	findings := append([]Found(nil), s.findings...)
	s.mu.Unlock()
	s.showWindow(w, window, compared)
	s.showResets(w)
	fmt.Fprintf(w, "findings: %d\n", len(findings))
	for i := range findings {
		f := &findings[i]
		fmt.Fprintf(w, "  #%d %s %s\n", f.Number, f.Wall.Format(time.RFC3339), report.Line(&f.Finding))
		if f.Action != "" {
			fmt.Fprintf(w, "     action: %s\n", f.Action)
		}
	}
}

// ShowFinding writes the finding of a number, or the latest about a stream, with its evidence. It reports
// whether one is remembered.
func (s *Supervisor) ShowFinding(w io.Writer, id string) bool {
	f, ok := s.finding(id)
	if !ok {
		return false
	}
	fmt.Fprintf(w, "finding %d, %s\n", f.Number, f.Wall.Format(time.RFC3339Nano))
	if f.Action != "" {
		fmt.Fprintf(w, "action: %s\n", f.Action)
	}
	// The only error is that of w, whose owner knows it.
	_ = report.Finding(w, &f.Finding)
	return true
}

// finding returns the finding of that number, or the latest about a stream of that id.
func (s *Supervisor) finding(id string) (Found, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range slices.Backward(s.findings) {
		if strconv.FormatUint(f.Number, 10) == id || f.Finding.Stream != nil && f.Finding.Stream.ID == id {
			return f, true
		}
	}
	return Found{}, false
}

func (s *Supervisor) showWindow(w io.Writer, window *evidence.Window, c comparison) {
	if window == nil {
		fmt.Fprintf(w, "kernel: not observed (%s)\n", s.whyNoWindow())
		return
	}
	length := window.Length()
	fmt.Fprintf(w, "kernel: window of %v, %.1f s ago, by %s\n", length.Round(time.Millisecond),
		sys.Now().Sub(window.End).Seconds(), window.Hooks.Syscall.Or("nothing"))
	if !window.Hooks.Syscall.IsKnown() {
		fmt.Fprintln(w, "  waits, receives and sends: not observed")
	} else {
		showCounts(w, window, c)
	}
	if window.Losses.Any() {
		fmt.Fprintf(w, "  lost: %+v\n", window.Losses)
	}
	for _, u := range window.Unknown {
		fmt.Fprintf(w, "  not observed: %s\n", u)
	}
}

// showCounts writes what the kernel counted.
func showCounts(w io.Writer, window *evidence.Window, c comparison) {
	length := window.Length()
	for t := evidence.TimeoutZero; t < evidence.TimeoutClasses; t++ {
		kernel, ledger := c.kernel.Timeout(t), c.ledger.Timeout(t)
		if kernel == 0 && ledger == 0 {
			continue
		}
		fmt.Fprintf(w,
			"  waits with timeout %-8s  kernel %10.0f/s  ledger %10.0f/s  (none %d, events %d, error %d)\n",
			t,
			perSecond(kernel, length), perSecond(ledger, c.span), c.kernel[t][evidence.ResultNone],
			c.kernel[t][evidence.ResultEvents], c.kernel[t][evidence.ResultError])
	}
	var read, write evidence.IO
	for i := range window.Descriptors {
		add(&read, &window.Descriptors[i].Read)
		add(&write, &window.Descriptors[i].Write)
	}
	showIO(w, "receives", &read, length)
	showIO(w, "sends", &write, length)
}

func (s *Supervisor) whyNoWindow() string {
	if s.Probe == nil {
		return s.blindness()
	}
	return "no window has been recorded yet, or whyspin.tracing is off"
}

func (s *Supervisor) showResets(w io.Writer) {
	if s.Probe == nil {
		return
	}
	totals, _, err := s.Probe.Resets()
	if err != nil {
		fmt.Fprintf(w, "resets: not observed (%v)\n", err)
		return
	}
	fmt.Fprintf(w, "resets: %d received, %d sent on sockets of this proxy\n", totals.Received, totals.Sent)
	if totals.Unlisted > 0 || totals.Unmarked > 0 {
		fmt.Fprintf(w, "  %d of them are in no list; those on %d unmarked sockets are not counted\n",
			totals.Unlisted, totals.Unmarked)
	}
}

func showIO(w io.Writer, name string, io *evidence.IO, length time.Duration) {
	fmt.Fprintf(w,
		"  %-8s  %.0f/s, tiny %.0f/s, zero %.0f/s, EAGAIN %.0f/s, ECONNRESET %.0f/s, EPIPE %.0f/s\n", name,
		perSecond(io.Calls, length), perSecond(io.Tiny, length), perSecond(io.Zero, length),
		perSecond(io.Again, length), perSecond(io.Reset, length), perSecond(io.Pipe, length))
}

func add(sum, io *evidence.IO) {
	sum.Calls += io.Calls
	sum.Bytes += io.Bytes
	sum.Tiny += io.Tiny
	sum.Zero += io.Zero
	sum.Again += io.Again
	sum.Reset += io.Reset
	sum.Pipe += io.Pipe
	sum.Errors += io.Errors
}

func perSecond(n uint64, over time.Duration) float64 { return float64(n) / over.Seconds() }
