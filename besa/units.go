package besa

import (
	"slices"

	"besa/internal/decoder"
	"besa/internal/kernel"
)

// units cuts the block into what learns by one loss, in the order in which
// that is done.
func (s *session) units() []*unit {
	all, quotas := membersOf(s), quotasOf(s)
	switch s.opts.LossGranularity {
	case LossPerLayer:
		// The losses have nothing in common but the pass that makes the inputs.
		var each []optimizer
		for _, m := range all {
			each = append(each, optimizersFor([]member{m})...)
		}
		return []*unit{newUnit(all, quotas, s.layerLosses(), each)}
	case LossPerHalf:
		ref, dout := s.tokensBy(s.Engine.Hidden), s.tokensBy(s.Engine.Hidden)
		var units []*unit
		for h, loss := range []func(kernel.Mat[float32]) (float64, error){
			func(x kernel.Mat[float32]) (float64, error) { return s.attentionLoss(x, ref, dout) },
			func(x kernel.Mat[float32]) (float64, error) { return s.ffnLoss(x, ref, dout) },
		} {
			layers := LossPerHalf.shares()[h]
			members := slices.DeleteFunc(slices.Clone(all), func(m member) bool { return !slices.Contains(layers, m.l) })
			theirs := slices.DeleteFunc(slices.Clone(quotas), func(q quota) bool { return !slices.Contains(layers, q.members[0].l) })
			units = append(units, newUnit(members, theirs, func(window int) (float64, error) {
				x, err := s.In.Load(window)
				if err != nil {
					return 0, err
				}
				return loss(x)
			}, optimizersFor(members)))
		}
		return units
	}
	return []*unit{newUnit(all, quotas, s.blockLoss(), optimizersFor(all))}
}

func newUnit(members []member, quotas []quota, reconstruct func(int) (float64, error), optimizers []optimizer) *unit {
	u := &unit{members: members, quotas: quotas, optimizers: optimizers, reconstruct: reconstruct}
	for _, m := range members {
		w := m.s.Block.W[m.l]
		u.params += w.Rows * w.Cols
	}
	return u
}

// tokensBy is scratch memory for one window's values of width channels.
func (s *session) tokensBy(width int) kernel.Mat[float32] {
	return kernel.NewMat[float32](s.Engine.Tokens, width)
}

// rowsOf is the part of m that belongs to the tokens of x.
func rowsOf(m, x kernel.Mat[float32]) kernel.Mat[float32] { return m.View(0, x.Rows, 0, m.Cols) }

// blockLoss compares the block's output with that of the dense block.
func (s *session) blockLoss() func(int) (float64, error) {
	dout, path, form := s.tokensBy(s.Engine.Hidden), s.opts.Reference, s.opts.Loss
	if s.opts.Refine.Along {
		path, form = s.opts.Refine.Reference, s.opts.Refine.Loss
	}
	return func(window int) (float64, error) {
		x, err := s.In.Load(window)
		if err != nil {
			return 0, err
		}
		ref, err := s.target(path, window)
		if err != nil {
			return 0, err
		}
		if err := s.Engine.Forward(&s.masked, x, s.acts); err != nil {
			return 0, err
		}
		d := rowsOf(dout, x)
		loss := reconstruction(s.pool, form, s.acts.Out, ref, d)
		return loss, s.Engine.Backward(&s.masked, s.acts, d, s.grads)
	}
}

// attentionLoss compares what leaves the attention half.
func (s *session) attentionLoss(x, ref, dout kernel.Mat[float32]) (float64, error) {
	ref, dout = rowsOf(ref, x), rowsOf(dout, x)
	if err := s.Engine.ForwardAttention(s.Block, x, s.acts); err != nil {
		return 0, err
	}
	kernel.Copy(s.pool, ref, s.acts.Mid())
	if err := s.Engine.ForwardAttention(&s.masked, x, s.acts); err != nil {
		return 0, err
	}
	loss := reconstruction(s.pool, s.opts.Loss, s.acts.Mid(), ref, dout)
	return loss, s.Engine.BackwardAttention(&s.masked, s.acts, dout, s.grads)
}

// ffnLoss compares what leaves the feed-forward network behind the attention
// as it was pruned.
func (s *session) ffnLoss(x, ref, dout kernel.Mat[float32]) (float64, error) {
	ref, dout = rowsOf(ref, x), rowsOf(dout, x)
	if err := s.Engine.ForwardAttention(&s.masked, x, s.acts); err != nil {
		return 0, err
	}
	s.Engine.ForwardFFN(s.Block, s.acts)
	kernel.Copy(s.pool, ref, s.acts.Out)
	s.Engine.ForwardFFN(&s.masked, s.acts)
	loss := reconstruction(s.pool, s.opts.Loss, s.acts.Out, ref, dout)
	return loss, s.Engine.BackwardFFN(&s.masked, s.acts, dout, s.grads)
}

// layerLosses compares what leaves every linear layer on the inputs that it
// has in the dense block, summed over the layers.
func (s *session) layerLosses() func(int) (float64, error) {
	var ref, out, dout []float32
	return func(window int) (float64, error) {
		x, err := s.In.Load(window)
		if err != nil {
			return 0, err
		}
		if err := s.Engine.Forward(s.Block, x, s.acts); err != nil {
			return 0, err
		}
		var sum float64
		for l := range decoder.NumLinears {
			in, w := s.acts.Input(l), s.Block.W[l]
			view := func(v *[]float32) kernel.Mat[float32] {
				return kernel.MatOf(x.Rows, w.Rows, resized(v, x.Rows*w.Rows))
			}
			r, o, d := view(&ref), view(&out), view(&dout)
			kernel.MatMul(s.pool, kernel.NT, s.Engine.Precision, r, in, w, false)
			kernel.MatMul(s.pool, kernel.NT, s.Engine.Precision, o, in, s.masked.W[l], false)
			sum += reconstruction(s.pool, s.opts.Loss, o, r, d)
			kernel.MatMul(s.pool, kernel.TN, s.Engine.Precision, s.grads.W[l], d, in, false)
		}
		return sum, nil
	}
}
