package besa

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"besa/internal/decoder"
	"besa/internal/kernel"
)

// Refine says what is done for the survivors once a block's masks are final.
//
// Solving fits every layer by itself to the dense block's outputs on its own
// inputs, see [Solver].
//
// Along moves the survivors while the allocation is learned, by the same loss,
// and ranks the weights again every few steps, so that allocation, masks and
// weights are found together.
//
// Tuning is Adam on the surviving weights (and on the clipping strengths of the
// grid, through which gradients pass straight) by the block's own
// reconstruction loss. The last windows are held out; the state that does best
// on them is kept, which may be the one before the first pass.
//
// Norms has tuning move the gains of the block's two norms as well. With a grid
// they can express what the codes cannot; without one they only say again what
// the columns of survivors behind them could.
//
// Remask has tuning choose the masks again: during the first half of its steps
// the weights are ranked anew every few steps, every row keeping its count.
type Refine struct {
	Solve     Solver
	Along     bool    // MethodBESA with one loss per block
	Passes    int     // of tuning over the calibration windows; 0: none
	Norms     bool    // with passes of tuning
	Remask    bool    // MethodBESA with passes of tuning
	LR        float64 // Adam's step for weights at the start; it falls to a twentieth along a cosine
	Reference Path    // what is reproduced
	Loss      LossForm
}

// RefinePasses is the number of tuning passes that is worth its time: they take
// about as long as learning the allocation (docs/method.md).
const RefinePasses = 3

// Refined returns the options with the survivors refined, along and by tuning,
// the best that was measured.
func (o Options) Refined() Options {
	o.Refine.Passes = RefinePasses
	o.Refine.Along = o.canMoveAlong()
	return o
}

// canMoveAlong tells whether weights can move while the allocation is learned.
func (o Options) canMoveAlong() bool {
	return o.Method == MethodBESA && o.LossGranularity == LossPerBlock
}

// validate reports the first setting that cannot be followed.
func (r Refine) validate() error {
	switch {
	case r.Solve != SolveNone && !slices.Contains(Solvers, r.Solve):
		return fmt.Errorf("solver %q; have %v", r.Solve, Solvers)
	case r.Passes < 0 || r.Passes > 1000:
		return fmt.Errorf("%d refinement passes; have 0 … 1000", r.Passes)
	case r.Norms && r.Passes == 0:
		return errors.New("gains of norms are moved by passes of tuning only")
	case r.moves() && !(r.LR > 0):
		return fmt.Errorf("refinement step %g: it must be positive", r.LR)
	case r.moves() && !slices.Contains(LossForms, r.Loss):
		return fmt.Errorf("refinement loss %q; have %v", r.Loss, LossForms)
	case r.moves() && r.Reference != PathDense && r.Reference != PathPruned:
		return fmt.Errorf("refinement reference %q; have %v", r.Reference, Paths)
	}
	return nil
}

// moves tells whether weights are moved by gradients.
func (r Refine) moves() bool { return r.Along || r.Passes > 0 }

// RefineResult is what refinement did to a block's reconstruction loss, as the
// mean over windows.
type RefineResult struct {
	First, Last   float64 // on the windows tuned on, during the first and the last pass
	Before, After float64 // on the windows held out
}

// clipRefineLR is Adam's step for the clipping logits during refinement: half
// of what learns them beside the allocation, since they start near an optimum.
const clipRefineLR = 0.005

// HeldOut is the number of windows that tuning does not move weights by.
func HeldOut(windows int) int { return min(max(windows/16, 1), 8) }

// refine improves the survivors of a block whose masks are final. The block's own
// weights are overwritten: with a grid they are what is rounded to codes.
func (s *session) refine(ctx context.Context) (*RefineResult, error) {
	s.solve()
	if s.opts.Refine.Passes == 0 {
		return nil, nil
	}
	n := s.In.Len() - HeldOut(s.In.Len())
	if n < 1 {
		return nil, nil
	}
	t := newTuner(s)
	var res RefineResult
	var err error
	if res.Before, err = t.evaluate(ctx, n); err != nil {
		return nil, err
	}
	res.After = res.Before
	t.save()
	total := s.opts.Refine.Passes * n
	for pass := range s.opts.Refine.Passes {
		var sum float64
		for i := range n {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			t.anneal(float64(pass*n+i) / float64(total))
			loss, err := t.step(i)
			if err != nil {
				return nil, err
			}
			sum += loss
			if done := pass*n + i + 1; s.opts.Refine.Remask && done%rankEvery == 0 && 2*done <= total {
				for l := range decoder.NumLinears {
					s.rankAgain(l)
				}
			}
			if s.Step != nil {
				s.Step(s.learned+pass*n+i+1, s.learned+total)
			}
		}
		res.Last = sum / float64(n)
		if pass == 0 {
			res.First = res.Last
		}
		loss, err := t.evaluate(ctx, n)
		if err != nil {
			return nil, err
		}
		if loss < res.After { // never for a loss that is not finite
			res.After = loss
			t.save()
		}
	}
	t.restore()
	return &res, nil
}

