package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// packs writes the parts of microKernel.pack and packT.
func packs(s isa) {
	copyNarrow(s)
	copyWide(s)
	transpose(s, false)
	transpose(s, true)
}

// copyNarrow copies rows that fit one register. Every row is stored whole and
// its excess overwritten by the next one; only the last needs a mask.
func copyNarrow(s isa) {
	s.begin("copyNarrow", "(dst *float32, panel int, src *float32, stride, k, w int)",
		fmt.Sprintf("is microKernel.pack for w ≤ panel ≤ %d.", s.lanes))
	dst, src := param("dst"), param("src")
	panel, stride, k := param("panel"), bytesOf(param("stride")), param("k")
	used := s.columnMasks(param("w"), 1)[0]
	stored := s.columnMasks(panel, 1)[0]
	bytesOf(panel)
	v := s.vec()
	DECQ(k)
	JZ(LabelRef("last"))
	Comment("for ; k > 1; k-- { dst[:lanes] = src[:w], 0…; dst += panel; src += stride }")
	Label("row")
	s.loadMasked(Mem{Base: src}, used, v)
	VMOVUPS(v, Mem{Base: dst})
	ADDQ(stride, src)
	ADDQ(panel, dst)
	DECQ(k)
	JNZ(LabelRef("row"))
	Label("last")
	Comment("dst[:panel] = src[:w], 0…")
	s.loadMasked(Mem{Base: src}, used, v)
	s.storeMasked(v, stored, Mem{Base: dst})
	end()
}

// copyWide copies rows to a panel of exactly two registers.
func copyWide(s isa) {
	s.begin("copyWide", "(dst, src *float32, stride, k, w int)",
		fmt.Sprintf("is microKernel.pack for w ≤ panel = %d.", 2*s.lanes))
	dst, src, stride, k, w := param("dst"), param("src"), bytesOf(param("stride")), param("k"), param("w")
	v := s.vecs(2)
	next := func() {
		for h := range v {
			VMOVUPS(v[h], Mem{Base: dst, Disp: h * s.bytes()})
		}
		ADDQ(stride, src)
		ADDQ(Imm(uint64(2*s.bytes())), dst)
		DECQ(k)
	}
	CMPQ(w, Imm(uint64(2*s.lanes)))
	JNE(LabelRef("narrow"))
	Comment("for ; k > 0; k-- { dst[:2·lanes] = src[:2·lanes]; dst += 2·lanes; src += stride }")
	Label("full")
	for h := range v {
		VMOVUPS(Mem{Base: src, Disp: h * s.bytes()}, v[h])
	}
	next()
	JNZ(LabelRef("full"))
	end()

	Label("narrow")
	Comment("the same with dst[:2·lanes] = src[:w], 0…")
	used := s.columnMasks(w, 2)
	Label("row")
	for h := range v {
		s.loadMasked(Mem{Base: src, Disp: h * s.bytes()}, used[h], v[h])
	}
	next()
	JNZ(LabelRef("row"))
	end()
}

// transpose writes the copy of lanes columns of the transpose, square by square.
// The edge version takes fewer and repeats the last one in place of the missing.
func transpose(s isa, edge bool) {
	if edge {
		s.begin("transposeEdge", "(dst *float32, panel int, src *float32, stride, k, w int)",
			fmt.Sprintf("is transpose%s for w ≤ %d columns; the others repeat the last.", s.name, s.lanes))
	} else {
		s.begin("transpose", "(dst *float32, panel int, src *float32, stride, k int)",
			fmt.Sprintf("sets dst[p*panel+j] = src[j*stride+p] for p < k, j < %d.", s.lanes))
	}
	dst, src, k := param("dst"), param("src"), param("k")
	panel, stride := bytesOf(param("panel")), bytesOf(param("stride"))
	// rows calls f with the address of each row of a square.
	var rows func(f func(j int, m Mem))
	if edge {
		w := param("w")
		rows = func(f func(j int, m Mem)) { clampedRows(s, src, stride, w, f) }
	} else {
		m := newMultiples(stride, 8)
		src2 := GP64()
		rows = func(f func(j int, m Mem)) {
			LEAQ(Mem{Base: src, Index: stride, Scale: 8}, src2)
			for j := range s.lanes {
				if j < 8 {
					f(j, m.of(src, j, 0))
				} else {
					f(j, m.of(src2, j-8, 0))
				}
			}
		}
	}
	SUBQ(Imm(uint64(s.lanes)), k)
	JL(LabelRef("tail"))
	Commentf("for ; k >= 0; k -= %d { a square, whole }", s.lanes)
	Label("square")
	v := s.vecs(s.lanes)
	rows(func(j int, m Mem) { VMOVUPS(m, v[j]) })
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
	rows(func(j int, m Mem) { s.loadMasked(m, mask, v[j]) })
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
func clampedRows(s isa, src, stride, w GPVirtual, f func(j int, m Mem)) {
	p, next := GP64(), GP64()
	MOVQ(src, p)
	for j := range s.lanes {
		f(j, Mem{Base: p})
		if j < s.lanes-1 {
			LEAQ(Mem{Base: p, Index: stride, Scale: 1}, next)
			CMPQ(w, Imm(uint64(j+1)))
			CMOVQGT(next, p)
		}
	}
}
