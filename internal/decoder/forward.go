package decoder

import (
	"fmt"

	"besa/internal/kernel"
)

// Engine runs blocks of one configuration on windows of up to Tokens tokens.
// It owns the rotary tables and scratch memory; it is safe for one caller at a
// time and uses its pool's threads inside.
type Engine[T kernel.Float] struct {
	Config
	Tokens    int
	Precision kernel.Precision // of all matrix products; everything else is in T

	pool    *kernel.Pool
	rope    ropeTable[T]
	scratch scratch[T]
}

// NewEngine prepares an engine for windows of up to tokens tokens.
func NewEngine[T kernel.Float](c Config, tokens int, pool *kernel.Pool) (*Engine[T], error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	const maxTokens = 1 << 20
	if tokens < 1 || tokens > maxTokens {
		return nil, fmt.Errorf("%w: window of %d tokens", ErrConfig, tokens)
	}
	return &Engine[T]{Config: c, Tokens: tokens, pool: pool, rope: newRopeTable[T](c, tokens)}, nil
}

// mul computes a product on all threads, in the engine's precision.
func (e *Engine[T]) mul(f kernel.Form, c, a, b kernel.Mat[T], accumulate bool) {
	kernel.MatMul(e.pool, f, e.Precision, c, a, b, accumulate)
}

// Pool returns the threads that the engine works with.
func (e *Engine[T]) Pool() *kernel.Pool { return e.pool }

// Activations holds what a forward pass leaves behind for the backward pass
// and for activation statistics. One value is reused for window after window.
type Activations[T kernel.Float] struct {
	Out kernel.Mat[T] // tokens × hidden

	x              kernel.Mat[T] // the block's input, not copied
	attnIn, ctx    kernel.Mat[T]
	q, k, v        kernel.Mat[T] // q and k after norm and rope
	rawQ, rawK     kernel.Mat[T] // before norm and rope; only with head norms
	mid            kernel.Mat[T] // after the attention's residual
	ffnIn          kernel.Mat[T]
	gate, up, act  kernel.Mat[T]
	attnRstd       []T
	ffnRstd        []T
	qRstd, kRstd   []T
	logSumExp      []T // heads × tokens
	tokens, maxLen int
}

// NewActivations allocates activations for the engine's longest window.
func (e *Engine[T]) NewActivations() *Activations[T] {
	n := e.Tokens
	return &Activations[T]{
		Out:    kernel.NewMat[T](n, e.Hidden),
		attnIn: kernel.NewMat[T](n, e.Hidden), ctx: kernel.NewMat[T](n, e.QDim()),
		q: kernel.NewMat[T](n, e.QDim()), k: kernel.NewMat[T](n, e.KVDim()), v: kernel.NewMat[T](n, e.KVDim()),
		mid: kernel.NewMat[T](n, e.Hidden), ffnIn: kernel.NewMat[T](n, e.Hidden),
		gate: kernel.NewMat[T](n, e.FFN), up: kernel.NewMat[T](n, e.FFN), act: kernel.NewMat[T](n, e.FFN),
		attnRstd: make([]T, n), ffnRstd: make([]T, n),
		logSumExp: make([]T, n*e.Heads), maxLen: n,
	}
}

// resize makes every matrix n rows high.
func (a *Activations[T]) resize(n int) {
	a.tokens = n
	for _, m := range []*kernel.Mat[T]{&a.Out, &a.attnIn, &a.ctx, &a.q, &a.k, &a.v, &a.mid, &a.ffnIn, &a.gate, &a.up, &a.act} {
		m.Rows = n
		m.Data = m.Data[:n*m.Cols]
	}
}

// Input returns the matrix (tokens × columns) that linear layer l was applied to.
func (a *Activations[T]) Input(l Linear) kernel.Mat[T] {
	switch l {
	case Q, K, V:
		return a.attnIn
	case O:
		return a.ctx
	case Gate, Up:
		return a.ffnIn
	default:
		return a.act
	}
}

