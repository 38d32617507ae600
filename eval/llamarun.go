package eval

import (
	"context"
	"fmt"
	"math"

	"besa/internal/llama"
)

const (
	// ubatchTokens is llama.cpp's physical batch. A single window goes through in
	// pieces of that size, which changes nothing in the arithmetic, bounds the
	// memory for logits and lets a cancelled context take effect.
	ubatchTokens = llama.UBatchTokens

	// batchTokens is llama-perplexity's logical batch: it evaluates as many whole
	// windows at once as fit. How many share a batch decides which matrix kernels
	// run and so shows in the last digits.
	batchTokens = 2048
)

// run is a context of llama.cpp and its batch, for windows of one shape.
type run struct {
	context *llama.Context
	length  int // tokens per window
	windows int // windows at once
}

// BatchWindows implements [Batcher] with llama-perplexity's number.
func (m *Llama) BatchWindows(length int) int { return max(1, batchTokens/max(1, length)) }

// NLL implements [Model].
func (m *Llama) NLL(ctx context.Context, window []int32, from int) ([]float64, error) {
	out, err := m.nll(ctx, [][]int32{window}, from, 1)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// NLLBatch implements [Batcher].
func (m *Llama) NLLBatch(ctx context.Context, windows [][]int32, from int) ([][]float64, error) {
	if len(windows) == 0 {
		return nil, nil
	}
	return m.nll(ctx, windows, from, m.BatchWindows(len(windows[0])))
}

func (m *Llama) nll(ctx context.Context, windows [][]int32, from, room int) ([][]float64, error) {
	length := len(windows[0])
	var targets []int32
	for _, w := range windows {
		if err := checkWindow(w, from, m.Vocab()); err != nil {
			return nil, err
		}
		if len(w) != length || len(windows) > room {
			return nil, fmt.Errorf("%d windows in a batch of %d, of %d and %d tokens", len(windows), room, length, len(w))
		}
		targets = append(targets, w[from:]...)
	}
	scores := make([]float64, len(targets))
	done := 0
	// The row at position i predicts token i+1; the last predicts nothing here.
	err := m.decode(ctx, windows, room, from-1, length-1, func(logits []float32, rows int) {
		scoreRows(scores[done:done+rows], logits, targets[done:done+rows])
		done += rows
	})
	if err != nil {
		return nil, err
	}
	out := make([][]float64, len(windows))
	for i := range out {
		out[i] = scores[i*(length-from) : (i+1)*(length-from)]
	}
	return out, nil
}

// Logits implements [Model].
func (m *Llama) Logits(ctx context.Context, window []int32) ([]float32, error) {
	if len(window) == 0 {
		return nil, nil
	}
	if err := checkTokens(window, m.Vocab()); err != nil {
		return nil, err
	}
	out := make([]float32, 0, len(window)*m.Vocab())
	err := m.decode(ctx, [][]int32{window}, 1, 0, len(window), func(logits []float32, _ int) {
		out = append(out, logits...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// decode runs windows of one length through the model, each a sequence of its
// own, and calls use with the logits of the positions first … last-1 of each, in
// order and in pieces. They are gone after the call.
func (m *Llama) decode(ctx context.Context, windows [][]int32, room, first, last int, use func(logits []float32, rows int)) error {
	if err := m.prepare(len(windows[0]), room); err != nil {
		return err
	}
	batch := m.run.context
	for seq, window := range windows {
		for i, id := range window {
			if err := batch.Add(id, i, seq, i >= first && i < last); err != nil {
				return err
			}
			if end := seq == len(windows)-1 && i == len(window)-1; !end && batch.Room() > 0 {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := batch.Decode(); err != nil {
				return err
			}
			logits, rows, err := batch.Logits()
			if err != nil {
				return err
			}
			if rows > 0 {
				use(logits, rows)
			}
		}
	}
	return nil
}

// prepare makes an empty context for windows of a length, room of them at once,
// or clears the one there is.
func (m *Llama) prepare(length, room int) error {
	if length > math.MaxInt32/2 {
		return fmt.Errorf("window of %d tokens is too long for llama.cpp", length)
	}
	r := &m.run
	if r.context != nil && r.windows == room && (r.length == length || room == 1 && r.length > length) {
		return r.context.Clear()
	}
	r.context.Close()
	*r = run{}
	chunk := ubatchTokens
	if room > 1 {
		chunk = room * length
	}
	context, err := m.model.NewContext(llama.ContextOptions{
		Tokens: length, Sequences: room, Batch: chunk, Threads: m.threads, Precise: m.precise,
	})
	if err != nil {
		return err
	}
	*r = run{context, length, room}
	return nil
}
