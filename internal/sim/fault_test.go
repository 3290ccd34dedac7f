package sim

import (
	"slices"
	"testing"

	"github.com/whyspin/whyspin/internal/fault"
)

// TestAFaultBreaksItsRule: what the simulator finds is what such a bug does to a program.
func TestAFaultBreaksItsRule(t *testing.T) {
	for _, tt := range []struct {
		fault fault.Set
		rule  string
	}{
		{fault.TimerNotDisarmed, "rule 2"},
		{fault.DeadlineTruncated, "rule 1"},
		{fault.WakesItself, "spin"},
		{fault.WritesToFull, "spin"},
		{fault.ReadyAfterEAGAIN, "spin"},
		{fault.EdgeForgotten, "rule 6"},
		{fault.RetriesAtOnce, "retries"},
		{fault.ReadsByteByByte, "morsels"},
		{fault.WriteInterestKept, "rule 3"},
		{fault.TLSWantReadArmedWrite, "rule 3"},
		{fault.ReadInterestKept, "rule 3"},
		{fault.EOFForgotten, "rule 3"},
		{fault.ErrorIgnored, "rule 3"},
		{fault.TLSErrorSwallowed, "rule 3"},
		{fault.AcceptNotPaused, "rule 3"},
		{fault.ClosedWithoutRemoval, "rule 3"},
		{fault.RegisteredTwice, "rule 3"},
		{fault.InterestRewritten, "rule 3"},
		{fault.NeverSleeps, "rule 3"},
		{fault.HandlerLoops, "endless turn"},
		{fault.LockYields, "endless turn"},
		{fault.TLSWantReadArmedWrite, "rule 3"},
		{fault.TLSErrorSwallowed, "rule 3"},
	} {
		t.Run(tt.fault.String(), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(quickSeeds) {
				s := Generate(seed, tt.fault)
				broken := Run(s, Options{}).Violations
				if len(broken) > 0 && broken[0].Rule != tt.rule {
					broken = Run(s, Options{GoOn: true}).Violations
				}
				if slices.ContainsFunc(broken, func(v Violation) bool { return v.Rule == tt.rule }) {
					return
				}
			}
			t.Errorf("%s was not broken in %d seeds", tt.rule, quickSeeds)
		})
	}
}
