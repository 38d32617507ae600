package convert

import (
	"besa/besa"
	"besa/internal/decoder"
)

// passes counts what is done with every window at every block.
type passes struct {
	forward int // dense and pruned block, dense path
	step    int // of learning or refinement: forward and backward
}

func passesOf(m besa.Options) passes {
	p := passes{forward: 2, step: m.Refine.Passes}
	if m.Method == besa.MethodBESA {
		p.step += m.Epochs
	}
	if m.NeedsDensePath() {
		p.forward++
	}
	return p
}

// flopsPerWeight counts floating-point operations per weight and token: 2 for
// a forward pass, 6 for a step (forward 2, backward 4).
func (r *runner) flopsPerWeight() float64 {
	p := passesOf(r.Method)
	return 2*float64(p.forward) + 6*float64(p.step)
}

// forwardFLOPs counts a block's forward pass over one window; what causality
// hides from attention is not computed.
func forwardFLOPs(c decoder.Config, tokens int) float64 {
	return 2*float64(c.Parameters())*float64(tokens) + 2*attentionFLOPs(c, tokens)
}

// stepFLOPs counts a step on one window. Attention has two products forward and
// five backward.
func stepFLOPs(c decoder.Config, tokens int) float64 {
	return 6*float64(c.Parameters())*float64(tokens) + 7*attentionFLOPs(c, tokens)
}

// attentionFLOPs counts one product of all queries with the keys that they see.
func attentionFLOPs(c decoder.Config, tokens int) float64 {
	n := float64(tokens)
	return n * (n + 1) * float64(c.QDim())
}
