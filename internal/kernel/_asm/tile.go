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
	s.begin(fmt.Sprintf("tile%d", rows), "(k int, a *float32, rowA, colA int, b *float32, c *float32, ldc, cols int, accumulate bool)",
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
	prefetchC(s, rows)

	Comment("for k > 0; k-- { acc[i][j] += a[i*rowA] * b[j]; a += colA; b += nr }")
	Label("step")
	b0, b1, ai := s.vec(), s.vec(), s.vecs(2)
	VMOVUPS(Mem{Base: b}, b0)
	VMOVUPS(Mem{Base: b, Disp: s.bytes()}, b1)
	for i := range rows {
		base, n := a, i
		if i >= rowsPerBase {
			base, n = a2, i-rowsPerBase
		}
		v := ai[i%2]
		VBROADCASTSS(rowA.of(base, n, 0), v)
		VFMADD231PS(v, b0, acc[0][i])
		VFMADD231PS(v, b1, acc[1][i])
	}
	ADDQ(colA, a)
	if rows > rowsPerBase {
		ADDQ(colA, a2)
	}
	ADDQ(Imm(uint64(2*s.bytes())), b)
	DECQ(k)
	JNZ(LabelRef("step"))

	storeC(s, acc, rows)
}

// prefetchC asks for the tile of C, which is due after the loop.
func prefetchC(s isa, rows int) {
	Comment("prefetch c[i*ldc : i*ldc+nr]")
	c := param("c")
	ldc := bytesOf(param("ldc"))
	for i := range rows {
		for line := 0; line < 2*s.bytes(); line += 64 {
			PREFETCHT0(Mem{Base: c, Disp: line})
		}
		if i < rows-1 {
			ADDQ(ldc, c)
		}
	}
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
