package symbol

// maxExpressionStack bounds the stack of an expression. Those in unwind information need three places.
const maxExpressionStack = 32

// memory reads eight bytes of a process's memory; not ok when they are not at hand.
type memory func(address uint64) (value uint64, ok bool)

// evaluate computes a DWARF expression (DWARF 5, section 2.5) of the operations that compilers and
// assemblers put into unwind information: sums, comparisons and reads of memory. Without jumps, so that it
// ends. It is not ok for others, and for reads of what is not at hand.
func evaluate(program []byte, stack []uint64, regs *registers, read memory) (value uint64, ok bool) {
	r := &reader{data: program}
	for r.at < len(program) && !r.bad {
		op := r.u8()
		if n, is := constant(op, r); is {
			stack = append(stack, n)
		} else if op >= 0x70 && op <= 0x8f { // DW_OP_breg0 and on
			n, known := regs.get(uint64(op - 0x70))
			if !known {
				return 0, false
			}
			stack = append(stack, n+uint64(r.sleb()))
		} else if stack, ok = operate(op, stack, r, read); !ok {
			return 0, false
		}
		if len(stack) > maxExpressionStack {
			return 0, false
		}
	}
	if r.bad || len(stack) == 0 {
		return 0, false
	}
	return stack[len(stack)-1], true
}

// constant reads the operations that push a constant.
func constant(op uint8, r *reader) (n uint64, is bool) {
	switch op {
	case 0x08: // DW_OP_const1u
		return uint64(r.u8()), true
	case 0x09: // DW_OP_const1s
		return uint64(int8(r.u8())), true
	case 0x0a: // DW_OP_const2u
		return uint64(r.u16()), true
	case 0x0b: // DW_OP_const2s
		return uint64(int16(r.u16())), true
	case 0x0c: // DW_OP_const4u
		return uint64(r.u32()), true
	case 0x0d: // DW_OP_const4s
		return uint64(int32(r.u32())), true
	case 0x0e, 0x0f: // DW_OP_const8u, DW_OP_const8s
		return r.u64(), true
	case 0x10: // DW_OP_constu
		return r.uleb(), true
	case 0x11: // DW_OP_consts
		return uint64(r.sleb()), true
	}
	if op >= 0x30 && op <= 0x4f { // DW_OP_lit0 to DW_OP_lit31
		return uint64(op - 0x30), true
	}
	return 0, false
}

// operate executes the operations that work on the stack.
func operate(op uint8, stack []uint64, r *reader, read memory) ([]uint64, bool) {
	top := len(stack) - 1
	if top < 0 {
		return nil, false
	}
	switch op {
	case 0x06: // DW_OP_deref
		n, ok := read(stack[top])
		stack[top] = n
		return stack, ok
	case 0x12: // DW_OP_dup
		return append(stack, stack[top]), true
	case 0x13: // DW_OP_drop
		return stack[:top], true
	case 0x1f: // DW_OP_neg
		stack[top] = -stack[top]
		return stack, true
	case 0x20: // DW_OP_not
		stack[top] = ^stack[top]
		return stack, true
	case 0x23: // DW_OP_plus_uconst
		stack[top] += r.uleb()
		return stack, true
	case 0x96: // DW_OP_nop
		return stack, true
	}
	if top < 1 {
		return nil, false
	}
	if op == 0x16 { // DW_OP_swap
		stack[top], stack[top-1] = stack[top-1], stack[top]
		return stack, true
	}
	n, ok := combine(op, stack[top-1], stack[top])
	if !ok {
		return nil, false
	}
	stack[top-1] = n
	return stack[:top], true
}

// combine computes the operations on two numbers.
func combine(op uint8, a, b uint64) (n uint64, ok bool) {
	truth := func(is bool) (uint64, bool) {
		if is {
			return 1, true
		}
		return 0, true
	}
	switch op {
	case 0x1a: // DW_OP_and
		return a & b, true
	case 0x1c: // DW_OP_minus
		return a - b, true
	case 0x1e: // DW_OP_mul
		return a * b, true
	case 0x21: // DW_OP_or
		return a | b, true
	case 0x22: // DW_OP_plus
		return a + b, true
	case 0x24: // DW_OP_shl
		return a << min(b, 64), true
	case 0x25: // DW_OP_shr
		return a >> min(b, 64), true
	case 0x26: // DW_OP_shra
		return uint64(int64(a) >> min(b, 63)), true
	case 0x27: // DW_OP_xor
		return a ^ b, true
	case 0x29: // DW_OP_eq
		return truth(a == b)
	case 0x2a: // DW_OP_ge
		return truth(int64(a) >= int64(b))
	case 0x2b: // DW_OP_gt
		return truth(int64(a) > int64(b))
	case 0x2c: // DW_OP_le
		return truth(int64(a) <= int64(b))
	case 0x2d: // DW_OP_lt
		return truth(int64(a) < int64(b))
	case 0x2e: // DW_OP_ne
		return truth(a != b)
	}
	return 0, false
}
