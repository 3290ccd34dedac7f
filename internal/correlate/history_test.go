package correlate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
)

// founding is what the flight recorder keeps of the founding case: connecting, then in one wakeup the
// client's end and the second attempt, then the second server's answer, then nothing but a timer.
func founding() []evidence.Moment {
	at := func(d time.Duration) ktime.Time { return ktime.Time(time.Hour + d) }
	moment := func(d time.Duration, cause, server string) evidence.Moment {
		return evidence.Moment{
			At: at(d), Until: at(d), Count: 1, Cause: cause, ClientState: "EST", ServerState: server,
			RequestIn: "open", RequestOut: "open", ResponseIn: "open", ResponseOut: "open",
		}
	}
	connecting := moment(0, "accepted", "CON")
	left := moment(300*time.Millisecond, "client event", "CON")
	left.ClientState, left.RequestIn, left.RequestOut = "CLO", "shut", "shut"
	left.ResponseIn, left.ResponseOut = "shut", "shut"
	left.Retries, left.Redispatched = 1, true
	accepted := left
	accepted.At, accepted.Cause, accepted.ServerState = at(303*time.Millisecond), "server event", "EST"
	spinning := accepted
	spinning.At, spinning.Until = at(1800*time.Millisecond), at(2000*time.Millisecond)
	spinning.Cause, spinning.Count, spinning.NoProgress = "timer tunnel", 123456, true
	return []evidence.Moment{connecting, left, accepted, spinning}
}

func TestHistoryOfTheFoundingCase(t *testing.T) {
	got := historyOf(&evidence.Stream{History: founding()})
	want := []Step{
		{-1800 * time.Millisecond, "accepted; server side INI -> CON"},
		{-1500 * time.Millisecond,
			"the client's end of data (FIN); attempt 2; given to another server; client side EST -> CLO"},
		{-1497 * time.Millisecond, "server side CON -> EST"},
		{0, "the tunnel timeout passed; woken 123456 times for nothing, over 200 ms (timer tunnel)"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestHistoryTellsWhatTLSWaitedFor: of wakeups for nothing.
func TestHistoryTellsWhatTLSWaitedFor(t *testing.T) {
	moments := founding()[:1]
	moments[0].ClientTLS = "want-write"
	spinning := moments[0]
	spinning.Cause, spinning.Count, spinning.NoProgress = "client event", 123456, true
	spinning.ClientTLS, spinning.ServerTLS = "want-read, record incomplete", "handshake, want-read"
	got := historyOf(&evidence.Stream{History: append(moments, spinning)})
	want := []Step{
		{0, "accepted; server side INI -> CON"},
		{0, "woken 123456 times for nothing, over 0.00 ms (client event);" +
			" TLS of the client: want-read, record incomplete; TLS of the server: handshake, want-read"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestHistoryThatBeginsLate: what the recorder has lost is not invented.
func TestHistoryThatBeginsLate(t *testing.T) {
	got := historyOf(&evidence.Stream{History: founding()[2:]})
	want := []Step{
		{-1497 * time.Millisecond, "client side CLO, server side EST (server event)"},
		{0, "the tunnel timeout passed; woken 123456 times for nothing, over 200 ms (timer tunnel)"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if steps := historyOf(&evidence.Stream{}); steps != nil {
		t.Errorf("a stream without a history has %v", steps)
	}
}
