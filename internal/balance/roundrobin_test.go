package balance

import (
	"slices"
	"testing"
)

func choose(r *RoundRobin, n int, usable func(int) bool) []int {
	var chosen []int
	for range n {
		i, ok := r.Next(usable)
		if !ok {
			i = -1
		}
		chosen = append(chosen, i)
	}
	return chosen
}

func all(int) bool { return true }

func TestRoundRobin(t *testing.T) {
	tests := []struct {
		name    string
		weights []int
		usable  func(int) bool
		want    []int
	}{
		{"equal weights take turns in order", []int{1, 1, 1}, all, []int{0, 1, 2, 0, 1, 2}},
		{"weights above one do not change equal shares", []int{100, 100}, all, []int{0, 1, 0, 1}},
		{"a heavier server has more turns, spread out", []int{1, 3}, all, []int{1, 1, 1, 0, 1, 1, 1, 0}},
		{"weight zero is never chosen", []int{0, 1}, all, []int{1, 1, 1}},
		{"a refused server is passed over", []int{1, 1, 1}, func(i int) bool { return i != 1 },
			[]int{0, 2, 0, 2}},
		{"nobody is usable", []int{1, 1}, func(int) bool { return false }, []int{-1, -1}},
		{"no servers", nil, all, []int{-1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := choose(NewRoundRobin(tt.weights), len(tt.want), tt.usable); !slices.Equal(got,
				tt.want) {
				t.Errorf("chose %v, should choose %v", got, tt.want)
			}
		})
	}
}

func TestRoundRobinKeepsTheSharesOfTheWeights(t *testing.T) {
	weights := []int{1, 7, 256, 100}
	r := NewRoundRobin(weights)
	const rounds = 1000
	counts := make([]int, len(weights))
	for _, i := range choose(r, rounds*(1+7+256+100), all) {
		counts[i]++
	}
	for i, w := range weights {
		if d := counts[i] - rounds*w; d < -rounds/100-1 || d > rounds/100+1 {
			t.Errorf("server %d of weight %d was chosen %d times, should be %d", i, w, counts[i], rounds*w)
		}
	}
}

func TestRoundRobinDoesNotSaveUpTurnsOfARefusedServer(t *testing.T) {
	r := NewRoundRobin([]int{1, 1})
	choose(r, 100, func(i int) bool { return i == 1 })
	if got := choose(r, 4, all); slices.Equal(got, []int{0, 0, 0, 0}) {
		t.Error("a server that was refused 100 times gets all the next turns")
	}
}
