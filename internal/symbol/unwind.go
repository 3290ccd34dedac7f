package symbol

import (
	"encoding/binary"
	"slices"
)

// registers are the registers of one frame, as far as they are known.
type registers struct {
	values [maxRegisters]uint64
	known  uint64 // bit n: register n
}

func (r *registers) get(n uint64) (value uint64, known bool) {
	if n >= maxRegisters || r.known&(1<<n) == 0 {
		return 0, false
	}
	return r.values[n], true
}

func (r *registers) put(n, value uint64) {
	r.values[n] = value
	r.known |= 1 << n
}

func (r *registers) forget(n uint64) { r.known &^= 1 << n }

// Sample is what the kernel recorded of a thread in its program.
type Sample struct {
	// Registers are the values of PerfRegisters in the order of their bits. They are those of the
	// instruction at which the thread entered the kernel, if it is there.
	Registers []uint64
	// Stack is a copy of the memory from the stack pointer upwards, as much as was copied.
	Stack []byte
	// Chain is what the kernel found by following frame pointers: the program counter, then return
	// addresses.
	Chain []uint64
}

// Trace is an unwound stack.
type Trace struct {
	Places []Place // innermost first
	// Complete is true exactly when the first function of the thread was reached.
	Complete bool
}

// Place is an instruction of a process.
type Place struct {
	// Object is the file that it is in, nil for code without one.
	Object *Object
	// Address is where in the file, or in the process when there is no file. Of a function that has called
	// another it is in the call instruction, not behind it: that may be another function.
	Address uint64
}

// maxDepth is the number of frames of one stack that are followed: as many as the kernel follows
// (kernel.perf_event_max_stack).
const maxDepth = 127

// outcome is what became of one step to the caller.
type outcome uint8

const (
	stepped  outcome = iota
	started          // there is no caller: the thread began here
	tooDeep          // what is needed lies beyond the copy of the stack
	noRule           // nothing says where the caller is
	impasse          // the caller that comes out cannot be one
	damaged          // the unwind information cannot be understood
	outcomes         // the number of outcomes
)

// frame is one frame on the way to the first one.
type frame struct {
	regs registers
	pc   uint64
	// called is true exactly when pc is a return address.
	called bool
}

// lookup is the address by which the function of the frame is found.
func (f *frame) lookup() uint64 {
	if f.called {
		return f.pc - 1
	}
	return f.pc
}

// Unwind finds the callers of the instruction at which a sample was taken, by the unwind information of the
// executables, and in Go code and code that was made at run time by frame pointers.
func (p *Process) Unwind(s *Sample) Trace {
	f := &frame{}
	if len(s.Registers) != len(perfOrder) {
		return p.leaf(s)
	}
	for i, n := range perfOrder {
		f.regs.put(uint64(n), s.Registers[i])
	}
	f.pc = f.regs.values[registerPC]
	sp := f.regs.values[registerSP]
	read := func(address uint64) (uint64, bool) {
		at := address - sp
		if address < sp || at >= uint64(len(s.Stack)) || uint64(len(s.Stack))-at < 8 {
			return 0, false
		}
		return binary.LittleEndian.Uint64(s.Stack[at:]), true
	}
	var t Trace
	for len(t.Places) < maxDepth {
		m := p.find(f.lookup())
		if m == nil {
			if !f.called {
				t.Places = append(t.Places, Place{Address: f.pc})
			}
			p.count(impasse, nil)
			return t
		}
		here := m.place(f.lookup())
		if here.Object.IsGo() && !f.called && len(s.Chain) > 0 && here.Object.entry(here.Address) == nil {
			return p.chain(s.Chain, f.goCaller(here, read))
		}
		t.Places = append(t.Places, here)
		switch o := p.step(f, here, read); o {
		case stepped:
		case started:
			t.Complete = true
			return t
		default:
			p.count(o, here.Object)
			return t
		}
	}
	return t
}

// leaf is the trace of a sample without registers.
func (p *Process) leaf(s *Sample) (t Trace) {
	if len(s.Chain) > 0 {
		if m := p.find(s.Chain[0]); m != nil {
			t.Places = []Place{m.place(s.Chain[0])}
		}
	}
	return t
}

