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
	acc := [2][]VecVirtual{s.sums(rows), s.sums(rows)}
	step := newTileStep(s, rows)
	k, c, ldc := param("k"), param("c"), bytesOf(param("ldc"))

	Comment("The lines of C, due at the end, are asked for one row at a time,", "k/rows steps apart: all at once they would hold up the loads of A and B.")
	chunk, n := GP64(), GP64()
	IMUL3Q(U32(1<<16/uint32(rows)), k, chunk)
	SHRQ(Imm(16), chunk)
	INCQ(chunk)
	Label("chunk")
	for line := 0; line < 2*s.bytes(); line += 64 {
		PREFETCHT0(Mem{Base: c, Disp: line})
	}
	ADDQ(ldc, c)
	Comment("n = min(chunk, k); k -= n")
	MOVQ(chunk, n)
	CMPQ(k, n)
	CMOVQLT(k, n)
	SUBQ(n, k)
	Label("step")
	step.write(acc)
	DECQ(n)
	JNZ(LabelRef("step"))
	TESTQ(k, k)
	JNZ(LabelRef("chunk"))
	storeC(s, acc, rows)
}

// tileStep is what one step along k needs in registers.
type tileStep struct {
	s              isa
	rows           int
	a, a2, colA, b GPVirtual // a2: the second base, if there is one
	rowA           multiples
	next, nextStep GPVirtual
}

func newTileStep(s isa, rows int) *tileStep {
	t := &tileStep{s: s, rows: rows, a: param("a"), b: param("b"), colA: bytesOf(param("colA"))}
	rowA := bytesOf(param("rowA"))
	t.rowA = newMultiples(rowA, min(rows, rowsPerBase))
	if rows > rowsPerBase {
		Comment("a2 = a + 7·rowA")
		t.a2 = GP64()
		LEAQ(t.rowA.of(t.a, rowsPerBase-2, 0), t.a2)
		LEAQ(Mem{Base: t.a2, Index: rowA, Scale: 2}, t.a2)
	}
	t.next, t.nextStep = param("next"), bytesOf(param("nextStep"))
	return t
}

// write: acc[i][j] += a[i*rowA] * b[j]; a += colA; b += nr; prefetch next; next += nextStep.
func (t *tileStep) write(acc [2][]VecVirtual) {
	Comment("acc[i][j] += a[i*rowA] * b[j]; a += colA; b += nr; prefetch next; next += nextStep")
	b, ai := t.s.vecs(2), t.s.vecs(2)
	for half := range b {
		VMOVUPS(Mem{Base: t.b, Disp: half * t.s.bytes()}, b[half])
	}
	for i := range t.rows {
		m := t.rowA.of(t.a, i%rowsPerBase, 0)
		if i >= rowsPerBase {
			m = t.rowA.of(t.a2, i%rowsPerBase, 0)
		}
		v := ai[i%2]
		VBROADCASTSS(m, v)
		for half := range b {
			t.s.mulAdd(v, b[half], acc[half][i])
		}
	}
	PREFETCHT0(Mem{Base: t.next})
	ADDQ(t.nextStep, t.next)
	ADDQ(t.colA, t.a)
	if t.rows > rowsPerBase {
		ADDQ(t.colA, t.a2)
	}
	ADDQ(Imm(uint64(2*t.s.bytes())), t.b)
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
