package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// This file tells the counter which descriptor an event is about. The kernel side is
// bpf/registration.h.

// batchEntries is how many entries of a map go in or out with one call. A hash map hands out whole buckets
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

// enter tells the counter what is registered in the epoll sets of a process, as a pass over its
// descriptors saw it. What changes from now on the programs see themselves.
func (c *counter) enter(t *fileTable) error {
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
	mapped := map[syscallRegistrationKey]syscallRegistration{}
	current := map[uint32]bool{}
	for i := range t.registrations {
		r := &t.registrations[i]
		name := names[r.Set]
		if name == 0 {
			continue // a set of another process
		}
		current[r.Fd] = current[r.Fd] || !t.orphaned(r)
		if d := c.at(int(r.Fd)); d != nil {
			d.Data, d.DataSet = r.Data, name
		}
		if kinds[r.Set] == syscallSetKindSET_DIRECT {
			continue
		}
		key := syscallRegistrationKey{Data: r.Data, SetId: name}
		if other, ok := mapped[key]; ok && other.Fd != int32(r.Fd) {
			mapped[key] = syscallRegistration{Fd: int32(syscallAttributionAMBIGUOUS)}
			continue
		}
		mapped[key] = syscallRegistration{Fd: int32(r.Fd)}
	}
	for fd, live := range current {
		if d := c.at(int(fd)); d != nil && !live {
			d.Closed = 1
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

func (c *counter) enterMapped(mapped map[syscallRegistrationKey]syscallRegistration) error {
	if len(mapped) == 0 {
		return nil
	}
	keys := make([]syscallRegistrationKey, 0, len(mapped))
	values := make([]syscallRegistration, 0, len(mapped))
	for key, value := range mapped {
		keys, values = append(keys, key), append(values, value)
	}
	c.globals.State.Registrations = 1
	n, err := c.collection.Maps[syscallMapRegistrations].BatchUpdate(keys, values, nil)
	if err != nil {
		return fmt.Errorf("entering %d registrations, of which %d fit: %w", len(keys), n, err)
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
