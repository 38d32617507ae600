package besa

import (
	"context"
	"fmt"

	"besa/internal/decoder"
)

// Learned is what one block learned together with another: prune counts and
// clipping strengths.
type Learned struct {
	prune [decoder.NumLinears][]int
	clip  [decoder.NumLinears]*clipping
	steps []StepLoss
}

// adopt takes over what was learned elsewhere.
func (s *session) adopt(l *Learned) {
	s.prune, s.clip, s.steps = l.prune, l.clip, l.steps
}

// LearnPair learns the allocations of two consecutive blocks by the output of
// the second one ([LossPerPair]). job holds the first block and the windows
// that enter it, which stay as they are; Ref is overwritten. The result goes
// into the Learned of the two blocks' jobs for [PruneBlock]; together they
// meet the target, each by itself only nearly. next and nextSums are the second
// block and its Job.Sums; opts are the options of either block, which may
// differ in their Targets.
func LearnPair(ctx context.Context, job Job, next *decoder.Block[float32], nextSums *Sums, opts [2]Options) ([2]*Learned, error) {
	var none [2]*Learned
	for _, o := range opts {
		if err := o.Validate(); err != nil {
			return none, err
		}
		if o.Method != MethodBESA || o.LossGranularity != LossPerPair {
			return none, fmt.Errorf("%w: method %s with loss granularity %s does not learn pairs", ErrOptions, o.Method, o.LossGranularity)
		}
	}
	dense := job.Dense
	job.Dense, job.Learned = nil, nil // the dense path moves on when the blocks are pruned
	second := job
	second.Sums = nextSums
	second.Block, second.In = next, job.Ref // what leaves the first block, replaced by what leaves the second
	s := [2]*session{newSession(job, opts[0]), newSession(second, opts[1])}
	for _, part := range s {
		if err := part.collect(ctx); err != nil {
			return none, err
		}
	}
	if opts[0].Reference == PathDense {
		if err := densePair(ctx, s, dense); err != nil {
			return none, err
		}
	}
	for _, part := range s {
		if err := part.prepare(); err != nil {
			return none, err
		}
		part.startLearning()
	}
	all := membersOf(s[:]...)
	u := newUnit(all, quotasOf(s[:]...), pairLoss(s), optimizersFor(all))
	if err := u.run(ctx, s[0], s[0].learned); err != nil {
		return none, err
	}
	for i, part := range s {
		none[i] = &Learned{part.prune, part.clip, s[0].steps}
	}
	return none, nil
}

// densePair replaces the reference by the dense blocks' output on the dense path.
func densePair(ctx context.Context, s [2]*session, dense Windows) error {
	if dense == nil {
		return fmt.Errorf("%w: the dense path's hidden states are missing", ErrOptions)
	}
	for i := range dense.Len() {
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := dense.Load(i)
		if err != nil {
			return err
		}
		for _, part := range s {
			if err := part.Engine.Forward(part.Block, x, part.acts); err != nil {
				return err
			}
			x = part.acts.Out
		}
		if err := s[0].Ref.Store(i, x); err != nil {
			return err
		}
	}
	return nil
}

// pairLoss compares what leaves the second block.
func pairLoss(s [2]*session) func(int) (float64, error) {
	a, b := s[0], s[1]
	dout := a.tokensBy(a.Engine.Hidden)
	dmid := a.tokensBy(a.Engine.Hidden)
	return func(window int) (float64, error) {
		x, err := a.In.Load(window)
		if err != nil {
			return 0, err
		}
		ref, err := a.Ref.Load(window)
		if err != nil {
			return 0, err
		}
		d, dx := rowsOf(dout, x), rowsOf(dmid, x)
		if err := a.Engine.Forward(&a.masked, x, a.acts); err != nil {
			return 0, err
		}
		if err := b.Engine.Forward(&b.masked, a.acts.Out, b.acts); err != nil {
			return 0, err
		}
		loss := reconstruction(a.pool, a.opts.Loss, b.acts.Out, ref, d)
		if err := b.Engine.Backward(&b.masked, b.acts, d, b.grads); err != nil {
			return 0, err
		}
		if err := b.Engine.InputGradient(&b.masked, b.acts, b.grads, dx); err != nil {
			return 0, err
		}
		return loss, a.Engine.Backward(&a.masked, a.acts, dx, a.grads)
	}
}
