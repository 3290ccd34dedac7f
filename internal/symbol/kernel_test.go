package symbol

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const kernelTable = `ffffffff81000000 T _stext
ffffffff81000100 t do_one
ffffffff81000180 d data_of_one
ffffffff81000200 W do_two
ffffffff82000000 D jiffies
ffffffffa0000000 t of_module	[module]
`

func TestKernelFunctionsGoUpToTheNext(t *testing.T) {
	addresses := []uint64{0x1000, 0xffffffff81000100, 0xffffffff810001ff, 0xffffffff81000200,
		0xffffffff81000201, 0xffffffffa0000010}
	got, err := nearestSymbols(strings.NewReader(kernelTable), addresses)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range got {
		names = append(names, s.name+s.module)
	}
	want := []string{"", "do_one", "do_one", "do_two", "do_two", "of_module[module]"}
	if !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

func TestHiddenKernelAddressesAreSaid(t *testing.T) {
	_, err := nearestSymbols(strings.NewReader("0000000000000000 T _stext\n"), []uint64{1})
	if !errors.Is(err, errHidden) {
		t.Errorf("error %v, want %v", err, errHidden)
	}
}
