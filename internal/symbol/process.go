// Package symbol says which functions the stacks of a process are made of: it unwinds samples by the
// unwind information of the executables and names addresses by their symbol tables. It reads executables
// through /proc, so that those in other mount namespaces, and those that were replaced on disk, are the
// ones that run. Decoding (readers of .eh_frame, of symbol tables, of maps) is free of effects; whatever an
// executable holds, decoding ends and does not panic.
package symbol

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/target"
)

// Process names the functions of one process. It holds its directory in /proc and its executable open, so
// that for the calling process itself it works after chroot(2). It is used by one goroutine at a time.
type Process struct {
	pid       int
	directory string
	root      *os.Root
	// program is the executable, nil when it may not be opened; programPath is its path as /proc says it.
	program     *os.File
	programPath string
	vdso        []byte // or why it could not be read
	vdsoError   error

	mappings []*mapping // executable, by address
	// stale is true exactly when the mappings may have changed since they were read.
	stale bool

	// What could not be unwound, in samples: by reason, and without unwind information by object.
	failures  [outcomes]uint64
	without   map[string]uint64
	generated uint64
	unread    map[string]error // objects that could not be read
	unmapped  error            // why the mappings could not be read
}

// Open prepares to name the functions of a process. The caller closes it.
func Open(pid int) (*Process, error) {
	directory, err := target.Directory(pid)
	if err != nil {
		return nil, err
	}
	// As long as /proc is in reach: privileges and root may change before the first stack needs it.
	_, _ = ownVDSO()
	p := &Process{pid: pid, directory: directory, stale: true, without: map[string]uint64{},
		unread: map[string]error{}}
	p.root, err = os.OpenRoot(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening %s: %w", directory, target.ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the process: %w", err)
	}
	p.vdso, p.vdsoError = ownVDSO()
	exe := filepath.Join(directory, "exe")
	if p.programPath, err = os.Readlink(exe); err == nil {
		// Without it the executable is looked for under its path.
		p.program, _ = os.Open(exe)
	}
	return p, nil
}

// Close closes every file that is held.
func (p *Process) Close() {
	p.Forget()
	_ = p.root.Close()
	if p.program != nil {
		_ = p.program.Close()
	}
}

// objects returns every object that is mapped, once.
func (p *Process) objects() []*Object {
	var all []*Object
	for _, m := range p.mappings {
		if m.object != nil && !slices.Contains(all, m.object) {
			all = append(all, m.object)
		}
	}
	return all
}

// Forget forgets everything that was read and what Unknown says. Places that were found before it mean
// nothing any more.
func (p *Process) Forget() {
	for _, o := range p.objects() {
		o.release()
	}
	p.mappings, p.stale, p.unmapped = nil, true, nil
	p.failures, p.generated = [outcomes]uint64{}, 0
	clear(p.without)
	clear(p.unread)
}

// Changed says that the process may have loaded and unloaded libraries since it was looked at: they are read
// anew when an address is found in none.
func (p *Process) Changed() { p.stale = true }

// find returns the mapping that has an address, nil when there is none.
func (p *Process) find(address uint64) *mapping {
	m := p.search(address)
	if m == nil && p.stale {
		p.refresh()
		m = p.search(address)
	}
	if m != nil && m.object == nil && (m.inode != 0 || m.path == vdsoPath) {
		p.open(m)
	}
	return m
}

func (p *Process) search(address uint64) *mapping {
	i, ok := slices.BinarySearchFunc(p.mappings, address, func(m *mapping, a uint64) int {
		return cmp.Compare(m.start, a)
	})
	if !ok {
		i--
	}
	if i < 0 || address >= p.mappings[i].end {
		return nil
	}
	return p.mappings[i]
}

// maxMaps bounds the file of mappings: 100 bytes a line, and a process has at most vm.max_map_count lines, by
// default 65530.
const maxMaps = 64 << 20

