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
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// kernelObject is the Object of frames in the kernel itself. Those in its modules have the module's name,
// in the same brackets.
const kernelObject = "[kernel]"

// errHidden is the error for addresses that the kernel shows as zeros.
var errHidden = errors.New("the kernel hides its addresses: kernel.kptr_restrict, or CAP_SYSLOG is missing")

// Kernel names functions of the running kernel. It holds /proc/kallsyms open, because whether it shows
// addresses is decided when it is opened: a proxy opens it before it drops its privileges.
type Kernel struct {
	file  *os.File
	error error
	// symbols are read when they are asked for.
	symbols []kernelSymbol
	read    bool
}

type kernelSymbol struct {
	address uint64
	name    string
	module  string
}

// OpenKernel prepares to name functions of the kernel. What goes wrong is said by Unknown.
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

// Unknown says why functions of the kernel have no names, empty when they have.
func (k *Kernel) Unknown() string {
	if err := k.load(); err != nil {
		return fmt.Sprintf("the functions of the kernel have no names: %v", err)
	}
	return ""
}

func (k *Kernel) load() error {
	if k.error != nil || k.read {
		return k.error
	}
	k.read = true
	_, err := k.file.Seek(0, io.SeekStart)
	if err == nil {
		k.symbols, err = parseKernelSymbols(k.file)
	}
	k.error = err
	return err
}

// Name returns the frame of an address in the kernel.
func (k *Kernel) Name(address uint64) evidence.Frame {
	f := evidence.Frame{Object: kernelObject, Address: address}
	if k.load() != nil {
		return f
	}
	i, ok := slices.BinarySearchFunc(k.symbols, address, func(s kernelSymbol, a uint64) int {
		return cmp.Compare(s.address, a)
	})
	if !ok {
		i--
	}
	if i >= 0 {
		f.Function = k.symbols[i].name
		f.Object = cmp.Or(k.symbols[i].module, kernelObject)
	}
	return f
}

// maxKernelSymbols bounds what is kept: a kernel with everything built in has 200 000.
const maxKernelSymbols = 1 << 20

// parseKernelSymbols reads the functions of a /proc/kallsyms. Its table has no sizes; the kernel itself takes
// every address up to the next symbol for the function's.
func parseKernelSymbols(from io.Reader) ([]kernelSymbol, error) {
	var all []kernelSymbol
	lines := bufio.NewScanner(from)
	visible := false
	for lines.Scan() && len(all) < maxKernelSymbols {
		line := lines.Bytes()
		address, rest, ok1 := bytes.Cut(line, []byte{' '})
		kind, rest, ok2 := bytes.Cut(rest, []byte{' '})
		if !ok1 || !ok2 || len(kind) != 1 || !strings.ContainsRune("tTwW", rune(kind[0])) {
			continue
		}
		at, err := strconv.ParseUint(string(address), 16, 64)
		if err != nil {
			continue
		}
		visible = visible || at != 0
		name, module, _ := bytes.Cut(rest, []byte{'\t'})
		all = append(all, kernelSymbol{at, string(name), string(module)})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading /proc/kallsyms: %w", err)
	}
	if !visible {
		return nil, errHidden
	}
	slices.SortStableFunc(all, func(a, b kernelSymbol) int { return cmp.Compare(a.address, b.address) })
	return all, nil
}
