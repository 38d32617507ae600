package decoder

import (
	"math"

	"besa/internal/kernel"
)

// rowGrain is the number of rows that elementwise work is split into. It fixes
// the split, so that no result depends on the number of threads.
const rowGrain = 16

// rmsNorm writes x·rstd·weight to dst and each row's rstd = 1/√(mean(x²)+eps).
func rmsNorm[T kernel.Float](p *kernel.Pool, dst, x kernel.Mat[T], weight, rstd []T, eps float64) {
	p.For(x.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			src, out := x.Row(i), dst.Row(i)
			ss := kernel.SumSquares(src)
			r := T(1 / math.Sqrt(float64(ss)/float64(len(src))+eps))
			rstd[i] = r
			for j, v := range src {
				out[j] = v * r * weight[j]
			}
		}
	})
}

// rmsNormBackward adds (or, with accumulate false, writes) the gradient with
// respect to x: rstd·(w∘dy − x̂·mean(w∘dy∘x̂)) with x̂ = x·rstd.
func rmsNormBackward[T kernel.Float](p *kernel.Pool, dx, dy, x kernel.Mat[T], weight, rstd []T, accumulate bool) {
	p.For(x.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			xi, gi, out, r := x.Row(i), dy.Row(i), dx.Row(i), rstd[i]
			var dot T
			for j, g := range gi {
				dot += g * weight[j] * xi[j]
			}
			c := dot * r * r / T(len(xi))
			if accumulate {
				for j, g := range gi {
					out[j] += r * (g*weight[j] - xi[j]*c)
				}
				continue
			}
			for j, g := range gi {
				out[j] = r * (g*weight[j] - xi[j]*c)
			}
		}
	})
}

// headRows views a tokens × (heads·headDim) matrix as one row per head.
func headRows[T kernel.Float](m kernel.Mat[T], headDim int) kernel.Mat[T] {
	return kernel.MatOf(m.Rows*m.Cols/headDim, headDim, m.Data[:m.Rows*m.Cols])
}

// addBias adds bias to every row of m.
func addBias[T kernel.Float](p *kernel.Pool, m kernel.Mat[T], bias []T) {
	p.For(m.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernel.Axpy(1, bias, m.Row(i))
		}
	})
}
