package besa

import (
	"besa/internal/decoder"
	"besa/internal/kernel"
)

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

// unit is what learns by one reconstruction loss: linear layers of one block,
// or of two.
type unit struct {
	members    []member
	quotas     []quota
	params     int // weights in the members
	optimizers []optimizer

	// reconstruct runs the masked layers on one window and returns the loss;
	// the gradients with respect to the masked weights are in the members'
	// sessions.
	reconstruct func(window int) (float64, error)
}

// member is a linear layer of a block at work.
type member struct {
	s *session
	l decoder.Linear
}

func (m member) alloc() *Allocation { return m.s.alloc[m.l] }

// allocate takes over what the logits say of how many weights go.
func (m member) allocate() {
	if m.s.alloc != nil {
		m.alloc().Update(m.s.pool)
		m.s.prune[m.l] = m.alloc().Prune
	}
}

// update brings allocations, grids and masked weights in line with the logits.
func (u *unit) update() {
	for _, m := range u.members {
		m.allocate()
		m.s.mask(m.l)
	}
}

// step computes the loss on one window and every gradient.
func (u *unit) step(window int) (StepLoss, error) {
	u.update()
	reconstruction, err := u.reconstruct(window)
	if err != nil {
		return StepLoss{}, err
	}
	loss := StepLoss{Reconstruction: reconstruction, Loss: reconstruction, Sparsity: u.members[0].s.opts.Pattern.Sparsity()}
	dAlpha := map[member]float32{}
	u.sparsityLoss(&loss, dAlpha)
	u.maskGradients(dAlpha)
	return loss, nil
}

// sparsityLoss adds the penalty, summed over the quotas by their share of the
// weights, and fills what it makes dL/dα of each layer's rows.
func (u *unit) sparsityLoss(loss *StepLoss, dAlpha map[member]float32) {
	for _, q := range u.quotas {
		var sum float64
		for _, m := range q.members {
			sum += m.alloc().Sum()
		}
		loss.Sparsity += sum / float64(u.params)
		if !q.learned() {
			continue
		}
		o := q.members[0].s.opts
		term, d := penalty(o.Loss, o.Lambda, sum/float64(q.params), q.sparsity)
		share := float64(q.params) / float64(u.params)
		loss.Loss += share * term
		for _, m := range q.members {
			dAlpha[m] = float32(share * d * float64(m.alloc().Cols) / float64(q.params))
		}
	}
}

// maskGradients takes the gradients with respect to the masked weights, and
// those of the penalty with respect to the layers' α, to what is learned.
func (u *unit) maskGradients(dAlpha map[member]float32) {
	for _, m := range u.members {
		s := m.s
		if s.alloc == nil {
			s.gridGradients(m.l, s.grads.W[m.l])
			continue
		}
		m.alloc().Backward(s.pool, s.rank[m.l], s.Block.W[m.l], s.grads.W[m.l], s.clip[m.l], dAlpha[m])
	}
}

// gridGradients takes the gradient with respect to layer l's masked weights to
// its grid, if that is learned.
func (s *session) gridGradients(l decoder.Linear, dw kernel.Mat[float32]) {
	if c := s.clip[l]; c != nil && !c.frozen {
		c.backward(s.pool, s.Block.W[l], dw, s.rank[l], s.prune[l])
	}
}

// settle turns what the last step left into counts that meet the target
// exactly, or takes them as they are, and masks the weights by them.
func (u *unit) settle() {
	for _, m := range u.members {
		m.allocate()
	}
	for _, q := range u.quotas {
		if !q.members[0].s.opts.Expected {
			q.settle()
		}
	}
	for _, m := range u.members {
		m.s.mask(m.l)
	}
}
