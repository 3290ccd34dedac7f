package engine

import "github.com/whyspin/whyspin/internal/ktime"

// timerHeap holds the streams that have a deadline, the nearest first. It is lazy: a deadline that moves
// away, as every byte moves it, costs nothing; the entry stays where it was and is put right when it comes
// to the top.
type timerHeap struct {
	entries []timerEntry
}

// timerEntry is a stream's place in the heap. at is never later than the stream's deadline.
type timerEntry struct {
	at   ktime.Time
	conn *conn
}

// update makes the heap know the stream's present deadline.
func (h *timerHeap) update(c *conn) {
	deadline := c.deadline
	switch {
	case c.heapIndex < 0:
		if deadline.IsSet() {
			h.entries = append(h.entries, timerEntry{deadline, c})
			c.heapIndex = len(h.entries) - 1
			h.up(c.heapIndex)
		}
	case deadline < h.entries[c.heapIndex].at:
		h.entries[c.heapIndex].at = deadline
		h.up(c.heapIndex)
	}
}

// remove takes the stream out.
func (h *timerHeap) remove(c *conn) {
	i := c.heapIndex
	if i < 0 {
		return
	}
	last := len(h.entries) - 1
	h.swap(i, last)
	h.entries[last] = timerEntry{}
	h.entries = h.entries[:last]
	c.heapIndex = -1
	if i < last {
		h.down(i)
		h.up(i)
	}
}

// next returns the nearest deadline of all streams, Never when there is none. It puts the entries at the
// top right.
func (h *timerHeap) next() ktime.Time {
	for len(h.entries) > 0 {
		top := &h.entries[0]
		if top.at == top.conn.deadline {
			return top.at
		}
		if !top.conn.deadline.IsSet() {
			h.remove(top.conn)
			continue
		}
		top.at = top.conn.deadline
		h.down(0)
	}
	return ktime.Never
}

// bound returns a moment before which no deadline passes, without putting anything right.
func (h *timerHeap) bound() ktime.Time {
	if len(h.entries) == 0 {
		return ktime.Never
	}
	return h.entries[0].at
}

// expired removes and returns a stream whose deadline has passed, nil when there is none.
func (h *timerHeap) expired(now ktime.Time) *conn {
	if !h.bound().Passed(now) || !h.next().Passed(now) {
		return nil
	}
	c := h.entries[0].conn
	h.remove(c)
	return c
}

func (h *timerHeap) swap(i, j int) {
	h.entries[i], h.entries[j] = h.entries[j], h.entries[i]
	h.entries[i].conn.heapIndex, h.entries[j].conn.heapIndex = i, j
}

func (h *timerHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if h.entries[parent].at <= h.entries[i].at {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *timerHeap) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.entries); child++ {
			if h.entries[child].at < h.entries[least].at {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
