package enginebench

import (
	"errors"
	"fmt"
	"math"

	"besa/besa"
	"besa/internal/decoder"
	"besa/internal/kernel"
)

// shape is a block and the window that it runs on.
type shape struct {
	name   string
	config decoder.Config
	tokens int
}

func (s shape) text() string { return fmt.Sprintf("%s, %d tokens", s.name, s.tokens) }

// repeat is how often a step is taken: short ones more often.
func (s shape) repeat() int {
	if s.tokens <= 512 {
		return 10
	}
	return 2
}

func llama(name string, hidden, ffn, heads, kvHeads, tokens int) shape {
	return shape{name, decoder.Config{
		Hidden: hidden, FFN: ffn, Heads: heads, KVHeads: kvHeads, HeadDim: hidden / heads,
		Eps: 1e-5, RopeDim: hidden / heads, RopeBase: 1e4, RopeScale: 1,
	}, tokens}
}

var (
	llama7B = llama("LLaMA-7B's block", 4096, 11008, 32, 32, 2048)
	smolLM2 = llama("SmolLM2-135M's block", 576, 1536, 9, 3, 512)
	small   = llama("a 12.8 M block", 1024, 2816, 8, 8, 512) // its matrices exceed the caches
	tiny    = llama("a tiny block", 64, 96, 4, 2, 48)
)

// large is the shape of the sections that are about a large model.
func (b *bench) large() shape {
	switch {
	case b.opts.tiny:
		return tiny
	case b.opts.Quick:
		return small
	}
	return llama7B
}

// little is the shape of the section about a small model.
func (b *bench) little() shape {
	if b.opts.tiny {
		return tiny
	}
	return smolLM2
}

// bytes estimates the memory of a 4-bit step, which takes the most.
func (s shape) bytes() int64 {
	const windows = 2 * 4 // of one window: what enters the block, and what leaves it dense
	return besa.Footprint(s.config, s.tokens, learningOptions(besa.GridSymmetric)) + windows*int64(s.tokens)*int64(s.config.Hidden)
}

// ErrMemory marks a run that does not fit into memory.
var ErrMemory = errors.New("not enough memory")

// checkMemory refuses shapes that would have to be swapped.
func (b *bench) checkMemory() error {
	need := b.large().bytes()
	if !b.wants("step") && !b.wants("mask") || b.opts.Memory <= 0 || need <= b.opts.Memory {
		return nil
	}
	return fmt.Errorf("%w: a step on %s needs %.1f GiB, %.1f GiB may be used; --quick measures a small block",
		ErrMemory, b.large().name, float64(need)/(1<<30), float64(b.opts.Memory)/(1<<30))
}

func randomBlock(p *kernel.Pool, c decoder.Config) *decoder.Block[float32] {
	b := &decoder.Block[float32]{AttnNorm: ones(c.Hidden), FFNNorm: ones(c.Hidden)}
	for l := range decoder.NumLinears {
		rows, cols := c.Shape(l)
		b.W[l] = randomMatrix(p, rows, cols, 1/math.Sqrt(float64(cols)))
	}
	return b
}

func ones(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = 1
	}
	return v
}

// window is a calibration set of one window.
type window struct{ m kernel.Mat[float32] }

func (w window) Len() int                              { return 1 }
func (w window) Load(int) (kernel.Mat[float32], error) { return w.m, nil }
func (w window) Store(_ int, m kernel.Mat[float32]) error {
	kernel.Copy(nil, w.m, m)
	return nil
}
