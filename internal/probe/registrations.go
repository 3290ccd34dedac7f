package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// This file tells the counter which descriptor an event is about. The kernel side is
// bpf/registration.h.

// batchEntries is how many entries of a map are taken out with one call. A hash map hands out whole buckets
// and wants room for the fullest; with 4096 there is room for any.
const batchEntries = 4096

// declare says how the events of an epoll set find their descriptors. A set has the same name, any number
// above 0, under each of its descriptors.
func (c *counter) declare(fd int, name uint32, kind syscallSetKind) {
	if d := c.at(fd); d != nil {
		d.SetId, d.SetKind = name, uint32(kind)
	}
}

// declareDirect says that the data of an epoll set hold the descriptor in their low 32 bits.
func (c *counter) declareDirect(fd int) {
	c.globals.State.SetId++
	c.declare(fd, c.globals.State.SetId, syscallSetKindSET_DIRECT)
}

// at returns the counters of a descriptor for writing, nil when the table has none for it. Nothing is
// counted yet.
func (c *counter) at(fd int) *syscallDescriptor {
	if fd < 0 || fd >= len(c.descriptors) {
		return nil
	}
	c.globals.Touched[fd/int(syscallLimitTOUCHED_BLOCK)] = 1 // so that reset finds it
	return &c.descriptors[fd]
}

// declareSets tells the counter how the events of the sets in a table find their descriptors. Nothing is
// attached yet. It returns the names that it gave them.
func (c *counter) declareSets(t *fileTable) map[uint64]uint32 {
	names := map[uint64]uint32{}
	kinds := t.setKinds()
	for i := range t.files {
		f := &t.files[i]
		if f.Set == 0 {
			continue
		}
		if names[f.Set] == 0 {
			c.globals.State.SetId++
			names[f.Set] = c.globals.State.SetId
		}
		c.declare(int(f.Fd), names[f.Set], kinds[f.Set])
	}
	return names
}

// enter tells the counter what is registered in the sets that were declared. The programs already follow
// what changes, and know better wherever they have seen something.
func (c *counter) enter(t *fileTable, names map[uint64]uint32) error {
	mapped := map[syscallRegistrationKey]syscallRegistration{}
	for i := range t.registrations {
		r := &t.registrations[i]
		name := names[r.Set]
		if name == 0 {
			continue // a set of another process, or so new that the programs saw it begin
		}
		set, d := c.at(t.sets[r.Set]), c.at(int(r.Fd))
		if d == nil || set == nil || d.Generation != 0 {
			continue
		}
		if t.orphaned(r) {
			d.Closed = 1
		}
		if d.DataSet == 0 {
			d.Data, d.DataSet = r.Data, name
		}
		direct := uint32(r.Data) == r.Fd
		kind := syscallSetKind(set.SetKind)
		if kind == syscallSetKindSET_DIRECT && !direct {
			set.SetKind = uint32(syscallSetKindSET_MIXED) // since the sets were declared
		}
		if direct && kind != syscallSetKindSET_MAPPED {
			continue
		}
		key := syscallRegistrationKey{Data: r.Data, SetId: name}
		if other, ok := mapped[key]; ok && other.Fd != int32(r.Fd) {
			mapped[key] = syscallRegistration{Fd: int32(syscallAttributionAMBIGUOUS)}
			continue
		}
		mapped[key] = syscallRegistration{Fd: int32(r.Fd)}
	}
	for i := range t.registrations {
		r := &t.registrations[i]
		if d := c.at(int(r.Fd)); d != nil && names[r.Set] != 0 && !t.orphaned(r) {
			d.Closed = 0 // registered anew under the number of an orphan
		}
	}
	return c.enterMapped(mapped)
}

// setKinds tells how the events of each epoll set find their descriptors, by the name of the set in the
// pass.
func (t *fileTable) setKinds() map[uint64]syscallSetKind {
	kinds := make(map[uint64]syscallSetKind, len(t.sets))
	for set := range t.sets {
		kinds[set] = syscallSetKindSET_DIRECT
	}
	for i := range t.registrations {
		r := &t.registrations[i]
		if _, ours := kinds[r.Set]; ours && uint32(r.Data) != r.Fd {
			kinds[r.Set] = syscallSetKindSET_MAPPED
		}
	}
	return kinds
}

// hasMapped tells whether the data of any registration are not its descriptor.
func (t *fileTable) hasMapped() bool {
	for _, kind := range t.setKinds() {
		if kind == syscallSetKindSET_MAPPED {
			return true
		}
	}
	return false
}

// enterMapped enters registrations one by one: batches know no flag for "only if it is new".
func (c *counter) enterMapped(mapped map[syscallRegistrationKey]syscallRegistration) error {
	if len(mapped) == 0 {
		return nil
	}
	c.globals.State.Registrations = 1
	m := c.collection.Maps[syscallMapRegistrations]
	for key, value := range mapped {
		err := m.Update(&key, &value, ebpf.UpdateNoExist)
		if errors.Is(err, ebpf.ErrKeyExist) {
			err = c.settle(m, key, value) // the programs saw the same data registered meanwhile
		}
		if err != nil {
			return fmt.Errorf("entering %d registrations: %w", len(mapped), err)
		}
	}
	return nil
}

// settle decides about data that the programs saw registered after the pass that found them: for another
// descriptor they are ambiguous, if the first is still registered.
func (c *counter) settle(m *ebpf.Map, key syscallRegistrationKey, value syscallRegistration) error {
	var newer syscallRegistration
	if err := m.Lookup(&key, &newer); err != nil {
		return fmt.Errorf("looking up a registration: %w", err)
	}
	if newer.Fd == value.Fd || value.Fd >= 0 && c.at(int(value.Fd)).Generation != 0 {
		return nil
	}
	value.Fd = int32(syscallAttributionAMBIGUOUS)
	if err := m.Update(&key, &value, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("entering a registration: %w", err)
	}
	return nil
}

// resetMaps empties the maps that are not mapped into memory. The flags that say what is in them are true
// of a window that was thrown away, too.
func (c *counter) resetMaps() error {
	state := &c.globals.State
	taken := min(int(state.Destinations), len(c.destinations))
	slots := c.collection.Maps[syscallMapDestinationSlots]
	for i := range taken {
		err := slots.Delete(&c.destinations[i].Key)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forgetting a destination: %w", err)
		}
	}
	clear(c.destinations[:taken])
	state.Destinations = 0
	if state.Registrations == 0 {
		return nil
	}
	keys := make([]syscallRegistrationKey, batchEntries)
	values := make([]syscallRegistration, batchEntries)
	var cursor ebpf.MapBatchCursor
	for {
		_, err := c.collection.Maps[syscallMapRegistrations].BatchLookupAndDelete(&cursor, keys, values, nil)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break // that was the last of them
		}
		if err != nil {
			return fmt.Errorf("forgetting the registrations: %w", err)
		}
	}
	state.Registrations = 0
	return nil
}
