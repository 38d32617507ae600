package besa

import (
	"math"

	"besa/internal/kernel"
)

const (
	levels   = kernel.GridTop + 1 // of a 4-bit code
	zeroCode = 8                  // the symmetric grid's code for zero
	clipInit = 4                  // OmniQuant's start value of a clipping logit: γ = 0.982

	lower, upper = 0, 1 // indices of the clipping strengths
)

// clipping is the 4-bit grid of one linear layer with learnable clipping
// strengths (Eq 7). Each group of consecutive weights of a row has
//
//	asymmetric  h = (γ1·max − γ0·min)/15,  zero z = −⌊γ0·min/h⌉,  value = h·(code − z)
//	symmetric   h = γ1·top,                zero 8,                value = h·(code − 8)
//
// with γ = σ(raw). Steps h are rounded to what the file stores before they are
// used, so that what is trained is what is stored; the rounding passes
// gradients straight through.
type clipping struct {
	grid         Grid
	rows, cols   int
	group        int
	groups       int // per row
	low, top     []float32
	raw, rawGrad [2][]float32 // logits of γ0 (lower) and γ1 (upper); the symmetric grid has only γ1
	gamma, slope [2][]float32 // γ and its derivative by the logit
	step         []float32    // h
	zero         []float32
	round        func(float32) float32 // h to its stored form
	frozen       bool                  // the logits are not learned
}

func newClipping(grid Grid, rows, cols, group int) *clipping {
	groups := (cols + group - 1) / group
	n := rows * groups
	c := &clipping{
		grid: grid, rows: rows, cols: cols, group: group, groups: groups,
		low: make([]float32, n), top: make([]float32, n), step: make([]float32, n), zero: make([]float32, n),
		round: func(h float32) float32 { return toStep(h, maxStep) },
	}
	first := upper
	if grid == GridAsymmetric {
		first = lower
		// Q4_1 stores the product of a step and a zero point 0 … 15.
		c.round = func(h float32) float32 { return toStep(h, maxStep15) }
	}
	for s := first; s <= upper; s++ {
		c.raw[s], c.rawGrad[s] = make([]float32, n), make([]float32, n)
		c.gamma[s], c.slope[s] = make([]float32, n), make([]float32, n)
	}
	return c
}

// span returns group g's range of columns.
func (c *clipping) span(g int) (lo, hi int) { return g * c.group, min((g+1)*c.group, c.cols) }

// fitRange sets the asymmetric grid's ends to every group's minimum and
// maximum, zero included: a pruned weight must be representable. Clipping
// starts where it can be learned; where it is not (the baselines round to the
// nearest level of the full range), γ is 1.
func (c *clipping) fitRange(p *kernel.Pool, w kernel.Mat[float32], learn bool) {
	start := float32(math.Inf(1))
	if learn {
		start = clipInit
	}
	for _, raw := range c.raw {
		for i := range raw {
			raw[i] = start
		}
	}
	p.For(c.rows, 16, func(r0, r1 int) {
		for i := r0; i < r1; i++ {
			row := w.Row(i)
			for g := range c.groups {
				lo, hi := c.span(g)
				var low, top float32
				for _, v := range row[lo:hi] {
					low, top = min(low, v), max(top, v)
				}
				c.low[i*c.groups+g], c.top[i*c.groups+g] = low, top
			}
		}
	})
}

// update recomputes steps and zero points from the clipping logits.
func (c *clipping) update(p *kernel.Pool) {
	p.For(len(c.step), 1024, func(lo, hi int) {
		for s, raw := range c.raw {
			if raw != nil {
				kernel.Sigmoid(c.gamma[s][lo:hi], c.slope[s][lo:hi], raw[lo:hi])
			}
		}
		for i := lo; i < hi; i++ {
			top := c.gamma[upper][i] * c.top[i]
			if c.grid == GridSymmetric {
				c.step[i], c.zero[i] = c.round(top), zeroCode
				continue
			}
			low := c.gamma[lower][i] * c.low[i]
			h := c.round((top - low) / (levels - 1))
			c.step[i], c.zero[i] = h, 0
			if h != 0 {
				c.zero[i] = min(max(float32(-math.RoundToEven(float64(low/h))), 0), levels-1)
			}
		}
	})
}

// gridRow is row i's grid.
func (c *clipping) gridRow(i int) kernel.GridRow {
	lo, hi := i*c.groups, (i+1)*c.groups
	return kernel.GridRow{Group: c.group, Step: c.step[lo:hi], Zero: c.zero[lo:hi]}
}

// codes returns the codes of all weights, row-major.
func (c *clipping) codes(p *kernel.Pool, w kernel.Mat[float32]) []uint8 {
	codes := make([]uint8, c.rows*c.cols)
	p.For(c.rows, 8, func(r0, r1 int) {
		for i := r0; i < r1; i++ {
			src, out := w.Row(i), codes[i*c.cols:(i+1)*c.cols]
			for g := range c.groups {
				lo, hi := c.span(g)
				h, z := c.step[i*c.groups+g], c.zero[i*c.groups+g]
				for j := lo; j < hi; j++ {
					q, _ := kernel.GridCode(src[j], h, z)
					out[j] = uint8(q)
				}
			}
		}
	})
	return codes
}

