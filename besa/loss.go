package besa

import (
	"math"

	"besa/internal/kernel"
)

// reconstruction is the loss over one window: the official Σ_t,c
// ((out − ref)/‖ref_:,c‖₂)² / channels, where a channel that is zero throughout
// the reference does not count; the same after every token's values, of both,
// have been divided by the root mean square of its reference; or the paper's
// Σ_t,c (out − ref)². It writes the gradient with respect to out to grad.
func reconstruction(p *kernel.Pool, form LossForm, out, ref, grad kernel.Mat[float32]) float64 {
	const width = 64 // columns per unit of work
	units := (out.Cols + width - 1) / width
	sums := make([]float64, units)
	var token []float32 // what a token's squares are multiplied by; nil: one
	if form == LossNormed {
		token = inverseSquares(p, ref)
	}
	p.For(units, 1, func(u0, u1 int) {
		var norms, weights, scaled [width]float32
		for u := u0; u < u1; u++ {
			lo, hi := u*width, min((u+1)*width, out.Cols)
			norm, weight, row := norms[:hi-lo], weights[:hi-lo], scaled[:hi-lo]
			clear(norm)
			for t := range ref.Rows {
				r := ref.Row(t)[lo:hi]
				if token == nil {
					kernel.MulAdd(norm, r, r)
					continue
				}
				clear(row)
				kernel.Axpy(token[t], r, row)
				kernel.MulAdd(norm, r, row)
			}
			for j, n := range norm {
				weight[j] = 1 / (n * float32(out.Cols))
				if form == LossPaper {
					weight[j] = 1
				} else if !(weight[j] <= math.MaxFloat32) { // zero throughout, or as good as
					weight[j] = 0
				}
			}
			for t := range out.Rows {
				w := weight
				if token != nil {
					w = row
					clear(row)
					kernel.Axpy(token[t], weight, row)
				}
				sums[u] += float64(kernel.WeightedError(grad.Row(t)[lo:hi], out.Row(t)[lo:hi], ref.Row(t)[lo:hi], w))
			}
		}
	})
	var loss float64
	for _, s := range sums {
		loss += s
	}
	return loss
}

// inverseSquares returns the inverse mean square of every token of x; zero for
// a token that is zero, which then does not count.
func inverseSquares(p *kernel.Pool, x kernel.Mat[float32]) []float32 {
	inv := make([]float32, x.Rows)
	p.For(x.Rows, 16, func(lo, hi int) {
		for t := lo; t < hi; t++ {
			row := x.Row(t)
			if mean := kernel.Dot(row, row) / float32(len(row)); mean > 0 && 1/mean <= math.MaxFloat32 {
				inv[t] = 1 / mean
			}
		}
	})
	return inv
}

// squaredError returns Σ(out − ref)² and Σref², whose ratio's root is the
// relative reconstruction error.
func squaredError(out, ref kernel.Mat[float32]) (diff, norm float64) {
	for t := range ref.Rows {
		o := out.Row(t)
		for j, r := range ref.Row(t) {
			d := float64(o[j] - r)
			diff += d * d
			norm += float64(r) * float64(r)
		}
	}
	return diff, norm
}

// penalty is λ((s − α̂)/α̂)² (official) or λ(s − α̂)² (Eq 1), and its derivative
// with respect to s.
func penalty(form LossForm, lambda, sparsity, target float64) (loss, grad float64) {
	if form == LossPaper {
		e := sparsity - target
		return lambda * e * e, 2 * lambda * e
	}
	e := (sparsity - target) / target
	return lambda * e * e, 2 * lambda * e / target
}

// tiltFor returns the tilt at which equal logits give a mean candidate of
// target; 0 for a target of one half.
func tiltFor(c Candidates, target float64) float32 {
	mean := func(tilt float64) float64 {
		var sum, weighted float64
		for _, p := range c.P {
			e := math.Exp(tilt * (float64(p) - target))
			sum += e
			weighted += e * float64(p)
		}
		return weighted / sum
	}
	if math.Abs(mean(0)-target) < 1e-9 {
		return 0
	}
	lo, hi := -1000.0, 1000.0
	for range 100 {
		if mid := (lo + hi) / 2; mean(mid) < target {
			lo = mid
		} else {
			hi = mid
		}
	}
	return float32((lo + hi) / 2)
}
