package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// compareObjects says what differs between two compiled objects.
func compareObjects(old, renewed string) ([]string, error) {
	a, err := describe(old)
	if err != nil {
		return nil, err
	}
	b, err := describe(renewed)
	if err != nil {
		return nil, err
	}
	var differences []string
	names := slices.Sorted(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if d := difference(name, a[name], b[name]); d != "" {
			differences = append(differences, d)
		}
	}
	return differences, nil
}

// describe returns the lines that make up each program, map and the types of an object.
func describe(name string) (map[string][]string, error) {
	spec, err := ebpf.LoadCollectionSpec(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	parts := map[string][]string{}
	for name, p := range spec.Programs {
		lines := []string{fmt.Sprintf("%s, license %s", p.SectionName, p.License)}
		for i := range p.Instructions {
			lines = append(lines, instruction(spec.Types, &p.Instructions[i]))
		}
		parts["program "+name] = lines
	}
	for name, m := range spec.Maps {
		lines := []string{fmt.Sprintf("%v key %d value %d entries %d flags %#x", m.Type, m.KeySize,
			m.ValueSize,
			m.MaxEntries, m.Flags)}
		for _, c := range m.Contents {
			lines = append(lines, fmt.Sprintf("%v = %x", c.Key, c.Value))
		}
		lines = append(lines, "key "+reference(spec.Types, m.Key), "value "+reference(spec.Types, m.Value))
		parts["map "+name] = lines
	}
	for name, v := range spec.Variables {
		parts["variable "+name] = []string{fmt.Sprintf("%s at %d, %d bytes", v.SectionName, v.Offset,
			v.Size())}
	}
	for typ, err := range spec.Types.All() {
		if err != nil {
			return nil, fmt.Errorf("reading the types of %s: %w", name, err)
		}
		parts["types"] = append(parts["types"], reference(spec.Types, typ)+": "+definition(spec.Types, typ))
	}
	return parts, nil
}

// instruction prints all of an instruction but its line of source.
func instruction(types *btf.Spec, ins *asm.Instruction) string {
	text := fmt.Sprintf("%v dst %v src %v offset %d constant %d", ins.OpCode, ins.Dst, ins.Src, ins.Offset,
		ins.Constant)
	if s := ins.Symbol(); s != "" {
		text = s + ": " + text
	}
	if r := ins.Reference(); r != "" {
		text += " -> " + r
	}
	if r := btf.CORERelocationMetadata(ins); r != nil {
		text += " relocated " + r.String()
	}
	if f := btf.FuncMetadata(ins); f != nil {
		text += " function " + reference(types, f)
	}
	return text
}

// reference names a type by its number in the object.
func reference(types *btf.Spec, t btf.Type) string {
	if t == nil {
		return "none"
	}
	id, err := types.TypeID(t)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%T %d", t, id)
}

// definition prints a type, and refers to the types that it is made of; those have lines of their own.
func definition(types *btf.Spec, t btf.Type) string {
	to := func(t btf.Type) string { return reference(types, t) }
	text := strconv.Quote(t.TypeName())
	members := func(size uint32, list []btf.Member) {
		text += fmt.Sprintf(" size %d", size)
		for _, m := range list {
			text += fmt.Sprintf(", %s %s at %d:%d tags %q", m.Name, to(m.Type), m.Offset, m.BitfieldSize,
				m.Tags)
		}
	}
	switch t := t.(type) {
	case *btf.Void:
	case *btf.Int:
		text += fmt.Sprintf(" size %d %v", t.Size, t.Encoding)
	case *btf.Float:
		text += fmt.Sprintf(" size %d", t.Size)
	case *btf.Pointer:
		text += " to " + to(t.Target)
	case *btf.Array:
		text += fmt.Sprintf(" of %d %s", t.Nelems, to(t.Type))
	case *btf.Struct:
		members(t.Size, t.Members)
	case *btf.Union:
		members(t.Size, t.Members)
	case *btf.Enum:
		text += fmt.Sprintf(" size %d signed %v %v", t.Size, t.Signed, t.Values)
	case *btf.Fwd:
		text += fmt.Sprintf(" %v", t.Kind)
	case *btf.Func:
		text += fmt.Sprintf(" %v %s", t.Linkage, to(t.Type))
	case *btf.FuncProto:
		text += " returns " + to(t.Return)
		for _, p := range t.Params {
			text += fmt.Sprintf(", %s %s", p.Name, to(p.Type))
		}
	case *btf.Var:
		text += fmt.Sprintf(" %v %s", t.Linkage, to(t.Type))
	case *btf.Datasec:
		text += fmt.Sprintf(" size %d", t.Size)
		for _, v := range t.Vars {
			text += fmt.Sprintf(", %s at %d size %d", to(v.Type), v.Offset, v.Size)
		}
	case *btf.Typedef:
		text += " " + to(t.Type)
	case *btf.Const:
		text += " " + to(t.Type)
	case *btf.Volatile:
		text += " " + to(t.Type)
	case *btf.Restrict:
		text += " " + to(t.Type)
	default:
		// Tags: the library keeps their types to itself, and prints their text.
		text += fmt.Sprintf(" %T", t)
	}
	return text
}

// difference says where two descriptions of one part differ first, "" when they do not.
func difference(name string, old, renewed []string) string {
	switch {
	case len(old) == 0:
		return name + " is in the source but not in the object"
	case len(renewed) == 0:
		return name + " is in the object but not in the source"
	}
	for i := range min(len(old), len(renewed)) {
		if old[i] != renewed[i] {
			return fmt.Sprintf("%s differs at line %d of %d:\n\tcommitted   %s\n\tregenerated %s", name, i,
				len(old),
				shorten(old[i]), shorten(renewed[i]))
		}
	}
	if len(old) != len(renewed) {
		return fmt.Sprintf("%s has %d lines in the object and %d from the source", name, len(old),
			len(renewed))
	}
	return ""
}

func shorten(s string) string {
	const most = 300
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
