package convert

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// ErrCalibration marks calibration text that cannot serve.
var ErrCalibration = errors.New("calibration text too short")

// Calibration says which text is used for calibration, and which windows of it.
type Calibration struct {
	Path    string // text, JSON lines, Parquet, or a folder (see package corpus); empty: the model writes its own
	Column  string // field or column that holds the text; empty: "text"
	Samples int    // windows; 0: 128, or as many as the text holds
	Len     int    // tokens per window; 0: 2048, or the model's context
	Stride  int    // distance of window starts in the joined text; 0: windows of random documents (see sample)
	Seed    uint64
}

// Sampling names the way in which calibration windows were taken.
type Sampling string

// The ways.
const (
	SamplingDocuments Sampling = "documents" // a random place in each of as many random documents
	SamplingPacked    Sampling = "packed"    // documents in random order, joined; a random place in each of as many equal parts
	SamplingStride    Sampling = "stride"    // documents in their order, joined; places at equal distances
	SamplingSelf      Sampling = "self"      // the model wrote them
	SamplingNone      Sampling = "none"      // nothing that the method does depends on a text
)

const (
	defaultSamples = 128
	defaultLen     = 2048
	minWindows     = 8 // with fewer steps nothing is learned
)

// length fixes the length of windows.
func (c Calibration) length(context int) (Calibration, error) {
	if c.Samples < 0 || c.Len < 0 || c.Stride < 0 {
		return c, fmt.Errorf("calibration of %d windows of %d tokens, %d apart: numbers must be positive", c.Samples, c.Len, c.Stride)
	}
	if c.Len == 0 {
		c.Len = min(defaultLen, context)
	}
	if c.Len < 2 || c.Len > context {
		return c, fmt.Errorf("calibration windows of %d tokens: the model's context is %d", c.Len, context)
	}
	return c, nil
}

// wanted is the number of windows if the text holds as many.
func (c Calibration) wanted() int {
	if c.Samples == 0 {
		return defaultSamples
	}
	return c.Samples
}

// plan fixes the number of windows of c.Len for a text of tokens tokens.
func (c Calibration) plan(tokens int) (Calibration, error) {
	asked := c.Samples
	c.Samples = c.wanted()
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
