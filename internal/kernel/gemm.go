package kernel

import "fmt"

// MulNT computes C = A·Bᵀ, or C += A·Bᵀ with accumulate: C is m×n, A m×k, B n×k.
// C must not overlap A or B.
func MulNT[T Float](p *Pool, c, a, b Mat[T], accumulate bool) {
	mul(p, "A·Bᵀ", c, a, b, false, true, accumulate)
}

// MulNN computes C = A·B, or C += A·B with accumulate: C is m×n, A m×k, B k×n.
// C must not overlap A or B.
func MulNN[T Float](p *Pool, c, a, b Mat[T], accumulate bool) {
	mul(p, "A·B", c, a, b, false, false, accumulate)
}

// MulTN computes C = Aᵀ·B, or C += Aᵀ·B with accumulate: C is m×n, A k×m, B k×n.
// C must not overlap A or B.
func MulTN[T Float](p *Pool, c, a, b Mat[T], accumulate bool) {
	mul(p, "Aᵀ·B", c, a, b, true, false, accumulate)
}

// mul checks the shapes and hands the product to the implementation in use.
func mul[T Float](p *Pool, what string, c, a, b Mat[T], transA, transB, accumulate bool) {
	m, k := a.Rows, a.Cols
	if transA {
		m, k = k, m
	}
	kb, n := b.Rows, b.Cols
	if transB {
		kb, n = n, kb
	}
	if c.Rows != m || c.Cols != n || kb != k {
		panic(fmt.Sprintf("kernel: C = %s: C is %d×%d, A %d×%d, B %d×%d", what, c.Rows, c.Cols, a.Rows, a.Cols, b.Rows, b.Cols))
	}
	a.check("A")
	b.check("B")
	c.check("C")
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		if !accumulate {
			for i := range m {
				clear(c.Row(i))
			}
		}
		return
	}
	if c32, ok := floats32(c.Data); ok {
		a32, _ := floats32(a.Data)
		b32, _ := floats32(b.Data)
		g := product[float32]{kernel: &current.Load().gemm, buffers: &buffers32, m: m, n: n, k: k,
			c: c32, ldc: c.Stride, a: newSide(a32, a.Stride, transA), b: newSide(b32, b.Stride, !transB), accumulate: accumulate}
		g.run(p)
		return
	}
	g := product[float64]{kernel: &generic64, buffers: &buffers64, m: m, n: n, k: k,
		c: floats64(c.Data), ldc: c.Stride, a: newSide(floats64(a.Data), a.Stride, transA),
		b: newSide(floats64(b.Data), b.Stride, !transB), accumulate: accumulate}
	g.run(p)
}
