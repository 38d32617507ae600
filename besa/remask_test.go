package besa

import (
	"math"
	"slices"
	"testing"

	"besa/internal/decoder"
)

// Masks that are chosen again while the survivors are tuned are others, with as
// many survivors in every row, and leave less error.
func TestRemask(t *testing.T) {
	for _, grid := range []Grid{GridNone, GridSymmetric} {
		run := func(remask bool) *Result {
			opts := DefaultOptions()
			opts.Grid, opts.Refine.Passes, opts.Refine.LR, opts.Refine.Remask = grid, 8, 3e-3, remask
			res, err := PruneBlock(t.Context(), tinyJob(t, 1), opts)
			if err != nil {
				t.Fatal(err)
			}
			checkPruned(t, &res.Layers[decoder.Up])
			return res
		}
		fixed, again := run(false), run(true)
		if again.Refine.After >= again.Refine.Before {
			t.Errorf("grid %q: held-out loss %g, before refinement %g", grid, again.Refine.After, again.Refine.Before)
		}
		same := true
		for l := range again.Layers {
			a, b := &again.Layers[l], &fixed.Layers[l]
			same = same && slices.Equal(a.Mask, b.Mask)
			if a.Pruned != b.Pruned {
				t.Errorf("grid %q, %s: %d weights are pruned, not %d", grid, decoder.Linear(l), a.Pruned, b.Pruned)
			}
		}
		if same {
			t.Errorf("grid %q: the masks are those of the allocation", grid)
		}
	}
}

// By Eq 5 every row drops as many weights as one of the candidates; with exact
// counts the block meets the target all the same.
func TestPaperRule(t *testing.T) {
	opts := DefaultOptions()
	opts.Rule, opts.Step, opts.Epochs = RulePaper, 0.05, 2
	res, err := PruneBlock(t.Context(), tinyJob(t, 1), opts)
	if err != nil {
		t.Fatal(err)
	}
	if s := res.Sparsity(); math.Abs(s-0.5) > 1e-3 {
		t.Errorf("sparsity %g", s)
	}
	opts.Expected = true
	if res, err = PruneBlock(t.Context(), tinyJob(t, 1), opts); err != nil {
		t.Fatal(err)
	}
	cand := NewCandidates(opts.Step, RulePaper)
	if n := len(cand.P); n != 19 || cand.P[0] != 0.95 || cand.P[n-1] != 0.05 {
		t.Errorf("candidates %v", cand.P)
	}
	for l := range res.Layers {
		layer := &res.Layers[l]
		counts := cand.Counts(layer.Weights.Cols)
		for i := range layer.Weights.Rows {
			pruned := layer.Weights.Cols
			for j := range layer.Weights.Cols {
				pruned -= int(layer.Mask[i*((layer.Weights.Cols+63)/64)+j/64] >> (j % 64) & 1)
			}
			if !slices.Contains(counts, pruned) {
				t.Fatalf("%s, row %d: %d weights are pruned; candidates prune %v", decoder.Linear(l), i, pruned, counts)
			}
		}
	}
}
