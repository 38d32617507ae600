package convert

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"

	"github.com/zeebo/xxh3"

	"besa/internal/corpus"
	"besa/internal/disk"
	"besa/internal/kernel"
	"besa/internal/selftext"
	"besa/internal/tokenizer"
)

// ownTokens is the length of the sequences in which a model writes its own
// calibration text; longer windows are put together from several. Short ones
// need little memory for keys and values (docs/method.md has what it costs).
const ownTokens = 128

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
	err = selftext.Write(ctx, r.model, v, r.pool, o)
	debug.FreeOSMemory() // what it was written with must not stay when blocks come
	if err != nil {
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

// ownName is the file in a journal that keeps the calibration text which the
// model writes: the hash of what the text depends on, then tokens in records of
// their number, the tokens and a checksum over both, all little-endian.
const ownName = "calibration"

// openOwn returns the tokens that an earlier run has kept for the same key,
// and makes the file ready for more.
func (j *journal) openOwn(key string, resume bool) ([]int32, error) {
	head := binary.LittleEndian.AppendUint64(nil, xxh3.HashString(key))
	data, err := os.ReadFile(j.path(ownName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var ids []int32
	sound := 0
	if resume && len(data) >= len(head) && string(data[:len(head)]) == string(head) {
		ids, sound = parseOwn(data[len(head):])
		j.own = true
		return ids, os.Truncate(j.path(ownName), int64(len(head)+sound))
	}
	if err := disk.WriteFile(j.path(ownName), head); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return nil, nil
}

// appendOwn keeps sequences, durably.
func (j *journal) appendOwn(sequences [][]int32) error {
	f, err := os.OpenFile(j.path(ownName), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, err = f.Write(appendOwnRecord(nil, sequences))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.own = true
	return nil
}

func appendOwnRecord(b []byte, sequences [][]int32) []byte {
	start, n := len(b), 0
	for _, s := range sequences {
		n += len(s)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	for _, s := range sequences {
		for _, id := range s {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b[start:]))
}

// parseOwn reads records up to the first that is not sound, and says how many
// bytes those before it take.
func parseOwn(data []byte) (ids []int32, sound int) {
	for {
		rest := data[sound:]
		if len(rest) < 4 {
			return ids, sound
		}
		n := uint64(binary.LittleEndian.Uint32(rest))
		size := 4 + 4*n
		if uint64(len(rest)) < size+8 || xxh3.Hash(rest[:size]) != binary.LittleEndian.Uint64(rest[size:]) {
			return ids, sound
		}
		for i := range n {
			ids = append(ids, int32(binary.LittleEndian.Uint32(rest[4+4*i:])))
		}
		sound += int(size) + 8
	}
}
