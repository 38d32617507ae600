// Package linalg factors the symmetric positive definite matrices of
// calibration statistics.
//
// In: H = XᵀX of a linear layer's inputs, columns × columns. Out: the upper
// triangular U with H⁻¹ = UᵀU, which second-order pruning walks through column
// by column. Both steps are blocked, so that nearly all arithmetic is matrix
// products; results do not depend on the number of threads.
package linalg

import (
	"errors"
	"fmt"
	"math"

	"besa/internal/kernel"
)

// ErrNotPositiveDefinite marks a matrix that has no Cholesky factor.
var ErrNotPositiveDefinite = errors.New("matrix is not positive definite")

// block is the width of the column blocks of both algorithms.
const block = 96

// InverseFactor replaces the symmetric positive definite h by the upper
// triangular U with h⁻¹ = UᵀU; what lies below the diagonal is zero.
//
// With rows and columns in reverse order h = LLᵀ; back in order that is h = RRᵀ
// with R upper triangular, and U = R⁻¹. The inverse of h itself is never formed.
func InverseFactor(p *kernel.Pool, h kernel.Mat[float32]) error {
	if h.Rows != h.Cols {
		return fmt.Errorf("factor a %d×%d matrix: it is not square", h.Rows, h.Cols)
	}
	reverse(h)
	if err := cholesky(p, h); err != nil {
		return err
	}
	invertLower(p, h)
	reverse(h)
	return nil
}

// reverse turns both the order of the rows and that of the columns.
func reverse(m kernel.Mat[float32]) {
	for i, j := 0, m.Rows-1; i <= j; i, j = i+1, j-1 {
		a, b := m.Row(i), m.Row(j)
		for k, l := 0, m.Cols-1; k < m.Cols; k, l = k+1, l-1 {
			if i == j && k >= l {
				break
			}
			a[k], b[l] = b[l], a[k]
		}
	}
}

// cholesky replaces a by the lower triangular L with a = LLᵀ and clears the
// rest. It works from left to right: a block of columns first loses what the
// columns before it explain (one product), then it is factored.
func cholesky(p *kernel.Pool, a kernel.Mat[float32]) error {
	n := a.Rows
	for j0 := 0; j0 < n; j0 += block {
		j1 := min(j0+block, n)
		if j0 > 0 {
			minus := negated(a.View(j0, j1, 0, j0))
			kernel.MulNT(p, a.View(j0, n, j0, j1), a.View(j0, n, 0, j0), minus, true)
		}
		if err := choleskyDiagonal(a, j0, j1); err != nil {
			return err
		}
		p.For(n-j1, 16, func(lo, hi int) {
			for i := j1 + lo; i < j1+hi; i++ {
				solveRow(a, i, j0, j1)
			}
		})
	}
	for i := range n {
		clear(a.Row(i)[i+1:])
	}
	return nil
}

// choleskyDiagonal factors the diagonal block of columns j0 to j1, in float64.
func choleskyDiagonal(a kernel.Mat[float32], j0, j1 int) error {
	for j := j0; j < j1; j++ {
		row := a.Row(j)
		d := float64(row[j])
		for _, v := range row[j0:j] {
			d -= float64(v) * float64(v)
		}
		if !(d > 0) || math.IsInf(d, 1) {
			return fmt.Errorf("%w: pivot %d is %g", ErrNotPositiveDefinite, j, d)
		}
		root := math.Sqrt(d)
		row[j] = float32(root)
		for i := j + 1; i < j1; i++ {
			other := a.Row(i)
			s := float64(other[j])
			for k := j0; k < j; k++ {
				s -= float64(other[k]) * float64(row[k])
			}
			other[j] = float32(s / root)
		}
	}
	return nil
}

// solveRow finishes row i of the columns j0 to j1: x·Lᵀ = row.
func solveRow(a kernel.Mat[float32], i, j0, j1 int) {
	row := a.Row(i)
	for j := j0; j < j1; j++ {
		pivot := a.Row(j)
		s := row[j] - kernel.Dot(row[j0:j], pivot[j0:j])
		row[j] = s / pivot[j]
	}
}

// invertLower replaces the lower triangular l by its inverse, block row by
// block row: X_i,:i = −L_ii⁻¹·(L_i,:i·X_:i,:i).
func invertLower(p *kernel.Pool, l kernel.Mat[float32]) {
	n := l.Rows
	product := kernel.NewMat[float32](block, n)
	for i0 := 0; i0 < n; i0 += block {
		i1 := min(i0+block, n)
		inv := invertDiagonal(l.View(i0, i1, i0, i1))
		if i0 > 0 {
			t := product.View(0, i1-i0, 0, i0)
			kernel.MulNN(p, t, negated(l.View(i0, i1, 0, i0)), l.View(0, i0, 0, i0), false)
			kernel.MulNN(p, l.View(i0, i1, 0, i0), inv, t, false)
		}
		for i := range inv.Rows {
			copy(l.Row(i0 + i)[i0:i1], inv.Row(i))
		}
	}
}

// invertDiagonal returns the inverse of a small lower triangular matrix.
func invertDiagonal(l kernel.Mat[float32]) kernel.Mat[float32] {
	inv := kernel.NewMat[float32](l.Rows, l.Rows)
	for i := range l.Rows {
		row := l.Row(i)
		pivot := float64(row[i])
		for j := range i {
			var s float64
			for k := j; k < i; k++ {
				s += float64(row[k]) * float64(inv.Row(k)[j])
			}
			inv.Row(i)[j] = float32(-s / pivot)
		}
		inv.Row(i)[i] = float32(1 / pivot)
	}
	return inv
}

func negated(m kernel.Mat[float32]) kernel.Mat[float32] {
	n := kernel.NewMat[float32](m.Rows, m.Cols)
	for i := range m.Rows {
		dst := n.Row(i)
		for j, v := range m.Row(i) {
			dst[j] = -v
		}
	}
	return n
}
