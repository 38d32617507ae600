package besa

import (
	"math"

	"besa/internal/kernel"
)

// Allocation is the learnable sparsity of one linear layer: a distribution β
// over candidates for every row, or one for all of them (layer-wise).
//
// β = softmax(σ(logits)), as in the official code: the sigmoid keeps the large
// steps of Prodigy stable, and confines α to [0.3775, 0.6225] around the mean
// of the candidates. For other targets the candidates' exponent Tilt moves the
// window: β ∝ exp(σ(logit) + Tilt·p).
//
// The hard mask prunes the ⌊α·cols⌋ least important weights of a row, or as many
// as the paper's Eq 5 says ([MaskRule]). Its gradient passes straight through
// P(prune at rank k) = Σ_{d: k < count_d} β_d, where count_d is what candidate d
// prunes; see Backward.
type Allocation struct {
	Rows, Cols int
	Shared     bool // one distribution for all rows
	Cand       Candidates
	Tilt       float32
	Plain      bool // β = softmax(logits + Tilt·p), without the sigmoid

	Logits []float32 // distributions × candidates
	Beta   []float32 // distributions × candidates
	Alpha  []float32 // rows
	Prune  []int     // rows: weights to prune
	Grad   []float32 // distributions × candidates: dL/dLogits

	counts []int
	slope  []float32 // distributions × candidates: derivative of what the softmax sees of a logit
	dBeta  []float32 // rows × candidates, where rows share a distribution
}

// NewAllocation starts every row at equal logits.
func NewAllocation(rows, cols int, cand Candidates, tilt float32, granularity Granularity) *Allocation {
	a := &Allocation{
		Rows: rows, Cols: cols, Shared: granularity == GranularityLayer, Cand: cand, Tilt: tilt,
		Alpha: make([]float32, rows), Prune: make([]int, rows),
		counts: cand.Counts(cols),
	}
	n := rows * len(cand.P)
	if a.Shared {
		a.dBeta = make([]float32, n)
		n = len(cand.P)
	}
	a.Logits, a.Beta, a.Grad, a.slope = make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	return a
}

// distributions is the number of separate distributions.
func (a *Allocation) distributions() int {
	if a.Shared {
		return 1
	}
	return a.Rows
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// smooth writes what the softmax sees of the logits, and the derivative.
func (a *Allocation) smooth(value, slope, logits []float32) {
	if a.Plain {
		copy(value, logits)
		for k := range slope {
			slope[k] = 1
		}
		return
	}
	kernel.Sigmoid(value, slope, logits)
}

// Update recomputes β, α and the prune counts from the logits.
func (a *Allocation) Update(p *kernel.Pool) {
	d := len(a.Cand.P)
	p.For(a.distributions(), 16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			beta := a.Beta[i*d : (i+1)*d]
			a.smooth(beta, a.slope[i*d:(i+1)*d], a.Logits[i*d:(i+1)*d])
			if a.Tilt != 0 {
				kernel.Axpy(a.Tilt, a.Cand.P, beta)
			}
			kernel.Softmax(beta, beta)
			a.Alpha[i] = kernel.Dot(beta, a.Cand.P)
			a.Prune[i] = a.Cand.pruned(beta, a.Alpha[i], a.counts, a.Cols)
		}
	})
	if a.Shared {
		for i := range a.Alpha {
			a.Alpha[i], a.Prune[i] = a.Alpha[0], a.Prune[0]
		}
	}
}

// share is the fraction of row i that goes before counts are settled: α, or
// what Eq 5 makes of it.
func (a *Allocation) share(i int) float64 {
	if a.Cand.Rule == RulePaper {
		return float64(a.Prune[i]) / float64(a.Cols)
	}
	return float64(a.Alpha[i])
}

// Sum returns Σ_rows α·cols, the expected number of pruned weights.
func (a *Allocation) Sum() float64 {
	var s float64
	for _, v := range a.Alpha {
		s += float64(v)
	}
	return s * float64(a.Cols)
}
