package convert

import (
	"context"

	"besa/besa"
	"besa/internal/decoder"
)

// pairShare is the part of a block's work that is done when it has been
// learned together with another.
func (r *runner) pairShare() float64 {
	s, n := sizeOf(r.model.Config, r.Calibration.Len), r.Calibration.Samples
	return float64(n) * learningFLOPs(r.Method, s).sum() / passFLOPs(r.Method, s, n).sum()
}

// learnPair learns blocks b and b+1 together, where b is the first of a pair,
// the options ask for it, and not both are finished. Learning has no chance in
// it: after an interruption between the two it gives the same again.
func (r *runner) learnPair(ctx context.Context, eng *decoder.Engine[float32], b int) error {
	if r.Method.Method != besa.MethodBESA || r.Method.LossGranularity != besa.LossPerPair ||
		b%2 != 0 || b+1 >= r.model.Layers || r.finished(b) && r.finished(b+1) {
		return nil
	}
	var pair [2]*decoder.Block[float32]
	for i := range pair {
		var err error
		if pair[i], err = r.model.Block(b + i); err != nil {
			return err
		}
		if err := pair[i].Check(r.model.Config); err != nil {
			return err
		}
	}
	work := 0.0 // in blocks
	for i := range pair {
		if !r.finished(b + i) {
			work += r.pairShare()
		}
	}
	learned, err := besa.LearnPair(ctx, besa.Job{
		Engine: eng, Block: pair[0], In: r.in, Ref: r.ref, Dense: r.dense, Sums: r.imatrix.block(b),
		Step: func(done, total int) {
			r.event(Event{Stage: StagePrune, Block: b, Done: r.work.at(work * float64(done) / float64(total))})
		},
	}, pair[1], r.imatrix.block(b+1), [2]besa.Options{r.methodFor(b), r.methodFor(b + 1)})
	if err != nil {
		return err
	}
	r.learned = map[int]*besa.Learned{b: learned[0], b + 1: learned[1]}
	r.work.done += work
	return nil
}

// ownWork is the part of a block's work that is still to do when its turn comes.
func (r *runner) ownWork(b int) float64 {
	if r.learned[b] != nil {
		return 1 - r.pairShare()
	}
	return 1
}
