package convert

import (
	"context"
	"fmt"
	"time"

	"besa/besa"
	"besa/internal/decoder"
	"besa/internal/kernel"
	"besa/sparsefmt"
)

// peakTime is how long the machine's peak is measured.
const peakTime = 30 * time.Millisecond

// prune runs the method over all blocks that the journal does not hold.
func (r *runner) prune(ctx context.Context) error {
	last := r.lastMissing()
	if last < 0 {
		return nil
	}
	if err := r.openWindows(ctx); err != nil {
		return err
	}
	if err := r.embed(); err != nil {
		return err
	}
	eng, err := decoder.NewEngine[float32](r.model.Config, r.windowLen(), r.pool)
	if err != nil {
		return err
	}
	eng.Precision = r.Precision.kernel()
	// Going once more through a finished block is one pass of those that pruning it takes.
	pass := 2 / r.flopsPerWeight()
	r.work.total, r.work.done = r.work.own, r.work.own
	for b := range last + 1 {
		if r.finished(b) {
			r.work.total += pass
		} else {
			r.work.total++
		}
	}
	for b := range last + 1 {
		if err := ctx.Err(); err != nil { // without windows nobody else looks
			return err
		}
		if err := r.learnPair(ctx, eng, b); err != nil {
			return fmt.Errorf("blocks %d and %d: %w", b, b+1, err)
		}
		if r.finished(b) {
			if err := r.advance(ctx, eng, b); err != nil {
				return fmt.Errorf("block %d, finished earlier: %w", b, err)
			}
			r.work.done += pass
			continue
		}
		if err := r.block(ctx, eng, b); err != nil {
			return fmt.Errorf("block %d: %w", b, err)
		}
		r.work.done += r.ownWork(b)
		delete(r.learned, b)
	}
	return nil
}

// finished tells whether the journal holds block b.
func (r *runner) finished(b int) bool {
	_, ok := r.journal.blocks[b]
	return ok
}

// lastMissing is the last block that is not finished, or -1.
func (r *runner) lastMissing() int {
	for b := r.model.Layers - 1; b >= 0; b-- {
		if !r.finished(b) {
			return b
		}
	}
	return -1
}

// work counts blocks, for progress.
type work struct {
	done, total float64
	own         float64 // what writing the calibration text was worth; part of both
}

// at is the finished fraction when part of the next block is done.
func (w work) at(part float64) float64 { return (w.done + part) / w.total }

// block prunes block b and puts it into the journal.
func (r *runner) block(ctx context.Context, eng *decoder.Engine[float32], b int) error {
	started := time.Now()
	block, err := r.model.Block(b)
	if err != nil {
		return err
	}
	if err := block.Check(r.model.Config); err != nil {
		return err
	}
	r.event(Event{Stage: StagePrune, Block: b, Done: r.work.at(0)})
	res, err := besa.PruneBlock(ctx, besa.Job{
		Engine: eng, Block: block, In: r.in, Ref: r.ref, Dense: r.dense, Learned: r.learned[b], Sums: r.imatrix.block(b),
		Stored: func(l decoder.Linear, weights kernel.Mat[float32]) error {
			return r.round(b, l, weights)
		},
		Step: func(done, total int) {
			r.event(Event{Stage: StagePrune, Block: b, Done: r.work.at(r.ownWork(b) * float64(done) / float64(total+1))})
		},
	}, r.methodFor(b))
	if err != nil {
		return err
	}
	rec := blockRecord{Norms: res.Norms, Report: BlockReport{Block: b, Error: res.Error, Sparsity: res.Sparsity(), Layers: map[string]float64{}}}
	rec.Report.FirstLoss, rec.Report.LastLoss = quarters(res.Steps)
	if f := res.Refine; f != nil {
		rec.Report.Refinement = &Refinement{f.First, f.Last, f.Before, f.After}
	}
	var blobs [][]byte
	for l := range decoder.NumLinears {
		blob, info, err := r.encode(b, l, &res.Layers[l])
		if err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
		blobs, rec.Tensors = append(blobs, blob), append(rec.Tensors, info)
		rec.Report.Layers[l.String()] = res.Layers[l].Sparsity()
	}
	rec.Report.Seconds = time.Since(started).Seconds()
	if err := r.journal.put(rec, blobs); err != nil {
		return err
	}
	r.event(Event{Stage: StagePrune, Block: b + 1, Done: r.work.at(r.ownWork(b))})
	return nil
}

// advance runs the windows through block b as the journal holds it: what the
// run that finished it did at its end, by the same arithmetic, so that
// continuing gives the same bytes as never having stopped.
func (r *runner) advance(ctx context.Context, eng *decoder.Engine[float32], b int) error {
	if r.in == nil { // nothing goes through the blocks
		return nil
	}
	r.event(Event{Stage: StageRestore, Block: b, Done: r.work.at(0)})
	block, err := r.model.Block(b)
	if err != nil {
		return err
	}
	acts := eng.NewActivations()
	if r.dense != nil {
		if err := besa.Advance(ctx, eng, block, acts, r.dense, nil); err != nil {
			return err
		}
	}
	err = r.journal.each(b, func(i int, blob sparsefmt.Blob) error {
		return r.decode(blob, block.W[i])
	})
	if err != nil {
		return err
	}
	if n := r.journal.blocks[b].Norms; n != nil {
		block.AttnNorm, block.FFNNorm = n.Attn, n.FFN
	}
	return besa.Advance(ctx, eng, block, acts, r.in, nil)
}

// speed puts into the report how fast the blocks were pruned, all runs together.
func (r *runner) speed() {
	for _, b := range r.report.Blocks {
		r.report.PruneSeconds += b.Seconds
	}
	tokens := float64(r.Calibration.Samples) * float64(r.Calibration.Len)
	flops := r.flopsPerWeight() * float64(r.model.Parameters()) * float64(r.model.Layers) * tokens
	r.report.GFLOPS = flops / r.report.PruneSeconds / 1e9
	r.report.PeakGFLOPS = kernel.PeakGFLOPS(peakTime, r.Threads)
	r.report.PercentOfPeak = 100 * r.report.GFLOPS / r.report.PeakGFLOPS
}

// quarters returns the mean reconstruction loss of the first and the last
// quarter of the steps.
func quarters(steps []besa.StepLoss) (first, last float64) {
	n := (len(steps) + 3) / 4
	if n == 0 {
		return 0, 0
	}
	mean := func(s []besa.StepLoss) float64 {
		var sum float64
		for _, l := range s {
			sum += l.Reconstruction
		}
		return sum / float64(len(s))
	}
	return mean(steps[:n]), mean(steps[len(steps)-n:])
}
