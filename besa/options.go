package besa

import (
	"errors"
	"fmt"
	"slices"

	"besa/internal/decoder"
)

// Method says how the weights to drop are chosen.
type Method string

// The methods.
const (
	MethodBESA      Method = "besa"      // sparsity of every row learned by block reconstruction
	MethodWanda     Method = "wanda"     // |W|·‖X‖₂, the same sparsity in every row
	MethodMagnitude Method = "magnitude" // |W|, the same sparsity in every row
	MethodSparseGPT Method = "sparsegpt" // W²/[H⁻¹]_jj by column blocks, survivors updated
)

// Methods lists them in the order in which they are offered.
var Methods = []Method{MethodBESA, MethodWanda, MethodMagnitude, MethodSparseGPT}

// Grid is the shape of the 4-bit grid.
type Grid string

// The grids.
const (
	GridNone       Grid = ""           // weights stay as they are
	GridSymmetric  Grid = "symmetric"  // value = (code−8)·d: expands to Q4_0
	GridAsymmetric Grid = "asymmetric" // value = (code−zero)·d: expands to Q4_1
)

// Importance is the metric by which BESA orders the weights of a row.
type Importance string

// The metrics.
const (
	ImportanceWanda     Importance = "wanda"     // |W|·‖X‖₂ (Eq 2)
	ImportanceWeight    Importance = "weight"    // |W|
	ImportanceSparseGPT Importance = "sparsegpt" // W²/[H⁻¹]_jj
)

// Importances lists them in the order in which they are offered.
var Importances = []Importance{ImportanceWanda, ImportanceWeight, ImportanceSparseGPT}

// Granularity is what shares one learned sparsity.
type Granularity string

// The granularities.
const (
	GranularityRow   Granularity = "row"   // every output channel has its own
	GranularityLayer Granularity = "layer" // one for all rows of a linear layer
)

// Granularities lists them in the order in which they are offered.
var Granularities = []Granularity{GranularityRow, GranularityLayer}

// LossGranularity is what one reconstruction loss is taken over, and what meets
// the target sparsity as a whole (the paper's learning granularity, Table 6).
type LossGranularity string

// The loss granularities, from the finest to the coarsest.
const (
	LossPerLayer LossGranularity = "layer"      // every linear layer by itself, on the dense block's inputs
	LossPerHalf  LossGranularity = "attn-mlp"   // the attention, then the feed-forward network behind it
	LossPerBlock LossGranularity = "block"      // the output of the block
	LossPerPair  LossGranularity = "two-blocks" // the output of every second block; see LearnPair
)

// LossGranularities lists them in the order in which they are offered.
var LossGranularities = []LossGranularity{LossPerLayer, LossPerHalf, LossPerBlock, LossPerPair}

// Path says on which inputs the dense block computes what the pruned block is
// to reproduce.
type Path string

// The paths.
const (
	PathPruned Path = "pruned-path" // the outputs of the pruned blocks before it (Eq 1)
	PathDense  Path = "dense-path"  // the outputs of the dense blocks (Algorithm 1, line 3)
)

// Paths lists them in the order in which they are offered.
var Paths = []Path{PathPruned, PathDense}

// LossForm is the form of the loss.
type LossForm string

// The forms.
const (
	LossOfficial LossForm = "official" // errors over the norm of their channel; penalty λ((s−α̂)/α̂)²
	LossNormed   LossForm = "normed"   // official, after every token has been divided by its root mean square, as the next block's norm does
	LossPaper    LossForm = "paper"    // Eq 1: ‖Y−Ŷ‖² + λ(s−α̂)²
)

// LossForms lists them in the order in which they are offered.
var LossForms = []LossForm{LossOfficial, LossNormed, LossPaper}

// Optimizer moves the logits of the allocation.
type Optimizer string

// The optimisers.
const (
	OptimizerProdigy Optimizer = "prodigy"
	OptimizerAdamW   Optimizer = "adamw"
)

// Optimizers lists them in the order in which they are offered.
var Optimizers = []Optimizer{OptimizerProdigy, OptimizerAdamW}

// Options holds every choice that determines a result.
type Options struct {
	Method   Method
	Sparsity float64 // target fraction of pruned weights, 0 ≤ s < 1
	Pattern  Pattern // n:m masks; Sparsity is then 1 − n/m
	// Targets are sparsities of single layers; the other layers of the block
	// make up for them, so that the block as a whole meets Sparsity.
	Targets [decoder.NumLinears]Target

	// Allocation (MethodBESA).
	Importance  Importance
	Granularity Granularity
	Reference   Path
	Loss        LossForm
	// LossGranularity is what shares one loss; those below a block are taken
	// on the pruned path only.
	LossGranularity LossGranularity
	Rule            MaskRule
	Plain           bool    // β = softmax(logits): no sigmoid before the softmax
	Step            float64 // distance of candidate sparsities; 0.01
	Lambda          float64 // weight of the sparsity penalty; 5
	Optimizer       Optimizer
	DCoef           float64 // Prodigy's d coefficient; 5
	LR              float64 // AdamW's step; 0.1
	Epochs          int     // passes over the calibration windows; 1
	Expected        bool    // keep the learned counts, which meet the target only in expectation

	Refine Refine

	// 4-bit quantisation, joint with pruning unless Grid is GridNone.
	Grid   Grid
	Group  int     // weights per scale: 128, 64 or 32
	ClipLR float64 // Adam's step for the clipping logits; 0 freezes them; 0.01
}

