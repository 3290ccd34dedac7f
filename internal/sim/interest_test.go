package sim

import (
	"testing"

	"github.com/whyspin/whyspin/internal/fault"
)

// TestFaultsBreakTheirRule: each fault about readiness breaks the rule that its class is about, in one of the
// first seeds, and no other rule before.
func TestFaultsBreakTheirRule(t *testing.T) {
	const seeds = 50
	tests := []struct {
		fault fault.Set
		rule  string
	}{
		{fault.WriteInterestKept, "rule 3"},
		{fault.ReadInterestKept, "rule 3"},
		{fault.EOFForgotten, "rule 3"},
		{fault.ErrorIgnored, "rule 3"},
		{fault.AcceptNotPaused, "rule 3"},
		{fault.ClosedWithoutRemoval, "rule 3"},
		{fault.RegisteredTwice, "rule 3"},
		{fault.InterestRewritten, "rule 3"},
		{fault.NeverSleeps, "rule 3"},
		{fault.HandlerLoops, "endless turn"},
		{fault.LockYields, "endless turn"},
	}
	for _, tt := range tests {
		t.Run(tt.fault.String(), func(t *testing.T) {
			for seed := range uint64(seeds) {
				broken := Run(Generate(seed, tt.fault), Options{}).Violations
				if len(broken) == 0 {
					continue
				}
				if broken[0].Rule != tt.rule {
					t.Errorf("seed %d should break %q first: %v", seed, tt.rule, broken[0])
				}
				return
			}
			t.Errorf("no rule was broken in %d seeds", seeds)
		})
	}
}
