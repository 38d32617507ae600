package decoder

import "besa/internal/kernel"

// rowGrain is the number of rows that elementwise work is split into. It fixes
// the split, so that no result depends on the number of threads.
const rowGrain = 16

// rmsNorm writes x·rstd·weight to dst and keeps each row's rstd.
func rmsNorm[T kernel.Float](p *kernel.Pool, dst, x kernel.Mat[T], weight, rstd []T, eps float64) {
	p.For(x.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			rstd[i] = kernel.RMSNorm(dst.Row(i), x.Row(i), weight, eps)
		}
	})
}

// rmsNormBackward adds (or, with accumulate false, writes) the gradient with
// respect to x; dx may be dy.
func rmsNormBackward[T kernel.Float](p *kernel.Pool, dx, dy, x kernel.Mat[T], weight, rstd []T, accumulate bool) {
	p.For(x.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernel.RMSNormGrad(dx.Row(i), dy.Row(i), x.Row(i), weight, rstd[i], accumulate)
		}
	})
}

// gainGradient writes Σ_t dy·x·rstd, the gradient with respect to a norm's gains,
// every column's sum in the order of the rows.
func gainGradient[T kernel.Float](p *kernel.Pool, dst []T, dy, x kernel.Mat[T], rstd []T) {
	const columns = 64
	p.For(len(dst), columns, func(lo, hi int) {
		sum := dst[lo:hi]
		clear(sum)
		for t := range dy.Rows {
			dyRow, xRow, r := dy.Row(t)[lo:hi], x.Row(t)[lo:hi], rstd[t]
			for j := range sum {
				sum[j] += dyRow[j] * xRow[j] * r
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
