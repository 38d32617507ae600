package besa

import (
	"context"
	"fmt"
	"math"

	"besa/internal/decoder"
	"besa/internal/kernel"
)

// finish fixes masks, weights and codes.
func (s *session) finish() (*Result, error) {
	res := &Result{Steps: s.steps}
	for l := range decoder.NumLinears {
		layer := &res.Layers[l]
		layer.Mask = maskBits(s.pool, s.rank[l], s.prune[l])
		for _, n := range s.prune[l] {
			layer.Pruned += n
		}
		s.mask(l)
		if c := s.clip[l]; c != nil {
			layer.Group, layer.Codes = c.group, c.codes(s.pool, s.Block.W[l])
			layer.Steps, layer.Zeros = c.stored()
		} else if s.Stored != nil {
			if err := s.Stored(l, s.masked.W[l]); err != nil {
				return nil, fmt.Errorf("%s: %w", l, err)
			}
		}
		layer.Weights = s.masked.W[l]
	}
	if s.opts.Refine.Norms {
		res.Norms = &Norms{s.masked.AttnNorm, s.masked.FFNNorm}
	}
	return res, nil
}

// stored returns the grid as files hold it: fp16 bits of the steps and, for the
// asymmetric grid, zero codes.
func (c *clipping) stored() (steps []uint16, zeros []uint8) {
	steps = make([]uint16, len(c.step))
	for i, h := range c.step {
		steps[i] = halfBits(h)
	}
	if c.grid == GridAsymmetric {
		zeros = make([]uint8, len(c.zero))
		for i, z := range c.zero {
			zeros[i] = uint8(z)
		}
	}
	return steps, zeros
}

// handOver runs the pruned block and replaces the windows by its output.
func (s *session) handOver(ctx context.Context, res *Result) error {
	var diff, norm float64
	err := Advance(ctx, s.Engine, &s.masked, s.acts, s.In, func(i int, out kernel.Mat[float32]) error {
		if t, c := notFinite(out); t >= 0 {
			return fmt.Errorf("calibration window %d: %w: the pruned block's output is %v at token %d, channel %d", i, ErrNotFinite, out.Row(t)[c], t, c)
		}
		ref, err := s.Ref.Load(i)
		if err != nil {
			return err
		}
		d, n := squaredError(out, ref)
		diff += d
		norm += n
		return nil
	})
	if norm > 0 {
		res.Error = math.Sqrt(diff / norm)
	}
	return err
}

// Advance replaces every window by block b's output on it, after showing that
// to see, which may be nil. PruneBlock ends with it; with the weights as stored
// it does again, to the last bit, what PruneBlock did.
func Advance(ctx context.Context, eng *decoder.Engine[float32], b *decoder.Block[float32], acts *decoder.Activations[float32],
	w Windows, see func(i int, out kernel.Mat[float32]) error) error {
	for i := range length(w) {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := w.Load(i)
		if err != nil {
			return err
		}
		if err := eng.Forward(b, x, acts); err != nil {
			return err
		}
		if see != nil {
			if err := see(i, acts.Out); err != nil {
				return err
			}
		}
		if err := w.Store(i, acts.Out); err != nil {
			return err
		}
	}
	return nil
}
