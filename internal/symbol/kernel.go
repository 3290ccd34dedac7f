package symbol

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
)

// kernelObject is the Object of frames in the kernel itself. Those in its modules have the module's name,
// in the same brackets.
const kernelObject = "[kernel]"

// errHidden is the error for addresses that the kernel shows as zeros.
var errHidden = errors.New("the kernel hides its addresses: kernel.kptr_restrict, or CAP_SYSLOG is missing")

// Kernel names functions of the running kernel. It holds /proc/kallsyms open, because whether it shows
// addresses is decided when it is opened: a proxy opens it before it drops its privileges. Nothing of its
// 200 000 lines is kept.
type Kernel struct {
	file  *os.File
	error error
}

// OpenKernel prepares to name functions of the kernel. When that fails, Names says so.
func OpenKernel() *Kernel {
	k := &Kernel{}
	k.file, k.error = os.Open("/proc/kallsyms")
	return k
}

// Close closes the file.
func (k *Kernel) Close() {
	if k.file != nil {
		_ = k.file.Close()
	}
}

// Names returns the frame of each address in the kernel. When the functions are not known, the frames say in
// which object they are, and the error why they have no names.
func (k *Kernel) Names(addresses []uint64) (map[uint64]evidence.Frame, error) {
	sorted := slices.Compact(slices.Sorted(slices.Values(addresses)))
	frames := make(map[uint64]evidence.Frame, len(sorted))
	for _, a := range sorted {
		frames[a] = evidence.Frame{Object: kernelObject, Address: a}
	}
	if len(sorted) == 0 {
		return frames, nil
	}
	err := k.error
	if err == nil {
		_, err = k.file.Seek(0, io.SeekStart)
	}
	var found []kernelSymbol
	if err == nil {
		found, err = nearestSymbols(k.file, sorted)
	}
	if err != nil {
		return frames, fmt.Errorf("the functions of the kernel have no names: %w", err)
	}
	for i, a := range sorted {
		if s := found[i]; s.name != "" {
			frames[a] = evidence.Frame{Function: s.name, Object: cmp.Or(s.module, kernelObject), Address: a}
		}
	}
	return frames, nil
}

// kernelSymbol is a function of the kernel. The module has its brackets and is empty for the kernel itself.
type kernelSymbol struct {
	start        uint64
	name, module string
}

// nearestSymbols reads a /proc/kallsyms and returns, for each of the sorted addresses, the last function that
// begins before it. The table has no sizes; the kernel itself takes every address up to the next symbol for
// the function's.
func nearestSymbols(from io.Reader, addresses []uint64) ([]kernelSymbol, error) {
	// found[i] is the last function at most at addresses[i] and above the address before it.
	found := make([]kernelSymbol, len(addresses))
	lines := bufio.NewScanner(from)
	visible := false
	for lines.Scan() {
		start, name, module, ok := parseKernelSymbol(lines.Bytes())
		if !ok || start == 0 {
			continue
		}
		visible = true
		i, _ := slices.BinarySearch(addresses, start)
		if i < len(addresses) && start > found[i].start {
			found[i] = kernelSymbol{start, string(name), string(module)}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading /proc/kallsyms: %w", err)
	}
	if !visible {
		return nil, errHidden
	}
	for i := 1; i < len(found); i++ {
		if found[i].start < found[i-1].start {
			found[i] = found[i-1]
		}
	}
	return found, nil
}

// parseKernelSymbol takes a line apart: address, kind, name, and a module behind a tab. Only functions are.
func parseKernelSymbol(line []byte) (start uint64, name, module []byte, ok bool) {
	address, rest, ok1 := bytes.Cut(line, []byte{' '})
	kind, rest, ok2 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || len(kind) != 1 || bytes.IndexByte([]byte("tTwW"), kind[0]) < 0 || len(address) > 16 {
		return 0, nil, nil, false
	}
	for _, c := range address {
		digit := bytes.IndexByte([]byte("0123456789abcdef"), c)
		if digit < 0 {
			return 0, nil, nil, false
		}
		start = start<<4 | uint64(digit)
	}
	name, module, _ = bytes.Cut(rest, []byte{'\t'})
	return start, name, module, true
}
