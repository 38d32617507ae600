package besa

import (
	"errors"
	"math"
	"strings"
	"testing"

	"besa/internal/decoder"
	"besa/internal/kernel"
	"besa/internal/linalg"
)

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))
)

// TestNotFiniteIsRefused spoils every place where a value can enter, for every
// method: an error that says where, and no result.
func TestNotFiniteIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*Job)
		grid  Grid
		says  string
	}{
		"NaN weight":      {func(j *Job) { j.Block.W[decoder.Up].Row(3)[17] = nan }, GridNone, "is NaN"},
		"infinite weight": {func(j *Job) { j.Block.W[decoder.Q].Row(5)[2] = -inf }, GridNone, "is"},
		"NaN norm":        {func(j *Job) { j.Block.FFNNorm[4] = nan }, GridNone, "norms or biases"},
		"NaN bias": {func(j *Job) {
			j.Block.Bias[decoder.V] = []float32{0, nan}
			j.Block.Bias[decoder.V] = append(j.Block.Bias[decoder.V], make([]float32, 30)...)
		}, GridSymmetric, "norms or biases"},
		"infinite state": {func(j *Job) { j.In.(windows).window(3).Row(2)[5] = inf }, GridNone, "window 3: not finite: what enters the block is +Inf at token 2, channel 5"},
		"overflow":       {func(j *Job) { j.Block.W[decoder.Down].Row(1)[1] = 1e38; j.Block.W[decoder.Up].Row(1)[1] = 1e38 }, GridNone, "not finite"},
		"beyond Q4_0":    {func(j *Job) { j.Block.W[decoder.K].Row(1)[2] = 5e5 }, GridSymmetric, "beyond what a 4-bit grid expresses"},
		"beyond Q4_1":    {func(j *Job) { j.Block.W[decoder.K].Row(1)[2] = -4e4 }, GridAsymmetric, "beyond what a 4-bit grid expresses"},
	} {
		for _, method := range Methods {
			o := DefaultOptions()
			o.Method, o.Grid = method, tc.grid
			job := randomJob(t, 9, 1)
			tc.spoil(&job)
			res, err := PruneBlock(t.Context(), job, o)
			if !errors.Is(err, ErrNotFinite) || res != nil {
				t.Errorf("%s, %s: error %v", name, method, err)
			} else if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s, %s: error %q does not say %q", name, method, err, tc.says)
			}
		}
	}
}

// TestDeadChannelsAndRows runs every method, grid and refinement on a block
// with dead input channels and rows of zeros: targets are met, everything is
// finite, and what is dead goes first.
func TestDeadChannelsAndRows(t *testing.T) {
	dead := []int{7, 8, 40}
	for _, method := range Methods {
		for _, grid := range []Grid{GridNone, GridSymmetric, GridAsymmetric} {
			for name, set := range map[string]func(*Options){
				"plain":     func(*Options) {},
				"solved":    func(o *Options) { o.Refine.Solve = SolveSweep },
				"tuned":     func(o *Options) { o.Refine.Passes = 1 },
				"refined":   func(o *Options) { *o = o.Refined() },
				"conjugate": func(o *Options) { o.Refine.Solve = SolvePCG },
				"Eq 5":      func(o *Options) { o.Rule = RulePaper },
				"metric":    func(o *Options) { o.Importance = ImportanceSparseGPT },
			} {
				if name == "metric" && method != MethodBESA {
					continue
				}
				job := tinyJob(t, 2)
				clear(job.Block.W[decoder.Gate].Row(3))
				clear(job.Block.W[decoder.Down].Row(5))
				for _, j := range dead {
					job.Block.AttnNorm[j] = 0 // inputs of q, k and v
				}
				clear(job.Block.W[decoder.Up].Data) // everything that down gets is zero
				o := DefaultOptions()
				o.Method, o.Grid, o.Group = method, grid, 32
				set(&o)
				res, err := PruneBlock(t.Context(), job, o)
				if err != nil {
					t.Fatalf("%s %q %s: %v", method, grid, name, err)
				}
				if s := res.Sparsity(); math.Abs(s-0.5) > 1e-3 {
					t.Errorf("%s %q %s: sparsity %g", method, grid, name, s)
				}
				if !(res.Error < 1) {
					t.Errorf("%s %q %s: reconstruction error %g", method, grid, name, res.Error)
				}
				for l := range res.Layers {
					checkLayer(t, &res.Layers[l], grid)
					for _, v := range res.Layers[l].Weights.Data {
						if v-v != 0 {
							t.Fatalf("%s %q %s: %s holds %g", method, grid, name, decoder.Linear(l), v)
						}
					}
				}
				if method == MethodMagnitude {
					continue // it does not look at inputs
				}
				q := &res.Layers[decoder.Q]
				for i := range q.Weights.Rows {
					for _, j := range dead {
						if q.Mask[i]>>j&1 == 1 {
							t.Fatalf("%s %q %s: row %d keeps a weight on dead channel %d", method, grid, name, i, j)
						}
					}
				}
			}
		}
	}
}

// TestDeadGroupKeepsItsWeights: a scale group all of whose inputs are dead is
// rounded for its own sake.
func TestDeadGroupKeepsItsWeights(t *testing.T) {
	w := random(2, 64, 4)
	norms := make([]float32, 64)
	for j := range 32 {
		norms[32+j] = 1
	}
	rank, err := Rank(nil, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := newClipping(GridSymmetric, 2, 64, 32)
	none := make([]int, 2)
	c.searchSteps(nil, w, norms, rank, none)
	c.update(nil)
	got := kernel.NewMat[float32](2, 64)
	c.applyMask(nil, got, w, rank, none)
	if e, n := squaredError(got, w); math.Sqrt(e/n) > 0.15 {
		t.Errorf("relative error %g", math.Sqrt(e/n))
	}
}

// TestDamping: a Hessian that is not quite positive definite gets more damping;
// one that is far from it is refused.
func TestDamping(t *testing.T) {
	with := func(off float32) *Hessian {
		return &Hessian{kernel.MatOf(2, 2, []float32{1, off, off, 1})}
	}
	for _, off := range []float32{0.5, 1, 1.05, 1.5} {
		f, err := with(off).factorize(nil)
		if err != nil {
			t.Fatalf("off-diagonal %g: %v", off, err)
		}
		for _, u := range f.U.Data {
			if u-u != 0 {
				t.Errorf("off-diagonal %g: factor %v", off, f.U.Data)
			}
		}
	}
	if _, err := with(100).factorize(nil); !errors.Is(err, linalg.ErrNotPositiveDefinite) || !strings.Contains(err.Error(), "give more calibration text") {
		t.Errorf("an indefinite Hessian: error %v", err)
	}
	if _, err := with(nan).factorize(nil); err == nil {
		t.Error("a Hessian with NaN is accepted")
	}
	if f, err := (&Hessian{kernel.NewMat[float32](2, 2)}).factorize(nil); err != nil || f.scales()[0] != 0 {
		t.Errorf("all inputs dead: %v", err)
	}
}
