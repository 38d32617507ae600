package decoder

import (
	"math"

	"besa/internal/kernel"
)

// ropeTable holds cos and sin of every position and frequency.
type ropeTable[T kernel.Float] struct {
	half     int // frequencies per position
	cos, sin []T // positions × half
}

func newRopeTable[T kernel.Float](c Config, positions int) ropeTable[T] {
	t := ropeTable[T]{half: c.RopeDim / 2}
	t.cos = make([]T, positions*t.half)
	t.sin = make([]T, positions*t.half)
	for i := range t.half {
		freq := math.Pow(c.RopeBase, -2*float64(i)/float64(c.RopeDim)) / c.RopeScale
		if c.RopeFactors != nil {
			freq /= float64(c.RopeFactors[i])
		}
		for p := range positions {
			sin, cos := math.Sincos(float64(p) * freq)
			t.cos[p*t.half+i] = T(cos)
			t.sin[p*t.half+i] = T(sin)
		}
	}
	return t
}

// rotate turns every head of m (tokens × heads·headDim) in place; direction is
// 1 for the forward pass and −1 for its transpose, which the backward pass needs.
func (t *ropeTable[T]) rotate(p *kernel.Pool, m kernel.Mat[T], c Config, direction T) {
	p.For(m.Rows, rowGrain, func(lo, hi int) {
		for pos := lo; pos < hi; pos++ {
			t.rotateRow(m.Row(pos), pos, c, direction)
		}
	})
}

// rotateRow turns every head of one token's row, which stands at position pos.
func (t *ropeTable[T]) rotateRow(row []T, pos int, c Config, direction T) {
	cos := t.cos[pos*t.half : (pos+1)*t.half]
	sin := t.sin[pos*t.half : (pos+1)*t.half]
	for h := 0; h < len(row); h += c.HeadDim {
		v := row[h:][:2*t.half]
		if c.RopeLayout == RopeInterleaved {
			kernel.RotatePairs(v, cos, sin, direction)
		} else {
			kernel.Rotate(v[:t.half], v[t.half:], cos, sin, direction)
		}
	}
}