// tuner holds what refinement moves, and the best state so far.
type tuner struct {
	*session
	grads *decoder.Gradients[float32]
	dout  kernel.Mat[float32]
	moved []moved
	ranks [decoder.NumLinears]*Ranking // of the best state
	gains [2][]float32                 // gradients of the norms' gains; nil where they stay
}

// moved are parameters of one kind, their first step, and their values in the
// best state.
type moved struct {
	*adam
	start float64
	best  [][]float32
}

func newTuner(s *session) *tuner {
	t := &tuner{session: s, grads: s.Engine.NewGradients(), dout: kernel.NewMat[float32](s.Engine.Tokens, s.Engine.Hidden)}
	var weights, clips []param
	for l, w := range s.Block.W {
		weights = append(weights, param{w.Data, t.grads.W[l].Data})
		if c := s.clip[l]; c != nil && !c.frozen {
			for i := range c.raw {
				clips = append(clips, param{c.raw[i], c.rawGrad[i]})
			}
		}
	}
	t.move(s.opts.Refine.LR, weights...)
	t.move(clipRefineLR, clips...)
	if s.opts.Refine.Norms {
		for i, gain := range []*[]float32{&s.masked.AttnNorm, &s.masked.FFNNorm} {
			*gain = slices.Clone(*gain) // until now the dense block's
			t.gains[i] = make([]float32, len(*gain))
			t.move(s.opts.Refine.LR*meanAbs(*gain), param{*gain, t.gains[i]})
		}
	}
	return t
}

// move has Adam move the parameters, with steps of lr at the start.
func (t *tuner) move(lr float64, params ...param) {
	if len(params) == 0 {
		return
	}
	m := moved{adam: newAdam(t.pool, lr, params...), start: lr}
	for _, p := range params {
		m.best = append(m.best, make([]float32, len(p.value)))
	}
	t.moved = append(t.moved, m)
}

// meanAbs is the size of a norm's gains, which their steps are in proportion to.
func meanAbs(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += math.Abs(float64(x))
	}
	return sum / float64(len(v))
}

// anneal sets the steps for the moment when the fraction done is over.
func (t *tuner) anneal(done float64) {
	const floor = 0.05
	f := floor + (1-floor)*0.5*(1+math.Cos(math.Pi*done))
	for _, m := range t.moved {
		m.lr = m.start * f
	}
}

// forward runs the masked block on window i and returns the loss; dout holds
// its gradient.
func (t *tuner) forward(i int) (float64, kernel.Mat[float32], error) {
	x, err := t.In.Load(i)
	if err != nil {
		return 0, t.dout, err
	}
	ref, err := t.target(t.opts.Refine.Reference, i)
	if err != nil {
		return 0, t.dout, err
	}
	if err := t.Engine.Forward(&t.masked, x, t.acts); err != nil {
		return 0, t.dout, err
	}
	dout := t.dout.View(0, x.Rows, 0, t.dout.Cols)
	return reconstruction(t.pool, t.opts.Refine.Loss, t.acts.Out, ref, dout), dout, nil
}

// step tunes on window i and returns the loss before.
func (t *tuner) step(i int) (float64, error) {
	for l := range decoder.NumLinears {
		t.mask(l)
	}
	loss, dout, err := t.forward(i)
	if err != nil {
		return 0, err
	}
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return 0, fmt.Errorf("refinement diverged: loss on window %d is %v; choose a smaller step (--refine-lr)", i, loss)
	}
	if err := t.Engine.Backward(&t.masked, t.acts, dout, t.grads); err != nil {
		return 0, err
	}
	for l := range decoder.NumLinears {
		dw := t.grads.W[l]
		t.gridGradients(l, dw)
		// Pruned weights get no gradient, and so never move.
		applyMask(t.pool, dw, dw, t.rank[l], t.prune[l])
	}
	if t.opts.Refine.Norms {
		t.Engine.NormGradients(&t.masked, t.acts, t.grads, t.gains[0], t.gains[1])
	}
	for _, m := range t.moved {
		m.step()
	}
	return loss, nil
}

// evaluate returns the mean loss over the windows from first on.
func (t *tuner) evaluate(ctx context.Context, first int) (float64, error) {
	for l := range decoder.NumLinears {
		t.mask(l)
	}
	var sum float64
	for i := first; i < t.In.Len(); i++ {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		loss, _, err := t.forward(i)
		if err != nil {
			return 0, err
		}
		sum += loss
	}
	return sum / float64(t.In.Len()-first), nil
}

func (t *tuner) save() {
	for _, m := range t.moved {
		for i, p := range m.params {
			copy(m.best[i], p.value)
		}
	}
	t.ranks = t.rank
}

func (t *tuner) restore() {
	for _, m := range t.moved {
		for i, p := range m.params {
			copy(p.value, m.best[i])
		}
	}
	t.rank = t.ranks
}
