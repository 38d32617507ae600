package kernel

import "fmt"

// Packed is the right operand of products C = A·Bᵀ, laid out once for many of
// them, as the product would otherwise do each time: what pays when A has few
// rows. In [BF16] it takes two bytes a value.
type Packed struct {
	Rows, Cols int // of B

	kernel *microKernel[float32]
	kc     int // words along the sum per step
	words  []float32
}

// Pack lays b out for products in a precision.
func Pack(p *Pool, precision Precision, b Mat[float32]) *Packed {
	b.check("B")
	g := product[float32]{kernel: current.Load().product(precision), m: 1, n: b.Rows, length: b.Cols, b: newSide(b.Data, b.Stride, false)}
	g.k = ceilDiv(g.length, g.kernel.per)
	g.plan(1)
	nr := g.kernel.nr
	out := &Packed{Rows: b.Rows, Cols: b.Cols, kernel: g.kernel, kc: g.kc, words: alignedSlice[float32](roundUp(g.n, nr) * g.k)}
	p.For(ceilDiv(g.n, nr), packTiles, func(lo, hi int) {
		j0, j1 := lo*nr, min(hi*nr, g.n)
		for p0 := 0; p0 < g.k; p0 += g.kc {
			kl := min(g.kc, g.k-p0)
			g.packB(out.panels(j0, p0, kl), j0, j1, p0, kl)
		}
	})
	return out
}

// panels is where the panels from column j on lie, for kl steps along the sum
// from p0 on: as packB lays them out.
func (b *Packed) panels(j, p0, kl int) []float32 {
	return b.words[p0*roundUp(b.Rows, b.kernel.nr)+j*kl:]
}

// Bytes is the memory that b takes up.
func (b *Packed) Bytes() int64 { return 4 * int64(len(b.words)) }

// MulPacked computes C = A·Bᵀ, or C += A·Bᵀ with accumulate: C is m×n, A m×k,
// B n×k. The result is to the last bit that of [MatMul] in b's precision, and a
// row of it does not depend on the others. C must not overlap A.
func MulPacked(p *Pool, c, a Mat[float32], b *Packed, accumulate bool) {
	if c.Rows != a.Rows || c.Cols != b.Rows || a.Cols != b.Cols {
		panic(fmt.Sprintf("kernel: C = A·Bᵀ packed: C is %d×%d, A %d×%d, B %d×%d", c.Rows, c.Cols, a.Rows, a.Cols, b.Rows, b.Cols))
	}
	a.check("A")
	c.check("C")
	if a.Rows == 0 || b.Rows == 0 || b.Cols == 0 {
		if !accumulate {
			for i := range c.Rows {
				clear(c.Row(i))
			}
		}
		return
	}
	g := product[float32]{kernel: b.kernel, buffers: &buffers32, m: a.Rows, n: b.Rows, length: a.Cols,
		c: c.Data, ldc: c.Stride, a: newSide(a.Data, a.Stride, false), prepacked: b, accumulate: accumulate}
	g.run(p)
}
