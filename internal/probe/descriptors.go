package probe

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// addDescriptors lists every descriptor on which something happened and every one that is open at the end.
func (b *builder) addDescriptors() {
	byFD := map[int]*evidence.Descriptor{}
	at := func(fd int) *evidence.Descriptor {
		d := byFD[fd]
		if d == nil {
			d = &evidence.Descriptor{FD: fd, EpollFD: -1}
			byFD[fd] = d
		}
		return d
	}
	if b.r.hook != nil {
		seen := b.seenThreads()
		b.p.counter.each(func(fd int, raw *syscallDescriptor) { fill(at(fd), raw, seen) })
	}
	if b.table != nil {
		sockets := b.table.sockets()
		for fd, s := range sockets {
			at(fd).Socket = evidence.Know(s)
		}
		for fd, d := range byFD {
			if _, open := sockets[fd]; !open {
				d.Socket = evidence.Know(evidence.Socket{Kind: evidence.SocketClosed})
			}
		}
		b.addBefore(byFD)
		for fd := range b.p.direct {
			if s := b.p.sets[fd]; s != nil && s.registrations > 0 && !s.direct {
				b.unknown("the data of epoll set %d are not all descriptor numbers: its events may be"+
					" counted for the wrong descriptors", fd)
			}
		}
	}
	b.w.Descriptors = make([]evidence.Descriptor, 0, len(byFD))
	for _, fd := range slices.Sorted(maps.Keys(byFD)) {
		d := byFD[fd]
		if b.r.hook != nil && fd < len(b.p.counter.descriptors) {
			if raw := &b.p.counter.descriptors[fd]; raw.DataSet != 0 {
				d.Data = evidence.Know(raw.Data)
			}
		}
		b.w.Descriptors = append(b.w.Descriptors, *d)
	}
}

// addBefore notes what was open at the begin of the window under numbers that now mean something else.
func (b *builder) addBefore(byFD map[int]*evidence.Descriptor) {
	if b.r.first == nil {
		return
	}
	var first map[int]evidence.Socket
	for fd, d := range byFD {
		if b.r.first.identity(fd) == b.table.identity(fd) {
			continue
		}
		if first == nil {
			first = b.r.first.sockets()
		}
		before, open := first[fd]
		if !open {
			before.Kind = evidence.SocketClosed
		}
		d.Before = evidence.Know(before)
	}
}

// fileIdentity tells a file from another that is open under the same number at another time. A closed file's
// address in the kernel may be given to a new one; sockets have numbers of their own.
type fileIdentity struct {
	file, cookie uint64
	kind         uint32
}

func (t *fileTable) identity(fd int) fileIdentity {
	f := t.find(fd)
	if f == nil {
		return fileIdentity{}
	}
	return fileIdentity{file: f.File, cookie: f.Cookie, kind: f.Kind}
}

// each calls f for every descriptor for which something was counted.
func (c *counter) each(f func(fd int, raw *syscallDescriptor)) {
	for block, touched := range c.globals.Touched {
		if touched == 0 {
			continue
		}
		from := block * int(syscallLimitTOUCHED_BLOCK)
		for fd := from; fd < min(from+int(syscallLimitTOUCHED_BLOCK), len(c.descriptors)); fd++ {
			if raw := &c.descriptors[fd]; raw.Touched != 0 {
				f(fd, raw)
			}
		}
	}
}

// seenThreads returns the ids of threads in the caller's namespace by those in the machine's.
func (b *builder) seenThreads() map[uint32]int {
	seen := map[uint32]int{}
	for i := range b.p.counter.threads {
		if slot := &b.p.counter.threads[i]; slot.Tid != 0 && slot.SeenTid != 0 {
			seen[slot.Tid] = int(slot.SeenTid)
		}
	}
	return seen
}

