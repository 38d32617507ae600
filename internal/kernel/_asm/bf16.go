package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	. "github.com/mmcloughlin/avo/reg"
)

// Go's assembler does not know AVX512_BF16. Its instructions pass through
// avo's register allocation like any other and are then replaced by the bytes
// that they consist of (Intel SDM, volume 2, 2.7: the EVEX prefix).

// vdpbf16ps: acc += a·b, of both bf16 values in each 32-bit lane.
func vdpbf16ps(a, b, acc Op) { bf16Instruction("VDPBF16PS", acc, []Op{a, b, acc}, a, b, acc) }

// vcvtne2ps2bf16: the lower half of dst = the lanes of low, the upper half those
// of high, rounded to nearest even.
func vcvtne2ps2bf16(low, high, dst Op) {
	bf16Instruction("VCVTNE2PS2BF16", dst, []Op{low, high}, low, high, dst)
}

func bf16Instruction(opcode string, output Op, inputs []Op, operands ...Op) {
	Instruction(&ir.Instruction{Opcode: opcode, Operands: operands, Inputs: inputs, Outputs: []Op{output}, ISA: []string{"AVX512_BF16"}})
}

// evexOpcodes are the mandatory prefix (pp) and the opcode in map 0F38, W = 0.
var evexOpcodes = map[string]struct{ pp, opcode byte }{
	"VDPBF16PS":      {2, 0x52}, // F3
	"VCVTNE2PS2BF16": {3, 0x72}, // F2
}

func init() { pass.Compile = pass.Concat(pass.Compile, pass.FunctionPass(encodeBF16)) }

// encodeBF16 replaces the instructions by their bytes, under their text as a comment.
func encodeBF16(f *ir.Function) error {
	var nodes []ir.Node
	for _, n := range f.Nodes {
		i, ok := n.(*ir.Instruction)
		if !ok {
			nodes = append(nodes, n)
			continue
		}
		if _, ok := evexOpcodes[i.Opcode]; !ok {
			nodes = append(nodes, n)
			continue
		}
		first, second, err := evex(i)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%s %s, %s, %s", i.Opcode, i.Operands[0].Asm(), i.Operands[1].Asm(), i.Operands[2].Asm())
		nodes = append(nodes, ir.NewComment(text),
			&ir.Instruction{Opcode: "LONG", Operands: []Op{U32(first)}}, &ir.Instruction{Opcode: "WORD", Operands: []Op{U16(second)}})
	}
	f.Nodes = nodes
	return nil
}

// evex returns the six bytes, little endian, of an instruction on three ZMM
// registers, given in Go's order: r/m, vvvv, reg.
func evex(i *ir.Instruction) (first uint32, second uint16, err error) {
	var id [3]byte
	for n, op := range i.Operands {
		p, ok := op.(Physical)
		if !ok || p.Size() != 64 {
			return 0, 0, fmt.Errorf("%s: operand %s is no ZMM register", i.Opcode, op.Asm())
		}
		id[n] = byte(p.PhysicalIndex())
	}
	rm, v, r := id[0], id[1], id[2]
	code := evexOpcodes[i.Opcode]
	bit := func(x byte, n int) byte { return x >> n & 1 }
	// The prefix holds the high bits of register numbers inverted.
	p0 := (bit(r, 3)<<7 | bit(rm, 4)<<6 | bit(rm, 3)<<5 | bit(r, 4)<<4) ^ 0xf0 | 2
	p1 := (v&15^15)<<3 | 4 | code.pp
	p2 := byte(2<<5) | (bit(v, 4)^1)<<3
	modrm := 0xc0 | r&7<<3 | rm&7
	return 0x62 | uint32(p0)<<8 | uint32(p1)<<16 | uint32(p2)<<24, uint16(code.opcode) | uint16(modrm)<<8, nil
}

// narrow: dst = low and high, rounded to bf16, one after the other: pairs of
// neighbours make up a word.
func (s isa) narrow(low, high VecVirtual) VecVirtual {
	v := s.vec()
	vcvtne2ps2bf16(low, high, v)
	return v
}

// interleaveTable is the permutation that makes words of the values of low and
// the values of high that narrow left in the halves of a register.
func interleaveTable() Mem {
	if interleave.Symbol.Name == "" {
		interleave = GLOBL("interleave", RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, U32(i|(16+i)<<16))
		}
	}
	return interleave
}

var interleave Mem

// pairRows writes the copy of rows whose values are neighbours along the sum.
func pairRows(s isa) {
	s.begin("pairRows", "(dst *float32, lead int, src *float32, stride, rows, k int)", "is microKernel.packRows.")
	dst, lead, src, stride := param("dst"), bytesOf(param("lead")), param("src"), bytesOf(param("stride"))
	rows, k := param("rows"), param("k")
	rest := GP64()
	MOVQ(k, rest)
	ANDQ(Imm(uint64(2*s.lanes-1)), rest)
	load := s.columnMasks(rest, 2)
	INCQ(rest)
	SHRQ(Imm(1), rest)
	store := s.columnMasks(rest, 1)[0]

	Comment("for ; rows > 0; rows-- { a row; dst += lead; src += stride }")
	Label("row")
	d, from, n := GP64(), GP64(), GP64()
	MOVQ(dst, d)
	MOVQ(src, from)
	MOVQ(k, n)
	SUBQ(Imm(uint64(2*s.lanes)), n)
	JL(LabelRef("rest"))
	Label("register")
	low, high := s.vec(), s.vec()
	VMOVUPS(Mem{Base: from}, low)
	VMOVUPS(Mem{Base: from, Disp: s.bytes()}, high)
	VMOVUPS(s.narrow(low, high), Mem{Base: d})
	ADDQ(Imm(uint64(s.bytes())), d)
	ADDQ(Imm(uint64(2*s.bytes())), from)
	SUBQ(Imm(uint64(2*s.lanes)), n)
	JGE(LabelRef("register"))
	Label("rest")
	ADDQ(Imm(uint64(2*s.lanes)), n)
	JZ(LabelRef("next"))
	low, high = s.vec(), s.vec()
	s.loadMasked(Mem{Base: from}, load[0], low)
	s.loadMasked(Mem{Base: from, Disp: s.bytes()}, load[1], high)
	s.storeMasked(s.narrow(low, high), store, Mem{Base: d})
	Label("next")
	ADDQ(lead, dst)
	ADDQ(stride, src)
	DECQ(rows)
	JNZ(LabelRef("row"))
	end()
}
