package besa

import (
	"errors"
	"math/bits"
	"slices"
	"testing"

	"besa/internal/decoder"
)

// With masks of a fixed shape BESA learns which weights survive: the shape
// holds everywhere, and the result is better than the shaped masks of Wanda
// and other masks than those.
func TestShapedBESA(t *testing.T) {
	for _, grid := range []Grid{GridNone, GridSymmetric} {
		opts := DefaultOptions()
		opts.Pattern, opts.Grid = Pattern{24, 64}, grid
		opts.Sparsity = opts.Pattern.Sparsity()
		if err := opts.Validate(); !errors.Is(err, ErrOptions) {
			t.Errorf("nothing to learn, and error %v", err)
		}
		opts.Refine.Along = true
		shaped, err := PruneBlock(t.Context(), tinyJob(t, 2), opts)
		if err != nil {
			t.Fatal(err)
		}
		for l, layer := range shaped.Layers {
			for i, word := range layer.Mask {
				if n := bits.OnesCount64(word); n != 24 {
					t.Fatalf("%s: %d survivors in mask word %d", decoder.Linear(l), n, i)
				}
			}
		}
		if s := shaped.Steps[0].Sparsity; s != 0.625 {
			t.Errorf("sparsity of a step is %g", s)
		}
		opts.Method, opts.Refine.Along = MethodWanda, false
		wanda, err := PruneBlock(t.Context(), tinyJob(t, 2), opts)
		if err != nil {
			t.Fatal(err)
		}
		if shaped.Error > 0.95*wanda.Error {
			t.Errorf("grid %q: error %g, Wanda's %g", grid, shaped.Error, wanda.Error)
		}
		if slices.Equal(shaped.Layers[decoder.Up].Mask, wanda.Layers[decoder.Up].Mask) {
			t.Errorf("grid %q: the masks are those of the first ranking", grid)
		}
	}
}
