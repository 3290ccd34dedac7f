package symbol

import "encoding/binary"

// reader reads numbers from a section of an executable. Whoever wrote the executable may have written
// anything: a read beyond the end gives zeros and makes the reader bad, which is looked at once at the end.
type reader struct {
	data []byte
	at   int
	bad  bool
}

// take returns the next n bytes, nil when there are not so many.
func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.data)-r.at {
		r.bad = true
		return nil
	}
	r.at += n
	return r.data[r.at-n : r.at]
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// uleb reads an unsigned LEB128 number. Bits beyond 64 are lost, as in other readers of it.
func (r *reader) uleb() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := r.u8()
		if shift < 64 {
			n |= uint64(b&0x7f) << shift
		}
		if b&0x80 == 0 {
			return n
		}
	}
}

// sleb reads a signed LEB128 number.
func (r *reader) sleb() (n int64) {
	for shift := 0; ; {
		b := r.u8()
		if shift < 64 {
			n |= int64(b&0x7f) << shift
		}
		shift += 7
		if b&0x80 == 0 {
			if b&0x40 != 0 && shift < 64 {
				n |= -1 << shift
			}
			return n
		}
	}
}

// text reads a string that ends with a zero byte.
func (r *reader) text() string {
	from := r.at
	for r.u8() != 0 {
	}
	if r.bad {
		return ""
	}
	return string(r.data[from : r.at-1])
}
