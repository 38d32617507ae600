package decoder

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"besa/internal/kernel"
)

// TestLanesAreForward: a token at a time gives what a pass over the whole text
// gives, whatever the other lanes do.
func TestLanesAreForward(t *testing.T) {
	const tokens, lanes = 9, 3
	for name, change := range map[string]func(*Config, *Block[float32], *rand.Rand){
		"plain":          func(*Config, *Block[float32], *rand.Rand) {},
		"halves":         func(c *Config, _ *Block[float32], _ *rand.Rand) { c.RopeLayout, c.RopeDim = RopeHalves, 4 },
		"sliding window": func(c *Config, _ *Block[float32], _ *rand.Rand) { c.SlidingWindow = 3 },
		"bias and head norms": func(c *Config, b *Block[float32], rng *rand.Rand) {
			for l := range b.Bias {
				rows, _ := c.Shape(Linear(l))
				b.Bias[l] = randomMat[float32](rng, 1, rows, 0.5).Data
			}
			b.QNorm = randomMat[float32](rng, 1, c.HeadDim, 1).Data
			b.KNorm = randomMat[float32](rng, 1, c.HeadDim, 1).Data
		},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			c := small()
			blocks := []*Block[float32]{randomBlock[float32](rng, c), randomBlock[float32](rng, c)}
			change(&c, blocks[0], rng)
			pool := kernel.NewPool(2)
			defer pool.Close()
			e, err := NewEngine[float32](c, tokens, pool)
			if err != nil {
				t.Fatal(err)
			}
			text := randomMat[float32](rng, tokens, c.Hidden, 1)
			want, acts := text, e.NewActivations()
			for _, b := range blocks {
				if err := e.Forward(b, want, acts); err != nil {
					t.Fatal(err)
				}
				want = kernel.NewMat[float32](tokens, c.Hidden)
				kernel.Copy(nil, want, acts.Out)
			}

			l, err := NewLanes(c, len(blocks), lanes, tokens, pool)
			if err != nil {
				t.Fatal(err)
			}
			var packed []*PackedBlock
			for _, b := range blocks {
				packed = append(packed, PackBlock(pool, kernel.FP32, b))
			}
			// Lane 1 begins the text again after four tokens, lane 2 holds noise.
			at := [lanes]int{}
			for step := range tokens {
				if step == 4 {
					l.Restart(1)
					at[1] = 0
				}
				x := randomMat[float32](rng, lanes, c.Hidden, 1)
				copy(x.Row(0), text.Row(at[0]))
				copy(x.Row(1), text.Row(at[1]))
				for layer, b := range packed {
					if err := l.Forward(layer, b, x); err != nil {
						t.Fatal(err)
					}
				}
				for lane := range 2 {
					for j, v := range x.Row(lane) {
						if w := want.Row(at[lane])[j]; math.Abs(float64(v-w)) > 1e-4*math.Max(1, math.Abs(float64(w))) {
							t.Fatalf("lane %d, token %d, channel %d: %g, want %g", lane, at[lane], j, v, w)
						}
					}
				}
				for lane := range lanes {
					at[lane]++
					if room := l.Advance(lane); room != (at[lane] < tokens) {
						t.Fatalf("lane %d: room for token %d is %v", lane, at[lane], room)
					}
				}
				if step == 0 && !slices.Equal(x.Row(0), x.Row(1)) {
					t.Error("the same text in two lanes differs")
				}
			}
		})
	}
	if _, err := NewLanes(small(), 1, 0, 5, nil); err == nil {
		t.Error("no lanes at all are accepted")
	}
}
