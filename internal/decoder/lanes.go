package decoder

import (
	"fmt"
	"math"

	"besa/internal/kernel"
)

// PackedBlock is a block whose weights are laid out for products with few rows.
type PackedBlock struct {
	W     [NumLinears]*kernel.Packed
	block Block[float32] // biases and norms
}

// PackBlock lays b out in a precision; b's weights are not kept.
func PackBlock(p *kernel.Pool, precision kernel.Precision, b *Block[float32]) *PackedBlock {
	packed := &PackedBlock{block: *b}
	for l := range NumLinears {
		packed.W[l] = kernel.Pack(p, precision, b.W[l])
		packed.block.W[l] = kernel.Mat[float32]{}
	}
	return packed
}

// Lanes runs blocks on several texts in step, a token of each at a time, and
// keeps the keys and values of the tokens before. What a lane computes does not
// depend on the other lanes, nor on the number of threads.
type Lanes struct {
	Config
	Count, Tokens int // lanes, and most tokens of a lane's text

	pool    *kernel.Pool
	rope    ropeTable[float32]
	scratch scratch[float32]
	at      []int // tokens that each lane's text holds before the present one

	keys, values [][]float32 // by layer: lanes × key/value heads × tokens × channels

	in, q, k, v, ctx kernel.Mat[float32]
	gate, up, act    kernel.Mat[float32]
}

// NewLanes prepares count lanes of up to tokens tokens for a model of layers blocks.
func NewLanes(c Config, layers, count, tokens int, pool *kernel.Pool) (*Lanes, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if count < 1 || tokens < 1 {
		return nil, fmt.Errorf("%w: %d lanes of %d tokens", ErrConfig, count, tokens)
	}
	l := &Lanes{Config: c, Count: count, Tokens: tokens, pool: pool, rope: newRopeTable[float32](c, tokens), at: make([]int, count)}
	for range layers {
		l.keys = append(l.keys, make([]float32, count*tokens*c.KVDim()))
		l.values = append(l.values, make([]float32, count*tokens*c.KVDim()))
	}
	row := func(cols int) kernel.Mat[float32] { return kernel.NewMat[float32](count, cols) }
	l.in, l.q, l.k, l.v, l.ctx = row(c.Hidden), row(c.QDim()), row(c.KVDim()), row(c.KVDim()), row(c.QDim())
	l.gate, l.up, l.act = row(c.FFN), row(c.FFN), row(c.FFN)
	return l, nil
}

// LaneBytes is the memory that one lane's keys and values take up.
func LaneBytes(c Config, layers, tokens int) int64 {
	return 2 * 4 * int64(layers) * int64(tokens) * int64(c.KVDim())
}

// Advance moves a lane on to its next token; it reports whether there is room for one.
func (l *Lanes) Advance(lane int) bool {
	l.at[lane]++
	return l.at[lane] < l.Tokens
}

// Restart lets a lane begin another text.
func (l *Lanes) Restart(lane int) { l.at[lane] = 0 }

// Forward runs block b, the layer-th of the model, on the hidden states x of
// every lane's present token (lanes × hidden), in place.
func (l *Lanes) Forward(layer int, b *PackedBlock, x kernel.Mat[float32]) error {
	if x.Rows != l.Count || x.Cols != l.Hidden {
		return fmt.Errorf("%d×%d hidden states: these lanes take %d × %d", x.Rows, x.Cols, l.Count, l.Hidden)
	}
	p := l.pool
	l.norm(l.in, x, b.block.AttnNorm)
	kernel.MulPacked(p, l.q, l.in, b.W[Q], false)
	kernel.MulPacked(p, l.k, l.in, b.W[K], false)
	kernel.MulPacked(p, l.v, l.in, b.W[V], false)
	p.For(l.Count, 1, func(lo, hi int) {
		for lane := lo; lane < hi; lane++ {
			l.attend(layer, lane, &b.block)
		}
	})
	kernel.MulPacked(p, x, l.ctx, b.W[O], true)
	l.norm(l.in, x, b.block.FFNNorm)
	kernel.MulPacked(p, l.gate, l.in, b.W[Gate], false)
	kernel.MulPacked(p, l.up, l.in, b.W[Up], false)
	p.For(l.Count, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernel.SiLUMul(l.act.Row(i), l.gate.Row(i), l.up.Row(i))
		}
	})
	kernel.MulPacked(p, x, l.act, b.W[Down], true)
	return nil
}

func (l *Lanes) norm(dst, x kernel.Mat[float32], weight []float32) {
	l.pool.For(x.Rows, rowGrain, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kernel.RMSNorm(dst.Row(i), x.Row(i), weight, l.Eps)
		}
	})
}

// normHeads normalises every head of one token's row; weight may be nil.
func (l *Lanes) normHeads(row, weight []float32) {
	for h := 0; weight != nil && h < len(row); h += l.HeadDim {
		kernel.RMSNorm(row[h:h+l.HeadDim], row[h:h+l.HeadDim], weight, l.Eps)
	}
}

// attend finishes one lane's query, key and value, keeps the latter two, and
// computes its part of ctx.
func (l *Lanes) attend(layer, lane int, b *Block[float32]) {
	q, k, v := l.q.Row(lane), l.k.Row(lane), l.v.Row(lane)
	for i, m := range [][]float32{q, k, v} {
		if b.Bias[i] != nil {
			kernel.Axpy(1, b.Bias[i], m)
		}
	}
	d, at := l.HeadDim, l.at[lane]
	l.normHeads(q, b.QNorm)
	l.normHeads(k, b.KNorm)
	l.rope.rotateRow(q, at, l.Config, 1)
	l.rope.rotateRow(k, at, l.Config, 1)

	first := 0
	if l.SlidingWindow > 0 {
		first = max(0, at-l.SlidingWindow+1)
	}
	buffer := l.scratch.get(l.Tokens) // as long at every token, so that it is used again
	defer l.scratch.put(buffer)
	scores := buffer[:at+1-first]
	group, scale := l.Heads/l.KVHeads, float32(1/math.Sqrt(float64(d)))
	for kv := range l.KVHeads {
		base := (lane*l.KVHeads + kv) * l.Tokens * d
		keys, values := l.keys[layer][base:base+l.Tokens*d], l.values[layer][base:base+l.Tokens*d]
		copy(keys[at*d:], k[kv*d:(kv+1)*d])
		copy(values[at*d:], v[kv*d:(kv+1)*d])
		for h := kv * group; h < (kv+1)*group; h++ {
			query, out := q[h*d:(h+1)*d], l.ctx.Row(lane)[h*d:(h+1)*d]
			for i := range scores {
				scores[i] = kernel.Dot(query, keys[(first+i)*d:(first+i+1)*d])
			}
			softmax(scores, scale)
			clear(out)
			for i, p := range scores {
				kernel.Axpy(p, values[(first+i)*d:(first+i+1)*d], out)
			}
		}
	}
}
