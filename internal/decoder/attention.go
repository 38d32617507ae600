package decoder

import (
	"math"
	"sync"

	"besa/internal/kernel"
)

// queryBlock is the number of queries whose scores exist at a time: one block
// of queryBlock × tokens per worker, never tokens × tokens.
const queryBlock = 64

// scratch is a free list of score blocks, so that workers do not allocate.
type scratch[T kernel.Float] struct {
	mu   sync.Mutex
	free [][]T
}

func (s *scratch[T]) get(n int) []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.free) - 1; i >= 0; i-- {
		if cap(s.free[i]) >= n {
			b := s.free[i][:n]
			s.free = append(s.free[:i], s.free[i+1:]...)
			return b
		}
	}
	return make([]T, n)
}

func (s *scratch[T]) put(b []T) {
	s.mu.Lock()
	s.free = append(s.free, b)
	s.mu.Unlock()
}

// head views the channels of one head.
func head[T kernel.Float](m kernel.Mat[T], h, dim int) kernel.Mat[T] {
	return m.View(0, m.Rows, h*dim, (h+1)*dim)
}

// visible is the range of key positions that queries q0 … q1−1 may see.
func (e *Engine[T]) visible(q0, q1 int) (lo, hi int) {
	if e.SlidingWindow > 0 {
		lo = max(0, q0-e.SlidingWindow+1)
	}
	return lo, q1
}

// firstKey is the first key position that query i sees.
func (e *Engine[T]) firstKey(i int) int {
	if e.SlidingWindow > 0 {
		return max(0, i-e.SlidingWindow+1)
	}
	return 0
}

// attention computes a.ctx = softmax(q·kᵀ/√d, causal)·v for every head, and
// keeps each row's log-sum-exp for the backward pass.
func (e *Engine[T]) attention(a *Activations[T]) {
	n, d := a.tokens, e.HeadDim
	blocks := (n + queryBlock - 1) / queryBlock
	group := e.Heads / e.KVHeads
	scale := T(1 / math.Sqrt(float64(d)))
	e.pool.For(e.Heads*blocks, 1, func(lo, hi int) {
		buf := e.scratch.get(queryBlock * n)
		defer e.scratch.put(buf)
		for unit := lo; unit < hi; unit++ {
			h, q0 := unit/blocks, unit%blocks*queryBlock
			q1 := min(q0+queryBlock, n)
			k0, k1 := e.visible(q0, q1)
			s := kernel.MatOf(q1-q0, k1-k0, buf[:(q1-q0)*(k1-k0)])
			kernel.MatMul(nil, kernel.NT, e.Precision, s, head(a.q, h, d).View(q0, q1, 0, d), head(a.k, h/group, d).View(k0, k1, 0, d), false)
			for i := q0; i < q1; i++ {
				row := s.Row(i - q0)
				first, last := e.firstKey(i)-k0, i-k0+1
				clear(row[:first])
				clear(row[last:])
				a.logSumExp[h*n+i] = softmax(row[first:last], scale)
			}
			kernel.MatMul(nil, kernel.NN, e.Precision, head(a.ctx, h, d).View(q0, q1, 0, d), s, head(a.v, h/group, d).View(k0, k1, 0, d), false)
		}
	})
}

// softmax replaces one row of scores by probabilities and returns the
// log-sum-exp of the scaled scores.
func softmax[T kernel.Float](row []T, scale T) T {
	kernel.Scale(scale, row)
	top := kernel.Max(row)
	sum := kernel.ExpSum(row, row, top)
	kernel.Scale(1/sum, row)
	return top + T(math.Log(float64(sum)))
}

// attentionGrad holds the gradients of attention's inputs. Keys and values are
// shared by the heads of a group; each head first has its own sum, so that the
// order of additions is fixed.
type attentionGrad[T kernel.Float] struct {
	dq, dk, dv kernel.Mat[T] // tokens × channels
	hk, hv     kernel.Mat[T] // tokens × query channels: dk and dv by query head
}

// attentionBackward computes the gradients from dctx (tokens × query channels).
// Probabilities are recomputed from the kept log-sum-exp.
func (e *Engine[T]) attentionBackward(a *Activations[T], dctx kernel.Mat[T], g *attentionGrad[T]) {
	n, d := a.tokens, e.HeadDim
	group := e.Heads / e.KVHeads
	scale := T(1 / math.Sqrt(float64(d)))
	e.pool.For(e.Heads, 1, func(lo, hi int) {
		buf := e.scratch.get(2 * queryBlock * n)
		defer e.scratch.put(buf)
		for h := lo; h < hi; h++ {
			q, k, v := head(a.q, h, d), head(a.k, h/group, d), head(a.v, h/group, d)
			hk, hv := head(g.hk, h, d), head(g.hv, h, d)
			for i := range n {
				clear(hk.Row(i))
				clear(hv.Row(i))
			}
			for q0 := 0; q0 < n; q0 += queryBlock {
				q1 := min(q0+queryBlock, n)
				k0, k1 := e.visible(q0, q1)
				size := (q1 - q0) * (k1 - k0)
				p := kernel.MatOf(q1-q0, k1-k0, buf[:size])
				dp := kernel.MatOf(q1-q0, k1-k0, buf[size:2*size])
				qb, kb, vb := q.View(q0, q1, 0, d), k.View(k0, k1, 0, d), v.View(k0, k1, 0, d)
				dcb := head(dctx, h, d).View(q0, q1, 0, d)

				kernel.MatMul(nil, kernel.NT, e.Precision, p, qb, kb, false)
				kernel.MatMul(nil, kernel.NT, e.Precision, dp, dcb, vb, false)
				for i := q0; i < q1; i++ {
					pi, di := p.Row(i-q0), dp.Row(i-q0)
					first, last := e.firstKey(i)-k0, i-k0+1
					clear(pi[:first])
					clear(pi[last:])
					clear(di[:first])
					clear(di[last:])
					pi, di = pi[first:last], di[first:last]
					kernel.Scale(scale, pi)
					kernel.ExpSum(pi, pi, a.logSumExp[h*n+i])
					kernel.SoftmaxGrad(di, pi, di)
					kernel.Scale(scale, di)
				}
				kernel.MatMul(nil, kernel.TN, e.Precision, hv.View(k0, k1, 0, d), p, dcb, true)
				kernel.MatMul(nil, kernel.NN, e.Precision, head(g.dq, h, d).View(q0, q1, 0, d), dp, kb, false)
				kernel.MatMul(nil, kernel.TN, e.Precision, hk.View(k0, k1, 0, d), dp, qb, true)
			}
		}
	})
	e.sumGroups(g.dk, g.hk)
	e.sumGroups(g.dv, g.hv)
}

// sumGroups adds the query heads of every group: dst is tokens × key/value
// channels, src tokens × query channels.
func (e *Engine[T]) sumGroups(dst, src kernel.Mat[T]) {
	d, group := e.HeadDim, e.Heads/e.KVHeads
	e.pool.For(src.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			in := src.Row(i)
			for kv := range e.KVHeads {
				out := dst.Row(i)[kv*d : (kv+1)*d]
				copy(out, in[kv*group*d:])
				for h := 1; h < group; h++ {
					kernel.Axpy(1, in[(kv*group+h)*d:(kv*group+h+1)*d], out)
				}
			}
		}
	})
}
