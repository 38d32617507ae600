package convert

import (
	"fmt"

	"besa/besa"
	"besa/internal/kernel"
)

// Precision is the arithmetic of the matrix products while a block is pruned.
// Sums and everything that is no product are float32 either way; what is
// written is rounded as the output's types ask for, and not by this.
type Precision string

// The precisions.
const (
	// PrecisionAuto is bf16 where the CPU has instructions for it, else fp32.
	PrecisionAuto Precision = "auto"
	PrecisionFP32 Precision = "fp32"
	PrecisionBF16 Precision = "bf16" // operands rounded to bfloat16
)

// Precisions lists them in the order in which they are offered.
var Precisions = []Precision{PrecisionAuto, PrecisionFP32, PrecisionBF16}

// resolve decides what auto is on this machine. docs/results.md shows
// what bf16 costs in perplexity: nothing beyond the noise of learning so far.
func (p Precision) resolve() (Precision, error) {
	switch p {
	case PrecisionFP32, PrecisionBF16:
		return p, nil
	case PrecisionAuto, "":
		if kernel.NativeBF16() {
			return PrecisionBF16, nil
		}
		return PrecisionFP32, nil
	}
	return p, fmt.Errorf("%w: precision %q; have %v", besa.ErrOptions, p, Precisions)
}

// kernel is the precision in the engine's terms.
func (p Precision) kernel() kernel.Precision {
	if p == PrecisionBF16 {
		return kernel.BF16
	}
	return kernel.FP32
}
