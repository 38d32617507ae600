package model

import (
	"context"
	"fmt"

	"besa/internal/decoder"
	"besa/internal/kernel"
)

// Runner computes whole-model logits in Go, with all weights in memory as
// float32. It is the oracle that llama.cpp's results are checked against.
type Runner struct {
	model  *Model
	engine *decoder.Engine[float32]
	acts   *decoder.Activations[float32]
	embed  kernel.Mat[float32]
	blocks []*decoder.Block[float32]
	head   *Head
	hidden kernel.Mat[float32]
}

// NewRunner loads the model for windows of up to tokens tokens.
func NewRunner(m *Model, tokens int, pool *kernel.Pool) (*Runner, error) {
	e, err := decoder.NewEngine[float32](m.Config, tokens, pool)
	if err != nil {
		return nil, err
	}
	r := &Runner{model: m, engine: e, acts: e.NewActivations(), hidden: kernel.NewMat[float32](tokens, m.Hidden)}
	if r.embed, err = m.Embedding(); err != nil {
		return nil, err
	}
	if r.head, err = m.Head(); err != nil {
		return nil, err
	}
	for i := range m.Layers {
		b, err := m.Block(i)
		if err != nil {
			return nil, err
		}
		r.blocks = append(r.blocks, b)
	}
	return r, nil
}

// Embed writes the embeddings of ids to dst (tokens × hidden).
func Embed(dst, embedding kernel.Mat[float32], ids []int32) error {
	for t, id := range ids {
		if id < 0 || int(id) >= embedding.Rows {
			return fmt.Errorf("token %d at position %d is outside the vocabulary of %d", id, t, embedding.Rows)
		}
		copy(dst.Row(t), embedding.Row(int(id)))
	}
	return nil
}

// Hidden runs ids through all blocks and the output norm: tokens × hidden,
// valid until the next call. visit, where given, sees the output of each block.
func (r *Runner) Hidden(ctx context.Context, ids []int32, visit func(block int, out kernel.Mat[float32])) (kernel.Mat[float32], error) {
	none := kernel.Mat[float32]{}
	if len(ids) == 0 || len(ids) > r.engine.Tokens {
		return none, fmt.Errorf("window of %d tokens: this runner takes 1 to %d", len(ids), r.engine.Tokens)
	}
	x := r.hidden.View(0, len(ids), 0, r.hidden.Cols)
	if err := Embed(x, r.embed, ids); err != nil {
		return none, err
	}
	for i, b := range r.blocks {
		if err := ctx.Err(); err != nil {
			return none, err
		}
		if err := r.engine.Forward(b, x, r.acts); err != nil {
			return none, err
		}
		kernel.Copy(r.engine.Pool(), x, r.acts.Out)
		if visit != nil {
			visit(i, x)
		}
	}
	for t := range x.Rows {
		kernel.RMSNorm(x.Row(t), x.Row(t), r.head.Norm, r.model.Eps)
	}
	return x, nil
}

// Logits calls visit with the logits of ids from position from on, several
// rows of vocabulary values at a time: first is the position of the first row.
// The slice is reused.
func (r *Runner) Logits(ctx context.Context, ids []int32, from int, visit func(first int, logits []float32)) error {
	x, err := r.Hidden(ctx, ids, nil)
	if err != nil {
		return err
	}
	const rows = 64 // logits in memory at a time
	buf := kernel.NewMat[float32](rows, r.head.Weights.Rows)
	for t := from; t < x.Rows; t += rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(rows, x.Rows-t)
		out := buf.View(0, n, 0, buf.Cols)
		kernel.MulNT(r.engine.Pool(), out, x.View(t, t+n, 0, x.Cols), r.head.Weights, false)
		visit(t, buf.Data[:n*buf.Cols])
	}
	return nil
}
