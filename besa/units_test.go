package besa

import (
	"errors"
	"math"
	"slices"
	"testing"

	"besa/internal/decoder"
)

// layerSparsity is the sparsity of some layers of a result.
func layerSparsity(res *Result, layers ...decoder.Linear) float64 {
	pruned, all := 0, 0
	for _, l := range layers {
		pruned += res.Layers[l].Pruned
		all += len(res.Layers[l].Weights.Data)
	}
	return float64(pruned) / float64(all)
}

// TestLossGranularity checks for every loss below a block what it is to leave
// alone, and that learning gains on Wanda's uniform masks.
func TestLossGranularity(t *testing.T) {
	errorOf := map[LossGranularity]float64{}
	for _, g := range []LossGranularity{LossPerLayer, LossPerHalf, LossPerBlock} {
		for _, grid := range []Grid{GridNone, GridSymmetric} {
			o := DefaultOptions()
			o.LossGranularity, o.Grid, o.Group, o.Epochs = g, grid, 32, 4
			var first *Result
			for _, threads := range []int{1, 3} {
				res, err := PruneBlock(t.Context(), randomJob(t, 5, threads), o)
				if err != nil {
					t.Fatalf("%s: %v", g, err)
				}
				if first == nil {
					first = res
				}
				for l := range res.Layers {
					if !slices.Equal(res.Layers[l].Weights.Data, first.Layers[l].Weights.Data) {
						t.Fatalf("%s, %s: one and three threads differ", g, decoder.Linear(l))
					}
				}
			}
			for _, share := range g.shares() {
				if s := layerSparsity(first, share...); math.Abs(s-0.5) > 1e-3 {
					t.Errorf("%s: %v has sparsity %g", g, share, s)
				}
			}
			if want := o.Epochs * 20; len(first.Steps) != want && !(g == LossPerHalf && len(first.Steps) == 2*want) {
				t.Errorf("%s: %d steps", g, len(first.Steps))
			}
			if grid == GridNone {
				errorOf[g] = first.Error
			}
		}
	}
	o := DefaultOptions()
	o.Method = MethodWanda
	wanda, err := PruneBlock(t.Context(), randomJob(t, 5, 2), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Wanda %g, %v", wanda.Error, errorOf)
	for g, e := range errorOf {
		if !(e < wanda.Error) {
			t.Errorf("%s: reconstruction error %g, Wanda's %g", g, e, wanda.Error)
		}
	}
	if !(errorOf[LossPerBlock] < errorOf[LossPerLayer]) {
		t.Errorf("block-wise error %g, layer-wise %g", errorOf[LossPerBlock], errorOf[LossPerLayer])
	}
}

// pairOf is a job with a second block behind the first.
func pairOf(t *testing.T, threads int) (Job, *decoder.Block[float32]) {
	t.Helper()
	job := tinyJob(t, threads)
	return job, tinyJob(t, threads).Block
}

// prunePair learns two blocks together and prunes them one after the other.
func prunePair(t *testing.T, threads int, opts [2]Options) [2]*Result {
	t.Helper()
	job, next := pairOf(t, threads)
	learned, err := LearnPair(t.Context(), job, next, nil, opts)
	if err != nil {
		t.Fatal(err)
	}
	var res [2]*Result
	for i, b := range []*decoder.Block[float32]{job.Block, next} {
		job.Block, job.Learned = b, learned[i]
		if res[i], err = PruneBlock(t.Context(), job, opts[i]); err != nil {
			t.Fatal(err)
		}
		for l := range res[i].Layers {
			checkLayer(t, &res[i].Layers[l], opts[i].Grid)
		}
	}
	return res
}

func TestPair(t *testing.T) {
	for name, set := range map[string]func(*Options){
		"plain":      func(*Options) {},
		"joint":      func(o *Options) { o.Grid = GridSymmetric },
		"dense path": func(o *Options) { o.Reference = PathDense },
		"refined":    func(o *Options) { o.Refine.Passes, o.Grid = 1, GridAsymmetric },
		"metric":     func(o *Options) { o.Importance = ImportanceSparseGPT },
	} {
		t.Run(name, func(t *testing.T) {
			o := DefaultOptions()
			o.LossGranularity, o.Epochs = LossPerPair, 2
			set(&o)
			second := o
			second.Targets[decoder.V] = Target{true, 0.25} // the pair makes up for it
			res := prunePair(t, 1, [2]Options{o, second})
			if s := (res[0].Sparsity() + res[1].Sparsity()) / 2; math.Abs(s-0.5) > 1e-3 {
				t.Errorf("the pair's sparsity is %g", s)
			}
			if res[0].Sparsity() == res[1].Sparsity() {
				t.Error("both blocks have the same sparsity to the last weight: they were not learned together")
			}
			if s := res[1].Layers[decoder.V].Sparsity(); math.Abs(s-0.25) > 1e-3 {
				t.Errorf("a layer with a target of 0.25 has %g", s)
			}
			again := prunePair(t, 3, [2]Options{o, second})
			for i := range res {
				for l := range res[i].Layers {
					if !slices.Equal(res[i].Layers[l].Weights.Data, again[i].Layers[l].Weights.Data) {
						t.Fatalf("block %d, %s: one and three threads differ", i, decoder.Linear(l))
					}
				}
			}
		})
	}
}

// TestPairLoss checks that the loss of a pair falls, and that its gradient
// reaches the first block: its rows part.
func TestPairLoss(t *testing.T) {
	o := DefaultOptions()
	o.LossGranularity, o.Epochs = LossPerPair, 4
	res := prunePair(t, 2, [2]Options{o, o})
	first, last := mean(res[0].Steps[:16]), mean(res[0].Steps[48:])
	if !(last < first) {
		t.Errorf("loss %g in the first pass, %g in the last", first, last)
	}
	counts := map[int]bool{}
	l := &res[0].Layers[decoder.Up]
	for i := range l.Weights.Rows {
		n := 0
		for _, v := range l.Weights.Row(i) {
			if v == 0 {
				n++
			}
		}
		counts[n] = true
	}
	if len(counts) < 3 {
		t.Errorf("the first block's rows have %d different sparsities", len(counts))
	}
}

func mean(steps []StepLoss) float64 {
	var sum float64
	for _, s := range steps {
		sum += s.Reconstruction
	}
	return sum / float64(len(steps))
}

func TestPairRefuses(t *testing.T) {
	job, next := pairOf(t, 1)
	pair := DefaultOptions()
	pair.LossGranularity = LossPerPair
	dense := pair
	dense.Reference = PathDense
	wanda := pair
	wanda.Method = MethodWanda
	for name, o := range map[string]Options{"one block's loss": DefaultOptions(), "baseline": wanda, "dense path without states": dense} {
		job.Dense = nil
		if _, err := LearnPair(t.Context(), job, next, nil, [2]Options{o, o}); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, g := range []LossGranularity{LossPerLayer, LossPerHalf, "three-blocks"} {
		o := DefaultOptions()
		o.LossGranularity, o.Reference = g, PathDense
		if err := o.Validate(); !errors.Is(err, ErrOptions) {
			t.Errorf("%s on the dense path: error %v", g, err)
		}
	}
}

// TestStep holds the finest and the coarsest candidates to the target.
func TestCandidateStep(t *testing.T) {
	for step, candidates := range map[float64]int{0.001: 1001, 0.01: 101, 0.1: 11, 0.5: 3} {
		if got := len(NewCandidates(step, RuleOfficial).P); got != candidates {
			t.Errorf("step %g: %d candidates, want %d", step, got, candidates)
		}
		for _, sparsity := range []float64{0.3, 0.5, 0.7} {
			o := DefaultOptions()
			o.Step, o.Sparsity = step, sparsity
			res, err := PruneBlock(t.Context(), tinyJob(t, 2), o)
			if err != nil {
				t.Fatal(err)
			}
			if s := res.Sparsity(); math.Abs(s-sparsity) > 1e-3 {
				t.Errorf("step %g: sparsity %g, want %g", step, s, sparsity)
			}
			if s := res.Steps[0].Sparsity; math.Abs(s-sparsity) > 0.02 {
				t.Errorf("step %g: learning starts at sparsity %g, want %g", step, s, sparsity)
			}
		}
	}
}
