// Package selftext has a model write its own calibration text: "Self-calibration
// for Language Model Quantization and Pruning" (Williams, Chrysostomou and
// Aletras, 2024).
//
// In: a model, its tokenizer, and how much is wanted. Out: sequences of token
// ids. A text begins with the model's beginning-of-sequence token, or where it
// has none with a random token, and goes on by sampling from the model's
// distribution as it is. A special token ends it and another begins behind a
// separator, as documents of a corpus are packed.
//
// Many sequences are written in step, so that weights are read once for a token
// of each. A sequence depends on the model, the seed and its number, not on how
// many are written together nor on the number of threads.
package selftext

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"besa/internal/decoder"
	"besa/internal/kernel"
	"besa/internal/model"
)

// ErrMemory marks a model that cannot write in the memory it may use.
var ErrMemory = errors.New("not enough memory")

// Vocabulary is what must be known of the model's tokens.
type Vocabulary struct {
	Start     int32   // the token that a text begins with, no part of it; -1: begin with a random one
	Special   []int32 // tokens that are no text: they end one
	Separator []int32 // what stands between two texts of a sequence
}

// Options says how much is written, and in which memory.
type Options struct {
	Sequences int // to write
	Tokens    int // in each
	Seed      uint64
	Memory    int64 // for weights, keys and values, in bytes

	// First is the number of the first sequence that is still to be written.
	First int
	// Written is called with sequences, in order, as they are finished; the
	// first of them has number first. An error ends the work.
	Written func(first int, sequences [][]int32) error
	// Progress is called with the tokens that are written, of all sequences.
	Progress func(done, total int)
}

const (
	maxLanes = 64 // sequences in step: with more, products are no faster

	// shortest text: before, special tokens are not sampled.
	shortest = 16
)

// Write writes the sequences from o.First on.
func Write(ctx context.Context, m *model.Model, v Vocabulary, pool *kernel.Pool, o Options) error {
	if o.Sequences < 1 || o.Tokens < 1 || o.First < 0 {
		return fmt.Errorf("write %d sequences of %d tokens from %d on: numbers must be positive", o.Sequences, o.Tokens, o.First)
	}
	if o.First >= o.Sequences {
		return nil
	}
	w, err := newWriter(m, v, pool, o)
	if err != nil {
		return err
	}
	for first := o.First; first < o.Sequences; first += w.lanes.Count {
		sequences, err := w.wave(ctx, first)
		if err != nil {
			return err
		}
		if err := o.Written(first, sequences); err != nil {
			return err
		}
	}
	return nil
}

// writer writes as many sequences in step as it has lanes.
type writer struct {
	Options
	Vocabulary
	model   *model.Model
	pool    *kernel.Pool
	weights *weights
	lanes   *decoder.Lanes
	x       kernel.Mat[float32] // hidden states, a row for each lane
	logits  kernel.Mat[float32]
	texts   []text // by lane
}

// text is what a lane writes.
type text struct {
	rng    *rand.Rand
	ids    []int32
	length int   // of the text in work, in tokens
	next   int32 // the token that goes into the model next
}

func newWriter(m *model.Model, v Vocabulary, pool *kernel.Pool, o Options) (*writer, error) {
	lanes, resident, err := plan(m, o)
	if err != nil {
		return nil, err
	}
	w := &writer{Options: o, Vocabulary: v, model: m, pool: pool}
	if w.weights, err = newWeights(m, pool, resident); err != nil {
		return nil, err
	}
	w.x, w.logits = kernel.NewMat[float32](lanes, m.Hidden), kernel.NewMat[float32](lanes, m.Vocab)
	w.texts = make([]text, lanes)
	// One more: the token that a text starts with need be no part of it.
	w.lanes, err = decoder.NewLanes(m.Config, m.Layers, lanes, o.Tokens+1, pool)
	return w, err
}

// wave writes a sequence in every lane; what is beyond the last is dropped.
func (w *writer) wave(ctx context.Context, first int) ([][]int32, error) {
	count := min(len(w.texts), w.Sequences-first)
	for i := range w.texts {
		// Lanes beyond the last sequence repeat it.
		number := uint64(first + min(i, count-1))
		w.texts[i] = text{rng: rand.New(rand.NewPCG(w.Seed, 0x73656c66<<32|number))}
		w.begin(i)
	}
	for !w.done() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := w.step(); err != nil {
			return nil, err
		}
		if w.Progress != nil {
			written := 0
			for _, t := range w.texts[:count] {
				written += min(len(t.ids), w.Tokens)
			}
			w.Progress(first*w.Tokens+written, w.Sequences*w.Tokens)
		}
	}
	var sequences [][]int32
	for _, t := range w.texts[:count] {
		sequences = append(sequences, t.ids[:w.Tokens])
	}
	return sequences, nil
}

func (w *writer) done() bool {
	for _, t := range w.texts {
		if len(t.ids) < w.Tokens {
			return false
		}
	}
	return true
}

// begin starts a text in a lane.
func (w *writer) begin(lane int) {
	t := &w.texts[lane]
	w.lanes.Restart(lane)
	t.length, t.next = 0, w.Start
	if t.next < 0 {
		t.next = w.random(t.rng)
		t.ids = append(t.ids, t.next)
		t.length = 1
	}
}

// random draws a token that is no special one.
func (w *writer) random(rng *rand.Rand) int32 {
	special := map[int32]bool{}
	for _, id := range w.Special {
		special[id] = true
	}
	for {
		if id := rng.Int32N(int32(w.model.Vocab)); !special[id] {
			return id
		}
	}
}

// step puts every lane's next token into the model and samples the one behind it.
func (w *writer) step() error {
	ids := make([]int32, len(w.texts))
	for i, t := range w.texts {
		ids[i] = t.next
	}
	if err := w.model.EmbedTokens(w.x, ids); err != nil {
		return err
	}
	for layer := range w.model.Layers {
		b, err := w.weights.block(layer)
		if err != nil {
			return err
		}
		if err := w.lanes.Forward(layer, b, w.x); err != nil {
			return err
		}
	}
	w.weights.logits(w.logits, w.x)
	bad := make([]bool, len(w.texts))
	w.pool.For(len(w.texts), 1, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			t := &w.texts[i]
			logits := w.logits.Row(i)
			if t.length < shortest {
				forbid(logits, w.Special)
			}
			t.next = sample(logits, t.rng)
			bad[i] = t.next < 0
		}
	})
	for i := range w.texts {
		if bad[i] {
			return errors.New("the model's output is not finite: it holds weights that are NaN or infinite")
		}
		w.take(i)
	}
	return nil
}

// take adds a lane's new token to its text, or ends the text there.
func (w *writer) take(lane int) {
	t := &w.texts[lane]
	for _, s := range w.Special {
		if t.next == s {
			t.ids = append(t.ids, w.Separator...)
			w.begin(lane)
			return
		}
	}
	t.ids = append(t.ids, t.next)
	t.length++
	if !w.lanes.Advance(lane) { // enough is written; what follows is dropped
		w.begin(lane)
	}
}
