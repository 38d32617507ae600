package besa

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"besa/internal/decoder"
	"besa/internal/kernel"
)

// tinyJob is a block of random weights with 16 windows of inputs.
func tinyJob(t *testing.T, threads int) Job {
	t.Helper()
	pool := kernel.NewPool(threads)
	t.Cleanup(pool.Close)
	cfg := decoder.Config{
		Hidden: 64, FFN: 128, Heads: 4, KVHeads: 2, HeadDim: 16, Eps: 1e-5,
		RopeLayout: decoder.RopeHalves, RopeDim: 16, RopeBase: 10000, RopeScale: 1,
	}
	eng, err := decoder.NewEngine[float32](cfg, 24, pool)
	if err != nil {
		t.Fatal(err)
	}
	b := &decoder.Block[float32]{AttnNorm: slices.Repeat([]float32{1}, 64), FFNNorm: slices.Repeat([]float32{1}, 64)}
	for l := range decoder.NumLinears {
		rows, cols := cfg.Shape(l)
		b.W[l] = random(rows, cols, uint64(l))
		for i := range b.W[l].Data {
			b.W[l].Data[i] *= 0.1
		}
	}
	const n = 16
	in := windows{n, 24, 64, correlated(n*24, 64, 99).Data} // white noise leaves nothing to compensate
	return Job{Engine: eng, Block: b, In: in,
		Ref:   windows{n, 24, 64, make([]float32, len(in.data))},
		Dense: windows{n, 24, 64, slices.Clone(in.data)},
	}
}

func TestRefineLowersTheError(t *testing.T) {
	for _, grid := range []Grid{GridNone, GridSymmetric, GridAsymmetric} {
		for _, method := range []Method{MethodWanda, MethodBESA} {
			t.Run(string(method)+string(grid), func(t *testing.T) {
				opts := DefaultOptions()
				opts.Method, opts.Grid = method, grid
				plain, err := PruneBlock(t.Context(), tinyJob(t, 1), opts)
				if err != nil {
					t.Fatal(err)
				}
				opts.Refine.Passes, opts.Refine.LR = 4, 1e-3
				refined, err := PruneBlock(t.Context(), tinyJob(t, 1), opts)
				if err != nil {
					t.Fatal(err)
				}
				if refined.Error > 0.95*plain.Error {
					t.Errorf("error %g with refinement, %g without", refined.Error, plain.Error)
				}
				if r := refined.Refine; r == nil || r.After >= r.Before || r.Last >= r.First {
					t.Errorf("refinement: %+v", r)
				}
				for l := range refined.Layers {
					if !slices.Equal(refined.Layers[l].Mask, plain.Layers[l].Mask) {
						t.Errorf("%s: refinement changed the mask", decoder.Linear(l))
					}
					checkPruned(t, &refined.Layers[l])
				}
			})
		}
	}
}

// checkPruned fails where a pruned weight is not zero.
func checkPruned(t *testing.T, l *Layer) {
	t.Helper()
	words := (l.Weights.Cols + 63) / 64
	for i := range l.Weights.Rows {
		for j, v := range l.Weights.Row(i) {
			if l.Mask[i*words+j/64]>>(j%64)&1 == 0 && v != 0 {
				t.Fatalf("pruned weight %d,%d is %g", i, j, v)
			}
		}
	}
}

func TestRefineKeepsTheBestState(t *testing.T) {
	opts := DefaultOptions()
	opts.Method = MethodWanda
	opts.Refine.Passes, opts.Refine.LR = 3, 0.5 // far too large: every pass makes it worse
	res, err := PruneBlock(t.Context(), tinyJob(t, 1), opts)
	if err != nil {
		t.Fatal(err)
	}
	opts.Refine.Passes = 0
	plain, err := PruneBlock(t.Context(), tinyJob(t, 1), opts)
	if err != nil {
		t.Fatal(err)
	}
	if res.Refine.After != res.Refine.Before {
		t.Fatalf("the held-out loss went from %g to %g: the test's step is too small", res.Refine.Before, res.Refine.After)
	}
	for l := range res.Layers {
		if !slices.Equal(res.Layers[l].Weights.Data, plain.Layers[l].Weights.Data) {
			t.Errorf("%s: weights were changed for the worse", decoder.Linear(l))
		}
	}
}

