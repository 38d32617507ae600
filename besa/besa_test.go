package besa

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/x448/float16"

	"besa/internal/decoder"
	"besa/internal/kernel"
)

// randomJob makes a small block with calibration windows.
func randomJob(t *testing.T, seed uint64, threads int) Job {
	t.Helper()
	c := decoder.Config{Hidden: 64, FFN: 96, Heads: 4, KVHeads: 2, HeadDim: 16, Eps: 1e-5, RopeDim: 16, RopeBase: 1e4, RopeScale: 1}
	pool := kernel.NewPool(threads)
	t.Cleanup(pool.Close)
	eng, err := decoder.NewEngine[float32](c, 24, pool)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	normal := func(n int, scale float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64() * scale)
		}
		return v
	}
	b := &decoder.Block[float32]{AttnNorm: normal(c.Hidden, 1), FFNNorm: normal(c.Hidden, 1)}
	for l := range decoder.NumLinears {
		rows, cols := c.Shape(l)
		b.W[l] = kernel.MatOf(rows, cols, normal(rows*cols, 0.12))
	}
	const n = 20
	in := windows{n, 24, c.Hidden, normal(n*24*c.Hidden, 1)}
	return Job{Engine: eng, Block: b, In: in, Ref: windows{n, 24, c.Hidden, make([]float32, len(in.data))}}
}

func TestPruneBlockMeetsTargetWithEveryMethodAndGrid(t *testing.T) {
	for _, method := range Methods {
		for _, grid := range []Grid{GridNone, GridSymmetric, GridAsymmetric} {
			for _, sparsity := range []float64{0.3, 0.5, 0.7} {
				o := DefaultOptions()
				o.Method, o.Grid, o.Group, o.Sparsity = method, grid, 32, sparsity
				res, err := PruneBlock(t.Context(), randomJob(t, 7, 2), o)
				if err != nil {
					t.Fatalf("%s %s %g: %v", method, grid, sparsity, err)
				}
				// Uniform methods round down per row: at most one weight of 64.
				if got := res.Sparsity(); math.Abs(got-sparsity) > 1.0/64 || method == MethodBESA && math.Abs(got-sparsity) > 1e-3 {
					t.Errorf("%s %s: sparsity %g, want %g", method, grid, got, sparsity)
				}
				for l := range res.Layers {
					checkLayer(t, &res.Layers[l], grid)
				}
			}
		}
	}
}

// checkLayer verifies that mask, weights, codes and counts tell the same story.
func checkLayer(t *testing.T, l *Layer, grid Grid) {
	t.Helper()
	w := l.Weights
	words := (w.Cols + 63) / 64
	pruned := 0
	for i := range w.Rows {
		for j, v := range w.Row(i) {
			kept := l.Mask[i*words+j/64]>>(j%64)&1 == 1
			if !kept {
				pruned++
				if v != 0 {
					t.Fatalf("row %d column %d is pruned but weighs %g", i, j, v)
				}
				continue
			}
			if grid == GridNone {
				continue
			}
			g := i*((w.Cols+l.Group-1)/l.Group) + j/l.Group
			zero := float32(zeroCode)
			if grid == GridAsymmetric {
				zero = float32(l.Zeros[g])
			}
			if want := (float32(l.Codes[i*w.Cols+j]) - zero) * halfFloat(l.Steps[g]); v != want {
				t.Fatalf("row %d column %d weighs %g, its code means %g", i, j, v, want)
			}
		}
	}
	if pruned != l.Pruned {
		t.Fatalf("%d weights are pruned, the layer says %d", pruned, l.Pruned)
	}
}

func halfFloat(bits uint16) float32 {
	sign, exp, frac := float64(1), int(bits>>10&31), float64(bits&1023)
	if bits>>15 == 1 {
		sign = -1
	}
	if exp == 0 {
		return float32(sign * math.Ldexp(frac, -24))
	}
	return float32(sign * math.Ldexp(1024+frac, exp-25))
}

func TestPruneBlockIsIndependentOfThreads(t *testing.T) {
	o := DefaultOptions()
	o.Grid, o.Group = GridSymmetric, 32
	var want *Result
	for _, threads := range []int{1, 2, 4} {
		res, err := PruneBlock(t.Context(), randomJob(t, 3, threads), o)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = res
			continue
		}
		for l := range res.Layers {
			a, b := &res.Layers[l], &want.Layers[l]
			if !slices.Equal(a.Mask, b.Mask) || !slices.Equal(a.Codes, b.Codes) || !slices.Equal(a.Steps, b.Steps) {
				t.Fatalf("%s differs between 1 and %d threads", decoder.Linear(l), threads)
			}
		}
		if !slices.Equal(res.Steps, want.Steps) || res.Error != want.Error {
			t.Fatalf("losses differ between 1 and %d threads", threads)
		}
	}
}

