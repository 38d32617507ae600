package besa

import (
	"context"
	"fmt"
	"math"

	"besa/internal/decoder"
	"besa/internal/kernel"
)

// Learning optimises one block's allocations and clipping strengths, a window
// a step. [PruneBlock] takes it over all windows; measurements take single
// steps, or their parts.
type Learning struct {
	s          *session
	optimizers []optimizer
	grads      *decoder.Gradients[float32]
	dout       kernel.Mat[float32] // tokens × hidden: gradient with respect to the block's output
}

// NewLearning runs the dense block on the job's windows, ranks its weights and
// is ready for the first step. The options' method must be [MethodBESA].
func NewLearning(ctx context.Context, job Job, opts Options) (*Learning, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Method != MethodBESA {
		return nil, fmt.Errorf("%w: method %s has nothing to learn", ErrOptions, opts.Method)
	}
	s := newSession(job, opts)
	if err := s.collect(ctx); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	return s.newLearning(), nil
}

func (s *session) newLearning() *Learning {
	return &Learning{
		s: s, optimizers: s.optimizers(), grads: s.Engine.NewGradients(),
		dout: kernel.NewMat[float32](s.Engine.Tokens, s.Engine.Hidden),
	}
}

// Step takes one step on one window: masks, forward pass, loss, backward pass,
// optimisers.
func (l *Learning) Step(window int) (StepLoss, error) {
	loss, err := l.s.step(window, l.dout, l.grads)
	if err != nil {
		return loss, err
	}
	if math.IsNaN(loss.Loss) || math.IsInf(loss.Loss, 0) {
		return loss, fmt.Errorf("loss is %v: the model or the calibration data holds values that are not finite", loss.Loss)
	}
	for _, o := range l.optimizers {
		o.step()
	}
	return loss, nil
}

// Masks is a step's first part: it brings allocations, grids and masked
// weights in line with what has been learned.
func (l *Learning) Masks() { l.s.update() }

// MaskGradients is a step's part between backward pass and optimisers: it
// takes the last backward pass's gradients to what is learned.
func (l *Learning) MaskGradients() { l.s.maskGradients(l.grads, new([decoder.NumLinears]float32)) }

// learn minimises the reconstruction loss over allocations and clipping
// strengths together, one window a step.
func (s *session) learn(ctx context.Context) error {
	l := s.newLearning()
	n := s.In.Len()
	total := s.learned + s.opts.Refine.Passes*(n-heldOut(n))
	for step := range s.learned {
		if err := ctx.Err(); err != nil {
			return err
		}
		loss, err := l.Step(step % n)
		if err != nil {
			return fmt.Errorf("step %d: %w", step+1, err)
		}
		s.steps = append(s.steps, loss)
		if s.Step != nil {
			s.Step(step+1, total)
		}
	}
	return nil
}

func (s *session) learnsClipping() bool { return s.opts.Grid != GridNone && s.opts.ClipLR > 0 }

func (s *session) optimizers() []optimizer {
	var logits []param
	for _, a := range s.alloc {
		logits = append(logits, param{a.Logits, a.Grad})
	}
	var allocation optimizer = newProdigy(s.pool, s.opts.DCoef, logits...)
	if s.opts.Optimizer == OptimizerAdamW {
		// Without decay: logits have no value that they should shrink to.
		allocation = newAdam(s.pool, s.opts.LR, logits...)
	}
	opts := []optimizer{allocation}
	if s.learnsClipping() {
		var raws []param
		for _, c := range s.clip {
			for i := range c.raw {
				raws = append(raws, param{c.raw[i], c.rawGrad[i]})
			}
		}
		opts = append(opts, newAdam(s.pool, s.opts.ClipLR, raws...))
	}
	return opts
}