// Mid returns what leaves the block's attention half and enters its
// feed-forward half (tokens × hidden).
func (a *Activations[T]) Mid() kernel.Mat[T] { return a.mid }

// Forward computes block b on x (tokens × hidden) and leaves the output in
// a.Out. x must stay unchanged until the backward pass is done.
func (e *Engine[T]) Forward(b *Block[T], x kernel.Mat[T], a *Activations[T]) error {
	if err := e.ForwardAttention(b, x, a); err != nil {
		return err
	}
	e.ForwardFFN(b, a)
	return nil
}

// ForwardAttention computes the first half of block b on x, attention and
// residual, and leaves it in a.Mid().
func (e *Engine[T]) ForwardAttention(b *Block[T], x kernel.Mat[T], a *Activations[T]) error {
	if x.Cols != e.Hidden || x.Rows < 1 || x.Rows > a.maxLen || x.Rows > e.Tokens {
		return fmt.Errorf("forward on %d×%d hidden states: this engine takes 1…%d × %d", x.Rows, x.Cols, min(a.maxLen, e.Tokens), e.Hidden)
	}
	a.resize(x.Rows)
	a.x = x
	p := e.pool

	rmsNorm(p, a.attnIn, x, b.AttnNorm, a.attnRstd, e.Eps)
	e.mul(kernel.NT, a.q, a.attnIn, b.W[Q], false)
	e.mul(kernel.NT, a.k, a.attnIn, b.W[K], false)
	e.mul(kernel.NT, a.v, a.attnIn, b.W[V], false)
	for l, m := range []kernel.Mat[T]{a.q, a.k, a.v} {
		if b.Bias[l] != nil {
			addBias(p, m, b.Bias[l])
		}
	}
	if b.QNorm != nil {
		a.rawQ, a.qRstd = e.normHeads(a.q, a.rawQ, b.QNorm, a.qRstd)
	}
	if b.KNorm != nil {
		a.rawK, a.kRstd = e.normHeads(a.k, a.rawK, b.KNorm, a.kRstd)
	}
	e.rope.rotate(p, a.q, e.Config, 1)
	e.rope.rotate(p, a.k, e.Config, 1)
	e.attention(a)

	kernel.Copy(p, a.mid, x)
	e.mul(kernel.NT, a.mid, a.ctx, b.W[O], true)
	return nil
}

// ForwardFFN computes the second half of block b, the feed-forward network and
// its residual, on a.Mid(), and leaves it in a.Out.
func (e *Engine[T]) ForwardFFN(b *Block[T], a *Activations[T]) {
	p := e.pool
	rmsNorm(p, a.ffnIn, a.mid, b.FFNNorm, a.ffnRstd, e.Eps)
	e.mul(kernel.NT, a.gate, a.ffnIn, b.W[Gate], false)
	e.mul(kernel.NT, a.up, a.ffnIn, b.W[Up], false)
	p.For(a.tokens, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernel.SiLUMul(a.act.Row(i), a.gate.Row(i), a.up.Row(i))
		}
	})
	kernel.Copy(p, a.Out, a.mid)
	e.mul(kernel.NT, a.Out, a.act, b.W[Down], true)
}

// normHeads normalises every head of m in place and keeps m's former content.
func (e *Engine[T]) normHeads(m, raw kernel.Mat[T], weight, rstd []T) (kernel.Mat[T], []T) {
	if cap(raw.Data) < m.Rows*m.Cols {
		raw = kernel.NewMat[T](e.Tokens, m.Cols)
		rstd = make([]T, e.Tokens*m.Cols/e.HeadDim)
	}
	raw.Rows, raw.Data = m.Rows, raw.Data[:m.Rows*m.Cols]
	copy(raw.Data, m.Data)
	rmsNorm(e.pool, headRows(m, e.HeadDim), headRows(raw, e.HeadDim), weight, rstd, e.Eps)
	return raw, rstd
}