// chain takes over what the kernel found by frame pointers, which Go programs keep in every function that has
// a frame. The innermost may have none, or not yet: then its caller, if it is known, is put in.
func (p *Process) chain(addresses []uint64, caller uint64) (t Trace) {
	if caller != 0 && (len(addresses) == 1 || addresses[1] != caller) {
		if m := p.find(caller - 1); m != nil && m.place(caller-1).Object.IsGo() {
			addresses = slices.Insert(slices.Clone(addresses), 1, caller)
		}
	}
	for i, a := range addresses {
		if i > 0 {
			a-- // into the call
		}
		m := p.find(a)
		if m == nil {
			break
		}
		t.Places = append(t.Places, m.place(a))
	}
	last := t.Places[len(t.Places)-1]
	t.Complete = last.Object != nil && last.Object.startsGoThread(last.Address)
	return t
}

// step goes from a frame to its caller.
func (p *Process) step(f *frame, here Place, read memory) outcome {
	if here.Object == nil {
		p.generated++
		return f.followPointer(read)
	}
	entry := here.Object.entry(here.Address)
	if entry == nil {
		if here.Object.IsGo() {
			if here.Object.startsGoThread(here.Address) {
				return started
			}
			return f.followPointer(read)
		}
		return noRule
	}
	r, err := here.Object.row(entry, here.Address)
	if err != nil {
		return damaged
	}
	return f.apply(r, here.Object.frames, read)
}

// followPointer goes to the caller by the frame pointer: it points at the caller's, and next to that is the
// return address.
func (f *frame) followPointer(read memory) outcome {
	fp, known := f.regs.get(registerFP)
	sp, _ := f.regs.get(registerSP)
	if !known || fp%8 != 0 || fp < sp {
		return impasse
	}
	caller, ok1 := read(fp)
	address, ok2 := read(fp + 8)
	if !ok1 || !ok2 {
		return tooDeep
	}
	f.regs.known = 0
	f.regs.put(registerFP, caller)
	f.regs.put(registerSP, fp+16)
	return f.enter(address)
}

// apply goes to the caller by the rules of a row.
func (f *frame) apply(r *row, t *frameTable, read memory) outcome {
	if r.registers[r.returnAddress].kind == ruleUndefined {
		return started
	}
	cfa, o := f.canonical(r, t, read)
	if o != stepped {
		return o
	}
	next := f.regs
	for n := range r.registers {
		rule := &r.registers[n]
		if rule.kind == ruleSame {
			continue
		}
		value, known, o := f.recover(rule, cfa, t, read)
		switch {
		case known:
			next.put(uint64(n), value)
		case uint64(n) == r.returnAddress:
			return o
		default:
			next.forget(uint64(n))
		}
	}
	if leafHasRegister && f.called && r.registers[r.returnAddress].kind == ruleSame && !r.signal {
		return impasse // it has called another function, so its own return address must have been saved
	}
	if r.registers[registerSP].kind == ruleSame {
		next.put(registerSP, cfa)
	}
	address, known := next.get(r.returnAddress)
	sp, _ := f.regs.get(registerSP)
	if !known || cfa <= sp && f.called && !r.signal {
		return impasse // a caller's frame lies above
	}
	f.regs = next
	o = f.enter(address)
	f.called = !r.signal
	return o
}

// enter makes a return address the place of the frame.
func (f *frame) enter(address uint64) outcome {
	if addressBits < 64 {
		address &= 1<<(addressBits&63) - 1
	}
	if address == 0 {
		return started
	}
	f.pc, f.called = address, true
	return stepped
}

// canonical computes the Canonical Frame Address of a frame.
func (f *frame) canonical(r *row, t *frameTable, read memory) (uint64, outcome) {
	if r.cfaExpression.kind != ruleSame {
		from, to := r.cfaExpression.expression()
		cfa, ok := evaluate(t.data[from:to], nil, &f.regs, read)
		if !ok {
			return 0, tooDeep
		}
		return cfa, stepped
	}
	base, known := f.regs.get(r.cfaRegister)
	if !known {
		return 0, damaged
	}
	return base + uint64(r.cfaOffset), stepped
}

// recover computes what a register had in the caller. When that is not known, it says why.
func (f *frame) recover(rule *rule, cfa uint64, t *frameTable, read memory) (value uint64, known bool,
	o outcome) {
	switch rule.kind {
	case ruleOffset:
		value, known = read(cfa + uint64(rule.n))
	case ruleValueOffset:
		return cfa + uint64(rule.n), true, stepped
	case ruleRegister:
		value, known = f.regs.get(uint64(rule.n))
		return value, known, damaged
	case ruleExpression, ruleValueExpression:
		from, to := rule.expression()
		value, known = evaluate(t.data[from:to], []uint64{cfa}, &f.regs, read)
		if known && rule.kind == ruleExpression {
			value, known = read(value)
		}
	case ruleSame, ruleUndefined:
	}
	return value, known, tooDeep
}
