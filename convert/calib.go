package convert

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// ErrCalibration marks calibration text that cannot serve.
var ErrCalibration = errors.New("calibration text too short")

// Calibration says which windows of the calibration text are used.
type Calibration struct {
	Path    string // text, JSONL or JSONL.gz
	Samples int    // windows; 0: 128, or as many as the text holds
	Len     int    // tokens per window; 0: 2048, or the model's context
	Stride  int    // distance of window starts; 0: spread over the text, jittered by Seed
	Seed    uint64
}

const (
	defaultSamples = 128
	defaultLen     = 2048
	minWindows     = 8 // with fewer steps nothing is learned
)

// plan fixes the number and length of windows for a text of tokens tokens.
func (c Calibration) plan(tokens, context int) (Calibration, error) {
	if c.Samples < 0 || c.Len < 0 || c.Stride < 0 {
		return c, fmt.Errorf("calibration of %d windows of %d tokens, %d apart: numbers must be positive", c.Samples, c.Len, c.Stride)
	}
	if c.Len == 0 {
		c.Len = min(defaultLen, context)
	}
	if c.Len < 2 || c.Len > context {
		return c, fmt.Errorf("calibration windows of %d tokens: the model's context is %d", c.Len, context)
	}
	asked := c.Samples
	if asked == 0 {
		c.Samples = defaultSamples
	}
	fit := tokens / c.Len
	if c.Stride > 0 && tokens >= c.Len {
		fit = (tokens-c.Len)/c.Stride + 1
	}
	switch {
	case fit >= c.Samples:
		return c, nil
	case asked > 0:
		return c, fmt.Errorf("%w: %d tokens hold %d windows of %d, not %d; give more text, or fewer or shorter windows (--calib-samples, --calib-len)", ErrCalibration, tokens, fit, c.Len, asked)
	case fit < minWindows:
		return c, fmt.Errorf("%w: %d tokens hold %d windows of %d, at least %d are needed; give more text or shorter windows (--calib-len)", ErrCalibration, tokens, fit, c.Len, minWindows)
	}
	c.Samples = fit
	return c, nil
}

// starts returns the first token of every window. Without a stride the text is
// cut into equal parts and each part gives one window at a random place.
func (c Calibration) starts(tokens int) []int {
	starts := make([]int, c.Samples)
	rng := rand.New(rand.NewPCG(c.Seed, 0x62657361))
	for i := range starts {
		if c.Stride > 0 {
			starts[i] = i * c.Stride
			continue
		}
		lo, hi := i*tokens/c.Samples, (i+1)*tokens/c.Samples
		starts[i] = lo + rng.IntN(hi-lo-c.Len+1)
	}
	return starts
}
