package symbol

import "errors"

// ruleKind says where the caller's value of a register is: DWARF 5, section 6.4.1.
type ruleKind uint8

const (
	ruleSame            ruleKind = iota // where it was: the function does not touch it
	ruleUndefined                       // nowhere; of the return address: there is no caller
	ruleOffset                          // in memory at CFA + n
	ruleValueOffset                     // it is CFA + n
	ruleRegister                        // in register n
	ruleExpression                      // in memory at the address that an expression computes
	ruleValueExpression                 // it is what an expression computes
)

// rule is one of those with its number. Of an expression the number is its place in the section.
type rule struct {
	kind ruleKind
	n    int64
}

// expressionRule packs the place of an expression, whose offsets are below 64 MiB, into a rule.
func expressionRule(kind ruleKind, from, to int) rule {
	return rule{kind, int64(from)<<32 | int64(to)}
}

func (r rule) expression() (from, to int) { return int(r.n >> 32), int(uint32(r.n)) }

// maxRegisters is how many registers are followed: x0 to x30, sp and one more on arm64, 17 on x86-64. Rules
// for others, those of vector registers, are read and forgotten.
const maxRegisters = 33

// row is how to find the caller's frame from one instruction of a function.
type row struct {
	// cfa is how to compute the Canonical Frame Address, what the stack pointer was before the call:
	// register + offset, or an expression when expression is not the zero rule.
	cfaRegister   uint64
	cfaOffset     int64
	cfaExpression rule
	registers     [maxRegisters]rule
	// returnAddress is the register that stands for it. signed is true exactly when the saved one has a
	// signature in its upper bits (arm64).
	returnAddress uint64
	signed        bool
	signal        bool
	// start is the begin of the function.
	start uint64
}

// Limits of a program. Compilers nest two states; the longest programs have some thousand instructions.
const (
	maxSavedRows       = 32
	maxRowInstructions = 1 << 16
)

// errFrameProgram is the error for instructions that are not known or damaged.
var errFrameProgram = errors.New("its unwind information is damaged or of an unknown form")

// row computes the rules that hold at an address of a function.
func (t *frameTable) row(e *frameEntry, address uint64) (*row, error) {
	c := &t.cies[e.cie]
	if c.returnAddress >= maxRegisters {
		return nil, errFrameProgram
	}
	m := &frameProgram{table: t, cie: c, location: e.start, until: address}
	m.current = row{returnAddress: c.returnAddress, signal: c.signal, start: e.start}
	if !m.run(c.instructions) {
		return nil, errFrameProgram
	}
	m.initial = m.current
	if !m.run(e.instructions) {
		return nil, errFrameProgram
	}
	return &m.current, nil
}

// frameProgram executes call frame instructions.
type frameProgram struct {
	table            *frameTable
	cie              *cie
	location, until  uint64
	current, initial row
	saved            []row
	executed         int
}

// run executes instructions until they are about addresses beyond the one that is looked for. It returns
// false for what it does not understand.
func (m *frameProgram) run(span [2]uint32) bool {
	r := &reader{data: m.table.data[:span[1]], at: int(span[0])}
	for r.at < len(r.data) {
		m.executed++
		if m.executed > maxRowInstructions {
			return false
		}
		op := r.u8()
		low := uint64(op & 0x3f)
		switch op >> 6 {
		case 1: // DW_CFA_advance_loc
			m.location += low * m.cie.codeAlign
		case 2: // DW_CFA_offset
			m.set(low, rule{ruleOffset, int64(r.uleb()) * m.cie.dataAlign})
		case 3: // DW_CFA_restore
			m.restore(low)
		default:
			if !m.extended(op, r) {
				return false
			}
		}
		if r.bad {
			return false
		}
		if m.location > m.until {
			return true
		}
	}
	return true
}