// DefaultOptions are the official settings of the row-wise method at 50 %.
func DefaultOptions() Options {
	return Options{
		Method: MethodBESA, Sparsity: 0.5,
		Importance: ImportanceWanda, Granularity: GranularityRow, Reference: PathPruned, Loss: LossOfficial, LossGranularity: LossPerBlock,
		Rule: RuleOfficial,
		Step: 0.01, Lambda: 5, Optimizer: OptimizerProdigy, DCoef: 5, LR: 0.1, Epochs: 1,
		Refine: Refine{LR: 1e-3, Reference: PathDense, Loss: LossNormed},
		Grid:   GridNone, Group: 128, ClipLR: 0.01,
	}
}

// ErrOptions marks options that contradict themselves or the model.
var ErrOptions = errors.New("invalid options")

// learnsAllocation says whether rows learn how many of their weights go.
func (o Options) learnsAllocation() bool { return o.Method == MethodBESA && o.Pattern.M == 0 }

// NeedsDensePath says whether the dense model's own hidden states are followed
// beside the pruned one's.
func (o Options) NeedsDensePath() bool {
	return o.Method == MethodBESA && o.Reference == PathDense || o.Refine.moves() && o.Refine.Reference == PathDense
}

// NeedsWindows says whether the method needs calibration windows, given whether
// the sums of squared inputs are known without them.
func (o Options) NeedsWindows(sums bool) bool {
	switch {
	case o.Refine.moves() || o.Refine.Solve != SolveNone:
		return true
	case o.Method == MethodMagnitude:
		return false
	}
	return o.Method != MethodWanda || !sums
}

// UsesSums says whether sums of squared inputs have a say in the result: in which
// weights go, or in the symmetric grid's first steps.
func (o Options) UsesSums() bool {
	switch {
	case o.Method == MethodSparseGPT, o.Method == MethodBESA && o.Importance == ImportanceSparseGPT:
		return false // theirs are correlations
	case o.Method == MethodWanda, o.Method == MethodBESA && o.Importance == ImportanceWanda:
		return true
	}
	return o.Grid == GridSymmetric
}

// Validate reports the first option that cannot be followed.
func (o Options) Validate() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...))
	}
	switch {
	case !slices.Contains(Methods, o.Method):
		return fail("method %q; have %v", o.Method, Methods)
	case !slices.Contains(Importances, o.Importance):
		return fail("importance %q; have %v", o.Importance, Importances)
	case !slices.Contains(Granularities, o.Granularity):
		return fail("granularity %q; have %v", o.Granularity, Granularities)
	case !slices.Contains(Paths, o.Reference):
		return fail("reference %q; have %v", o.Reference, Paths)
	case !slices.Contains(LossForms, o.Loss):
		return fail("loss %q; have %v", o.Loss, LossForms)
	case !slices.Contains(MaskRules, o.Rule):
		return fail("mask rule %q; have %v", o.Rule, MaskRules)
	case !slices.Contains(LossGranularities, o.LossGranularity):
		return fail("loss granularity %q; have %v", o.LossGranularity, LossGranularities)
	case o.Method == MethodBESA && o.Reference == PathDense && (o.LossGranularity == LossPerLayer || o.LossGranularity == LossPerHalf):
		return fail("loss granularity %s reproduces the dense block on the pruned path's inputs: it excludes reference %s", o.LossGranularity, PathDense)
	case !slices.Contains(Optimizers, o.Optimizer):
		return fail("optimizer %q; have %v", o.Optimizer, Optimizers)
	case o.Method == MethodBESA && o.Pattern.M != 0 && !o.Refine.Along:
		return fail("mask shape %s leaves method besa no sparsity of rows to learn, only which weights survive while they move: that takes refinement", o.Pattern)
	case o.Pattern.M != 0 && o.Sparsity != o.Pattern.Sparsity():
		return fail("mask shape %s prunes %g of the weights, not %g", o.Pattern, o.Pattern.Sparsity(), o.Sparsity)
	case o.Pattern.M != 0 && o.Targets != [decoder.NumLinears]Target{}:
		return fail("mask shape %s and sparsities of single tensors exclude each other", o.Pattern)
	case !(o.Sparsity >= 0 && o.Sparsity < 1):
		return fail("sparsity %g is not in [0, 1)", o.Sparsity)
	case o.Method == MethodBESA && o.Sparsity == 0:
		return fail("method besa learns where to prune: sparsity must be above 0")
	case !(o.Step >= 0.001 && o.Step <= 0.5):
		return fail("candidate step %g is not in [0.001, 0.5]", o.Step)
	case !(o.Lambda >= 0), !(o.DCoef > 0), !(o.LR > 0), o.Epochs < 1, !(o.ClipLR >= 0):
		return fail("lambda %g, d coefficient %g, learning rate %g, epochs %d, clip step %g: all must be positive",
			o.Lambda, o.DCoef, o.LR, o.Epochs, o.ClipLR)
	}
	for l, t := range o.Targets {
		if t.Set && !(t.Sparsity >= 0 && t.Sparsity < 1) {
			return fail("sparsity %g of %s is not in [0, 1)", t.Sparsity, decoder.Linear(l))
		}
	}
	if o.Refine.Along && !o.canMoveAlong() {
		return fail("weights move along with an allocation that is learned by one loss per block only")
	}
	if o.Refine.Remask && (o.Method != MethodBESA || o.Refine.Passes == 0) {
		return fail("masks are chosen again while the survivors of besa are tuned only")
	}
	if err := o.Refine.validate(); err != nil {
		return fail("%v", err)
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
