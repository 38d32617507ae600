package besa

import (
	"errors"
	"fmt"
	"math"

	"besa/internal/kernel"
)

// What is not finite is refused where it enters, so that neither a NaN nor an
// infinity ever reaches a result:
//
//	weights        NaN, ±Inf, or beyond what the grid's steps can express
//	inputs         hidden states of a calibration window
//	dense outputs  overflow within the dense block; bad biases and norms too
//	loss           of every step of learning and refinement
//	pruned outputs what the pruned block hands over
//
// Dead input channels (zero throughout the calibration text) and rows of zeros
// are no errors: their weights have importance zero and go first, in the order
// of columns.

// ErrNotFinite marks weights or hidden states that cannot be worked with.
var ErrNotFinite = errors.New("not finite")

// limit is the largest magnitude that a grid is sure to express.
func (g Grid) limit() float32 {
	switch g {
	case GridSymmetric:
		return (zeroCode - 1) * maxStep
	case GridAsymmetric:
		return (levels - 1) * maxStep15 / 2 // the range may lie on both sides of zero
	}
	return math.MaxFloat32
}

// checkWeights refuses weights that are not finite, or beyond the grid's limit.
func checkWeights(w kernel.Mat[float32], grid Grid) error {
	limit := grid.limit()
	for i := range w.Rows {
		for j, v := range w.Row(i) {
			if abs32(v) <= limit {
				continue
			}
			if v-v == 0 {
				return fmt.Errorf("%w: weight %g in row %d, column %d is beyond what a 4-bit grid expresses (%g)", ErrNotFinite, v, i, j, limit)
			}
			return fmt.Errorf("%w: the weight in row %d, column %d is %v", ErrNotFinite, i, j, v)
		}
	}
	return nil
}

// checkStates refuses hidden states, before and behind the dense block, that
// are not finite.
func checkStates(in, out kernel.Mat[float32]) error {
	if t, c := notFinite(in); t >= 0 {
		return fmt.Errorf("%w: what enters the block is %v at token %d, channel %d: its token's embedding is damaged, or an earlier block overflows",
			ErrNotFinite, in.Row(t)[c], t, c)
	}
	if t, c := notFinite(out); t >= 0 {
		return fmt.Errorf("%w: the dense block's output is %v at token %d, channel %d: it overflows float32, or its norms or biases are damaged",
			ErrNotFinite, out.Row(t)[c], t, c)
	}
	return nil
}

// notFinite finds the first value that is NaN or infinite; t < 0: none.
func notFinite(m kernel.Mat[float32]) (t, c int) {
	for t := range m.Rows {
		row := m.Row(t)
		if s := kernel.Dot(row, row); s-s == 0 {
			continue // the usual case; large values may overflow without being infinite
		}
		for c, v := range row {
			if v-v != 0 {
				return t, c
			}
		}
	}
	return -1, -1
}
