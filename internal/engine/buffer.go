package engine

// A buffer starts with the configured size and grows by a factor of four while a stream fills it at once,
// up to 256 KiB: bulk transfers then need far fewer system calls (measured: 16 to 256 KiB gives 1.7 times
// the throughput for less than half the CPU per byte).
const (
	bufferGrowth  = 4
	maxBufferSize = 256 << 10
	// bufferClasses is the number of sizes: enough for growth from the least size that the configuration
	// takes.
	bufferClasses = 8
	// pipeClass is the class after the largest: no memory but a pipe.
	pipeClass = bufferClasses
	// keptBytes is how much free buffer memory of each size a worker keeps for the next streams.
	keptBytes = 4 << 20
)

// buffer holds bytes that were read from one side and not yet written to the other: data[r:w], or as many in
// the pipe.
type buffer struct {
	data  []byte
	r, w  int
	class int
	pipe  *pipe // nil for a buffer in memory
}

// buffered is the number of bytes held.
func (b *buffer) buffered() int { return b.w - b.r }

// space returns where the next bytes go, empty when there is no room. Bytes are moved to the front only
// when at least half the buffer is free there, so that every byte is moved at most once.
func (b *buffer) space() []byte {
	if b.r > 0 && b.w == len(b.data) && b.r >= len(b.data)/2 {
		b.w = copy(b.data, b.data[b.r:b.w])
		b.r = 0
	}
	return b.data[b.w:]
}

// full reports whether there is no room to read into.
func (b *buffer) full() bool {
	if b.pipe != nil {
		return b.w > 0
	}
	return b.w == len(b.data) && b.r < len(b.data)/2
}

// size is how many bytes can be held.
func (b *buffer) size() int {
	if b.pipe != nil {
		return b.pipe.size
	}
	return len(b.data)
}

// consume removes n bytes from the front.
func (b *buffer) consume(n int) {
	b.r += n
	if b.r == b.w {
		b.r, b.w = 0, 0
	}
}

// bufferPool gives out a worker's buffers. A buffer is taken when there is something to hold and given back
// when it is empty.
type bufferPool struct {
	sizes [bufferClasses]int
	free  [bufferClasses][]*buffer
	// limit is how many bytes may be in use before buffers stay at the first size; used is how many are,
	// peak the highest that was.
	limit, used, peak int
	// refused counts the times a larger buffer was wanted and the limit forbade it.
	refused uint64
	count   int // buffers in use, pipes included
	largest int // the first class of the largest size
}

func newBufferPool(first, limit int) *bufferPool {
	p := &bufferPool{limit: limit}
	size := first
	for class := range p.sizes {
		p.sizes[class] = size
		if size > p.sizes[p.largest] {
			p.largest = class
		}
		if grown := size * bufferGrowth; grown <= maxBufferSize {
			size = grown
		}
	}
	return p
}

// take returns an empty buffer of the class, or of the first one when memory is short. The limit leaves
// room for a buffer of the first class in both directions of every stream, so that one is never refused.
func (p *bufferPool) take(class int) *buffer {
	if class > 0 && !p.hasRoom(p.sizes[class]) {
		p.refused++
		class = 0
	}
	p.enter(p.sizes[class])
	if n := len(p.free[class]); n > 0 {
		b := p.free[class][n-1]
		p.free[class] = p.free[class][:n-1]
		return b
	}
	return &buffer{data: make([]byte, p.sizes[class]), class: class}
}

// give takes a buffer back, whatever it holds.
func (p *bufferPool) give(b *buffer) {
	size := p.sizes[b.class]
	p.leave(size)
	if (len(p.free[b.class])+1)*size <= keptBytes {
		b.r, b.w = 0, 0
		p.free[b.class] = append(p.free[b.class], b)
	}
}

// hasRoom reports whether the limit leaves room for another size bytes.
func (p *bufferPool) hasRoom(size int) bool { return p.used+size <= p.limit }

// enter counts a buffer of size bytes that is in use from now on, leave one that no longer is.
func (p *bufferPool) enter(size int) {
	p.used += size
	p.peak = max(p.peak, p.used)
	p.count++
}

func (p *bufferPool) leave(size int) {
	p.used -= size
	p.count--
}

// grow returns the class to use next by a stream that has just filled a buffer of this class in one read:
// the second one, and then a pipe, or the largest where there is none.
func (p *bufferPool) grow(class int) int {
	if class == 0 && p.largest > 0 {
		return 1
	}
	return pipeClass
}
