package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// packs writes the parts of microKernel.pack and packT.
func packs(s isa) {
	copyPanels(s, 1)
	copyPanels(s, 2)
	transpose(s, false)
	transpose(s, true)
}

// copyPanels copies rows to panels that fit one register, or that are exactly
// two. Registers are stored whole: what a row of a narrow panel has too much
// is overwritten by the next row, but for the last, which takes a mask.
func copyPanels(s isa, registers int) {
	width := registers * s.lanes
	if registers == 1 {
		s.begin("copyNarrow", "(dst *float32, panel, apart int, src *float32, stride, k, w int)",
			fmt.Sprintf("is microKernel.pack for %d ≤ panel ≤ %d.", s.lanes/2, width))
	} else {
		s.begin("copyWide", "(dst *float32, panel, apart int, src *float32, stride, k, w int)",
			fmt.Sprintf("is microKernel.pack for panel = %d.", width))
	}
	c := panelCopy{s: s, dst: param("dst"), src: param("src"), apart: bytesOf(param("apart")), w: param("w"), panel: param("panel")}
	c.panelBytes = GP64()
	MOVQ(c.panel, c.panelBytes)
	bytesOf(c.panelBytes)
	c.stride = bytesOf(param("stride"))
	k := param("k")

	rest := GP64()
	if registers == 1 {
		c.whole = s.columnMasks(c.panel, 1)
		Comment("rest = w % panel, 0 for none")
		MOVQ(c.w, RAX)
		XORL(EDX, EDX)
		DIVQ(c.panel)
		MOVQ(RDX, rest)
	} else {
		MOVQ(c.w, rest)
		ANDQ(Imm(uint64(width-1)), rest)
	}
	c.rest = s.columnMasks(rest, registers)
	c.registers = registers

	if registers == 1 {
		DECQ(k)
		JZ(LabelRef("last"))
	}
	Comment("for ; k > 0; k-- { a row; dst += panel; src += stride }")
	Label("row")
	c.row("row", false)
	ADDQ(c.stride, c.src)
	ADDQ(c.panelBytes, c.dst)
	DECQ(k)
	JNZ(LabelRef("row"))
	if registers == 1 {
		Label("last")
		c.row("last", true)
	}
	end()
}

// panelCopy is what copyPanels has in registers.
type panelCopy struct {
	s                         isa
	registers                 int
	dst, src, apart, w        GPVirtual
	panel, panelBytes, stride GPVirtual
	whole, rest               []Op // masks: of a panel that is one register, of the last panel
}

// row copies one row: for d, s, n := dst, src, w; n > 0; d += apart, s += panel, n -= panel.
func (c panelCopy) row(label string, masked bool) {
	d, src, n := GP64(), GP64(), GP64()
	MOVQ(c.dst, d)
	MOVQ(c.src, src)
	MOVQ(c.w, n)
	move := func(load []Op) {
		v := c.s.vecs(c.registers)
		for r := range v {
			m := Mem{Base: src, Disp: r * c.s.bytes()}
			PREFETCHT0(Mem{Base: src, Index: c.stride, Scale: 8, Disp: m.Disp})
			if load == nil {
				VMOVUPS(m, v[r])
			} else {
				c.s.loadMasked(m, load[r], v[r])
			}
		}
		for r := range v {
			m := Mem{Base: d, Disp: r * c.s.bytes()}
			if masked {
				c.s.storeMasked(v[r], c.whole[r], m)
			} else {
				VMOVUPS(v[r], m)
			}
		}
	}
	SUBQ(c.panel, n)
	JL(LabelRef(label + "Rest"))
	Label(label + "Panel")
	move(c.whole)
	ADDQ(c.apart, d)
	ADDQ(c.panelBytes, src)
	SUBQ(c.panel, n)
	JGE(LabelRef(label + "Panel"))
	Label(label + "Rest")
	ADDQ(c.panel, n)
	JZ(LabelRef(label + "Done"))
	move(c.rest)
	Label(label + "Done")
}

// transpose writes the copy of half a panel's columns of the transpose, square by square.
// The edge version takes fewer and repeats the last one in place of the missing.
func transpose(s isa, edge bool) {
	if edge {
		s.begin("transposeEdge", "(dst, src *float32, stride, k, w int)",
			fmt.Sprintf("is transpose%s for w ≤ %d columns; the others repeat the last.", s.name, s.lanes))
	} else {
		s.begin("transpose", "(dst, src *float32, stride, k int)",
			fmt.Sprintf("sets dst[p*%d+j] = src[j*stride+p] for p < k, j < %d.", 2*s.lanes, s.lanes))
	}
	dst, src, k := param("dst"), param("src"), param("k")
	stride := bytesOf(param("stride"))
	panel := Imm(uint64(2 * s.bytes()))
	// rows calls f with the address of each row of a square, and of the row as
	// far beyond the square, which the next call will need.
	rows := func(f func(j int, m, next Mem)) { clampedRows(s, src, stride, param("w"), f) }
	if !edge {
		m := newMultiples(stride, 8)
		rows = func(f func(j int, m, next Mem)) {
			bases := []GPVirtual{src} // eight rows apart
			for i := 8; i < 2*s.lanes; i += 8 {
				b := GP64()
				LEAQ(Mem{Base: bases[len(bases)-1], Index: stride, Scale: 8}, b)
				bases = append(bases, b)
			}
			for j := range s.lanes {
				n := j + s.lanes
				f(j, m.of(bases[j/8], j%8, 0), m.of(bases[n/8], n%8, 0))
			}
		}
	}
	SUBQ(Imm(uint64(s.lanes)), k)
	JL(LabelRef("tail"))
	Commentf("for ; k >= 0; k -= %d { a square, whole }", s.lanes)
	Label("square")
	v := s.vecs(s.lanes)
	rows(func(j int, m, next Mem) {
		VMOVUPS(m, v[j])
		if !edge {
			PREFETCHT0(next)
		}
	})
	for _, col := range s.transposed(v) {
		VMOVUPS(col, Mem{Base: dst})
		ADDQ(panel, dst)
	}
	ADDQ(Imm(uint64(s.bytes())), src)
	SUBQ(Imm(uint64(s.lanes)), k)
	JGE(LabelRef("square"))

	Label("tail")
	Comment("the rest: k columns of a square")
	ADDQ(Imm(uint64(s.lanes)), k)
	JZ(LabelRef("done"))
	mask := s.columnMasks(k, 1)[0]
	v = s.vecs(s.lanes)
	rows(func(j int, m, _ Mem) { s.loadMasked(m, mask, v[j]) })
	for _, col := range s.transposed(v) {
		VMOVUPS(col, Mem{Base: dst})
		ADDQ(panel, dst)
		DECQ(k)
		JZ(LabelRef("done"))
	}
	Label("done")
	end()
}

// clampedRows calls f with the addresses of rows 0, 1, … and of row w-1 for those beyond.
func clampedRows(s isa, src, stride, w GPVirtual, f func(j int, m, next Mem)) {
	p, next := GP64(), GP64()
	MOVQ(src, p)
	for j := range s.lanes {
		f(j, Mem{Base: p}, Mem{})
		if j < s.lanes-1 {
			LEAQ(Mem{Base: p, Index: stride, Scale: 1}, next)
			CMPQ(w, Imm(uint64(j+1)))
			CMOVQGT(next, p)
		}
	}
}
