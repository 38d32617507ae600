package convert

import (
	"math"
	"testing"

	"besa/besa"
	"besa/internal/decoder"
)

// TestPasses counts by hand, per weight and token, attention's products left
// out: a forward pass is 2, a step 6.
func TestPasses(t *testing.T) {
	c := decoder.Config{Hidden: 64, FFN: 128, Heads: 4, KVHeads: 2, HeadDim: 16}
	half := float64(64*64*2+64*32*2) / float64(c.Parameters()) // the attention's share
	queries := float64(64*64+64*32*2) / float64(c.Parameters())
	const windows = 32 // two of them held out from tuning
	const tune = 3*(6.*30/32) + 4*(2.*2/32)
	for name, tc := range map[string]struct {
		change func(*besa.Options)
		want   float64
	}{
		"as in the paper":   {func(*besa.Options) {}, 2 + 6 + 2},
		"wanda":             {func(o *besa.Options) { o.Method = besa.MethodWanda }, 2 + 2},
		"three epochs":      {func(o *besa.Options) { o.Epochs = 3 }, 2 + 18 + 2},
		"dense path":        {func(o *besa.Options) { o.Reference = besa.PathDense }, 2 + 2 + 6 + 2},
		"refined":           {func(o *besa.Options) { *o = o.Refined() }, 2 + 2 + 6 + 2 + tune},
		"wanda, refined":    {func(o *besa.Options) { o.Method = besa.MethodWanda; *o = o.Refined() }, 2 + 2 + 2 + tune},
		"layer":             {func(o *besa.Options) { o.LossGranularity = besa.LossPerLayer }, 2 + 8 + 2},
		"attn-mlp":          {func(o *besa.Options) { o.LossGranularity = besa.LossPerHalf }, 2 + (2+2+4)*half + 2*half + (2+2+4)*(1-half) + 2},
		"two-blocks":        {func(o *besa.Options) { o.LossGranularity = besa.LossPerPair }, 2 + 6 + queries + 2 + 2},
		"two-blocks, dense": {func(o *besa.Options) { o.LossGranularity, o.Reference = besa.LossPerPair, besa.PathDense }, 2 + 2 + 6 + queries + 2 + 2 + 2},
		"two-blocks, twice": {func(o *besa.Options) { o.LossGranularity, o.Epochs = besa.LossPerPair, 2 }, 2 + 2*(6+queries) + 2 + 2},
	} {
		s := sizeOf(c, 100)
		s.attention = 0
		if got := passFLOPs(withOptions(tc.change), s, windows).sum() / (s.params * s.tokens * windows); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("%s: %g operations per weight and token, want %g", name, got, tc.want)
		}
	}
}

func withOptions(change func(*besa.Options)) besa.Options {
	o := besa.DefaultOptions()
	change(&o)
	return o
}

// TestSolving: correlations, factors and solvers count where there are any,
// and attention's products everywhere.
func TestSolving(t *testing.T) {
	c := decoder.Config{Hidden: 64, FFN: 128, Heads: 4, KVHeads: 2, HeadDim: 16}
	const windows, tokens = 10, 50
	correlations := float64(windows * tokens * 2 * (3*64*64 + 128*128))
	factors := float64(3*64*64*64 + 128*128*128)
	sweep := float64((64+32+32+64+128+128)*64*64 + 64*128*128)
	block := func(change func(*besa.Options)) float64 {
		return blockFLOPs(withOptions(change), c, windows, tokens).sum()
	}
	plain := block(func(*besa.Options) {})
	attention := float64(windows * tokens * (tokens + 1) * 64)
	if want := float64(windows*tokens*10*c.Parameters()) + (2+7+2)*attention; plain != want {
		t.Errorf("besa takes %g operations, want %g", plain, want)
	}
	wanda := block(func(o *besa.Options) { o.Method = besa.MethodWanda })
	for name, tc := range map[string]struct{ got, want float64 }{
		"ranked by sparsegpt": {block(func(o *besa.Options) { o.Importance = besa.ImportanceSparseGPT }), plain + correlations + factors},
		"solve":               {block(func(o *besa.Options) { o.Refine.Solve = besa.SolveSweep }), plain + correlations + factors + sweep},
		"pcg":                 {block(func(o *besa.Options) { o.Refine.Solve = besa.SolvePCG }), plain + correlations + factors + 22*sweep},
		"pcg with a grid": {block(func(o *besa.Options) { o.Refine.Solve, o.Grid = besa.SolvePCG, besa.GridSymmetric }),
			plain + correlations + factors + 23*sweep},
		"sparsegpt": {block(func(o *besa.Options) { o.Method = besa.MethodSparseGPT }), wanda + correlations + factors + sweep},
	} {
		if math.Abs(tc.got/tc.want-1) > 1e-12 {
			t.Errorf("%s: %g operations, want %g", name, tc.got, tc.want)
		}
	}
}