// backward fills rawGrad from dw, the gradient with respect to the masked,
// quantised weights.
func (c *clipping) backward(p *kernel.Pool, w, dw kernel.Mat[float32], rank *Ranking, prune []int) {
	p.For(c.rows, rowGrain, func(lo, hi int) {
		s := rowScratches.Get().(*rowScratch)
		defer rowScratches.Put(s)
		for i := lo; i < hi; i++ {
			c.backwardRow(s, i, w.Row(i), dw.Row(i), rank.Row(i), prune[i])
		}
	})
}

// backwardRow fills row i's rawGrad, unless the logits are frozen, and returns
// the row quantised but not masked, which s holds.
func (c *clipping) backwardRow(s *rowScratch, i int, w, dw []float32, rank []uint16, prune int) []float32 {
	grid, value := c.gridRow(i), resized(&s.value, c.cols)
	if c.frozen {
		grid.Quantize(value, w, rank, 0)
		return value
	}
	dStep, dZero := resized(&s.dStep, c.groups), resized(&s.dZero, c.groups)
	grid.Grad(value, dStep, dZero, w, dw, rank, prune)
	for g := range c.groups {
		c.rawGradient(i*c.groups+g, dStep[g], dZero[g])
	}
	return value
}

// rawGradient takes the gradients of group k's step and zero point to those of
// its clipping logits.
func (c *clipping) rawGradient(k int, dh, dz float32) {
	h := c.step[k]
	if h == 0 { // an all-zero group
		dh, dz, h = 0, 0, 1
	}
	if c.grid == GridSymmetric {
		c.rawGrad[upper][k] = dh * c.top[k] * c.slope[upper][k] // the zero code is fixed
		return
	}
	low := c.low[k]
	dh += dz * c.gamma[lower][k] * low / (h * h) // z = −γ0·low/h
	c.rawGrad[upper][k] = dh * c.top[k] / (levels - 1) * c.slope[upper][k]
	c.rawGrad[lower][k] = (dh*-low/(levels-1) - dz*low/h) * c.slope[lower][k]
}

// searchSteps sets the symmetric grid's steps to the candidates with the least
// squared error on the survivors, weighted by the squared input norms where they
// are known, and the clipping logits to match. The sign of a step decides which side of zero has
// the eighth level.
func (c *clipping) searchSteps(p *kernel.Pool, w kernel.Mat[float32], norms []float32, rank *Ranking, prune []int) {
	const headroom = 1.25 // γ = 1 is this much above the widest weight at code 0
	p.For(c.rows, 8, func(r0, r1 int) {
		weight := make([]float32, c.cols)
		for i := r0; i < r1; i++ {
			for j := range weight {
				weight[j] = 1
				if norms != nil {
					weight[j] = norms[j] * norms[j]
				}
			}
			for j, r := range rank.Row(i) {
				if int(r) < prune[i] {
					weight[j] = 0
				}
			}
			for g := range c.groups {
				lo, hi := c.span(g)
				k := i*c.groups + g
				h, widest := bestStep(w.Row(i)[lo:hi], weight[lo:hi])
				if h == 0 { // every input is dead, or every survivor zero: plain squared error
					h, widest = bestStep(w.Row(i)[lo:hi], survivors(weight[lo:hi], rank.Row(i)[lo:hi], prune[i]))
				}
				c.top[k] = float32(math.Copysign(float64(widest*headroom/zeroCode), float64(h)))
				c.raw[upper][k] = clipInit
				if gamma := h / c.top[k]; gamma < sigmoid(clipInit) {
					c.raw[upper][k] = float32(math.Log(float64(gamma / (1 - gamma))))
				}
			}
		}
	})
}

// survivors sets weight to 1 for what is kept and to 0 for what is pruned.
func survivors(weight []float32, rank []uint16, prune int) []float32 {
	for j, r := range rank {
		weight[j] = 0
		if int(r) >= prune {
			weight[j] = 1
		}
	}
	return weight
}

// bestStep tries steps of both signs from the one that reaches the widest
// weight that counts (weight above 0) down to half of it, and returns both.
func bestStep(w, weight []float32) (step, widest float32) {
	for j, v := range w {
		if weight[j] > 0 {
			widest = max(widest, abs32(v))
		}
	}
	if widest == 0 {
		return 0, 0
	}
	const tries = 16
	best, bestErr := widest/zeroCode, float32(math.Inf(1))
	for t := range tries {
		for _, sign := range [2]float32{1, -1} {
			h := toStep(sign*widest/zeroCode*(1.15-0.65*float32(t)/(tries-1)), maxStep)
			err := kernel.GridError(w, weight, h, zeroCode)
			if err < bestErr {
				best, bestErr = h, err
			}
		}
	}
	return best, widest
}
