package convert

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"besa/besa"
	"besa/internal/decoder"
	"besa/internal/kernel"
)

// speeds are measured rates, in floating-point operations per second; 0: not
// measured, since the method has no steps. Without windows choice is measured
// instead, the seconds that ranking and rounding a weight take.
type speeds struct{ forward, step, choice float64 }

// measureTime is about how long speeds are measured; tests have less time.
var measureTime = 2 * time.Second

// measure runs forward passes and steps on a block of random weights: one like
// the model's, smaller where a step would take too long.
func (r *runner) measure(ctx context.Context) (s speeds, err error) {
	const share = 10 // of the time, for one step, at half the peak
	peak := 1e9 * kernel.PeakGFLOPS(peakTime, r.Threads)
	c, tokens := scaled(r.model.Config, r.windowLen(), peak/2*measureTime.Seconds()/share)
	eng, err := decoder.NewEngine[float32](c, tokens, r.pool)
	if err != nil {
		return s, err
	}
	eng.Precision = r.Precision.kernel()
	block, x, acts := randomBlock(c), kernel.NewMat[float32](tokens, c.Hidden), eng.NewActivations()
	fill(x.Data, 1)
	if r.sampling == SamplingNone {
		o := r.Method
		o.Targets = [decoder.NumLinears]besa.Target{}
		t, err := timed(ctx, measureTime, func() error {
			_, err := besa.PruneBlock(ctx, besa.Job{Engine: eng, Block: block, Sums: evenSums(block)}, o)
			return err
		})
		s.choice = t / float64(c.Parameters())
		return s, err
	}
	t, err := timed(ctx, measureTime/4, func() error { return eng.Forward(block, x, acts) })
	s.forward = sizeOf(c, tokens).forward() / t
	if err != nil || blockFLOPs(r.Method, c, r.Calibration.Samples, tokens).step == 0 {
		return s, err
	}
	o := besa.DefaultOptions()
	o.Grid, o.Group, o.ClipLR, o.Step = r.Method.Grid, r.Method.Group, r.Method.ClipLR, r.Method.Step
	o.Refine.Along = r.Method.Refine.Along || r.Method.Refine.Passes > 0 // weights move in either
	window := func() besa.Windows { return &memoryWindows{1, tokens, c.Hidden, slices.Clone(x.Data)} }
	l, err := besa.NewLearning(ctx, besa.Job{Engine: eng, Block: block, In: window(), Ref: window(), Dense: window()}, o)
	if err != nil {
		return s, err
	}
	t, err = timed(ctx, measureTime*3/4, func() error {
		_, err := l.Step(0)
		return err
	})
	s.step = stepFLOPs(c, tokens) / t
	return s, err
}

// evenSums are the sums of inputs that are all alike.
func evenSums(b *decoder.Block[float32]) *besa.Sums {
	var sums besa.Sums
	for l, w := range b.W {
		sums[l] = make([]float64, w.Cols)
		for j := range sums[l] {
			sums[l][j] = 1
		}
	}
	return &sums
}

// timed runs f once to warm up and then for about d; it returns the mean time
// of a run in seconds.
func timed(ctx context.Context, d time.Duration, f func() error) (float64, error) {
	if err := f(); err != nil {
		return 0, err
	}
	start := time.Now()
	for n := 1.; ; n++ {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := f(); err != nil {
			return 0, err
		}
		if t := time.Since(start); t > d {
			return t.Seconds() / n, nil
		}
	}
}

// scaled shrinks a block, and if need be the window, until a step takes no
// more than most operations, or until they are small.
func scaled(c decoder.Config, tokens int, most float64) (decoder.Config, int) {
	full := c
	part := func(n, k int) int { return max(n/k/64, 1) * 64 }
	for k := 2; stepFLOPs(c, tokens) > most && c.Hidden > 512; k *= 2 {
		c.Hidden, c.FFN = part(full.Hidden, k), part(full.FFN, k)
		c.KVHeads = max(full.KVHeads/k, 1)
		c.Heads = max(full.Heads/k/c.KVHeads, 1) * c.KVHeads
	}
	for stepFLOPs(c, tokens) > most && tokens > 64 {
		tokens /= 2
	}
	return c, tokens
}

func randomBlock(c decoder.Config) *decoder.Block[float32] {
	b := &decoder.Block[float32]{AttnNorm: make([]float32, c.Hidden), FFNNorm: make([]float32, c.Hidden)}
	for j := range b.AttnNorm {
		b.AttnNorm[j], b.FFNNorm[j] = 1, 1
	}
	for l := range decoder.NumLinears {
		b.W[l] = kernel.NewMat[float32](c.Shape(l))
		fill(b.W[l].Data, 1/math.Sqrt(float64(b.W[l].Cols)))
	}
	return b
}

// fill draws normally distributed values, the same ones every time.
func fill(v []float32, deviation float64) {
	rng := rand.New(rand.NewPCG(1, uint64(len(v))))
	for i := range v {
		v[i] = float32(deviation * rng.NormFloat64())
	}
}