// refresh reads the mappings and keeps the objects that are known.
func (p *Process) refresh() {
	p.stale = false
	file, err := p.root.Open("maps")
	if err != nil {
		p.unmapped = err
		return
	}
	text, err := io.ReadAll(io.LimitReader(file, maxMaps))
	_ = file.Close()
	if err != nil {
		p.unmapped = err
		return
	}
	p.unmapped = nil
	known := p.mappings
	p.mappings = parseMaps(text)
	kept := map[*Object]bool{}
	for _, m := range p.mappings {
		for _, k := range known {
			if k.object != nil && m.sameFile(k) {
				m.object = k.object
				kept[k.object] = true
				break
			}
		}
	}
	// An object that is no longer mapped may still be in traces, so it stays open; Close does not find it.
	for _, k := range known {
		if k.object != nil && !kept[k.object] {
			p.mappings = append(p.mappings, &mapping{object: k.object})
			kept[k.object] = true
		}
	}
	slices.SortStableFunc(p.mappings, func(a, b *mapping) int { return cmp.Compare(a.start, b.start) })
}

const vdsoPath = "[vdso]"

// open reads the object of a mapping. A file that cannot be read becomes an object with a name only.
func (p *Process) open(m *mapping) {
	for _, other := range p.mappings {
		if other.object != nil && other.sameFile(m) {
			m.object = other.object
			return
		}
	}
	if m.path == vdsoPath {
		if p.vdsoError != nil {
			m.object = &Object{Name: vdsoPath, reading: p.vdsoError}
		} else {
			m.object = newObject(vdsoPath, bytes.NewReader(p.vdso))
		}
		p.note(m.object)
		return
	}
	file, err := p.openFile(m)
	if err != nil {
		m.object = &Object{Name: m.path, reading: err}
		p.note(m.object)
		return
	}
	m.object = newObject(m.path, file)
	m.object.close = file
	if file == p.program {
		m.object.close = nil // it stays with the process
	}
	p.note(m.object)
	p.openDebug(m.object)
}

func (p *Process) note(o *Object) {
	if o.reading != nil {
		p.unread[o.Name] = o.reading
	}
}

// errReplaced is the error for a file that is no longer the one that runs.
var errReplaced = errors.New("the file was replaced on disk; reading the one that runs takes" +
	" CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE")

