package decoder

import (
	"errors"
	"fmt"
	"math"
)

// RopeLayout says which two channels of a head a rotary angle turns together.
type RopeLayout int

const (
	// RopeInterleaved turns channels 2i and 2i+1 (GGUF's "norm" layout, LLaMA files).
	RopeInterleaved RopeLayout = iota
	// RopeHalves turns channels i and i+d/2 (GGUF's "neox" layout, Qwen files and Hugging Face checkpoints).
	RopeHalves
)

// Config holds the sizes and constants of a decoder-only transformer of the LLaMA family.
type Config struct {
	Hidden  int // channels of the residual stream
	FFN     int // channels inside the feed-forward network
	Heads   int // query heads
	KVHeads int // key/value heads; Heads is a multiple of it (grouped-query attention)
	HeadDim int // channels per head

	Eps float64 // added to the mean square in RMSNorm

	RopeLayout  RopeLayout
	RopeDim     int       // leading channels of a head that are rotated
	RopeBase    float64   // theta
	RopeScale   float64   // positions are divided by it (linear scaling); 1 for none
	RopeFactors []float32 // per-frequency divisors, RopeDim/2 of them, or nil (LLaMA 3's rope_freqs)

	SlidingWindow int // a query sees at most this many latest positions, itself included; 0 for all
}

// ErrConfig marks a configuration that no decoder block can have.
var ErrConfig = errors.New("invalid decoder configuration")

// Validate reports the first size or constant that makes no sense.
func (c Config) Validate() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	const maxSize = 1 << 20 // far above any model; keeps products of two sizes inside an int
	for _, s := range []struct {
		name  string
		value int
	}{
		{"hidden size", c.Hidden}, {"feed-forward size", c.FFN}, {"head count", c.Heads},
		{"key/value head count", c.KVHeads}, {"head size", c.HeadDim},
	} {
		if s.value < 1 || s.value > maxSize {
			return fail("%s is %d", s.name, s.value)
		}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return fail("%d heads are no multiple of %d key/value heads", c.Heads, c.KVHeads)
	case c.RopeDim < 2 || c.RopeDim > c.HeadDim || c.RopeDim%2 != 0:
		return fail("rope dimension is %d with heads of %d channels", c.RopeDim, c.HeadDim)
	case !(c.RopeBase > 0) || math.IsInf(c.RopeBase, 0):
		return fail("rope base is %g", c.RopeBase)
	case !(c.RopeScale > 0) || math.IsInf(c.RopeScale, 0):
		return fail("rope scale is %g", c.RopeScale)
	case c.RopeFactors != nil && len(c.RopeFactors) != c.RopeDim/2:
		return fail("%d rope factors for %d rotated channels", len(c.RopeFactors), c.RopeDim)
	case !(c.Eps >= 0) || c.Eps > 1:
		return fail("normalisation epsilon is %g", c.Eps)
	case c.SlidingWindow < 0:
		return fail("sliding window is %d", c.SlidingWindow)
	}
	return nil
}

// QDim and KVDim are the output channels of the query and of the key or value projection.
func (c Config) QDim() int { return c.Heads * c.HeadDim }

// KVDim is the number of output channels of the key and of the value projection.
func (c Config) KVDim() int { return c.KVHeads * c.HeadDim }

// Shape gives rows (output channels) and columns (input channels) of a linear layer.
func (c Config) Shape(l Linear) (rows, cols int) {
	switch l {
	case Q:
		return c.QDim(), c.Hidden
	case K, V:
		return c.KVDim(), c.Hidden
	case O:
		return c.Hidden, c.QDim()
	case Gate, Up:
		return c.FFN, c.Hidden
	default:
		return c.Hidden, c.FFN
	}
}

// Parameters is the number of weights in the linear layers of one block.
func (c Config) Parameters() int {
	n := 0
	for l := range NumLinears {
		r, k := c.Shape(l)
		n += r * k
	}
	return n
}
