package besa

import (
	"besa/internal/decoder"
	"besa/internal/kernel"
)

// Solver says how the survivors of a layer are fitted to the dense layer's
// outputs on the calibration inputs.
type Solver string

// The solvers.
const (
	SolveNone  Solver = ""      // not at all
	SolveSweep Solver = "solve" // masked GPTQ: one walk through the columns
	SolvePCG   Solver = "pcg"   // preconditioned conjugate gradients
)

// Solvers lists those that solve.
var Solvers = []Solver{SolveSweep, SolvePCG}

// solve is SparseGPT's sweep with the masks as they are, and with the grid's
// steps where there is a grid, so that one walk through the columns makes up
// for pruning and rounding together; or conjugate gradients, which come closer
// to the least squares but know no grid: with one, its steps are searched again
// for the weights that come out, and the sweep rounds them.
func (s *session) solve() {
	if s.opts.Refine.Solve == SolveNone {
		return
	}
	for l := range decoder.NumLinears {
		w, c := s.Block.W[l], s.clip[l]
		keep := kept(s.pool, s.rank[l], s.prune[l])
		if s.opts.Refine.Solve == SolvePCG {
			conjugate(s.pool, w, s.hess[decoder.SameInput[l]].XX, s.factor[l].ridge, keep)
			if c == nil {
				continue
			}
			s.fitGrid(l)
		}
		sw := &sweep{w: w, u: s.factor[l].U, keep: keep, width: sweepWidth}
		if c != nil {
			c.update(s.pool)
			sw.store = c.nearest
		}
		sw.run(s.pool)
	}
}

// kept lists which weights are survivors, rows × columns.
func kept(p *kernel.Pool, rank *Ranking, prune []int) []bool {
	keep := make([]bool, rank.Rows*rank.Cols)
	p.For(rank.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := keep[i*rank.Cols:]
			for j, r := range rank.Row(i) {
				row[j] = int(r) >= prune[i]
			}
		}
	})
	return keep
}

// nearest is the grid's value next to weight w in row i, column j.
func (c *clipping) nearest(i, j int, w float32) float32 {
	k := i*c.groups + j/c.group
	q, _ := kernel.GridCode(w, c.step[k], c.zero[k])
	return (q - c.zero[k]) * c.step[k]
}
