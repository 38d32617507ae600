package convert

import (
	"besa/besa"
	"besa/internal/decoder"
)

// flops counts floating-point operations in matrix products, apart by the rate
// at which they are done.
type flops struct {
	forward float64 // of forward passes, of correlations and of what is solved with them
	step    float64 // of learning and refinement: forward and backward
}

func (f flops) sum() float64 { return f.forward + f.step }

// seconds is how long they take at measured speeds.
func (f flops) seconds(s speeds) (t float64) {
	if f.forward > 0 {
		t = f.forward / s.forward
	}
	if f.step > 0 {
		t += f.step / s.step
	}
	return t
}

// blockFLOPs counts what pruning a block by m takes, all windows together.
func blockFLOPs(m besa.Options, c decoder.Config, windows, tokens int) flops {
	all := passFLOPs(m, sizeOf(c, tokens), windows)
	if m.NeedsHessians() {
		all.forward += float64(windows)*correlationFLOPs(c, tokens) + solveFLOPs(m, c)
	}
	return all
}

// flopsPerWeight counts the passes' operations per weight and token, without
// attention's products: 10 for besa as in the paper.
func (r *runner) flopsPerWeight() float64 {
	n := max(r.Calibration.Samples, 1)
	s := sizeOf(r.model.Config, 1)
	s.attention = 0
	return passFLOPs(r.Method, s, n).sum() / (float64(n) * s.params)
}

// size is what the cost of a pass over one window depends on.
type size struct {
	tokens    float64
	params    float64 // weights of the block's linear layers
	half      float64 // of them, the attention's
	queries   float64 // of them, queries', keys' and values'
	attention float64 // operations of one product of all queries with the keys that they see
}

func sizeOf(c decoder.Config, tokens int) size {
	s := size{tokens: float64(tokens), params: float64(c.Parameters())}
	s.queries = float64(c.Hidden) * float64(c.QDim()+2*c.KVDim())
	s.half = s.queries + float64(c.Hidden)*float64(c.QDim())
	s.attention = s.tokens * (s.tokens + 1) * float64(c.QDim()) // what causality hides is not computed
	return s
}

// forward counts a forward pass: attention has two products.
func (s size) forward() float64 { return 2*s.params*s.tokens + 2*s.attention }

// step counts a forward and a backward pass: attention has two products
// forward and five backward.
func (s size) step() float64 { return 6*s.params*s.tokens + 7*s.attention }

// passFLOPs counts all passes over the windows.
func passFLOPs(m besa.Options, s size, windows int) flops {
	n := float64(windows)
	all := flops{forward: 2 * n * s.forward()} // the dense block, then the pruned one
	if m.NeedsDensePath() {
		all.forward += n * s.forward()
	}
	if m.Method == besa.MethodBESA {
		l := learningFLOPs(m, s)
		all.forward += n * l.forward
		all.step += n * l.step
	}
	if held := float64(besa.HeldOut(windows)); m.Refine.Passes > 0 && n > held {
		passes := float64(m.Refine.Passes)
		all.step += passes * (n - held) * s.step()
		if m.Refine.Norms { // the gradient of the attention's input
			all.step += passes * (n - held) * 2 * s.queries * s.tokens
		}
		all.forward += (passes + 1) * held * s.forward() // before the first pass, and after each
	}
	return all
}

// learningFLOPs counts what learning the allocation takes for one window; what
// is computed for which loss is in package besa.
func learningFLOPs(m besa.Options, s size) flops {
	epochs := float64(m.Epochs)
	switch m.LossGranularity {
	case besa.LossPerLayer:
		// The dense block for the inputs; then every layer dense, masked, and its gradient.
		return flops{step: epochs * (8*s.params*s.tokens + 2*s.attention)}
	case besa.LossPerHalf:
		// The attention dense, masked and backward; then, behind the masked
		// attention, the feed-forward network dense, masked and backward.
		return flops{step: epochs * ((10*s.half+8*(s.params-s.half))*s.tokens + 11*s.attention)}
	case besa.LossPerPair:
		// The dense block a second time, and a third for the dense path; of every
		// second block also the gradient of its input.
		all := flops{forward: s.forward(), step: epochs * (s.step() + s.queries*s.tokens)}
		if m.Reference == besa.PathDense {
			all.forward += s.forward()
		}
		return all
	}
	return flops{step: epochs * s.step()}
}

// inputs are the widths of what linear layers read: several share an input.
func inputs(c decoder.Config) (widths []float64) {
	for l, first := range decoder.SameInput {
		if decoder.Linear(l) == first {
			_, cols := c.Shape(first)
			widths = append(widths, float64(cols))
		}
	}
	return widths
}

// correlationFLOPs counts XᵀX of every input of a block on one window.
func correlationFLOPs(c decoder.Config, tokens int) (sum float64) {
	for _, cols := range inputs(c) {
		sum += 2 * cols * cols * float64(tokens)
	}
	return sum
}

// solveFLOPs counts what is done with the correlations: factors of n³
// operations; the sweeps of SparseGPT and of masked GPTQ, of rows·columns²; and
// conjugate gradients, of 2·rows·columns² a step.
func solveFLOPs(m besa.Options, c decoder.Config) (sum float64) {
	for _, cols := range inputs(c) {
		sum += cols * cols * cols
	}
	sweeps := 0.
	if m.Method == besa.MethodSparseGPT {
		sweeps++
	}
	switch {
	case m.Refine.Solve == besa.SolveSweep:
		sweeps++
	case m.Refine.Solve == besa.SolvePCG:
		sweeps += 2 * (1 + besa.PCGSteps)
		if m.Grid != besa.GridNone {
			sweeps++
		}
	}
	for l := range decoder.NumLinears {
		rows, cols := c.Shape(l)
		sum += sweeps * float64(rows) * float64(cols) * float64(cols)
	}
	return sum
}

// stepFLOPs counts a step on one window.
func stepFLOPs(c decoder.Config, tokens int) float64 { return sizeOf(c, tokens).step() }
