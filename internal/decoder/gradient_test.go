package decoder

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"besa/internal/kernel"
)

// small is a block with every size different, so that a mix-up of dimensions
// cannot pass; head sizes and tokens cross the query block's edge in the long case.
func small() Config {
	return Config{Hidden: 24, FFN: 40, Heads: 6, KVHeads: 3, HeadDim: 8, Eps: 1e-5, RopeDim: 8, RopeBase: 100, RopeScale: 1}
}

func randomMat[T kernel.Float](rng *rand.Rand, rows, cols int, scale float64) kernel.Mat[T] {
	m := kernel.NewMat[T](rows, cols)
	for i := range m.Data {
		m.Data[i] = T(rng.NormFloat64() * scale)
	}
	return m
}

func randomBlock[T kernel.Float](rng *rand.Rand, c Config) *Block[T] {
	b := &Block[T]{}
	for l := range NumLinears {
		rows, cols := c.Shape(l)
		b.W[l] = randomMat[T](rng, rows, cols, 1/math.Sqrt(float64(cols)))
	}
	vec := func(n int) []T {
		v := randomMat[T](rng, 1, n, 0.2).Data
		for i := range v {
			v[i]++
		}
		return v
	}
	b.AttnNorm, b.FFNNorm = vec(c.Hidden), vec(c.Hidden)
	return b
}

// TestGradientsAgainstFiniteDifferences compares every kind of block with
// central differences of a random linear functional of its output.
func TestGradientsAgainstFiniteDifferences(t *testing.T) {
	cases := map[string]struct {
		tokens int
		change func(*Config, *Block[float64], *rand.Rand)
	}{
		"interleaved rope": {7, func(*Config, *Block[float64], *rand.Rand) {}},
		"half rope, partial": {7, func(c *Config, _ *Block[float64], _ *rand.Rand) {
			c.RopeLayout, c.RopeDim, c.RopeScale = RopeHalves, 4, 2
			c.RopeFactors = []float32{1, 3}
		}},
		"sliding window":        {9, func(c *Config, _ *Block[float64], _ *rand.Rand) { c.SlidingWindow = 3 }},
		"several query blocks":  {queryBlock + 5, func(*Config, *Block[float64], *rand.Rand) {}},
		"sliding across blocks": {2*queryBlock + 3, func(c *Config, _ *Block[float64], _ *rand.Rand) { c.SlidingWindow = 10 }},
		"bias and head norms": {6, func(c *Config, b *Block[float64], rng *rand.Rand) {
			for l := range b.Bias {
				rows, _ := c.Shape(Linear(l))
				b.Bias[l] = randomMat[float64](rng, 1, rows, 0.5).Data
			}
			b.QNorm = randomMat[float64](rng, 1, c.HeadDim, 1).Data
			b.KNorm = randomMat[float64](rng, 1, c.HeadDim, 1).Data
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			c := small()
			b := randomBlock[float64](rng, c)
			tc.change(&c, b, rng)
			if err := b.Check(c); err != nil {
				t.Fatal(err)
			}
			pool := kernel.NewPool(2)
			defer pool.Close()
			e, err := NewEngine[float64](c, tc.tokens, pool)
			if err != nil {
				t.Fatal(err)
			}
			x := randomMat[float64](rng, tc.tokens, c.Hidden, 1)
			dout := randomMat[float64](rng, tc.tokens, c.Hidden, 1)
			checkGradients(t, e, b, x, dout, rng)
		})
	}
}

func checkGradients(t *testing.T, e *Engine[float64], b *Block[float64], x, dout kernel.Mat[float64], rng *rand.Rand) {
	t.Helper()
	acts, grads := e.NewActivations(), e.NewGradients()
	objective := func() float64 {
		if err := e.Forward(b, x, acts); err != nil {
			t.Fatal(err)
		}
		var sum float64
		for i, v := range acts.Out.Data {
			sum += v * dout.Data[i]
		}
		return sum
	}
	objective()
	if err := e.Backward(b, acts, dout, grads); err != nil {
		t.Fatal(err)
	}
	attnNorm, ffnNorm := make([]float64, e.Hidden), make([]float64, e.Hidden)
	e.NormGradients(b, acts, grads, attnNorm, ffnNorm)
	dx := kernel.NewMat[float64](x.Rows, x.Cols)
	if err := e.InputGradient(b, acts, grads, dx); err != nil {
		t.Fatal(err)
	}
	const h = 1e-5
	check := func(name string, values, grad []float64) {
		t.Helper()
		for range 12 {
			i := rng.IntN(len(values))
			keep := values[i]
			values[i] = keep + h
			up := objective()
			values[i] = keep - h
			down := objective()
			values[i] = keep
			if want := (up - down) / (2 * h); !(math.Abs(grad[i]-want) <= 1e-6*(1+math.Abs(want))) {
				t.Errorf("%s %d: gradient %g, finite difference %g", name, i, grad[i], want)
			}
		}
	}
	check("input", x.Data, dx.Data)
	for l := range NumLinears {
		check(l.String()+" weight", b.W[l].Data, grads.W[l].Data)
	}
	check("attention's norm", b.AttnNorm, attnNorm)
	check("feed-forward norm", b.FFNNorm, ffnNorm)
}