// Moving the weights while the allocation is learned leaves less error at the
// same number of passes, and masks that the first ranking would not have given.
func TestAlong(t *testing.T) {
	for _, grid := range []Grid{GridNone, GridSymmetric} {
		run := func(set func(*Options)) *Result {
			opts := DefaultOptions()
			opts.Grid, opts.Epochs = grid, 4
			set(&opts)
			res, err := PruneBlock(t.Context(), tinyJob(t, 1), opts)
			if err != nil {
				t.Fatal(err)
			}
			if s := res.Sparsity(); math.Abs(s-0.5) > 1e-3 {
				t.Errorf("sparsity %g", s)
			}
			checkPruned(t, &res.Layers[decoder.Up])
			return res
		}
		plain := run(func(o *Options) {})
		along := run(func(o *Options) { o.Refine.Along, o.Refine.LR = true, 3e-3 })
		if along.Error > 0.9*plain.Error {
			t.Errorf("grid %q: error %g with weights that move along, %g without", grid, along.Error, plain.Error)
		}
		if slices.Equal(along.Layers[decoder.Up].Mask, plain.Layers[decoder.Up].Mask) {
			t.Errorf("grid %q: the masks are those of the first ranking", grid)
		}
	}
	opts := DefaultOptions()
	opts.Method, opts.Refine.Along = MethodWanda, true
	if err := opts.Validate(); err == nil {
		t.Error("nothing is learned that weights could move along with, and no error")
	}
}

func TestMethodsThreads(t *testing.T) {
	for name, set := range map[string]func(*Options){
		"sparsegpt":            func(o *Options) { o.Method = MethodSparseGPT },
		"sparsegpt 2:4":        func(o *Options) { o.Method, o.Pattern = MethodSparseGPT, Pattern{2, 4} },
		"sparsegpt importance": func(o *Options) { o.Importance = ImportanceSparseGPT },
		"weight importance":    func(o *Options) { o.Importance = ImportanceWeight },
		"layer-wise":           func(o *Options) { o.Granularity = GranularityLayer },
		"dense path, adamw":    func(o *Options) { o.Reference, o.Optimizer = PathDense, OptimizerAdamW },
		"normed loss":          func(o *Options) { o.Loss = LossNormed },
		"paper's loss":         func(o *Options) { o.Loss = LossPaper },
		"masks of Eq 5":        func(o *Options) { o.Rule = RulePaper },
		"norms tuned":          func(o *Options) { o.Refine.Norms, o.Refine.Passes, o.Grid = true, 2, GridSymmetric },
		"masks chosen again":   func(o *Options) { o.Refine.Remask, o.Refine.Passes = true, 2 },
		"plain softmax":        func(o *Options) { o.Plain = true },
		"refined joint":        func(o *Options) { o.Refine.Passes, o.Grid = 1, GridSymmetric },
		"moved along":          func(o *Options) { o.Refine.Along = true },
		"moved along, joint":   func(o *Options) { o.Refine.Along, o.Refine.Passes, o.Grid = true, 1, GridSymmetric },
		"solved":               func(o *Options) { o.Refine.Solve = SolveSweep },
		"solved by pcg":        func(o *Options) { o.Refine.Solve, o.Grid = SolvePCG, GridSymmetric },
		"shaped, joint": func(o *Options) {
			o.Refine.Along, o.Refine.Passes, o.Grid, o.Pattern = true, 1, GridSymmetric, Pattern{32, 64}
		},
		"wanda 4:8": func(o *Options) { o.Method, o.Pattern = MethodWanda, Pattern{4, 8} },
	} {
		t.Run(name, func(t *testing.T) {
			opts := DefaultOptions()
			set(&opts)
			var first *Result
			for _, threads := range []int{1, 4} {
				res, err := PruneBlock(t.Context(), tinyJob(t, threads), opts)
				if err != nil {
					t.Fatal(err)
				}
				if s := res.Sparsity(); math.Abs(s-0.5) > 1e-3 {
					t.Errorf("sparsity %g", s)
				}
				if first == nil {
					first = res
					continue
				}
				if !reflect.DeepEqual(res.Norms, first.Norms) {
					t.Fatal("norms of one and of four threads differ")
				}
				for l := range res.Layers {
					if !slices.Equal(res.Layers[l].Weights.Data, first.Layers[l].Weights.Data) {
						t.Fatalf("%s: one and four threads differ", decoder.Linear(l))
					}
				}
			}
		})
	}
}

func TestSparseGPTBeatsWanda(t *testing.T) {
	var errs [2]float64
	for i, m := range []Method{MethodWanda, MethodSparseGPT} {
		opts := DefaultOptions()
		opts.Method = m
		res, err := PruneBlock(t.Context(), tinyJob(t, 1), opts)
		if err != nil {
			t.Fatal(err)
		}
		errs[i] = res.Error
	}
	if errs[1] >= errs[0] {
		t.Errorf("SparseGPT's error %g, Wanda's %g", errs[1], errs[0])
	}
}

