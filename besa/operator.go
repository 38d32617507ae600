package besa

import (
	"sync"

	"besa/internal/kernel"
)

// The mask operator turns a layer's weights into the masked (and quantised)
// weights of a forward pass, and takes the gradient with respect to those back
// to what is learned: one pass over the weights each way.

// rowGrain is the number of rows that one unit of its parallel work covers.
const rowGrain = 8

// applyMask writes w with every row's prune least important weights set to
// zero; dst may be w.
func applyMask(p *kernel.Pool, dst, w kernel.Mat[float32], rank *Ranking, prune []int) {
	p.For(w.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernel.KeepRanked(dst.Row(i), w.Row(i), rank.Row(i), prune[i])
		}
	})
}

// applyMask writes the quantised weights, pruned ones set to zero; dst may be w.
func (c *clipping) applyMask(p *kernel.Pool, dst, w kernel.Mat[float32], rank *Ranking, prune []int) {
	p.For(c.rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			c.gridRow(i).Quantize(dst.Row(i), w.Row(i), rank.Row(i), prune[i])
		}
	})
}

// Backward fills Grad. dw is the gradient with respect to the masked weights
// ŵ = w∘M, so that dL/dM = dw∘w; dAlpha is the gradient of the sparsity
// penalty with respect to every row's α. With a grid, ŵ is made of the
// quantised weights, and the gradients of a grid that is learned are filled in
// the same pass.
//
// Only sums over rank prefixes are needed: dL/dβ_d = −Σ_{k < ⌊cols·p_d⌋} dL/dM
// at rank k.
func (a *Allocation) Backward(p *kernel.Pool, rank *Ranking, w, dw kernel.Mat[float32], c *clipping, dAlpha float32) {
	p.For(a.Rows, rowGrain, func(lo, hi int) {
		s := rowScratches.Get().(*rowScratch)
		defer rowScratches.Put(s)
		sums := resized(&s.sums, a.Cols)
		for i := lo; i < hi; i++ {
			row := w.Row(i)
			if c != nil {
				row = c.backwardRow(s, i, row, dw.Row(i), rank.Row(i), a.Prune[i])
			}
			kernel.RankSums(sums, row, dw.Row(i), rank.Row(i))
			if a.Shared {
				a.betaGrad(a.dBeta[i*len(a.Cand.P):][:len(a.Cand.P)], sums, dAlpha)
				continue
			}
			dBeta := resized(&s.dBeta, len(a.Cand.P))
			a.betaGrad(dBeta, sums, dAlpha)
			a.logitsGrad(i, dBeta)
		}
	})
	if a.Shared {
		sum := a.dBeta[:len(a.Cand.P)]
		for i := 1; i < a.Rows; i++ {
			kernel.Add(sum, sum, a.dBeta[i*len(sum):][:len(sum)])
		}
		a.logitsGrad(0, sum)
	}
}

// betaGrad fills dL/dβ of one row from the sums of dL/dM over rank prefixes.
func (a *Allocation) betaGrad(dBeta, sums []float32, dAlpha float32) {
	for k, n := range a.counts {
		dBeta[k] = dAlpha * a.Cand.P[k]
		if n > 0 {
			dBeta[k] -= sums[n-1]
		}
	}
}

// logitsGrad fills distribution i's Grad from dL/dβ.
func (a *Allocation) logitsGrad(i int, dBeta []float32) {
	d := len(dBeta)
	grad := a.Grad[i*d : (i+1)*d]
	kernel.SoftmaxGrad(grad, a.Beta[i*d:(i+1)*d], dBeta)
	kernel.Mul(grad, grad, a.slope[i*d:(i+1)*d])
}

// rowScratch is what one row's backward pass needs for a while.
type rowScratch struct {
	value, sums, dBeta []float32
	dStep, dZero       []float32
}

var rowScratches = sync.Pool{New: func() any { return new(rowScratch) }}

// resized returns n values of a scratch vector, which grows when it must.
func resized(v *[]float32, n int) []float32 {
	if cap(*v) < n {
		*v = make([]float32, n)
	}
	return (*v)[:n]
}

// maskBits returns the mask as words of 64 columns per row, bit set = kept.
func maskBits(p *kernel.Pool, rank *Ranking, prune []int) []uint64 {
	words := (rank.Cols + 63) / 64
	mask := make([]uint64, rank.Rows*words)
	p.For(rank.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := mask[i*words : (i+1)*words]
			for j, r := range rank.Row(i) {
				if int(r) >= prune[i] {
					row[j/64] |= 1 << (j % 64)
				}
			}
		}
	})
	return mask
}
