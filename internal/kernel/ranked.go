package kernel

import "fmt"

// The mask operator's functions work on one row of weights and the rank of
// each of them in the row's order of importance, 0 first: rank is a
// permutation of 0 … n-1, which is not checked. A row's prune lowest ranks are
// masked out.

// rankedKernels are the mask operator's functions of an implementation; where
// none is given here, their meaning is that of the exported functions. Lengths
// fit, groups are a multiple of 16.
type rankedKernels struct {
	keep      func(dst, w []float32, rank []uint16, prune int)
	scatter   func(dst, w, dw []float32, rank []uint16) // dst[rank[j]] = w[j]·dw[j]
	prefix    func(x []float32)                         // x[k] = Σ x[0 … k]
	quantize  func(g GridRow, dst, w []float32, rank []uint16, prune int)
	gridGrad  func(g GridRow, value, dStep, dZero, w, dw []float32, rank []uint16, prune int)
	gridError func(w, weight []float32, step, zero float32) float32
}

// KeepRanked sets dst[j] = w[j] where rank[j] ≥ prune and 0 elsewhere; dst may be w.
func KeepRanked(dst, w []float32, rank []uint16, prune int) {
	sameLength("KeepRanked", len(dst), len(w), len(rank))
	current.Load().ranked.keep(dst, w, rank, prune)
}

// RankSums sets dst[k] = Σ w[j]·dw[j] over all j with rank[j] ≤ k: the sum of
// every prefix of the row in order of importance. The order of the sums
// depends on the length and the implementation only.
func RankSums(dst, w, dw []float32, rank []uint16) {
	sameLength("RankSums", len(dst), len(w), len(dw), len(rank))
	k := &current.Load().ranked
	k.scatter(dst, w, dw, rank)
	k.prefix(dst)
}

// GridTop is the highest code of the 4-bit grid; the lowest is 0.
const GridTop = 15

// GridRow is one row's 4-bit grid. Every group of Group consecutive weights
// has a step h and a zero point z, and code q stands for the value h·(q - z).
// The code of a weight w is ⌊w/h⌉ + z clamped to 0 … GridTop, halves rounding
// to even; where h is 0 every value is 0.
type GridRow struct {
	Group      int
	Step, Zero []float32 // by group, the last of which may be shorter
}

func (g GridRow) check(name string, n int) {
	if groups := len(g.Step); g.Group < 16 || g.Group%16 != 0 || len(g.Zero) != groups || groups != (n+g.Group-1)/g.Group {
		panic(fmt.Sprintf("kernel: %s: %d steps and %d zero points for %d weights in groups of %d", name, groups, len(g.Zero), n, g.Group))
	}
}

// Quantize sets dst[j] to the value that w[j]'s code stands for where
// rank[j] ≥ prune and to 0 elsewhere; dst may be w.
func (g GridRow) Quantize(dst, w []float32, rank []uint16, prune int) {
	sameLength("Quantize", len(dst), len(w), len(rank))
	g.check("Quantize", len(w))
	current.Load().ranked.quantize(g, dst, w, rank, prune)
}

// Grad sets value[j] to the value of w[j]'s code, masked or not, and takes the
// gradient dw with respect to the masked values back to the grid, straight
// through both roundings. With u = w/h and d = dw where rank ≥ prune, else 0,
// each group's
//
//	dStep = Σ d·(q - z - u)  over codes inside the grid
//	      + Σ d·(q - z)      over codes 0 and GridTop
//	dZero = -h·Σ d           over codes 0 and GridTop
//
// value may be w. What a group with h = 0 gives has no meaning.
func (g GridRow) Grad(value, dStep, dZero, w, dw []float32, rank []uint16, prune int) {
	sameLength("Grad", len(value), len(w), len(dw), len(rank))
	sameLength("Grad", len(dStep), len(dZero), len(g.Step))
	g.check("Grad", len(w))
	current.Load().ranked.gridGrad(g, value, dStep, dZero, w, dw, rank, prune)
}

// GridError returns Σ weight·(v - w)² where v is the value of w's code on a
// grid of one step and zero point for all; summed like [Dot].
func GridError(w, weight []float32, step, zero float32) float32 {
	sameLength("GridError", len(w), len(weight))
	return current.Load().ranked.gridError(w, weight, step, zero)
}
