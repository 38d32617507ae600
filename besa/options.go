package besa

import (
	"errors"
	"fmt"
)

// Method says how the weights to drop are chosen.
type Method string

// The methods.
const (
	MethodBESA      Method = "besa"      // sparsity of every row learned by block reconstruction
	MethodWanda     Method = "wanda"     // |W|·‖X‖₂, the same sparsity in every row
	MethodMagnitude Method = "magnitude" // |W|, the same sparsity in every row
)

// Methods lists them in the order in which they are offered.
var Methods = []Method{MethodBESA, MethodWanda, MethodMagnitude}

// Grid is the shape of the 4-bit grid.
type Grid string

// The grids.
const (
	GridNone       Grid = ""           // weights stay as they are
	GridSymmetric  Grid = "symmetric"  // value = (code−8)·d: expands to Q4_0
	GridAsymmetric Grid = "asymmetric" // value = (code−zero)·d: expands to Q4_1
)

// Options holds every choice that determines a result.
type Options struct {
	Method   Method
	Sparsity float64 // target fraction of pruned weights, 0 ≤ s < 1

	// Allocation (MethodBESA).
	Step   float64 // distance of candidate sparsities; 0.01
	Lambda float64 // weight of the sparsity penalty; 5
	DCoef  float64 // Prodigy's d coefficient; 5
	Epochs int     // passes over the calibration windows; 1

	// 4-bit quantisation, joint with pruning unless Grid is GridNone.
	Grid   Grid
	Group  int     // weights per scale: 128, 64 or 32
	ClipLR float64 // Adam's step for the clipping logits; 0 freezes them; 0.01
}

// DefaultOptions are the official settings of the row-wise method at 50 %.
func DefaultOptions() Options {
	return Options{
		Method: MethodBESA, Sparsity: 0.5,
		Step: 0.01, Lambda: 5, DCoef: 5, Epochs: 1,
		Grid: GridNone, Group: 64, ClipLR: 0.01,
	}
}

// ErrOptions marks options that contradict themselves or the model.
var ErrOptions = errors.New("invalid options")

// Validate reports the first option that cannot be followed.
func (o Options) Validate() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...))
	}
	switch o.Method {
	case MethodBESA, MethodWanda, MethodMagnitude:
	default:
		return fail("method %q; have %v", o.Method, Methods)
	}
	switch {
	case !(o.Sparsity >= 0 && o.Sparsity < 1):
		return fail("sparsity %g is not in [0, 1)", o.Sparsity)
	case o.Method == MethodBESA && o.Sparsity == 0:
		return fail("method besa learns where to prune: sparsity must be above 0")
	case !(o.Step >= 0.001 && o.Step <= 0.5):
		return fail("candidate step %g is not in [0.001, 0.5]", o.Step)
	case !(o.Lambda >= 0), !(o.DCoef > 0), o.Epochs < 1, !(o.ClipLR >= 0):
		return fail("lambda %g, d coefficient %g, epochs %d, clip step %g: all must be positive", o.Lambda, o.DCoef, o.Epochs, o.ClipLR)
	}
	switch o.Grid {
	case GridNone:
	case GridSymmetric, GridAsymmetric:
		if o.Group != 32 && o.Group != 64 && o.Group != 128 {
			return fail("group size %d; have 32, 64, 128", o.Group)
		}
	default:
		return fail("grid %q; have %q and %q", o.Grid, GridSymmetric, GridAsymmetric)
	}
	return nil
}
