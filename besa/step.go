package besa

import (
	"besa/internal/decoder"
	"besa/internal/kernel"
)

// update brings allocations, grids and masked weights in line with the logits.
func (s *session) update() {
	for l := range decoder.NumLinears {
		s.alloc[l].Update(s.pool)
		s.prune[l] = s.alloc[l].Prune
		s.mask(l)
	}
}

// mask quantises layer l's weights, where there is a grid, and drops the least
// important ones.
func (s *session) mask(l decoder.Linear) {
	w := s.Block.W[l]
	if c := s.clip[l]; c != nil {
		c.update(s.pool)
		c.applyMask(s.pool, s.masked.W[l], w, s.rank[l], s.prune[l])
		return
	}
	applyMask(s.pool, s.masked.W[l], w, s.rank[l], s.prune[l])
}

// sparsityLoss adds the penalty, summed over the goals by their share of the
// weights, and fills what it makes dL/dα of each layer's rows.
func (s *session) sparsityLoss(loss *StepLoss, dAlpha *[decoder.NumLinears]float32) {
	for _, g := range s.goals {
		var sum float64
		for _, l := range g.layers {
			sum += s.alloc[l].Sum()
		}
		loss.Sparsity += sum / float64(s.params)
		if !g.learned() {
			continue
		}
		term, d := penalty(s.opts.Loss, s.opts.Lambda, sum/float64(g.params), g.sparsity)
		share := float64(g.params) / float64(s.params)
		loss.Loss += share * term
		for _, l := range g.layers {
			dAlpha[l] = float32(share * d * float64(s.Block.W[l].Cols) / float64(g.params))
		}
	}
}

// step computes the loss on one window and every gradient.
func (s *session) step(window int, dout kernel.Mat[float32], grads *decoder.Gradients[float32]) (StepLoss, error) {
	s.update()
	x, err := s.In.Load(window)
	if err != nil {
		return StepLoss{}, err
	}
	ref, err := s.target(s.opts.Reference, window)
	if err != nil {
		return StepLoss{}, err
	}
	if err := s.Engine.Forward(&s.masked, x, s.acts); err != nil {
		return StepLoss{}, err
	}
	dout = dout.View(0, x.Rows, 0, dout.Cols)
	loss := StepLoss{Reconstruction: reconstruction(s.pool, s.opts.Loss, s.acts.Out, ref, dout)}
	loss.Loss = loss.Reconstruction
	if err := s.Engine.Backward(&s.masked, s.acts, dout, grads); err != nil {
		return StepLoss{}, err
	}
	var dAlpha [decoder.NumLinears]float32
	s.sparsityLoss(&loss, &dAlpha)
	s.maskGradients(grads, &dAlpha)
	return loss, nil
}

// maskGradients takes the gradients with respect to the masked weights, and
// those of the penalty with respect to the layers' α, to what is learned.
func (s *session) maskGradients(grads *decoder.Gradients[float32], dAlpha *[decoder.NumLinears]float32) {
	for l, w := range s.Block.W {
		s.alloc[l].Backward(s.pool, s.rank[l], w, grads.W[l], s.clip[l], dAlpha[l])
	}
}

// settleCounts turns what the last step left into counts that meet the target
// exactly, or takes them as they are.
func (s *session) settleCounts() {
	for _, a := range s.alloc {
		a.Update(s.pool)
	}
	if s.opts.Expected {
		for l, a := range s.alloc {
			s.prune[l] = a.Prune
		}
		return
	}
	for _, g := range s.goals {
		allocs := make([]*Allocation, len(g.layers))
		for i, l := range g.layers {
			allocs[i] = s.alloc[l]
		}
		for i, counts := range exactCounts(allocs, g.weights()) {
			s.prune[g.layers[i]] = counts
		}
	}
}
