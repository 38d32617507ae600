package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// packs writes the parts of microKernel.pack, packT and packRows.
func packs(s isa) {
	copyPanels(s, 1)
	copyPanels(s, 2)
	transpose(s, false)
	transpose(s, true)
	if s.per == 2 {
		pairRows(s)
	}
}

// copyPanels copies rows to panels that fit one register, or that are exactly
// two. Registers are stored whole: what a row of a narrow panel has too much
// is overwritten by the next row, but for the last, which takes a mask. Where
// a word holds two values it takes two rows, of which the last may lack the second.
func copyPanels(s isa, registers int) {
	width := registers * s.lanes
	if registers == 1 {
		s.begin("copyNarrow", "(dst *float32, panel, apart int, src *float32, stride, k, w int)",
			fmt.Sprintf("is microKernel.pack for %d ≤ panel ≤ %d.", s.lanes/2, width))
	} else {
		s.begin("copyWide", "(dst *float32, panel, apart int, src *float32, stride, k, w int)",
			fmt.Sprintf("is microKernel.pack for panel = %d.", width))
	}
	c := panelCopy{s: s, registers: registers, dst: param("dst"), src: param("src"), apart: bytesOf(param("apart")), w: param("w"), panel: param("panel")}
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

	separateLast := registers == 1 || s.per == 2
	if s.per == 2 {
		c.pairs()
		SUBQ(Imm(2), k)
	} else if registers == 1 {
		DECQ(k)
	}
	if separateLast {
		JLE(LabelRef("last"))
	}
	Comment("for ; k > 0; k -= rows of a word { a row of words; dst += panel; src += those rows }")
	Label("row")
	c.row("row", false)
	for range s.per {
		ADDQ(c.stride, c.src)
	}
	ADDQ(c.panelBytes, c.dst)
	SUBQ(Imm(uint64(s.per)), k)
	JG(LabelRef("row"))
	if separateLast {
		Label("last")
		if s.per == 2 {
			TESTQ(k, k)
			JZ(LabelRef("both"))
			for _, m := range append(c.wholeSecond, c.restSecond...) {
				KXORW(m, m, m)
			}
			Label("both")
		}
		c.row("last", registers == 1)
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

	// Where a word takes two rows: the masks of the second, and the permutation that joins the two.
	wholeSecond, restSecond []Op
	interleave              VecVirtual
}

// pairs prepares the registers for words of two rows.
func (c *panelCopy) pairs() {
	c.interleave = c.s.vec()
	VMOVUPS(interleaveTable(), c.interleave)
	all := K()
	KXNORW(all, all, all)
	for r := range c.registers {
		m := K()
		KMOVW(c.rest[r], m)
		c.restSecond = append(c.restSecond, m)
		c.wholeSecond = append(c.wholeSecond, all)
	}
	if c.whole != nil {
		KMOVW(c.whole[0], all)
	}
}

// load returns register r of a panel's row of words; nil masks mean all lanes.
func (c panelCopy) load(m Mem, r int, first, second []Op) VecVirtual {
	v := c.s.vec()
	if first == nil {
		VMOVUPS(m, v)
	} else {
		c.s.loadMasked(m, first[r], v)
	}
	if c.s.per == 1 {
		return v
	}
	m.Index, m.Scale = c.stride, 1
	below := c.s.vec()
	c.s.loadMasked(m, second[r], below)
	v = c.s.narrow(v, below)
	VPERMW(v, c.interleave, v)
	return v
}

// row copies one row of words: for d, s, n := dst, src, w; n > 0; d += apart, s += panel, n -= panel.
func (c panelCopy) row(label string, masked bool) {
	d, src, n := GP64(), GP64(), GP64()
	MOVQ(c.dst, d)
	MOVQ(c.src, src)
	MOVQ(c.w, n)
	move := func(first, second []Op) {
		v := make([]VecVirtual, c.registers)
		for r := range v {
			m := Mem{Base: src, Disp: r * c.s.bytes()}
			PREFETCHT0(Mem{Base: src, Index: c.stride, Scale: 8, Disp: m.Disp})
			v[r] = c.load(m, r, first, second)
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
	move(c.whole, c.wholeSecond)
	ADDQ(c.apart, d)
	ADDQ(c.panelBytes, src)
	SUBQ(c.panel, n)
	JGE(LabelRef(label + "Panel"))
	Label(label + "Rest")
	ADDQ(c.panel, n)
	JZ(LabelRef(label + "Done"))
	move(c.rest, c.restSecond)
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
			fmt.Sprintf("is microKernel.packT for %d columns of the %d.", s.lanes, 2*s.lanes))
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
	SUBQ(Imm(uint64(s.per*s.lanes)), k)
	JL(LabelRef("tail"))
	Commentf("for ; k >= 0; k -= %d { a square, whole }", s.per*s.lanes)
	Label("square")
	v := make([]VecVirtual, s.lanes)
	rows(func(j int, m, next Mem) {
		v[j] = s.loadWords(m, nil)
		if !edge {
			PREFETCHT0(next)
		}
	})
	for _, col := range s.transposed(v) {
		VMOVUPS(col, Mem{Base: dst})
		ADDQ(panel, dst)
	}
	ADDQ(Imm(uint64(s.per*s.bytes())), src)
	SUBQ(Imm(uint64(s.per*s.lanes)), k)
	JGE(LabelRef("square"))

	Label("tail")
	Comment("the rest: k columns of a square")
	ADDQ(Imm(uint64(s.per*s.lanes)), k)
	JZ(LabelRef("done"))
	masks := s.columnMasks(k, s.per)
	if s.per == 2 {
		Comment("values to words")
		INCQ(k)
		SHRQ(Imm(1), k)
	}
	rows(func(j int, m, _ Mem) { v[j] = s.loadWords(m, masks) })
	for _, col := range s.transposed(v) {
		VMOVUPS(col, Mem{Base: dst})
		ADDQ(panel, dst)
		DECQ(k)
		JZ(LabelRef("done"))
	}
	Label("done")
	end()
}

// loadWords returns a register of words whose values are neighbours in memory;
// the masks, if any, are of the registers' worth of values that it takes.
func (s isa) loadWords(m Mem, masks []Op) VecVirtual {
	v := s.vecs(s.per)
	for r := range v {
		at := m
		at.Disp += r * s.bytes()
		if masks == nil {
			VMOVUPS(at, v[r])
		} else {
			s.loadMasked(at, masks[r], v[r])
		}
	}
	if s.per == 2 {
		return s.narrow(v[0], v[1])
	}
	return v[0]
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