// extended executes an instruction whose upper two bits are zero.
func (m *frameProgram) extended(op uint8, r *reader) bool {
	align := m.cie.dataAlign
	switch op {
	case 0x00: // DW_CFA_nop
	case 0x01: // DW_CFA_set_loc
		m.location = m.table.pointer(r, m.cie.encoding)
	case 0x02: // DW_CFA_advance_loc1
		m.location += uint64(r.u8()) * m.cie.codeAlign
	case 0x03: // DW_CFA_advance_loc2
		m.location += uint64(r.u16()) * m.cie.codeAlign
	case 0x04: // DW_CFA_advance_loc4
		m.location += uint64(r.u32()) * m.cie.codeAlign
	case 0x05: // DW_CFA_offset_extended
		m.set(r.uleb(), rule{ruleOffset, int64(r.uleb()) * align})
	case 0x06: // DW_CFA_restore_extended
		m.restore(r.uleb())
	case 0x07: // DW_CFA_undefined
		m.set(r.uleb(), rule{kind: ruleUndefined})
	case 0x08: // DW_CFA_same_value
		m.set(r.uleb(), rule{kind: ruleSame})
	case 0x09: // DW_CFA_register
		m.set(r.uleb(), rule{ruleRegister, int64(r.uleb())})
	case 0x0a: // DW_CFA_remember_state
		if len(m.saved) == maxSavedRows {
			return false
		}
		m.saved = append(m.saved, m.current)
	case 0x0b: // DW_CFA_restore_state
		if len(m.saved) == 0 {
			return false
		}
		m.current = m.saved[len(m.saved)-1]
		m.saved = m.saved[:len(m.saved)-1]
	case 0x0c, 0x0d, 0x0e, 0x0f, 0x12, 0x13:
		m.defineCFA(op, r)
	case 0x10: // DW_CFA_expression
		m.setExpression(ruleExpression, r)
	case 0x11: // DW_CFA_offset_extended_sf
		m.set(r.uleb(), rule{ruleOffset, r.sleb() * align})
	case 0x14: // DW_CFA_val_offset
		m.set(r.uleb(), rule{ruleValueOffset, int64(r.uleb()) * align})
	case 0x15: // DW_CFA_val_offset_sf
		m.set(r.uleb(), rule{ruleValueOffset, r.sleb() * align})
	case 0x16: // DW_CFA_val_expression
		m.setExpression(ruleValueExpression, r)
	case 0x2d: // DW_CFA_AARCH64_negate_ra_state
		m.current.signed = !m.current.signed
	case 0x2e: // DW_CFA_GNU_args_size
		r.uleb()
	case 0x2f: // DW_CFA_GNU_negative_offset_extended
		m.set(r.uleb(), rule{ruleOffset, -int64(r.uleb()) * align})
	default:
		return false
	}
	return true
}

// defineCFA executes the instructions that say how to compute the CFA.
func (m *frameProgram) defineCFA(op uint8, r *reader) {
	c := &m.current
	switch op {
	case 0x0c: // DW_CFA_def_cfa
		c.cfaRegister, c.cfaOffset = r.uleb(), int64(r.uleb())
	case 0x0d: // DW_CFA_def_cfa_register
		c.cfaRegister = r.uleb()
	case 0x0e: // DW_CFA_def_cfa_offset
		c.cfaOffset = int64(r.uleb())
	case 0x12: // DW_CFA_def_cfa_sf
		c.cfaRegister, c.cfaOffset = r.uleb(), r.sleb()*m.cie.dataAlign
	case 0x13: // DW_CFA_def_cfa_offset_sf
		c.cfaOffset = r.sleb() * m.cie.dataAlign
	case 0x0f: // DW_CFA_def_cfa_expression
		from, to := block(r)
		c.cfaExpression = expressionRule(ruleValueExpression, from, to)
		return
	}
	c.cfaExpression = rule{}
}

// block skips a block of bytes with its length in front and returns its place.
func block(r *reader) (from, to int) {
	length := r.uleb()
	from = r.at
	r.take(int(min(length, uint64(len(r.data))+1)))
	return from, r.at
}

func (m *frameProgram) setExpression(kind ruleKind, r *reader) {
	register := r.uleb()
	from, to := block(r)
	m.set(register, expressionRule(kind, from, to))
}

func (m *frameProgram) set(register uint64, to rule) {
	if register < maxRegisters {
		m.current.registers[register] = to
	}
}

func (m *frameProgram) restore(register uint64) {
	if register < maxRegisters {
		m.current.registers[register] = m.initial.registers[register]
	}
}
