package besa

import (
	"context"
	"fmt"
	"math"

	"besa/internal/decoder"
)

// Learning optimises one block's allocations and clipping strengths, a window
// a step. [PruneBlock] takes it over all windows; measurements take single
// steps, or their parts.
type Learning struct{ unit *unit }

// NewLearning runs the dense block on the job's windows, ranks its weights and
// is ready for the first step. The options' method must be [MethodBESA], with
// one loss per block.
func NewLearning(ctx context.Context, job Job, opts Options) (*Learning, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Method != MethodBESA || opts.LossGranularity != LossPerBlock {
		return nil, fmt.Errorf("%w: method %s, loss granularity %s: no single steps", ErrOptions, opts.Method, opts.LossGranularity)
	}
	s := newSession(job, opts)
	if err := s.collect(ctx); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	s.startLearning()
	return &Learning{s.units()[0]}, nil
}

// Step takes one step on one window: masks, forward pass, loss, backward pass,
// optimisers.
func (l *Learning) Step(window int) (StepLoss, error) { return l.unit.learn(window) }

// Masks is a step's first part: it brings allocations, grids and masked
// weights in line with what has been learned.
func (l *Learning) Masks() { l.unit.update() }

// MaskGradients is a step's part between backward pass and optimisers: it
// takes the last backward pass's gradients to what is learned.
func (l *Learning) MaskGradients() { l.unit.maskGradients(nil) }

// learn takes one step of the unit on one window.
func (u *unit) learn(window int) (StepLoss, error) {
	loss, err := u.step(window)
	if err != nil {
		return loss, err
	}
	if math.IsNaN(loss.Loss) || math.IsInf(loss.Loss, 0) {
		return loss, fmt.Errorf("loss is %v: the model or the calibration data holds values that are not finite", loss.Loss)
	}
	for _, o := range u.optimizers {
		o.step()
	}
	return loss, nil
}

// learn minimises the reconstruction loss over allocations and clipping
// strengths together, one window a step, and settles the counts.
func (s *session) learn(ctx context.Context) error {
	s.startLearning()
	defer s.endLearning()
	n := s.In.Len()
	total := s.learned + s.opts.Refine.Passes*(n-HeldOut(n))
	for _, u := range s.units() {
		if err := u.run(ctx, s, total); err != nil {
			return err
		}
	}
	return nil
}

// run takes a unit over the windows of s, whose progress out of total it
// reports.
func (u *unit) run(ctx context.Context, s *session, total int) error {
	for i := range s.opts.Epochs * s.In.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		loss, err := u.learn(i % s.In.Len())
		if err != nil {
			return fmt.Errorf("step %d: %w", len(s.steps)+1, err)
		}
		s.steps = append(s.steps, loss)
		if s.Step != nil {
			s.Step(len(s.steps), total)
		}
	}
	u.settle()
	return nil
}

func (s *session) startLearning() { s.grads = s.Engine.NewGradients() }
func (s *session) endLearning()   { s.grads = nil }

func (s *session) learnsClipping() bool { return s.opts.Grid != GridNone && s.opts.ClipLR > 0 }

// optimizersFor returns what moves the members' logits, as one group of
// parameters, and their clipping strengths.
func optimizersFor(members []member) []optimizer {
	s := members[0].s
	var logits, raws []param
	for _, m := range members {
		if m.s.alloc != nil {
			logits = append(logits, param{m.alloc().Logits, m.alloc().Grad})
		}
		if c := m.s.clip[m.l]; c != nil {
			for i := range c.raw {
				raws = append(raws, param{c.raw[i], c.rawGrad[i]})
			}
		}
	}
	var opts []optimizer
	switch {
	case s.alloc == nil:
	case s.opts.Optimizer == OptimizerAdamW:
		// Without decay: logits have no value that they should shrink to.
		opts = append(opts, newAdam(s.pool, s.opts.LR, logits...))
	default:
		opts = append(opts, newProdigy(s.pool, s.opts.DCoef, logits...))
	}
	if s.learnsClipping() {
		opts = append(opts, newAdam(s.pool, s.opts.ClipLR, raws...))
	}
	if s.opts.Refine.Along {
		opts = append(opts, newAlong(members))
	}
	return opts
}

// membersOf lists all layers of the sessions.
func membersOf(sessions ...*session) []member {
	var all []member
	for _, s := range sessions {
		for l := range decoder.NumLinears {
			all = append(all, member{s, l})
		}
	}
	return all
}
