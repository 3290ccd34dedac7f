package diagnose

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
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

func (s *Supervisor) showWindow(w io.Writer, window *evidence.Window,
	compared []correlate.Witnessed) {
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
		showCounts(w, window, compared)
	}
	if window.Losses.Any() {
		fmt.Fprintf(w, "  lost: %+v\n", window.Losses)
	}
	for _, u := range window.Unknown {
		fmt.Fprintf(w, "  not observed: %s\n", u)
	}
}

// showCounts writes what the kernel counted, beside what the workers counted themselves: in a time within the
// window, and in one around it.
func showCounts(w io.Writer, window *evidence.Window, compared []correlate.Witnessed) {
	for i := range compared {
		c := &compared[i]
		if c.Kernel == 0 && c.AtMost.Or(0) == 0 {
			continue
		}
		fmt.Fprintf(w, "  %-27s  kernel %12d  ledger %s to %s\n", c.What, c.Kernel, counted(c.AtLeast),
			counted(c.AtMost))
	}
	for i := range compared {
		if text := compared[i].Disagreement(); text != "" {
			fmt.Fprintf(w, "  %s\n", text)
		}
	}
	var read, write evidence.IO
	for i := range window.Descriptors {
		read.Add(&window.Descriptors[i].Read)
		write.Add(&window.Descriptors[i].Write)
	}
	showIO(w, "receives", &read, window.Length())
	showIO(w, "sends", &write, window.Length())
}

// counted prints a count of the ledger, which a worker that does not come back to its loop keeps for itself.
func counted(n evidence.Observed[uint64]) string {
	if v, ok := n.Get(); ok {
		return strconv.FormatUint(v, 10)
	}
	return "?"
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

func perSecond(n uint64, over time.Duration) float64 { return float64(n) / over.Seconds() }
