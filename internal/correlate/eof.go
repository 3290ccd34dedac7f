package correlate

import "github.com/whyspin/whyspin/internal/evidence"

// repeatedZeroes is how many reads that return 0 are more than the one that ends a burst (look-alike L8).
const repeatedZeroes = 3

// unlatchedEOF is the rule for F3: the end of the input was seen, or could have been, and the interest in
// reading was kept. The deciding fact is a read that returns 0 again and again, or a peer that has shut down
// while nobody reads.
func unlatchedEOF(r *repeat) (Fact, bool) {
	if r.Read.Zero >= repeatedZeroes && r.Read.Zero*2 >= r.delivered {
		return Fact{
			Text:  "reads of it that returned 0, the end of the input, again and again",
			Count: evidence.Know(r.Read.Zero), Source: sourceSyscalls, Weight: 0.8,
		}, true
	}
	if !r.known || r.mask&evidence.EventRdHup == 0 || r.Read.Calls*deliveriesPerProgress > r.delivered {
		return Fact{}, false
	}
	return Fact{
		Text:  "reads of it, though its peer has shut down and every delivery says so",
		Count: evidence.Know(r.Read.Calls), Source: sourceSyscalls, Weight: 0.7,
	}, true
}
