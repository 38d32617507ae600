package eval

import (
	"context"
	"fmt"
	"math"

	"github.com/hybridgroup/yzma/pkg/llama"
)

const (
	// ubatchTokens is llama.cpp's physical batch. A single window goes through in
	// pieces of that size, which changes nothing in the arithmetic, bounds the
	// memory for logits and lets a cancelled context take effect.
	ubatchTokens = 512

	// batchTokens is llama-perplexity's logical batch: it evaluates as many whole
	// windows at once as fit. How many share a batch decides which matrix kernels
	// run and so shows in the last digits.
	batchTokens = 2048
)

// run is a context of llama.cpp and its batch, for windows of one shape.
type run struct {
	ctx     llama.Context
	batch   llama.Batch
	length  int // tokens per window
	windows int // windows at once
	chunk   int // tokens per call
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
		if err := checkWindow(w, from, m.tokens); err != nil {
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
	if err := checkTokens(window, m.tokens); err != nil {
		return nil, err
	}
	out := make([]float32, 0, len(window)*m.tokens)
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
	library.log.forget()
	if err := m.prepare(len(windows[0]), room); err != nil {
		return err
	}
	batch, rows := &m.run.batch, 0
	batch.NTokens = 0
	for seq, window := range windows {
		for i, id := range window {
			wanted := i >= first && i < last
			if wanted {
				rows++
			}
			if err := batch.Add(llama.Token(id), llama.Pos(i), []llama.SeqId{llama.SeqId(seq)}, wanted); err != nil {
				return fmt.Errorf("fill llama.cpp's batch: %w", err)
			}
			if end := seq == len(windows)-1 && i == len(window)-1; !end && int(batch.NTokens) < m.run.chunk {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := m.flush(rows, use); err != nil {
				return err
			}
			rows = 0
		}
	}
	return nil
}

// flush evaluates the batch and hands on the logits.
func (m *Llama) flush(rows int, use func(logits []float32, rows int)) error {
	code, err := llama.Decode(m.run.ctx, m.run.batch)
	m.run.batch.NTokens = 0
	if err == nil && code != 0 {
		err = fmt.Errorf("llama_decode returns %d", code)
	}
	if err != nil {
		return library.log.explain(fmt.Errorf("run %s in llama.cpp: %w", m.path, err))
	}
	if rows == 0 {
		return nil
	}
	logits, err := llama.GetLogits(m.run.ctx, rows, m.tokens)
	if err != nil || len(logits) != rows*m.tokens {
		return library.log.explain(fmt.Errorf("run %s in llama.cpp: it gives no logits", m.path))
	}
	use(logits, rows)
	return nil
}

// prepare makes an empty context for windows of a length, room of them at once,
// or clears the one there is.
func (m *Llama) prepare(length, room int) error {
	if m.model == 0 {
		return errClosed
	}
	if length > math.MaxInt32/2 {
		return fmt.Errorf("window of %d tokens is too long for llama.cpp", length)
	}
	r := &m.run
	if r.ctx != 0 && r.windows == room && (r.length == length || room == 1 && r.length > length) {
		memory, err := llama.GetMemory(r.ctx)
		if err == nil {
			err = llama.MemoryClear(memory, true)
		}
		if err != nil {
			return fmt.Errorf("clear llama.cpp's context: %w", err)
		}
		return nil
	}
	r.free()
	chunk := ubatchTokens
	if room > 1 {
		chunk = room * length
	}
	params := llama.ContextDefaultParams()
	params.NCtx = uint32(room * length)
	params.NBatch = uint32(chunk)
	params.NUbatch = ubatchTokens
	params.NSeqMax = uint32(room)
	params.NThreads, params.NThreadsBatch = m.threads, m.threads
	if m.precise {
		params.TypeK, params.TypeV = llama.GGMLTypeF32, llama.GGMLTypeF32
		params.FlashAttentionType = llama.FlashAttentionTypeDisabled
	}
	ctx, err := llama.InitFromModel(m.model, params)
	if err != nil {
		return library.log.explain(fmt.Errorf("make a context of %d × %d tokens in llama.cpp: %w", room, length, err))
	}
	*r = run{ctx, llama.BatchInit(int32(chunk), 0, 1), length, room, chunk}
	return nil
}

// free drops the context.
func (r *run) free() {
	if r.ctx != 0 {
		_ = llama.BatchFree(r.batch) // fails on an invalid handle only
		_ = llama.Free(r.ctx)
		*r = run{}
	}
}
