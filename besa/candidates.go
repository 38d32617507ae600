package besa

import "math"

// Candidates are the sparsities p_0 = 1 > p_1 > … > p_D = 0 that a row mixes.
type Candidates struct {
	P []float32
}

// NewCandidates spaces candidates by step: 0.01 gives the 101 values 1.00, 0.99, … 0.
func NewCandidates(step float64) Candidates {
	d := int(math.Round(1 / step))
	p := make([]float32, d+1)
	for i := range p {
		p[i] = float32(float64(d-i) / float64(d))
	}
	return Candidates{P: p}
}

// Counts returns ⌊cols·p_d⌋ for every candidate: how many of a row's weights
// it prunes. Descending.
func (c Candidates) Counts(cols int) []int {
	counts := make([]int, len(c.P))
	for d, p := range c.P {
		counts[d] = int(float32(cols) * p)
	}
	return counts
}
