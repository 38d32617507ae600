package convert

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"besa/besa"
	"besa/internal/disk"
	"besa/internal/kernel"
	"besa/internal/tokenizer"
)

// calibrate gets the calibration windows: from a text, or from the model itself.
func (r *runner) calibrate(ctx context.Context) error {
	started := time.Now()
	if r.Calibration.Path == "" && !r.Method.NeedsWindows(r.imatrix != nil) {
		r.sampling, r.report.Sampling = SamplingNone, SamplingNone
		r.Calibration = Calibration{Seed: r.Calibration.Seed}
		return nil
	}
	var err error
	if r.Calibration, err = r.Calibration.length(r.model.Context); err != nil {
		return err
	}
	tok, err := tokenizer.New(r.model.File())
	if err != nil {
		return fmt.Errorf("%s: %w", r.Input, err)
	}
	if r.Calibration.Path == "" {
		err = r.writeOwn(ctx, tok)
	} else {
		err = r.readCorpus(ctx, tok)
	}
	if err != nil {
		return err
	}
	if err := r.checkWindows(); err != nil {
		return err
	}
	r.windowsHash = hashWindows(r.windows)
	r.report.Samples, r.report.Tokens, r.report.Sampling = r.Calibration.Samples, r.Calibration.Len, r.sampling
	r.report.CalibSeconds = time.Since(started).Seconds()
	return nil
}

// hashWindows is the SHA-256 of the windows' tokens as little-endian int32, hexadecimal.
func hashWindows(windows [][]int32) string {
	h := sha256.New()
	for _, w := range windows {
		_ = binary.Write(h, binary.LittleEndian, w) // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// checkWindows makes sure that every token has an embedding.
func (r *runner) checkWindows() error {
	for _, w := range r.windows {
		for _, id := range w {
			if id < 0 || int(id) >= r.model.Vocab {
				return fmt.Errorf("tokenizer and embedding disagree: token %d is outside the vocabulary of %d", id, r.model.Vocab)
			}
		}
	}
	return nil
}

// windowSets is how many sets of windows there are: what enters a block, what
// leaves it dense, and the dense path where it is followed.
func (r *runner) windowSets() int {
	if r.Method.NeedsDensePath() {
		return 3
	}
	return 2
}

// windowLen is the number of tokens that the engine has room for; it needs some
// even if there are no windows.
func (r *runner) windowLen() int { return max(r.Calibration.Len, 1) }

// budget decides what goes into memory.
func (r *runner) budget() (Budget, error) {
	c := r.Calibration
	numbers := int64(c.Samples) * int64(c.Len) * int64(r.model.Hidden)
	b := Budget{
		Limit: r.Memory, Block: besa.Footprint(r.model.Config, r.windowLen(), r.Method),
		Activations: int64(r.windowSets()) * numbers * r.Activations.bytes(),
	}
	return b, b.fit()
}

// openWindows makes room for the hidden states, in memory or, past the limit,
// in a scratch file. The file is read and written, not mapped: its pages belong
// to the system's cache and not to this process, a disk that fails is an error
// and not a signal, and every system can do it. The copies cost nothing beside
// the arithmetic done on a window.
func (r *runner) openWindows(ctx context.Context) error {
	c := r.Calibration
	numbers := int64(c.Samples) * int64(c.Len) * int64(r.model.Hidden)
	size, sets := numbers*r.Activations.bytes(), r.windowSets()
	var err error
	if r.report.Memory, err = r.budget(); err != nil {
		return err
	}
	if r.sampling == SamplingNone {
		return nil
	}
	b := &r.report.Memory
	open := func(int) besa.Windows {
		return &memoryWindows{c.Samples, c.Len, r.model.Hidden, make([]float32, numbers)}
	}
	if b.Spill > 0 || r.Activations != ActivationsFP32 {
		var at storage
		if b.Spill == 0 {
			at = make(memory, b.Activations)
		} else {
			if r.spill, err = disk.NewScratch(ctx, r.SpillDir, b.Spill); err != nil {
				return fmt.Errorf("spill file: %w; free some space, choose another folder with --spill-dir, or give more --memory", err)
			}
			at = r.spill
		}
		open = func(set int) besa.Windows {
			return newStoredWindows(at, int64(set)*size, c.Samples, c.Len, r.model.Hidden, r.Activations)
		}
	}
	r.in, r.ref = open(0), open(1)
	if sets > 2 {
		r.dense = open(2)
	}
	return nil
}

// embed fills the windows with the embeddings of their tokens.
func (r *runner) embed() error {
	c := r.Calibration
	buf := kernel.NewMat[float32](c.Len, r.model.Hidden)
	for i, ids := range r.windows {
		if err := r.model.EmbedTokens(buf, ids); err != nil {
			return err
		}
		if err := r.in.Store(i, buf); err != nil {
			return err
		}
		if r.dense != nil {
			if err := r.dense.Store(i, buf); err != nil {
				return err
			}
		}
	}
	return nil
}
