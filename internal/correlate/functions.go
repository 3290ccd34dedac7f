package correlate

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
)

const (
	// maxFunctions is how many functions a finding names, maxCallers how many callers of each.
	maxFunctions = 3
	maxCallers   = 4
	// enoughSamples is how many samples it takes to say where the time goes: of fewer a single odd moment is
	// a large part.
	enoughSamples = 5
)

// addFunctions adds in which functions the threads concerned were found.
func (in *input) addFunctions(f *Finding) {
	if in.Window == nil || in.Window.Samples == nil {
		f.Unknown = append(f.Unknown, "the functions in which it spends its time: no samples were taken")
		return
	}
	f.Functions = functionsOf(in.Window.Samples, f.threads, f.Class == B3)
	if len(f.Functions) == 0 {
		f.Unknown = append(f.Unknown, "the functions in which it spends its time: no sample was taken of it")
		return
	}
	for _, v := range f.Functions {
		text := fmt.Sprintf("samples of %d are in %s", v.of, v.Name)
		for i, c := range v.Callers {
			if i == 0 {
				text += ", called by "
			} else {
				text += " < "
			}
			text += c
		}
		f.add(Fact{Text: text, Count: evidence.Know(v.count), Source: sourceSamples})
	}
	if of := f.Functions[0].of; of < enoughSamples {
		f.Unknown = append(f.Unknown, fmt.Sprintf("where else it spends its time: samples taken of it: %d, "+
			"take a longer window", of))
	}
}

// functionsOf returns the program's functions in which the threads were found most often, or the kernel's.
func functionsOf(s *evidence.Samples, tids []int, kernel bool) []Function {
	type tally struct {
		count, most uint64
		stack       []evidence.Frame
	}
	byName := map[string]*tally{}
	var total uint64
	for i := range s.Stacks {
		stack := &s.Stacks[i]
		if len(tids) > 0 && !slices.Contains(tids, stack.TID) {
			continue
		}
		total += stack.Count
		frames, others := stack.User, stack.Kernel
		if kernel {
			frames, others = others, frames
		}
		if len(frames) == 0 {
			frames = others
		}
		if len(frames) == 0 || stack.Count == 0 {
			continue
		}
		t := byName[frameName(frames[0])]
		if t == nil {
			t = &tally{}
			byName[frameName(frames[0])] = t
		}
		t.count += stack.Count
		if stack.Count > t.most {
			t.most, t.stack = stack.Count, frames
		}
	}
	var found []Function
	for name, t := range byName {
		v := Function{Name: name, Share: share(t.count, total), count: t.count, of: total}
		for _, frame := range t.stack[1:min(len(t.stack), 1+maxCallers)] {
			v.Callers = append(v.Callers, frameName(frame))
		}
		found = append(found, v)
	}
	slices.SortFunc(found, func(a, b Function) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.Name, b.Name))
	})
	return found[:min(len(found), maxFunctions)]
}

// frameName is what a frame is called.
func frameName(f evidence.Frame) string {
	if f.Function != "" {
		return f.Function
	}
	at := f.Address
	if f.Start != 0 {
		at = f.Start
	}
	return fmt.Sprintf("%s+%#x", cmp.Or(f.Object, "?"), at)
}
