package besa

import (
	"besa/internal/decoder"
	"besa/internal/kernel"
)

// solve is masked GPTQ: SparseGPT's sweep with the masks as they are, and with
// the grid's steps where there is a grid, so that one walk through the columns
// makes up for pruning and rounding together. It fits each layer by itself to
// the dense block's inputs.
func (s *session) solve() {
	for l := range decoder.NumLinears {
		w := s.Block.W[l]
		sw := &sweep{w: w, u: s.factor[l].U, keep: kept(s.pool, s.rank[l], s.prune[l]), width: sweepWidth}
		if c := s.clip[l]; c != nil {
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