// TestLearningLowersTheLoss holds on any block: the learned allocation beats
// the uniform one that it starts from, on the calibration windows.
func TestLearningLowersTheLoss(t *testing.T) {
	o := DefaultOptions()
	o.Epochs = 3
	learned, err := PruneBlock(t.Context(), randomJob(t, 5, 2), o)
	if err != nil {
		t.Fatal(err)
	}
	o.Method = MethodWanda
	uniform, err := PruneBlock(t.Context(), randomJob(t, 5, 2), o)
	if err != nil {
		t.Fatal(err)
	}
	if !(learned.Error < uniform.Error) {
		t.Errorf("reconstruction error %g learned, %g uniform", learned.Error, uniform.Error)
	}
}

func TestPruneBlockHonoursCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	job := randomJob(t, 1, 1)
	job.Step = func(done, _ int) {
		if done == 2 {
			cancel()
		}
	}
	if _, err := PruneBlock(ctx, job, DefaultOptions()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestExactCounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var allocs []*Allocation
		total := 0
		for range 1 + rng.IntN(4) {
			a := NewAllocation(1+rng.IntN(9), 1+rng.IntN(70), NewCandidates(0.1, RuleOfficial), 0, GranularityRow)
			for i := range a.Alpha {
				a.Alpha[i] = rng.Float32()
			}
			allocs = append(allocs, a)
			total += a.Rows * a.Cols
		}
		target := rng.IntN(total + 1)
		sum := 0
		for l, counts := range exactCounts(allocs, target) {
			for _, n := range counts {
				if n < 0 || n > allocs[l].Cols {
					t.Fatalf("count %d of %d columns", n, allocs[l].Cols)
				}
				sum += n
			}
		}
		if sum != target {
			t.Fatalf("counts sum to %d, want %d of %d", sum, target, total)
		}
	}
}

func TestTiltStartsAtTheTarget(t *testing.T) {
	for _, target := range []float64{0.1, 0.3, 0.5, 0.7, 0.9} {
		c := NewCandidates(0.01, RuleOfficial)
		a := NewAllocation(1, 1000, c, tiltFor(c, target), GranularityRow)
		a.Update(nil)
		if got := float64(a.Alpha[0]); !(math.Abs(got-target) < 1e-3) {
			t.Errorf("α starts at %g, want %g", got, target)
		}
	}
}

func TestHalf(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range 1 << 20 {
		v := math.Float32frombits(rng.Uint32())
		if i%2 == 0 { // around fp16's subnormals and its smallest normal numbers
			v = float32(rng.NormFloat64() * 0x1p-15)
		}
		if v != v || abs32(v) > maxHalf {
			continue
		}
		if want := float16.Fromfloat32(v).Float32(); math.Float32bits(toHalf(v)) != math.Float32bits(want) {
			t.Fatalf("%g rounds to %g, want %g", v, toHalf(v), want)
		}
	}
	if inf := float32(math.Inf(1)); toHalf(inf) != maxHalf || toHalf(-1e30) != -maxHalf {
		t.Error("large values do not stay finite")
	}
}

