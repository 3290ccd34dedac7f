package engine

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestWhatWaitsSealedStaysInOrder: bytes that a connection does not take are kept behind those that wait,
// however few it takes at a time and however much is added, and the buffer is given back.
func TestWhatWaitsSealedStaysInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	moved, grown := 0, 0
	for range 2000 {
		w := &worker{buffers: newBufferPool(64, 0)}
		s := &secured{}
		var kept, taken []byte
		for step := range 40 {
			if step%3 != 2 {
				p := make([]byte, 1+random.IntN(100))
				for i := range p {
					p[i] = byte(random.Uint32())
				}
				before := s.sealed
				if !w.keep(s, p) {
					t.Fatalf("%d bytes more do not fit", len(p))
				}
				kept = append(kept, p...)
				if before != nil && s.sealed != before {
					grown++
				} else if before != nil && s.sealed.r == 0 && len(taken) > 0 {
					moved++
				}
				continue
			}
			n := random.IntN(s.sealed.buffered() + 1)
			taken = append(taken, s.sealed.data[s.sealed.r:s.sealed.r+n]...)
			if s.sealed.consume(n); s.sealed.buffered() == 0 {
				w.dropSealed(s)
			}
		}
		if s.sealed != nil {
			taken = append(taken, s.sealed.data[s.sealed.r:s.sealed.w]...)
			w.dropSealed(s)
		}
		if !bytes.Equal(kept, taken) {
			t.Fatalf("%d bytes were kept and others, %d, came out", len(kept), len(taken))
		}
		if w.buffers.used != 0 || w.buffers.count != 0 {
			t.Fatalf("%d bytes in %d buffers are left", w.buffers.used, w.buffers.count)
		}
	}
	if moved < 100 || grown < 100 {
		t.Errorf("the bytes were moved %d times and the buffer grew %d times, should be 100 each", moved,
			grown)
	}
}
