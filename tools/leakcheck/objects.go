package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// object is one BPF object of the kernel: "prog 12", "map 3", "link 4".
type object struct {
	kind string
	id   uint32
}

func (o object) String() string { return fmt.Sprintf("%s %d", o.kind, o.id) }

// inventory is what there is on the machine at one moment.
type inventory struct {
	// objects has the name of each BPF object, held those that a living process has a descriptor of, or
	// that hang on such.
	objects map[object]string
	held    map[object]bool
	// things are everything else that could stay, one line each.
	things map[string]bool
}

// nameLength is how much of a name the kernel keeps: BPF_OBJ_NAME_LEN without the final zero.
const nameLength = 15

// ownNames returns the names of the programs and maps in the compiled objects of a directory.
func ownNames(directory string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(directory, "*_bpfel.o"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("looking for compiled programs in %s: there are none", directory)
	}
	names := map[string]bool{}
	add := func(name string) { names[name[:min(len(name), nameLength)]] = true }
	for _, f := range files {
		spec, err := ebpf.LoadCollectionSpec(f)
		if err != nil {
			return nil, fmt.Errorf("reading the names in %s: %w", f, err)
		}
		for name := range spec.Programs {
			add(name)
		}
		for name := range spec.Maps {
			// The kernel wants names without a dot, so the library changes it: ".bss" is "bss" or "_bss".
			add(name)
			add(strings.ReplaceAll(name, ".", ""))
			add(strings.ReplaceAll(name, ".", "_"))
		}
	}
	return names, nil
}

// look takes the inventory.
func look(target int, temporary, program string) (*inventory, error) {
	v := &inventory{objects: map[object]string{}, held: map[object]bool{}, things: map[string]bool{}}
	uses, err := v.addObjects()
	if err != nil {
		return nil, err
	}
	v.addHolders(uses)
	return v, v.addThings(target, temporary, program)
}

// addObjects lists the BPF objects, and which of them hang on which: maps on programs, programs on links.
func (v *inventory) addObjects() (uses map[object][]object, err error) {
	uses = map[object][]object{}
	err = errors.Join(
		each(ebpf.MapGetNextID, func(id ebpf.MapID) { v.addMap(id) }),
		each(ebpf.ProgramGetNextID, func(id ebpf.ProgramID) { v.addProgram(id, uses) }),
		each(linkGetNextID, func(id link.ID) { v.addLink(id, uses) }))
	return uses, err
}

// each calls f for every id; an object may be gone by then.
func each[ID ~uint32](next func(ID) (ID, error), f func(ID)) error {
	for id := ID(0); ; {
		var err error
		if id, err = next(id); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing BPF objects: %w", err)
		}
		f(id)
	}
}

func linkGetNextID(id link.ID) (link.ID, error) {
	next, err := nextLinkID(uint32(id))
	return link.ID(next), err
}

func (v *inventory) addMap(id ebpf.MapID) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return // gone
	}
	defer m.Close()
	if info, err := m.Info(); err == nil {
		v.objects[object{"map", uint32(id)}] = info.Name
	}
}

func (v *inventory) addProgram(id ebpf.ProgramID, uses map[object][]object) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return
	}
	own := object{"prog", uint32(id)}
	v.objects[own] = info.Name
	ids, _ := info.MapIDs()
	for _, m := range ids {
		uses[own] = append(uses[own], object{"map", uint32(m)})
	}
}

func (v *inventory) addLink(id link.ID, uses map[object][]object) {
	l, err := link.NewFromID(id)
	if err != nil {
		return
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return
	}
	own := object{"link", uint32(id)}
	program := object{"prog", uint32(info.Program)}
	v.objects[own] = v.objects[program]
	uses[own] = append(uses[own], program)
}

// addHolders finds the descriptors of all processes that lead to BPF objects: fdinfo of such a file says
// which. What it says of a perf event is the program that hangs on it.
func (v *inventory) addHolders(uses map[object][]object) {
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*") // processes come and go
	self := strconv.Itoa(os.Getpid())
	for _, f := range files {
		parts := strings.Split(f, "/")
		if parts[2] == self {
			continue
		}
		to, err := os.Readlink(f)
		if err != nil || !strings.HasPrefix(to, "anon_inode:") {
			continue
		}
		text, err := os.ReadFile("/proc/" + parts[2] + "/fdinfo/" + parts[4])
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			kind, rest, _ := strings.Cut(line, "_id:")
			if id, err := strconv.ParseUint(strings.TrimSpace(rest), 10, 32); err == nil {
				v.hold(object{kind, uint32(id)}, uses)
			}
		}
	}
}

func (v *inventory) hold(o object, uses map[object][]object) {
	if v.held[o] {
		return
	}
	v.held[o] = true
	for _, used := range uses[o] {
		v.hold(used, uses)
	}
}

// since lists what is there that was not there before: objects that nobody holds and that are named like
// whyspin's, or not at all, and other things.
func (v *inventory) since(before *inventory, names map[string]bool) (left []string) {
	for o, name := range v.objects {
		if _, old := before.objects[o]; !old && !v.held[o] && (name == "" || names[name]) {
			left = append(left, fmt.Sprintf("BPF %v %q is held by no process", o, name))
		}
	}
	for _, t := range slices.Sorted(maps.Keys(v.things)) {
		if !before.things[t] {
			left = append(left, t)
		}
	}
	slices.Sort(left)
	return left
}

// newAndHeld counts the objects that came since and belong to somebody.
func (v *inventory) newAndHeld(before *inventory) (n int) {
	for o := range v.objects {
		if _, old := before.objects[o]; !old && v.held[o] {
			n++
		}
	}
	return n
}