func fill(d *evidence.Descriptor, raw *syscallDescriptor, seen map[uint32]int) {
	d.EpollFD = int(raw.EpollFd1) - 1
	d.Read, d.Write = ioCounts(&raw.Read), ioCounts(&raw.Write)
	d.Accepts, d.AcceptErrors = uint64(raw.Accepts), uint64(raw.AcceptErrors)
	d.Connects, d.Closes = uint64(raw.Connects), uint64(raw.Closes)
	d.Shutdowns, d.Controls = uint64(raw.Shutdowns), uint64(raw.Controls)
	d.Dups, d.Passed = uint64(raw.Dups-raw.Passed), uint64(raw.Passed)
	d.Row, d.Stale = uint64(raw.LongestRow), uint64(raw.Stale)
	for index, n := range raw.Deliveries {
		if n > 0 {
			d.Deliveries = append(d.Deliveries, evidence.Delivery{Mask: maskAt(index), Count: uint64(n)})
		}
	}
	if raw.Deliverers[1].Tid == 0 {
		return // one thread, or none
	}
	others := uint64(raw.OtherDeliveries)
	for _, deliverer := range raw.Deliverers {
		tid, ok := seen[deliverer.Tid]
		if !ok {
			others += uint64(deliverer.Count) // not visible in this namespace
			continue
		}
		d.Deliverers = append(d.Deliverers, evidence.Deliverer{TID: tid, Count: uint64(deliverer.Count),
			Calls: uint64(deliverer.Calls)})
	}
	slices.SortFunc(d.Deliverers, func(a, b evidence.Deliverer) int { return cmp.Compare(a.TID, b.TID) })
	d.OtherDeliveries = others
}

// maskAt is the event mask that is counted at an index: the five lowest bits, and RDHUP in the sixth.
func maskAt(index int) evidence.EventMask {
	mask := evidence.EventMask(index) & 0x1f
	if index&0x20 != 0 {
		mask |= evidence.EventRdHup
	}
	return mask
}

func ioCounts(raw *syscallIo) evidence.IO {
	return evidence.IO{
		Calls:  uint64(raw.Calls),
		Bytes:  raw.Bytes,
		Tiny:   uint64(raw.Tiny),
		Zero:   uint64(raw.Zero),
		Again:  uint64(raw.Again),
		Reset:  uint64(raw.Reset),
		Pipe:   uint64(raw.Pipe),
		Errors: uint64(raw.Errors),
	}
}

// addDestinations lists where the process tried to connect to, sorted by address.
func (b *builder) addDestinations() {
	if b.r.hook == nil {
		return
	}
	c := b.p.counter
	taken := min(int(c.globals.State.Destinations), len(c.destinations))
	for i := range c.destinations[:taken] {
		raw := &c.destinations[i]
		if raw.Connects == 0 {
			continue // two threads came at the same time, and the other one's slot is used
		}
		d := evidence.Destination{
			Address:  raw.Key.text(),
			Connects: uint64(raw.Connects),
			Refused:  uint64(raw.Refused),
			Failed:   uint64(raw.Failed),
		}
		settled := uint64(raw.Refused) + uint64(raw.Failed) + uint64(raw.Established)
		d.Pending = d.Connects - min(settled, d.Connects)
		if d.Pending == 0 || raw.Established+raw.Failed > 0 {
			d.Established = evidence.Know(uint64(raw.Established))
		}
		b.w.Destinations = append(b.w.Destinations, d)
	}
	slices.SortFunc(b.w.Destinations, func(a, b evidence.Destination) int {
		return cmp.Compare(a.Address, b.Address)
	})
}

// text prints a destination as address:port, as a path, or as an abstract unix address with an @ in front,
// as ss(8) does.
func (k *syscallDestinationKey) text() string {
	if k.Family != familyUNIX {
		return addressText(k.Family, [16]uint8(k.Address[:16]), k.Port)
	}
	path := string(k.Address[:min(int(k.PathBytes), len(k.Address))])
	if abstract, ok := strings.CutPrefix(path, "\x00"); ok {
		return "@" + strings.TrimRight(abstract, "\x00")
	}
	path, _, _ = strings.Cut(path, "\x00")
	return path
}
