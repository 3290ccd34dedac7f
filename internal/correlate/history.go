package correlate

import (
	"fmt"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Step is one thing that happened to a stream.
type Step struct {
	// Since is how long after the first wakeup without progress of the last row it happened; negative for
	// what came before. Without such a row it counts from the last step.
	Since time.Duration
	Text  string
}

// historyOf tells the life of a stream, as far as its process remembers it, as changes from one wakeup to the
// next.
func historyOf(s *evidence.Stream) []Step {
	moments := s.History
	if len(moments) == 0 {
		return nil
	}
	begin := moments[len(moments)-1].At
	for i := len(moments) - 1; i >= 0 && moments[i].NoProgress; i-- {
		begin = moments[i].At
	}
	var steps []Step
	for i := range moments {
		m := &moments[i]
		var before *evidence.Moment
		if i > 0 {
			before = &moments[i-1]
		}
		what := changes(before, m)
		if m.NoProgress && m.Count > 1 {
			what = append(what, fmt.Sprintf("woken %d times for nothing, over %s (%s)", m.Count,
				shortly(m.Until.Sub(m.At)), m.Cause))
			what = append(what, tlsWaits(m)...)
		}
		if len(what) == 0 {
			continue
		}
		steps = append(steps, Step{Since: m.At.Sub(begin), Text: strings.Join(what, "; ")})
	}
	return steps
}

// tlsWaits says what the TLS of either side waited for.
func tlsWaits(m *evidence.Moment) (what []string) {
	for _, side := range [...]struct{ name, waits string }{
		{evidence.SideClient, m.ClientTLS}, {evidence.SideServer, m.ServerTLS},
	} {
		if side.waits != "" {
			what = append(what, fmt.Sprintf("TLS of the %s: %s", side.name, side.waits))
		}
	}
	return what
}

// changes says what a wakeup changed. The first that is remembered says where the stream stood.
func changes(before, now *evidence.Moment) []string {
	if before == nil {
		if now.Cause == "accepted" {
			return append([]string{"accepted"}, changes(born, now)...)
		}
		return []string{fmt.Sprintf("client side %s, server side %s (%s)", now.ClientState, now.ServerState,
			now.Cause)}
	}
	var what []string
	add := func(is bool, format string, args ...any) {
		if is {
			what = append(what, fmt.Sprintf(format, args...))
		}
	}
	begins := func(old, new string) bool { return old != shut && new == shut }
	add(now.Cause != before.Cause && strings.HasPrefix(now.Cause, "timer"), "the %s passed",
		timerOf(now.Cause))
	add(begins(before.RequestIn, now.RequestIn), "the client's end of data (FIN)")
	served := before.ServerState == "EST"
	add(begins(before.ResponseIn, now.ResponseIn) && served, "the server's end of data")
	add(now.Retries > before.Retries, "attempt %d", now.Retries+1)
	add(now.Redispatched && !before.Redispatched, "given to another server")
	add(now.Handshake && !before.Handshake, "TLS handshake")
	add(before.ServerState != now.ServerState, "server side %s -> %s", before.ServerState, now.ServerState)
	add(before.ClientState != now.ClientState, "client side %s -> %s", before.ClientState, now.ClientState)
	add(begins(before.RequestOut, now.RequestOut) && served && now.ServerState != "CLO",
		"nothing more is written to the server")
	add(begins(before.ResponseOut, now.ResponseOut) && now.ClientState != "CLO",
		"nothing more is written to the client")
	return what
}

// born is a stream before its first wakeup.
var born = &evidence.Moment{Cause: "accepted", ClientState: "EST", ServerState: "INI"}

// shut is the end of a channel through which nothing will pass any more.
const shut = "shut"

// timerOf makes "connect timeout" of "timer connect".
func timerOf(cause string) string { return strings.TrimPrefix(cause, "timer ") + " timeout" }

// shortly prints a duration that may be far below a second.
func shortly(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return seconds(d)
}
