package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// tiles writes microKernel.tile, one function for each number of rows, so
// that neither operands nor C need padding along them. Columns beyond cols
// are computed from the panel's padding and not stored.
func tiles(s isa) {
	for rows := 1; rows <= s.rows; rows++ {
		tile(s, rows)
	}
}

// Rows are addressed from two bases, this many rows apart.
const rowsPerBase = 7

func tile(s isa, rows int) {
	s.begin(fmt.Sprintf("tile%d", rows), "(k int, a *float32, rowA, colA int, b *float32, c *float32, ldc, cols int, accumulate bool, next *float32, nextStep int)",
		fmt.Sprintf("is microKernel.tile for %d rows and at most %d columns.", rows, 2*s.lanes))

	acc := [2][]VecVirtual{s.vecs(rows), s.vecs(rows)}
	for _, half := range acc {
		for _, v := range half {
			s.zero(v)
		}
	}
	k, a, b := param("k"), param("a"), param("b")
	step := bytesOf(param("rowA"))
	colA := bytesOf(param("colA"))
	rowA := newMultiples(step, min(rows, rowsPerBase))
	a2 := GP64()
	if rows > rowsPerBase {
		LEAQ(Mem{Base: a, Index: rowA[rowsPerBase-2], Scale: 1}, a2) // a + 5·rowA
		LEAQ(Mem{Base: a2, Index: step, Scale: 2}, a2)
	}
	next, nextStep := param("next"), bytesOf(param("nextStep"))
	c, ldc := param("c"), bytesOf(param("ldc"))

	Comment("The lines of C, due at the end, are asked for one row at a time:", "all at once they would hold up the loads of A and B.")
	chunk, n := GP64(), GP64()
	IMUL3Q(U32(1<<16/uint32(rows)), k, chunk)
	SHRQ(Imm(16), chunk)
	INCQ(chunk)
	Label("chunk")
	for line := 0; line < 2*s.bytes(); line += 64 {
		PREFETCHT0(Mem{Base: c, Disp: line})
	}
	ADDQ(ldc, c)
	MOVQ(chunk, n)
	CMPQ(k, n)
	CMOVQLT(k, n)
	SUBQ(n, k)

	Comment("for ; n > 0; n-- { acc[i][j] += a[i*rowA] * b[j]; a += colA; b += nr; prefetch next; next += nextStep }")
	Label("step")
	b0, b1, ai := s.vec(), s.vec(), s.vecs(2)
	VMOVUPS(Mem{Base: b}, b0)
	VMOVUPS(Mem{Base: b, Disp: s.bytes()}, b1)
	for i := range rows {
		base, row := a, i
		if i >= rowsPerBase {
			base, row = a2, i-rowsPerBase
		}
		v := ai[i%2]
		VBROADCASTSS(rowA.of(base, row, 0), v)
		VFMADD231PS(v, b0, acc[0][i])
		VFMADD231PS(v, b1, acc[1][i])
	}
	PREFETCHT0(Mem{Base: next})
	ADDQ(nextStep, next)
	ADDQ(colA, a)
	if rows > rowsPerBase {
		ADDQ(colA, a2)
	}
	ADDQ(Imm(uint64(2*s.bytes())), b)
	DECQ(n)
	JNZ(LabelRef("step"))
	TESTQ(k, k)
	JNZ(LabelRef("chunk"))
	storeC(s, acc, rows)
}

// storeC ends a tile's function: a full tile with plain stores, a narrow one
// with masks that keep it from touching what is not its own.
func storeC(s isa, acc [2][]VecVirtual, rows int) {
	c := param("c")
	ldc := bytesOf(param("ldc"))
	cols := param("cols")
	accumulate := Load(Param("accumulate"), GP8L())

	// each calls f with the address of every half row of C.
	each := func(f func(v VecVirtual, half int, m Mem)) {
		p := GP64()
		MOVQ(c, p)
		for i := range rows {
			for half := range 2 {
				f(acc[half][i], half, Mem{Base: p, Disp: half * s.bytes()})
			}
			if i < rows-1 {
				ADDQ(ldc, p)
			}
		}
	}
	CMPQ(cols, Imm(uint64(2*s.lanes)))
	JNE(LabelRef("narrow"))
	TESTB(accumulate, accumulate)
	JZ(LabelRef("store"))
	Comment("acc[i][j] += c[i*ldc+j]")
	each(func(v VecVirtual, _ int, m Mem) { VADDPS(m, v, v) })
	Label("store")
	Comment("c[i*ldc+j] = acc[i][j]")
	each(func(v VecVirtual, _ int, m Mem) { VMOVUPS(v, m) })
	end()

	Label("narrow")
	Comment("the same for j < cols")
	mask := s.columnMasks(cols, 2)
	TESTB(accumulate, accumulate)
	JZ(LabelRef("storeNarrow"))
	t := s.vec()
	each(func(v VecVirtual, half int, m Mem) {
		s.loadMasked(m, mask[half], t)
		VADDPS(t, v, v)
	})
	Label("storeNarrow")
	each(func(v VecVirtual, half int, m Mem) { s.storeMasked(v, mask[half], m) })
	end()
}
