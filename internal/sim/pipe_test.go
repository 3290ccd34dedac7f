package sim

import "testing"

// TestBytesGoThroughPipes: generated worlds with pipes use them, for bulk and at the end of what a peer
// sends, urgent data included.
func TestBytesGoThroughPipes(t *testing.T) {
	spliced, with := uint64(0), 0
	for seed := range uint64(100) {
		s := Generate(seed, 0)
		s.Pipes = 8
		r := Run(s, Options{})
		if len(r.Violations) > 0 {
			t.Fatalf("seed %d: %v", seed, r.Violations[0])
		}
		spliced += r.Spliced
		if r.Spliced > 0 {
			with++
		}
	}
	if with < 20 {
		t.Errorf("%d bytes went through pipes in %d of 100 worlds, should be in 20 at least", spliced, with)
	}
	t.Logf("%d bytes in %d worlds", spliced, with)
}
