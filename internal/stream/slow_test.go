package stream

import (
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
)

// TestSlowedStreamPausesBeforeEveryAttempt, whatever would otherwise do without: the fault that omits the
// pause, and another server.
func TestSlowedStreamPausesBeforeEveryAttempt(t *testing.T) {
	for _, slow := range []bool{false, true} {
		st := begin(t, Policy{Retries: 3, Connect: time.Minute}, fault.RetriesAtOnce)
		advance := func(input func()) {
			st.s.Begin(CauseServerEvent, st.now)
			input()
			st.s.Advance(st.now)
		}
		advance(func() {})
		advance(func() { st.s.Assigned(true, false) })
		if slow {
			st.s.SlowRetries()
		}
		for range 2 {
			advance(func() { st.s.ConnectFailed(ConnectRefused) })
			want := Connecting
			if slow {
				want = TurnAround
			}
			if got := st.s.ServerState(); got != want {
				t.Fatalf("slow is %t: after a failure the server's side is %v, should be %v", slow, got, want)
			}
			st.after(maxTurnAround)
			advance(func() {})
		}
	}
}
