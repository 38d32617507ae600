package besa

import (
	"fmt"

	"besa/internal/decoder"
)

// NeedsHessians says whether errors are weighed by the inputs' correlations,
// for the choice of weights or for what becomes of the survivors.
func (o Options) NeedsHessians() bool {
	return o.Refine.Solve != SolveNone || o.Method == MethodSparseGPT || o.Method == MethodBESA && o.Importance == ImportanceSparseGPT
}

// factorize factors the Hessians, where there are any, and drops those that
// nothing else needs.
func (s *session) factorize() error {
	for l, first := range decoder.SameInput {
		switch {
		case s.hess[l] == nil:
		case decoder.Linear(l) != first:
			s.factor[l] = s.factor[first]
		default:
			var err error
			if s.factor[l], err = s.hess[l].factorize(s.pool); err != nil {
				return fmt.Errorf("%s: %w", first, err)
			}
		}
	}
	if s.opts.Refine.Solve != SolvePCG {
		s.hess = [decoder.NumLinears]*Hessian{}
	}
	return nil
}

// choose ranks the weights of layer l and sets how many of every row go: the
// final choice of the baselines, the start of BESA's allocation.
func (s *session) choose(l decoder.Linear, norms []float32, sparsity float64) (err error) {
	w := s.Block.W[l]
	if err := checkWeights(w, s.opts.Grid); err != nil {
		return err
	}
	s.prune[l] = uniformCounts(w.Rows, w.Cols, sparsity)
	switch {
	case s.opts.Method == MethodSparseGPT:
		keep := sparseGPT(s.pool, w, s.factor[l], sparsity, s.opts.Pattern, sweepWidth)
		s.rank[l], s.prune[l], err = selection(s.pool, keep, w.Rows, w.Cols)
		return err
	case s.opts.Method == MethodMagnitude:
		norms = nil
	case s.opts.Method == MethodBESA:
		norms = s.importanceScales(l)
	}
	return s.order(l, norms)
}

// order ranks the weights of layer l by |w|·norms; masks of a fixed shape rank
// within their groups, and say how many of every row go.
func (s *session) order(l decoder.Linear, norms []float32) error {
	w := s.Block.W[l]
	if s.opts.Pattern.M > 0 {
		rank, prune, err := patternMask(s.pool, w, norms, s.opts.Pattern)
		if err == nil {
			s.rank[l], s.prune[l] = rank, prune
		}
		return err
	}
	rank, err := Rank(s.pool, w, norms)
	if err == nil {
		s.rank[l] = rank
	}
	return err
}
