package besa

import (
	"math"

	"besa/internal/kernel"
)

// Allocation is the learnable sparsity of one linear layer: a distribution β
// over candidates for every row.
//
// β = softmax(σ(logits)), as in the official code: the sigmoid keeps the large
// steps of Prodigy stable, and confines α to [0.3775, 0.6225] around the mean
// of the candidates. For other targets the candidates' exponent Tilt moves the
// window: β ∝ exp(σ(logit) + Tilt·p).
//
// The hard mask prunes the ⌊α·cols⌋ least important weights of a row (official
// code; the paper's Eq 5 would prune where P ≥ α, a slightly different count).
// Its gradient passes straight through P(prune at rank k) = Σ_{d: k < ⌊cols·p_d⌋} β_d.
type Allocation struct {
	Rows, Cols int
	Cand       Candidates
	Tilt       float32
	Plain      bool // β = softmax(logits + Tilt·p), without the sigmoid

	Logits []float32 // rows × candidates
	Beta   []float32 // rows × candidates
	Alpha  []float32 // rows
	Prune  []int     // rows: weights to prune
	Grad   []float32 // rows × candidates: dL/dLogits

	counts []int
	slope  []float32 // rows × candidates: derivative of what the softmax sees of a logit
}

// NewAllocation starts every row at equal logits.
func NewAllocation(rows, cols int, cand Candidates, tilt float32) *Allocation {
	n := rows * len(cand.P)
	return &Allocation{
		Rows: rows, Cols: cols, Cand: cand, Tilt: tilt,
		Logits: make([]float32, n), Beta: make([]float32, n), Grad: make([]float32, n), slope: make([]float32, n),
		Alpha: make([]float32, rows), Prune: make([]int, rows),
		counts: cand.Counts(cols),
	}
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
	for k, l := range logits {
		value[k] = -l
	}
	kernel.Exp(value, value)
	for k, e := range value {
		s := 1 / (1 + e)
		value[k], slope[k] = s, s*(1-s)
	}
}

// Update recomputes β, α and the prune counts from the logits.
func (a *Allocation) Update(p *kernel.Pool) {
	d := len(a.Cand.P)
	p.For(a.Rows, 16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			beta := a.Beta[i*d : (i+1)*d]
			a.smooth(beta, a.slope[i*d:(i+1)*d], a.Logits[i*d:(i+1)*d])
			if a.Tilt != 0 {
				kernel.Axpy(a.Tilt, a.Cand.P, beta)
			}
			kernel.Softmax(beta, beta)
			a.Alpha[i] = kernel.Dot(beta, a.Cand.P)
			a.Prune[i] = min(max(int(a.Alpha[i]*float32(a.Cols)), 0), a.Cols)
		}
	})
}

// Sum returns Σ_rows α·cols, the expected number of pruned weights.
func (a *Allocation) Sum() float64 {
	var s float64
	for _, v := range a.Alpha {
		s += float64(v)
	}
	return s * float64(a.Cols)
}

// Backward fills Grad. dw is the gradient with respect to the masked weights
// ŵ = w∘M, so that dL/dM = dw∘w; dAlpha is the gradient of the sparsity
// penalty with respect to every row's α.
//
// Only sums over rank prefixes are needed: dL/dβ_d = −Σ_{k < ⌊cols·p_d⌋} dL/dM
// at rank k. One pass over the weights in rank order collects them all.
func (a *Allocation) Backward(p *kernel.Pool, rank *Ranking, w, dw kernel.Mat[float32], dAlpha float32) {
	d := len(a.Cand.P)
	p.For(a.Rows, 8, func(lo, hi int) {
		dBeta := make([]float32, d)
		for i := lo; i < hi; i++ {
			a.prefixSums(dBeta, rank.Row(i), w.Row(i), dw.Row(i))
			beta := a.Beta[i*d : (i+1)*d]
			var mean float32
			for k := range dBeta {
				dBeta[k] += dAlpha * a.Cand.P[k]
				mean += beta[k] * dBeta[k]
			}
			slope, grad := a.slope[i*d:(i+1)*d], a.Grad[i*d:(i+1)*d]
			for k := range grad {
				grad[k] = beta[k] * (dBeta[k] - mean) * slope[k]
			}
		}
	})
}

// prefixSums writes −Σ_{k < counts_d} w·dw at rank k for every candidate d.
func (a *Allocation) prefixSums(dst []float32, order []uint16, w, dw []float32) {
	var sum float32
	k := 0
	for c := len(a.counts) - 1; c >= 0; c-- {
		var part float32
		for _, j := range order[k:max(a.counts[c], k)] {
			part += w[j] * dw[j]
		}
		k = max(a.counts[c], k)
		sum += part
		dst[c] = -sum
	}
}

// applyMask writes w with every row's prune least important weights set to zero.
func applyMask(p *kernel.Pool, dst, w kernel.Mat[float32], rank *Ranking, prune []int) {
	p.For(w.Rows, 8, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			out := dst.Row(i)
			copy(out, w.Row(i))
			for _, j := range rank.Row(i)[:prune[i]] {
				out[j] = 0
			}
		}
	})
}

// maskBits returns the mask as words of 64 columns per row, bit set = kept.
func maskBits(p *kernel.Pool, rank *Ranking, prune []int) []uint64 {
	words := (rank.Cols + 63) / 64
	mask := make([]uint64, rank.Rows*words)
	p.For(rank.Rows, 8, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := mask[i*words : (i+1)*words]
			for _, j := range rank.Row(i)[prune[i]:] {
				row[j/64] |= 1 << (j % 64)
			}
		}
	})
	return mask
}
