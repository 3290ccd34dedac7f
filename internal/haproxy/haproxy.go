// Package haproxy reads what the runtime API of HAProxy prints, of versions 1.5 to 3.x, into the vocabulary
// of package evidence: who the process is, and which of its streams a rule may want to see.
//
// The package is pure: it reads answers, and whoever asks for them is elsewhere. It reads them line by
// line and keeps only what is suspect, so that a dump of 100 000 streams needs a few megabytes. An answer
// is the text of another program: whatever it holds, reading it ends without a panic, and what is not
// understood is noted and left out.
//
// The layouts are those of real dumps of eleven versions (testdata/haproxy). What the flags mean was looked
// up in HAProxy's documentation and headers of each version: include/haproxy/channel-t.h and stconn-t.h,
// before 2.2 include/types/channel.h.
package haproxy

import (
	"io"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Info is what "show info" says of a process. Fields that a version does not print are not observed.
type Info struct {
	Name    string
	Version string
	PID     int
	Uptime  evidence.Observed[time.Duration]
	// Threads and Processes are how many there are: "nbthread", "nbproc".
	Threads   evidence.Observed[int]
	Processes evidence.Observed[int]
	// Connections is the number of client connections, those of the runtime API among them.
	Connections evidence.Observed[int]
	RunQueue    evidence.Observed[int]
	// BusyPolling is what the configuration asks for (since 1.9), Stopping whether a soft stop is under way
	// (since 1.9).
	BusyPolling evidence.Observed[bool]
	Stopping    evidence.Observed[bool]
}

// ReadInfo reads the answer to "show info", up to the empty line at its end. An answer of something else
// has no version. Of several answers in one reader the rest can be read afterwards if the reader is a
// bufio.Reader of at least BufferSize.
func ReadInfo(r io.Reader) (Info, error) {
	var info Info
	lines := newLines(r)
	for lines.next() && !lines.blank {
		key, value := cutColon(lines.text())
		number, err := strconv.Atoi(value)
		known := evidence.Observed[int]{}
		if err == nil {
			known = evidence.Know(number)
		}
		switch key {
		case "Name":
			info.Name = value
		case "Version":
			info.Version = value
		case "Pid":
			info.PID = known.Or(0)
		case "Uptime_sec":
			if err == nil {
				info.Uptime = evidence.Know(time.Duration(number) * time.Second)
			}
		case "Nbthread":
			info.Threads = known
		case "Nbproc":
			info.Processes = known
		case "CurrConns":
			info.Connections = known
		case "Run_queue":
			info.RunQueue = known
		case "BusyPolling":
			info.BusyPolling = truth(known)
		case "Stopping":
			info.Stopping = truth(known)
		}
	}
	return info, lines.err
}

func truth(n evidence.Observed[int]) evidence.Observed[bool] {
	if v, ok := n.Get(); ok {
		return evidence.Know(v != 0)
	}
	return evidence.Observed[bool]{}
}