// TestHalvesAreTheBlock checks that the attention half by itself has the
// gradients of a block whose feed-forward network adds nothing, and that the
// two halves one after the other are the block.
func TestHalvesAreTheBlock(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	c := small()
	b := randomBlock[float64](rng, c)
	e, err := NewEngine[float64](c, 7, nil)
	if err != nil {
		t.Fatal(err)
	}
	x, dout := randomMat[float64](rng, 7, c.Hidden, 1), randomMat[float64](rng, 7, c.Hidden, 1)
	whole, half := e.NewActivations(), e.NewActivations()
	mute := *b
	mute.W[Down] = kernel.NewMat[float64](c.Hidden, c.FFN)
	want, got := e.NewGradients(), e.NewGradients()
	for _, err := range []error{
		e.Forward(&mute, x, whole), e.Backward(&mute, whole, dout, want),
		e.ForwardAttention(b, x, half), e.BackwardAttention(b, half, dout, got),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(half.Mid().Data, whole.Out.Data) {
		t.Error("the attention half is not the block without its feed-forward network")
	}
	for l := Q; l <= O; l++ {
		if !slices.Equal(got.W[l].Data, want.W[l].Data) {
			t.Errorf("%s: gradients of the half and of the block differ", l)
		}
	}
	e.ForwardFFN(b, half)
	if err := e.Forward(b, x, whole); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(half.Out.Data, whole.Out.Data) {
		t.Error("the halves one after the other are not the block")
	}
	if err := e.BackwardAttention(b, half, randomMat[float64](rng, 6, c.Hidden, 1), got); err == nil {
		t.Error("a gradient of other tokens is accepted")
	}
}

// TestFloat32MatchesFloat64 runs the same block in both precisions on every
// kernel implementation.
func TestFloat32MatchesFloat64(t *testing.T) {
	c := Config{Hidden: 96, FFN: 160, Heads: 6, KVHeads: 2, HeadDim: 16, Eps: 1e-5, RopeDim: 16, RopeBase: 1e4, RopeScale: 1}
	const tokens = 150
	rng := rand.New(rand.NewPCG(3, 4))
	b64 := randomBlock[float64](rng, c)
	x64, d64 := randomMat[float64](rng, tokens, c.Hidden, 1), randomMat[float64](rng, tokens, c.Hidden, 1)
	b32 := &Block[float32]{AttnNorm: narrow(b64.AttnNorm), FFNNorm: narrow(b64.FFNNorm)}
	for l := range NumLinears {
		b32.W[l] = kernel.MatOf(b64.W[l].Rows, b64.W[l].Cols, narrow(b64.W[l].Data))
	}
	out64, grads64 := run(t, c, b64, x64, d64, 1)
	defer kernel.Use(kernel.Implementation())
	for _, impl := range kernel.Implementations() {
		t.Run(impl, func(t *testing.T) {
			if err := kernel.Use(impl); err != nil {
				t.Fatal(err)
			}
			x := kernel.MatOf(tokens, c.Hidden, narrow(x64.Data))
			d := kernel.MatOf(tokens, c.Hidden, narrow(d64.Data))
			out, grads := run(t, c, b32, x, d, 2)
			compare(t, "out", out.Data, out64.Data)
			for l := range NumLinears {
				compare(t, l.String(), grads.W[l].Data, grads64.W[l].Data)
			}
			again, againGrads := run(t, c, b32, x, d, 1)
			for i, v := range out.Data {
				if again.Data[i] != v {
					t.Fatalf("output %d depends on the number of threads", i)
				}
			}
			for l := range NumLinears {
				for i, v := range grads.W[l].Data {
					if againGrads.W[l].Data[i] != v {
						t.Fatalf("%s gradient %d depends on the number of threads", l, i)
					}
				}
			}
		})
	}
}

func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

func run[T kernel.Float](t *testing.T, c Config, b *Block[T], x, d kernel.Mat[T], threads int) (kernel.Mat[T], *Gradients[T]) {
	t.Helper()
	pool := kernel.NewPool(threads)
	defer pool.Close()
	e, err := NewEngine[T](c, x.Rows, pool)
	if err != nil {
		t.Fatal(err)
	}
	acts, grads := e.NewActivations(), e.NewGradients()
	if err := e.Forward(b, x, acts); err != nil {
		t.Fatal(err)
	}
	if err := e.Backward(b, acts, d, grads); err != nil {
		t.Fatal(err)
	}
	return acts.Out, grads
}

// compare bounds the error by 1e-5 of the largest value: float32 rounding
// through a chain of sums of at most 160 terms.
func compare(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	var top float64
	for _, w := range want {
		top = max(top, math.Abs(w))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) <= 1e-5*top) {
			t.Fatalf("%s[%d] = %g, want %g", what, i, got[i], w)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	bad := map[string]func(*Config){
		"heads no multiple": func(c *Config) { c.KVHeads = 4 },
		"zero heads":        func(c *Config) { c.Heads = 0 },
		"odd rope":          func(c *Config) { c.RopeDim = 3 },
		"rope beyond head":  func(c *Config) { c.RopeDim = 10 },
		"huge":              func(c *Config) { c.FFN = 1 << 40 },
		"NaN base":          func(c *Config) { c.RopeBase = math.NaN() },
		"factors":           func(c *Config) { c.RopeFactors = make([]float32, 3) },
	}
	if err := small().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range bad {
		c := small()
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