func TestSolveLowersTheError(t *testing.T) {
	for _, grid := range []Grid{GridNone, GridSymmetric, GridAsymmetric} {
		solved := func(solver Solver) *Result {
			opts := DefaultOptions()
			opts.Method, opts.Grid, opts.Refine.Solve = MethodWanda, grid, solver
			res, err := PruneBlock(t.Context(), tinyJob(t, 2), opts)
			if err != nil {
				t.Fatal(err)
			}
			checkPruned(t, &res.Layers[decoder.Down])
			return res
		}
		plain := solved(SolveNone)
		for _, solver := range Solvers {
			res := solved(solver)
			if res.Error > 0.95*plain.Error {
				t.Errorf("grid %q, %s: error %g solved, %g not", grid, solver, res.Error, plain.Error)
			}
			if !slices.Equal(res.Layers[decoder.Up].Mask, plain.Layers[decoder.Up].Mask) {
				t.Errorf("grid %q, %s: solving changed the mask", grid, solver)
			}
		}
	}
}

// Conjugate gradients come closer to the least squares than the sweep, and
// pruned weights stay zero.
func TestConjugate(t *testing.T) {
	x, dense := correlated(400, 200, 3), random(24, 200, 5)
	h, fac := factored(t, x)
	swept := kernel.NewMat[float32](24, 200)
	copy(swept.Data, dense.Data)
	keep := sparseGPT(nil, swept, fac, 0.5, Pattern{}, sweepWidth)
	solved := kernel.NewMat[float32](24, 200)
	copy(solved.Data, dense.Data)
	conjugate(nil, solved, h.XX, fac.ridge, keep)
	for k, kept := range keep {
		if !kept && solved.Data[k] != 0 {
			t.Fatalf("pruned weight %d is %g", k, solved.Data[k])
		}
	}
	if s, c := outputError(x, swept, dense), outputError(x, solved, dense); c > 0.95*s {
		t.Errorf("error %g by conjugate gradients, %g by the sweep with the same masks", c, s)
	}
}

// Inputs without signal, channels that are dead and weights without survivors
// leave numbers that are finite.
func TestConjugateDegenerate(t *testing.T) {
	for name, scale := range map[string]float32{"dead": 0, "tiny": 1e-20, "huge": 1e15} {
		x, w := random(8, 32, 1), random(6, 32, 2)
		for i := range x.Data {
			x.Data[i] *= scale
			if i%32 < 4 {
				x.Data[i] = 0
			}
		}
		var h Hessian
		h.Add(nil, x)
		keep := make([]bool, 6*32)
		for k := range keep {
			keep[k] = k >= 32 && k%2 == 0
		}
		f, err := h.factorize(nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		conjugate(nil, w, h.XX, f.ridge, keep)
		for k, v := range w.Data {
			if v-v != 0 || !keep[k] && v != 0 {
				t.Fatalf("%s: weight %d is %g", name, k, v)
			}
		}
	}
}

// The normed loss is the official one of tokens that have been divided by
// their reference's root mean square; its gradient is that of finite
// differences, and a token without signal does not count.
func TestNormedLoss(t *testing.T) {
	const tokens, channels = 9, 70
	out, ref := random(tokens, channels, 1), random(tokens, channels, 2)
	clear(ref.Row(4))
	for j := range ref.Row(2) {
		ref.Row(2)[j] *= 1000 // a massive activation
		out.Row(2)[j] *= 1000
	}
	grad, none := kernel.NewMat[float32](tokens, channels), kernel.NewMat[float32](tokens, channels)
	got := reconstruction(nil, LossNormed, out, ref, grad)
	a, b := kernel.NewMat[float32](tokens, channels), kernel.NewMat[float32](tokens, channels)
	for i := range tokens {
		var sum float64
		for _, v := range ref.Row(i) {
			sum += float64(v) * float64(v)
		}
		for j := range channels {
			if sum > 0 {
				f := float32(1 / math.Sqrt(sum/channels))
				a.Row(i)[j], b.Row(i)[j] = out.Row(i)[j]*f, ref.Row(i)[j]*f
			}
		}
	}
	if want := reconstruction(nil, LossOfficial, a, b, none); math.Abs(got-want) > 1e-5*want {
		t.Errorf("loss %g, want %g", got, want)
	}
	for _, k := range []int{0, 69, 2*channels + 5, 4*channels + 1, 8*channels + 33} {
		was := out.Data[k]
		h := 1e-2 * max(1, abs32(was))
		out.Data[k] = was + h
		up := reconstruction(nil, LossNormed, out, ref, none)
		out.Data[k] = was - h
		down := reconstruction(nil, LossNormed, out, ref, none)
		out.Data[k] = was
		want := (up - down) / float64(2*h)
		if d := math.Abs(float64(grad.Data[k]) - want); d > 2e-2*math.Abs(want)+1e-6/float64(h) {
			t.Errorf("gradient %d: %g, finite differences %g", k, grad.Data[k], want)
		}
	}
	if grad.Row(4)[1] != 0 {
		t.Error("a token without signal has a gradient")
	}
}
