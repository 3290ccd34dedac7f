package symbol

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// mapping is a part of a process's memory that it may execute.
type mapping struct {
	start, end uint64
	offset     uint64 // in the file
	device     string // major:minor, in hexadecimal
	inode      uint64
	// path is the file as the process sees it, or "[vdso]", or empty. deleted is true exactly when it is no
	// longer, or no longer that file, under that path.
	path    string
	deleted bool
	// object is nil for memory without a file, or with one that could not be read and has a name only.
	object *Object
}

// place is where an address of the process is in its file.
func (m *mapping) place(address uint64) Place {
	if m.object == nil {
		return Place{Address: address}
	}
	return Place{Object: m.object, Address: m.object.address(address-m.start, m.offset)}
}

// parseMaps reads the executable mappings of a /proc/PID/maps, as in proc_pid_maps(5). Lines of another
// form are left out.
func parseMaps(text []byte) []*mapping {
	var all []*mapping
	for line := range bytes.Lines(text) {
		if m := parseMapping(strings.TrimSuffix(string(line), "\n")); m != nil {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *mapping) int { return cmp.Compare(a.start, b.start) })
	return all
}

const deletedSuffix = " (deleted)"

func parseMapping(line string) *mapping {
	fields := make([]string, 5)
	for i := range fields {
		fields[i], line, _ = strings.Cut(line, " ")
	}
	from, to, ok := strings.Cut(fields[0], "-")
	if !ok || len(fields[1]) < 3 || fields[1][2] != 'x' {
		return nil
	}
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	offset, err3 := strconv.ParseUint(fields[2], 16, 64)
	inode, err4 := strconv.ParseUint(fields[4], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || end <= start {
		return nil
	}
	m := &mapping{start: start, end: end, offset: offset, device: fields[3], inode: inode}
	// The kernel escapes nothing but newlines, as \012.
	m.path = strings.ReplaceAll(strings.TrimLeft(line, " "), `\012`, "\n")
	m.path, m.deleted = strings.CutSuffix(m.path, deletedSuffix)
	return m
}

// sameFile reports whether two mappings are of one file.
func (m *mapping) sameFile(o *mapping) bool {
	return m.device == o.device && m.inode == o.inode && m.path == o.path && m.deleted == o.deleted
}

// buildID prints a build id as file names have it.
func buildID(id []byte) string { return hex.EncodeToString(id) }