// TestStep checks what is promised of a step: no more than five explicit bits of
// mantissa, a small error, and what Q4_1 needs: a step times any zero code is an
// fp16.
func TestStep(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 20000 {
		v := float32(rng.NormFloat64() * math.Pow(2, float64(rng.IntN(36)-24)))
		h := toStep(v, maxStep15)
		if abs32(h) >= smallestNormal && halfBits(h)&(1<<(11-stepBits)-1) != 0 || toHalf(h) != h {
			t.Fatalf("%g rounds to %g, fp16 %#04x", v, h, halfBits(h))
		}
		for z := range levels {
			p := float32(z) * h
			if toHalf(p) != p {
				t.Fatalf("%g rounds to %g, and %d times that is no fp16", v, h, z)
			}
		}
		if e := math.Abs(float64(h-v) / float64(v)); math.Abs(float64(v)) > 1e-4 && math.Abs(float64(v)) < 4000 && e > 1.0/64 {
			t.Fatalf("%g rounds to %g", v, h)
		}
	}
	for _, c := range []struct{ v, limit, want float32 }{
		{1 + 1.0/64, maxStep, 1},             // ties to even
		{1 + 3.0/64, maxStep, 1 + 2.0/32},    //
		{-1 - 1.01/64, maxStep, -1 - 1.0/32}, //
		{1e30, maxStep, 63 << 10},            // finite in fp16
		{-1e30, maxStep15, -63 << 6},         // 15-fold finite in fp16
		{0x1p-24, maxStep, 0x1p-24},          // fp16's least number
		{0x1.9p-26, maxStep, 0},              //
		{float32(math.Inf(-1)), maxStep15, -63 << 6},
	} {
		if got := toStep(c.v, c.limit); got != c.want {
			t.Errorf("%g rounds to %g, want %g", c.v, got, c.want)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	if err := DefaultOptions().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Options){
		"method":       func(o *Options) { o.Method = "random" },
		"sparsity 1":   func(o *Options) { o.Sparsity = 1 },
		"sparsity NaN": func(o *Options) { o.Sparsity = math.NaN() },
		"step":         func(o *Options) { o.Step = 0 },
		"epochs":       func(o *Options) { o.Epochs = 0 },
		"grid":         func(o *Options) { o.Grid = "ternary" },
		"group":        func(o *Options) { o.Grid, o.Group = GridSymmetric, 48 },
	} {
		o := DefaultOptions()
		spoil(&o)
		if err := o.Validate(); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGoals(t *testing.T) {
	params := [decoder.NumLinears]int{100, 100, 100, 100, 200, 200, 200}
	opts := DefaultOptions()
	opts.Targets[decoder.V] = Target{true, 0.2}
	opts.Targets[decoder.Down] = Target{true, 0}
	goals, err := opts.goals(params)
	if err != nil {
		t.Fatal(err)
	}
	var pruned float64
	for _, g := range goals {
		pruned += g.sparsity * float64(g.params)
	}
	if len(goals) != 3 || math.Abs(pruned-500) > 1e-9 {
		t.Errorf("%d goals prune %g of 1000 weights, want 500", len(goals), pruned)
	}
	for l := range opts.Targets {
		opts.Targets[l] = Target{true, 0.3}
	}
	if goals, err := opts.goals(params); err != nil || len(goals) != int(decoder.NumLinears) {
		t.Errorf("all layers set: %v, %v", goals, err)
	}
	for _, low := range []float64{0, 0.95} { // the one layer left would need more than everything, or less than nothing
		for l := range opts.Targets {
			opts.Targets[l] = Target{l > 0, low}
		}
		if _, err := opts.goals(params); !errors.Is(err, ErrOptions) {
			t.Errorf("six layers at %g: error %v", low, err)
		}
	}
}

func TestTargets(t *testing.T) {
	for _, method := range Methods {
		opts := DefaultOptions()
		opts.Method = method
		opts.Targets[decoder.V] = Target{true, 0.25}
		opts.Targets[decoder.O] = Target{true, 0}
		res, err := PruneBlock(t.Context(), tinyJob(t, 2), opts)
		if err != nil {
			t.Fatal(err)
		}
		for l, want := range map[decoder.Linear]float64{decoder.V: 0.25, decoder.O: 0} {
			if got := res.Layers[l].Sparsity(); math.Abs(got-want) > 1e-3 {
				t.Errorf("%s, %s: sparsity %g, want %g", method, l, got, want)
			}
		}
		if got := res.Sparsity(); math.Abs(got-0.5) > 1e-3 {
			t.Errorf("%s: the block's sparsity is %g", method, got)
		}
	}
}

func TestUniformCounts(t *testing.T) {
	for _, c := range []struct {
		rows, cols int
		s          float64
		want       int
	}{{7, 64, 0.5, 224}, {10, 64, 0.51, 326}, {3, 10, 0, 0}, {5, 9, 0.99, 45}} {
		total := 0
		for i, n := range uniformCounts(c.rows, c.cols, c.s) {
			if math.Abs(float64(n)-c.s*float64(c.cols)) > 1 || n > c.cols {
				t.Errorf("%+v: row %d prunes %d", c, i, n)
			}
			total += n
		}
		if total != c.want {
			t.Errorf("%+v: %d pruned", c, total)
		}
	}
}
