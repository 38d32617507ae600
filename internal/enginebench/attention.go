package enginebench

import (
	"besa/internal/decoder"
	"besa/internal/kernel"
)

// attention measures a block whose linear layers are next to nothing, so that
// attention is what takes the time. The few products of the layers count, too.
func (b *bench) attention() error {
	s := b.large()
	c := s.config
	c.Hidden, c.FFN = 16, 16
	e, err := decoder.NewEngine[float32](c, s.tokens, b.pool)
	if err != nil {
		return err
	}
	block := randomBlock(b.pool, c)
	x, dout := randomMatrix(b.pool, s.tokens, c.Hidden, 1), randomMatrix(b.pool, s.tokens, c.Hidden, 1)
	acts, grads := e.NewActivations(), e.NewGradients()
	forward := func() { err = e.Forward(block, x, acts) }
	backward := func() { err = e.Backward(block, acts, dout, grads) }
	for _, m := range []struct {
		name, hint string
		run        func()
		flops      float64
	}{
		{"forward", "causal softmax(q·kᵀ)·v of all heads, rotary positions included", forward,
			forwardFLOPs(c, s.tokens) + attentionFLOPs(c, s.tokens, 2)},
		{"backward", "gradients of q, k and v; probabilities are computed again", backward,
			backwardFLOPs(c, s.tokens) + attentionFLOPs(c, s.tokens, 5)},
	} {
		for _, e.Precision = range precisions() {
			if m.run(); err == nil { // warm up
				b.arithmetic(e.Precision, "attention", s.text()+", "+m.name, m.flops, best(3, m.run), m.hint)
			}
			if err != nil {
				return err
			}
			if err := b.ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// weights is the number of weights of a block's linear layers.
func weights(c decoder.Config) float64 {
	n := 0
	for l := range decoder.NumLinears {
		rows, cols := c.Shape(l)
		n += rows * cols
	}
	return float64(n)
}

// forwardFLOPs counts the linear layers' products.
func forwardFLOPs(c decoder.Config, tokens int) float64 { return 2 * weights(c) * float64(tokens) }

// backwardFLOPs counts the products for the gradients of all weights and of
// all inputs but the block's own.
func backwardFLOPs(c decoder.Config, tokens int) float64 {
	n := 2 * weights(c)
	for _, l := range []decoder.Linear{decoder.Q, decoder.K, decoder.V} {
		rows, cols := c.Shape(l)
		n -= float64(rows * cols)
	}
	return 2 * n * float64(tokens)
}

// attentionFLOPs counts that many products of queries and keys, of which
// causality needs half.
func attentionFLOPs(c decoder.Config, tokens, products int) float64 {
	n := float64(tokens)
	return float64(products) * n * (n + 1) * float64(c.QDim())
}

// randomMatrix holds uniform values of the given standard deviation, the same
// every time.
func randomMatrix(p *kernel.Pool, rows, cols int, deviation float64) kernel.Mat[float32] {
	m := kernel.NewMat[float32](rows, cols)
	scale := float32(deviation * 3.4641016151377544 / (1 << 24)) // √12: that of a uniform value in [0, 1) is 1/√12
	p.For(rows, 16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			state := uint64(i)*0x9e3779b97f4a7c15 + 0x1234567
			row := m.Row(i)
			for j := range row {
				// xorshift64*
				state ^= state >> 12
				state ^= state << 25
				state ^= state >> 27
				row[j] = (float32(state*0x2545f4914f6cdd1d>>40) - 1<<23) * scale
			}
		}
	})
	return m
}
