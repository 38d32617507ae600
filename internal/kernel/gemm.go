package kernel

import "fmt"

// Form says which operand of a product is stored transposed.
type Form int

// The forms.
const (
	NT Form = iota // C = A·Bᵀ: A is m×k, B n×k
	NN             // C = A·B:  A is m×k, B k×n
	TN             // C = Aᵀ·B: A is k×m, B k×n
)

// String returns the form as in "C = A·Bᵀ".
func (f Form) String() string {
	switch f {
	case NT:
		return "A·Bᵀ"
	case NN:
		return "A·B"
	case TN:
		return "Aᵀ·B"
	}
	return fmt.Sprintf("form(%d)", int(f))
}

// MulNT computes C = A·Bᵀ, or C += A·Bᵀ with accumulate: C is m×n, A m×k, B n×k.
// C must not overlap A or B.
func MulNT[T Float](p *Pool, c, a, b Mat[T], accumulate bool) {
	MatMul(p, NT, FP32, c, a, b, accumulate)
}

// MulNN computes C = A·B, or C += A·B with accumulate: C is m×n, A m×k, B k×n.
// C must not overlap A or B.
func MulNN[T Float](p *Pool, c, a, b Mat[T], accumulate bool) {
	MatMul(p, NN, FP32, c, a, b, accumulate)
}

// MulTN computes C = Aᵀ·B, or C += Aᵀ·B with accumulate: C is m×n, A k×m, B k×n.
// C must not overlap A or B.
func MulTN[T Float](p *Pool, c, a, b Mat[T], accumulate bool) {
	MatMul(p, TN, FP32, c, a, b, accumulate)
}

// MatMul computes the m×n product C of a form in a precision, or adds it to C
// with accumulate. C must not overlap A or B.
func MatMul[T Float](p *Pool, f Form, precision Precision, c, a, b Mat[T], accumulate bool) {
	m, k := a.Rows, a.Cols
	if f == TN {
		m, k = k, m
	}
	kb, n := b.Rows, b.Cols
	if f == NT {
		kb, n = n, kb
	}
	if c.Rows != m || c.Cols != n || kb != k {
		panic(fmt.Sprintf("kernel: C = %v: C is %d×%d, A %d×%d, B %d×%d", f, c.Rows, c.Cols, a.Rows, a.Cols, b.Rows, b.Cols))
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
		g := product[float32]{kernel: current.Load().product(precision), buffers: &buffers32, m: m, n: n, length: k,
			c: c32, ldc: c.Stride, a: newSide(a32, a.Stride, f == TN), b: newSide(b32, b.Stride, f != NT), accumulate: accumulate}
		g.run(p)
		return
	}
	g := product[float64]{kernel: &generic64, buffers: &buffers64, m: m, n: n, length: k,
		c: floats64(c.Data), ldc: c.Stride, a: newSide(floats64(a.Data), a.Stride, f == TN),
		b: newSide(floats64(b.Data), b.Stride, f != NT), accumulate: accumulate}
	g.run(p)
}