// openFile opens the file of a mapping: the one that is mapped, whatever is under its path now. Where that is
// not allowed (proc_pid_map_files(5)), the process's executable, or the file under the path in the
// process's own mount namespace if it is still the same.
func (p *Process) openFile(m *mapping) (*os.File, error) {
	name := fmt.Sprintf("%x-%x", m.start, m.end)
	file, err := os.Open(filepath.Join(p.directory, "map_files", name))
	if err == nil {
		return file, nil
	}
	path, deleted := strings.CutSuffix(p.programPath, deletedSuffix)
	if p.program != nil && path == m.path && deleted == m.deleted {
		return p.program, nil
	}
	file, err = os.Open(filepath.Join(p.directory, "root", m.path))
	if errors.Is(err, fs.ErrPermission) && !m.deleted {
		// Another user's process: its root may not be followed. Its files may be the same as here.
		file, err = os.Open(m.path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening it: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("opening it: %w", err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if m.deleted || !ok || s.Ino != m.inode || !info.Mode().IsRegular() {
		_ = file.Close()
		return nil, errReplaced
	}
	return file, nil
}

// debugDirectory is where distributions put separate debugging symbols, by build id.
const debugDirectory = "/usr/lib/debug/.build-id"

// openDebug finds the debug file of an object that has no symbol table of its own: in the process's mount
// namespace, or here.
func (p *Process) openDebug(o *Object) {
	if o.file == nil || len(o.buildID) < 2 || o.file.Section(".symtab") != nil {
		return
	}
	id := buildID(o.buildID)
	name := filepath.Join(debugDirectory, id[:2], id[2:]+".debug")
	for _, path := range []string{filepath.Join(p.directory, "root", name), name} {
		file, err := os.Open(path)
		if err != nil {
			continue
		}
		debug := newObject(path, file)
		if debug.file != nil && bytes.Equal(debug.buildID, o.buildID) {
			o.debug = debug.file
			o.names = nil
			o.close = closers{o.close, file}
			return
		}
		_ = file.Close()
	}
}

// closers closes several files.
type closers []io.Closer

func (c closers) Close() (err error) {
	for _, closer := range c {
		if closer != nil {
			err = errors.Join(err, closer.Close())
		}
	}
	return err
}

// maxVDSO bounds the image that the kernel maps into every process: it has 8 to 16 KiB.
const maxVDSO = 1 << 20

// ownVDSO returns the image that the kernel maps into every process, taken from this one: 64-bit processes
// have the same.
var ownVDSO = sync.OnceValues(readOwnVDSO)

func readOwnVDSO() ([]byte, error) {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, fmt.Errorf("looking for the vdso: %w", err)
	}
	for _, m := range parseMaps(text) {
		if m.path != vdsoPath || m.end-m.start > maxVDSO {
			continue
		}
		own, err := os.Open("/proc/self/mem")
		if err != nil {
			return nil, fmt.Errorf("reading the vdso: %w", err)
		}
		defer own.Close()
		image := make([]byte, m.end-m.start)
		if _, err := own.ReadAt(image, int64(m.start)); err != nil {
			return nil, fmt.Errorf("reading the vdso: %w", err)
		}
		return image, nil
	}
	return nil, errors.New("this process has no vdso")
}

// count notes why a stack ended before the first function.
func (p *Process) count(o outcome, at *Object) {
	p.failures[o]++
	if o == noRule && at != nil {
		p.without[at.Name]++
	}
}

// Name returns the frame of a place.
func (p *Process) Name(at Place) evidence.Frame {
	f := evidence.Frame{Address: at.Address}
	o := at.Object
	if o == nil {
		return f
	}
	f.Object = o.Name
	if o.file == nil {
		return f
	}
	if o.goLines != nil {
		if file, line, fn := o.goLines.PCToLine(at.Address); fn != nil && fn.Entry <= at.Address {
			f.Function, f.File, f.Line = fn.Name, file, line
			return f
		}
	}
	entry := o.entry(at.Address)
	var ok bool
	if f.Function, ok = o.functions().find(at.Address, entry); !ok && entry != nil {
		f.Start = entry.start
	}
	return f
}

// Unknown says what could not be unwound or named so far, and why.
func (p *Process) Unknown() (sentences []string) {
	say := func(format string, args ...any) { sentences = append(sentences, fmt.Sprintf(format, args...)) }
	if p.unmapped != nil {
		say("which files the process runs is not known: %v", p.unmapped)
	}
	for _, name := range sortedKeys(p.unread) {
		say("%s could not be read: %v", name, p.unread[name])
	}
	for _, name := range sortedKeys(p.without) {
		say("no unwind information for code in %s: %d stacks end there", name, p.without[name])
	}
	for _, o := range p.objects() {
		if o.file != nil && o.functions().omitted {
			say("%s has more than %d functions: some have no names", o.Name, maxFunctions)
		}
		if o.file != nil && o.framing != nil && !o.IsGo() && !errors.Is(o.framing, errNoFrames) &&
			p.without[o.Name] > 0 {
			say("the unwind information of %s: %v", o.Name, o.framing)
		}
	}
	if p.generated > 0 {
		say("%d frames are in code that was made at run time: they have no names, and their callers were"+
			" found by frame pointers", p.generated)
	}
	for o, text := range map[outcome]string{
		tooDeep: "%d stacks are deeper than the part of them that was copied",
		impasse: "%d stacks lead to an address that is no code",
		damaged: "%d stacks end in a function whose unwind information is damaged or of an unknown form",
	} {
		if n := p.failures[o]; n > 0 {
			say(text, n)
		}
	}
	slices.Sort(sentences)
	return sentences
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
