package besa

import (
	"math"

	"besa/internal/kernel"
)

// PCGSteps is the number of conjugate gradient steps: ALPS stops at ten.
const PCGSteps = 10

// pcgTolerance ends a row's descent: its gradient's preconditioned square has
// fallen to this share of what it was.
const pcgTolerance = 1e-10

// conjugate minimises tr((W − W₀)·H·(W − W₀)ᵀ) over the survivors of w, rows ×
// columns, where W₀ is what w holds on entry and H = h + ridge·1 is damped like
// the factor of the sweep, by conjugate gradients with the diagonal as
// preconditioner (Meng et al. 2024, ALPS, algorithm 2). Rows are independent
// problems that share H, so a step is one product of rows × columns × columns.
// Pruned weights become zero; rows whose problem breaks down stay as they are.
func conjugate(p *kernel.Pool, w kernel.Mat[float32], h kernel.Mat[float32], ridge float32, keep []bool) {
	rows, cols := w.Rows, w.Cols
	diag := make([]float32, cols) // the preconditioner
	for j := range diag {
		diag[j] = h.Row(j)[j] + ridge
	}
	residual, z := kernel.NewMat[float32](rows, cols), kernel.NewMat[float32](rows, cols)
	dir, image := kernel.NewMat[float32](rows, cols), kernel.NewMat[float32](rows, cols)
	rz, first := make([]float64, rows), make([]float64, rows)

	// Dropping the pruned weights leaves the error E = W₀ − W, and the residual E·H.
	each := func(f func(i int, kept []bool)) {
		p.For(rows, 4, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				f(i, keep[i*cols:(i+1)*cols])
			}
		})
	}
	each(func(i int, kept []bool) {
		row, e := w.Row(i), dir.Row(i)
		for j, k := range kept {
			if !k {
				e[j], row[j] = row[j], 0
			}
		}
	})
	kernel.MulNN(p, residual, dir, h, false)
	each(func(i int, kept []bool) {
		r, d := residual.Row(i), dir.Row(i)
		for j, k := range kept {
			if !k {
				r[j] = 0
			}
			z.Row(i)[j] = r[j] / diag[j]
		}
		rz[i] = dot(r, z.Row(i))
		first[i] = rz[i]
		copy(d, z.Row(i))
	})
	for range PCGSteps {
		kernel.MulNN(p, image, dir, h, false)
		each(func(i int, kept []bool) {
			d, q, r := dir.Row(i), image.Row(i), residual.Row(i)
			for j, k := range kept {
				q[j] += ridge * d[j]
				if !k {
					q[j] = 0
				}
			}
			curvature := dot(d, q)
			if !(rz[i] > pcgTolerance*first[i]) || !(curvature > 0) || math.IsInf(curvature, 0) {
				clear(d) // this row is done
				return
			}
			alpha := float32(rz[i] / curvature)
			kernel.Axpy(alpha, d, w.Row(i))
			kernel.Axpy(-alpha, q, r)
			zr := z.Row(i)
			for j := range zr {
				zr[j] = r[j] / diag[j]
			}
			next := dot(r, zr)
			beta := float32(next / rz[i])
			rz[i] = next
			for j := range d {
				d[j] = zr[j] + beta*d[j]
			}
		})
	}
}

func dot(a, b []float32) float64 {
	var sum float64
	for j, v := range a {
		sum += float64(v) * float64(b[j])
	}
	return sum
}
