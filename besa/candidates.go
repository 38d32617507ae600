package besa

import "math"

// MaskRule says how a distribution over candidates becomes a mask.
type MaskRule string

// The rules.
const (
	// RuleOfficial prunes the ⌊α·columns⌋ least important weights of a row;
	// candidates are 1, 1−step, … 0, and prune ⌊columns·p⌋ each.
	RuleOfficial MaskRule = "official"
	// RulePaper is Eq 3–5 as printed: it prunes where P(prune) ≥ α; candidates
	// are step … 1−step (p_0 = 0 is a boundary, β_D = 0), and prune
	// ⌈columns·p⌉ each. The count is always one of those.
	RulePaper MaskRule = "paper"
)

// MaskRules lists them in the order in which they are offered.
var MaskRules = []MaskRule{RuleOfficial, RulePaper}

// Candidates are the sparsities that a row mixes, descending.
type Candidates struct {
	P    []float32
	Rule MaskRule
}

// NewCandidates spaces candidates by step: by the official rule 0.01 gives the
// 101 values 1.00, 0.99, … 0.
func NewCandidates(step float64, rule MaskRule) Candidates {
	d := int(math.Round(1 / step))
	p := make([]float32, d+1)
	for i := range p {
		p[i] = float32(float64(d-i) / float64(d))
	}
	if rule == RulePaper {
		p = p[1:d]
	}
	return Candidates{P: p, Rule: rule}
}

// Counts returns how many of a row's weights every candidate prunes. Descending.
func (c Candidates) Counts(cols int) []int {
	counts := make([]int, len(c.P))
	for i, p := range c.P {
		if d := len(c.P) + 1; c.Rule == RulePaper { // p is (d−1−i)/d, up to rounding
			counts[i] = (cols*(d-1-i) + d - 1) / d
		} else {
			counts[i] = int(float32(cols) * p)
		}
	}
	return counts
}

// pruned is the number of weights that a row of cols drops whose distribution
// is beta, whose sparsity alpha, and whose candidates prune counts.
func (c Candidates) pruned(beta []float32, alpha float32, counts []int, cols int) int {
	if c.Rule != RulePaper {
		return min(max(int(alpha*float32(cols)), 0), cols)
	}
	// P is the sum of β over the candidates that prune a rank: the same for all
	// ranks between the counts of two neighbours, and larger for the lower ones.
	var p float32
	for d, b := range beta {
		if p += b; p >= alpha {
			return counts[d]
		}
	}
	return counts[len(counts)-1] // α = 1, up to rounding: no candidate is that large
}
