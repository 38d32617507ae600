package decoder

import (
	"fmt"

	"besa/internal/kernel"
)

// Gradients holds the loss's gradient with respect to the weights of every
// linear layer, and the scratch memory of the backward pass.
type Gradients[T kernel.Float] struct {
	W [NumLinears]kernel.Mat[T]

	dmid, dctx     kernel.Mat[T]
	dact, dgate    kernel.Mat[T] // dact becomes the gradient of up
	dffnIn         kernel.Mat[T]
	attn           attentionGrad[T]
	tokens, maxLen int
}

// NewGradients allocates gradients for the engine's longest window.
func (e *Engine[T]) NewGradients() *Gradients[T] {
	n := e.Tokens
	g := &Gradients[T]{
		dmid: kernel.NewMat[T](n, e.Hidden), dctx: kernel.NewMat[T](n, e.QDim()),
		dact: kernel.NewMat[T](n, e.FFN), dgate: kernel.NewMat[T](n, e.FFN), dffnIn: kernel.NewMat[T](n, e.Hidden),
		attn: attentionGrad[T]{
			dq: kernel.NewMat[T](n, e.QDim()), dk: kernel.NewMat[T](n, e.KVDim()), dv: kernel.NewMat[T](n, e.KVDim()),
			hk: kernel.NewMat[T](n, e.QDim()), hv: kernel.NewMat[T](n, e.QDim()),
		},
		maxLen: n,
	}
	for l := range NumLinears {
		g.W[l] = kernel.NewMat[T](e.Shape(l))
	}
	return g
}

func (g *Gradients[T]) resize(n int) {
	g.tokens = n
	for _, m := range []*kernel.Mat[T]{&g.dmid, &g.dctx, &g.dact, &g.dgate, &g.dffnIn,
		&g.attn.dq, &g.attn.dk, &g.attn.dv, &g.attn.hk, &g.attn.hv} {
		m.Rows = n
		m.Data = m.Data[:n*m.Cols]
	}
}

// Backward fills g.W from dout, the gradient with respect to a.Out, for the
// forward pass that left a behind.
func (e *Engine[T]) Backward(b *Block[T], a *Activations[T], dout kernel.Mat[T], g *Gradients[T]) error {
	if err := e.BackwardFFN(b, a, dout, g); err != nil {
		return err
	}
	return e.BackwardAttention(b, a, g.dmid, g)
}

// BackwardFFN is the part of the backward pass from the block's output to
// a.Mid(): it fills g.W of the feed-forward network.
func (e *Engine[T]) BackwardFFN(b *Block[T], a *Activations[T], dout kernel.Mat[T], g *Gradients[T]) error {
	if err := a.checkGradient(dout, e.Hidden, g.maxLen); err != nil {
		return err
	}
	g.resize(a.tokens)
	p := e.pool

	// feed-forward network: out = mid + down(silu(gate)·up)
	e.mul(kernel.TN, g.W[Down], dout, a.act, false)
	e.mul(kernel.NN, g.dact, dout, b.W[Down], false)
	p.For(a.tokens, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			dact := g.dact.Row(i)
			kernel.SiLUMulGrad(g.dgate.Row(i), dact, a.gate.Row(i), a.up.Row(i), dact)
		}
	})
	e.mul(kernel.TN, g.W[Gate], g.dgate, a.ffnIn, false)
	e.mul(kernel.TN, g.W[Up], g.dact, a.ffnIn, false)
	e.mul(kernel.NN, g.dffnIn, g.dgate, b.W[Gate], false)
	e.mul(kernel.NN, g.dffnIn, g.dact, b.W[Up], true)
	kernel.Copy(p, g.dmid, dout)
	rmsNormBackward(p, g.dmid, g.dffnIn, a.mid, b.FFNNorm, a.ffnRstd, true)
	return nil
}

