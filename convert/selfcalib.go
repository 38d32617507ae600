package convert

import (
	"context"
	"errors"
	"fmt"

	"besa/internal/corpus"
	"besa/internal/kernel"
	"besa/internal/selftext"
	"besa/internal/tokenizer"
)

// ownTokens is the length of the sequences in which a model writes its own
// calibration text; longer windows are put together from several. Short ones
// need little memory for keys and values (docs/method.md has what it costs).
const ownTokens = 256

// writeOwn has the model write its calibration text, or what is missing of it
// in the journal.
func (r *runner) writeOwn(ctx context.Context, tok *tokenizer.Tokenizer) error {
	c := &r.Calibration
	if c.Stride > 0 {
		return errors.New("windows at a stride are taken from a text: give one (--calib)")
	}
	c.Samples = c.wanted()
	r.sampling = SamplingSelf
	separator, err := tok.Encode(corpus.Separator)
	if err != nil {
		return err
	}
	v := selftext.Vocabulary{Start: -1, Special: tok.Special(), Separator: separator}
	if bos, ok := tok.BOS(); ok {
		v.Start = bos
	}
	tokens, total := min(ownTokens, c.Len), c.Samples*c.Len
	o := selftext.Options{Sequences: (total + tokens - 1) / tokens, Tokens: tokens, Seed: c.Seed, Memory: r.Memory}
	header, weights, err := modelHash(r.model.File())
	if err != nil {
		return err
	}
	r.ownKey = fmt.Sprint(r.Version, kernel.Implementation(), kernel.NativeBF16(), header, weights, v, o.Tokens, o.Seed)
	if r.dry {
		return nil
	}
	ids, err := r.journal.openOwn(r.ownKey, r.Resume)
	if err != nil {
		return err
	}
	o.First = min(len(ids)/tokens, o.Sequences)
	ids = ids[:o.First*tokens]
	said := fmt.Sprintf("no calibration text: the model writes its own, %d windows of %d tokens", c.Samples, c.Len)
	if o.First > 0 {
		said += fmt.Sprintf("; %.0f %% of it is there from before", 100*float64(o.First)/float64(o.Sequences))
	}
	r.event(Event{Message: said + " (a text of yours: --calib)"})
	r.work.own = r.textWork() * float64(o.Sequences-o.First) / float64(o.Sequences)
	share := r.work.own / (r.work.own + float64(r.model.Layers))
	first := float64(o.First) / float64(o.Sequences)
	o.Progress = func(done, total int) {
		part := (float64(done)/float64(total) - first) / max(1-first, 1e-9)
		r.event(Event{Stage: StageWriteOwn, Done: share * part})
	}
	o.Written = func(_ int, sequences [][]int32) error {
		for _, s := range sequences {
			ids = append(ids, s...)
		}
		return r.journal.appendOwn(sequences)
	}
	if err := selftext.Write(ctx, r.model, v, r.pool, o); err != nil {
		if errors.Is(err, selftext.ErrMemory) {
			return fmt.Errorf("%w: %w", ErrMemory, err)
		}
		return fmt.Errorf("write calibration text: %w", err)
	}
	for i := range c.Samples {
		r.windows = append(r.windows, ids[i*c.Len:(i+1)*c.Len])
	}
	r.report.CalibTokens = len(ids)
	return nil
}

// textWork estimates the work of writing the text, in blocks to prune: a forward
// pass of blocks and head, of which products with few rows make half the speed.
func (r *runner) textWork() float64 {
	blocks := float64(r.model.Parameters()) * float64(r.model.Layers)
	head := float64(r.model.Vocab) * float64(r.model.Hidden)
	return float64(r.model.Layers) * 2 * 2 * (1 + head/blocks) / r.flopsPerWeight()
}
