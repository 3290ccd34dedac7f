package correlate

import (
	"fmt"
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
)

const (
	// leastConnects is how many attempts per second to one destination are a storm: with any delay armed
	// there are fewer (look-alikes L10 and L18). leastAttempts is how many it takes at all: a short window
	// holds a few of the others.
	leastConnects = 100
	leastAttempts = 20
	// connectsPerAccept is how many attempts one accepted connection can explain: a proxy retries a few times
	// for each client.
	connectsPerAccept = 10
)

// retryStorm is the rule for C1: a failure handler retries at once. Descriptors change all the time, so it
// looks like progress; the deciding fact is attempts to one destination at the speed of system calls, none
// of which comes about, while no clients arrive that would explain them.
func retryStorm(in *input) []Finding {
	if in.Window == nil || in.busyPolling() {
		return nil
	}
	var accepts uint64
	for i := range in.Window.Descriptors {
		accepts += in.Window.Descriptors[i].Accepts
	}
	threads, awake := in.awakeThreads()
	some := len(threads) > 0
	threads = slices.DeleteFunc(threads, in.explained)
	if !awake || some && len(threads) == 0 {
		return nil
	}
	var found []Finding
	for i := range in.Window.Destinations {
		d := &in.Window.Destinations[i]
		established, known := d.Established.Get()
		if slices.ContainsFunc(in.found, func(f Finding) bool { return f.Destination == d.Address }) {
			continue
		}
		if float64(d.Connects) < leastConnects*in.Window.Length().Seconds() ||
			d.Connects < max(leastAttempts, connectsPerAccept*accepts) ||
			established*deliveriesPerProgress > d.Connects {
			continue
		}
		if !known && d.Refused*2 < d.Connects && in.bytesMoved() {
			continue // some of them may have come about
		}
		f := Finding{Class: C1, Destination: d.Address, threads: threads}
		f.add(Fact{
			Text:  "attempts to connect to " + d.Address,
			Count: evidence.Know(d.Connects), Source: sourceSyscalls, Weight: 0.7,
		})
		if known {
			f.add(Fact{
				Text: "of them came about", Count: d.Established, Source: sourceSyscalls, Weight: 0.6,
			})
		}
		f.add(Fact{
			Text:  "connections accepted by the process",
			Count: evidence.Know(accepts), Source: sourceSyscalls, Weight: 0.3,
		})
		if !known {
			f.Unknown = append(f.Unknown, "how many of the attempts came about")
		}
		f.Remedy = fmt.Sprintf("bring up what should listen on %s, or take it out of the configuration: the"+
			" attempts end when one succeeds or there is nothing to try", d.Address)
		in.addWaits(&f)
		in.addFunctions(&f)
		found = append(found, f)
	}
	return found
}

// retriers is the rule for C1 when the stream says how often it tried to reach a server. The deciding fact is
// that number, which retries with any delay keep low.
func retriers(in *input) []Finding {
	var found []Finding
	for _, c := range in.courses() {
		attempts, known := c.attempts.Get()
		if !known || c.Upstream == "" || attempts < leastAttempts ||
			float64(attempts) < leastConnects*in.seconds() {
			continue
		}
		f := in.finding(C1, c.Stream)
		f.Destination = c.Upstream
		f.add(Fact{
			Text:  fmt.Sprintf("attempts of the stream to reach server %s/%s", c.Backend, c.Server),
			Count: evidence.Know(attempts), Source: sourceLedger, Weight: 0.8,
		})
		f.add(Fact{Text: "bytes that it moved meanwhile", Count: evidence.Know(c.Response.Total),
			Source: sourceState, Weight: 0.2})
		if in.Window != nil {
			for i := range in.Window.Destinations {
				if d := &in.Window.Destinations[i]; d.Address == c.Upstream {
					f.add(Fact{Text: "attempts to connect to " + d.Address,
						Count: evidence.Know(d.Connects), Source: sourceSyscalls, Weight: 0.6})
				}
			}
		}
		in.addClimb(&f, c.Stream)
		in.addWaits(&f)
		in.addFunctions(&f)
		found = append(found, f)
	}
	return found
}

// seconds is the length of time between the two looks at the process, or of the window.
func (in *input) seconds() float64 {
	if in.Before != nil && in.After != nil {
		return in.After.At.Sub(in.Before.At).Seconds()
	}
	return in.Window.Length().Seconds()
}

// bytesMoved reports whether more bytes were moved than a few replies.
func (in *input) bytesMoved() bool {
	var n uint64
	for i := range in.Window.Descriptors {
		d := &in.Window.Descriptors[i]
		n += moved(&d.Read) + moved(&d.Write)
	}
	return n >= leastRepeats
}