// BackwardAttention is the part of the backward pass from a.Mid() on, whose
// gradient dmid is: it fills g.W of the attention.
func (e *Engine[T]) BackwardAttention(b *Block[T], a *Activations[T], dmid kernel.Mat[T], g *Gradients[T]) error {
	if err := a.checkGradient(dmid, e.Hidden, g.maxLen); err != nil {
		return err
	}
	g.resize(a.tokens)
	p := e.pool
	// attention: mid = x + o(attention(q, k, v))
	e.mul(kernel.TN, g.W[O], dmid, a.ctx, false)
	e.mul(kernel.NN, g.dctx, dmid, b.W[O], false)
	e.attentionBackward(a, g.dctx, &g.attn)
	e.rope.rotate(p, g.attn.dq, e.Config, -1)
	e.rope.rotate(p, g.attn.dk, e.Config, -1)
	if b.QNorm != nil {
		e.headNormBackward(g.attn.dq, a.rawQ, b.QNorm, a.qRstd)
	}
	if b.KNorm != nil {
		e.headNormBackward(g.attn.dk, a.rawK, b.KNorm, a.kRstd)
	}
	e.mul(kernel.TN, g.W[Q], g.attn.dq, a.attnIn, false)
	e.mul(kernel.TN, g.W[K], g.attn.dk, a.attnIn, false)
	e.mul(kernel.TN, g.W[V], g.attn.dv, a.attnIn, false)
	return nil
}

// checkGradient refuses a gradient that does not belong to the forward pass.
func (a *Activations[T]) checkGradient(d kernel.Mat[T], hidden, maxLen int) error {
	if d.Rows != a.tokens || d.Cols != hidden || a.tokens > maxLen {
		return fmt.Errorf("backward from %d×%d gradients after %d×%d outputs", d.Rows, d.Cols, a.tokens, hidden)
	}
	return nil
}

// InputGradient writes the gradient with respect to the block's input to dx
// (tokens × hidden), after Backward left g behind: for blocks that are learned
// together.
func (e *Engine[T]) InputGradient(b *Block[T], a *Activations[T], g *Gradients[T], dx kernel.Mat[T]) error {
	if err := a.checkGradient(dx, e.Hidden, g.maxLen); err != nil {
		return err
	}
	dIn := e.attentionInputGradient(b, g)
	kernel.Copy(e.pool, dx, g.dmid)
	rmsNormBackward(e.pool, dx, dIn, a.x, b.AttnNorm, a.attnRstd, true)
	return nil
}

// NormGradients writes the gradients with respect to the gains of the two norms
// that the layers read through (hidden values each) to attn and ffn, after
// Backward left g behind. Three products more than Backward: for tuning gains.
func (e *Engine[T]) NormGradients(b *Block[T], a *Activations[T], g *Gradients[T], attn, ffn []T) {
	gainGradient(e.pool, ffn, g.dffnIn, a.mid, a.ffnRstd)
	gainGradient(e.pool, attn, e.attentionInputGradient(b, g), a.x, a.attnRstd)
}

// attentionInputGradient is the gradient with respect to what queries, keys and
// values are computed from; it takes the place of the feed-forward network's.
func (e *Engine[T]) attentionInputGradient(b *Block[T], g *Gradients[T]) kernel.Mat[T] {
	e.mul(kernel.NN, g.dffnIn, g.attn.dq, b.W[Q], false)
	e.mul(kernel.NN, g.dffnIn, g.attn.dk, b.W[K], true)
	e.mul(kernel.NN, g.dffnIn, g.attn.dv, b.W[V], true)
	return g.dffnIn
}

// headNormBackward turns the gradient of the normalised heads into that of the
// heads before, in place: a row is read wholly before it is written.
func (e *Engine[T]) headNormBackward(d, raw kernel.Mat[T], weight, rstd []T) {
	rows := headRows(d, e.HeadDim)
	rmsNormBackward(e.pool, rows, rows, headRows(raw, e.HeadDim), weight, rstd, false)
}
