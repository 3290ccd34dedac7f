// Package balance chooses servers. It is pure: it knows indexes and weights, not servers, and is not safe for
// concurrent use.
package balance

import "container/heap"

// RoundRobin takes servers in turn so that over time each is chosen in proportion to its weight, spread as
// evenly as possible. Choosing costs O(log n) for n servers, more only for those that the caller refuses.
type RoundRobin struct {
	order turns
	// refused is scratch space for turns taken out during a choice.
	refused []turn
}

// turn is one server's place in the order.
type turn struct {
	index int
	// at is the virtual time of its next turn; step is how far a turn advances it: the inverse of the weight.
	at, step uint64
}

// scale is the virtual time between two turns of a server of weight 1. It is divided by the weight, so it
// is large enough for weights up to 256 to divide it with an error below one in a million; at 2^28 a turn,
// the clock lasts for 2^36 rounds.
const scale = 1 << 28

// turns is a heap, ordered by time and then by index.
type turns []turn

func (t turns) Len() int { return len(t) }
func (t turns) Less(i, j int) bool {
	return t[i].at < t[j].at || t[i].at == t[j].at && t[i].index < t[j].index
}
func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(x any)   { *t = append(*t, x.(turn)) }
func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// NewRoundRobin returns an order over len(weights) servers; a server of weight 0 is never chosen.
func NewRoundRobin(weights []int) *RoundRobin {
	r := &RoundRobin{}
	for i, w := range weights {
		if w > 0 {
			step := uint64(scale / w)
			// The first turns are spread as if the servers had been in rotation for ever: in the order of
			// the list for equal weights, the heavier ones first otherwise.
			r.order = append(r.order, turn{index: i, at: step, step: step})
		}
	}
	heap.Init(&r.order)
	return r
}

// Next returns the server whose turn it is among those that usable accepts, and gives it its turn; false
// when usable accepts none.
func (r *RoundRobin) Next(usable func(index int) bool) (index int, ok bool) {
	r.refused = r.refused[:0]
	for len(r.order) > 0 {
		if first := &r.order[0]; usable(first.index) {
			index, ok = first.index, true
			first.at += first.step
			heap.Fix(&r.order, 0)
			break
		}
		r.refused = append(r.refused, heap.Pop(&r.order).(turn))
	}
	for _, t := range r.refused {
		// A server that was refused does not save up turns: it comes back where the order now stands.
		if ok && t.at < r.order[0].at {
			t.at = r.order[0].at
		}
		heap.Push(&r.order, t)
	}
	return index, ok
}
