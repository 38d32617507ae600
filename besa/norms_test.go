package besa

import (
	"slices"
	"testing"

	"besa/internal/decoder"
)

// Gains that are tuned beside the survivors of a 4-bit grid are others than the
// dense block's, which keeps its own.
func TestNormsAreTuned(t *testing.T) {
	run := func(norms bool) (*Result, *decoder.Block[float32]) {
		opts, job := DefaultOptions(), tinyJob(t, 1)
		opts.Grid, opts.Refine.Passes, opts.Refine.LR, opts.Refine.Norms = GridSymmetric, 4, 3e-3, norms
		res, err := PruneBlock(t.Context(), job, opts)
		if err != nil {
			t.Fatal(err)
		}
		return res, job.Block
	}
	fixed, _ := run(false)
	tuned, dense := run(true)
	if fixed.Norms != nil || tuned.Norms == nil {
		t.Fatalf("gains %v without, %v with", fixed.Norms, tuned.Norms)
	}
	if r := tuned.Refine; r.After >= r.Before || r.Last >= r.First {
		t.Errorf("refinement: %+v", r)
	}
	for name, gains := range map[string][2][]float32{"attention": {tuned.Norms.Attn, dense.AttnNorm}, "feed-forward": {tuned.Norms.FFN, dense.FFNNorm}} {
		if slices.Equal(gains[0], gains[1]) {
			t.Errorf("%s: no gain has moved", name)
		}
		if !slices.Equal(gains[1], slices.Repeat([]float32{1}, len(gains[1]))) {
			t.Errorf("%s: the dense block's gains have moved", name)
		}
	}
}
