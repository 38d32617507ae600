package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestRoundBF16(t *testing.T) {
	for bits, want := range map[uint32]uint32{
		0x3f800000: 0x3f80,                     // 1
		0x3f808000: 0x3f80,                     // a tie: to even, down
		0x3f818000: 0x3f82,                     // a tie: to even, up
		0x3f808001: 0x3f81,                     // above the tie
		0xbf807fff: 0xbf80,                     // below it
		0x3fffffff: 0x4000,                     // carries into the exponent
		0x7f7fffff: 0x7f80,                     // beyond the largest: infinity
		0x7f800000: 0x7f80, 0xff800000: 0xff80, // infinities
		0x7f800001: 0x7fc0, 0xffc12345: 0xffc1, // NaNs, quiet
		0x00000000: 0, 0x80000000: 0x8000, // zeros keep their sign
		0x007fffff: 0, 0x80400000: 0x8000, // subnormals count as zero
		0x00800000: 0x0080, 0x00ffffff: 0x0100, // the smallest normal ones
	} {
		if got := roundBF16(math.Float32frombits(bits)); got != want {
			t.Errorf("%08x rounds to %04x, want %04x", bits, got, want)
		}
	}
}

// anyFloat returns a float32 of any kind: plain ones, and raw bits, among them
// NaNs, infinities, subnormals and ties.
func anyFloat(r *rand.Rand) float32 {
	switch r.IntN(4) {
	case 0:
		return float32(r.NormFloat64())
	case 1:
		return math.Float32frombits(r.Uint32()&0xffff0000 | 0x8000)
	case 2:
		return math.Float32frombits(r.Uint32() & 0x80ffffff)
	}
	return math.Float32frombits(r.Uint32() | 0x7f000000)
}

// TestPackBF16 compares the packing routines with their definition, bit for bit.
func TestPackBF16(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		kernel := &current.Load().bf16
		r := rand.New(rand.NewPCG(9, 8))
		for _, k := range []int{1, 2, 3, 7, 16, 31, 32, 33, 64, 67} {
			for w := 1; w <= 2*kernel.nr+1; w++ {
				words := ceilDiv(k, 2)
				for _, panel := range []int{kernel.mr, kernel.nr} {
					apart := panel * (words + 1)
					testPackBF16(t, fmt.Sprintf("pack of %d×%d to panels of %d", k, w, panel), r, k, w, ceilDiv(w, panel)*apart-panel,
						func(p, j int) int { return j/panel*apart + p*panel + j%panel },
						func(dst []float32, src Mat[float32]) { kernel.pack(dst, panel, apart, src.Data, src.Stride, k, w) })
				}
				lead := words + 3
				testPackBF16(t, fmt.Sprintf("packRows of %d×%d", w, k), r, k, w, (w-1)*lead+words,
					func(p, i int) int { return i*lead + p },
					func(dst []float32, src Mat[float32]) {
						rows := transpose(src)
						kernel.packRows(dst, lead, rows.Data, rows.Stride, w, k)
					})
				if w <= kernel.nr {
					testPackBF16(t, fmt.Sprintf("packT of %d×%d", w, k), r, k, w, words*kernel.nr,
						func(p, j int) int { return p*kernel.nr + j },
						func(dst []float32, src Mat[float32]) {
							rows := transpose(src)
							kernel.packT(dst, rows.Data, rows.Stride, k, w)
						})
				}
			}
		}
	})
}

// transpose returns a guarded copy with rows and columns exchanged.
func transpose(m Mat[float32]) guarded[float32] {
	c := newGuarded[float32](m.Cols, m.Rows, 2)
	for i := range m.Rows {
		for j, v := range m.Row(i) {
			c.Row(j)[i] = v
		}
	}
	return c
}

// testPackBF16 packs k×w values to size words, of which at gives the place of
// row p and column j.
func testPackBF16(t *testing.T, name string, r *rand.Rand, k, w, size int, at func(p, j int) int, pack func(dst []float32, src Mat[float32])) {
	t.Helper()
	src := newGuarded[float32](k, w, 3)
	for i := range k {
		for j := range w {
			src.Row(i)[j] = anyFloat(r)
		}
	}
	dst := newGuarded[float32](1, size, 0)
	pack(dst.Data, src.Mat)
	dst.check(t, name)
	for p := range ceilDiv(k, 2) {
		for j := range w {
			var second float32
			if 2*p+1 < k {
				second = src.Row(2*p + 1)[j]
			}
			want := roundBF16(src.Row(2 * p)[j]) | roundBF16(second)<<16
			if got := math.Float32bits(dst.Data[at(p, j)]); got != want {
				t.Fatalf("%s: word %d of %d is %08x, want %08x", name, p, j, got, want)
			}
		}
	}
}

// TestTileBF16 runs every size of tile and compares with the portable version.
// The two sum a word's products in an order of their own: the bound is testProduct's.
func TestTileBF16(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		kernel := &current.Load().bf16
		r := rand.New(rand.NewPCG(5, 6))
		word := func() float32 { return pairBF16(float32(r.NormFloat64()), float32(r.NormFloat64())) }
		for rows := 1; rows <= kernel.mr; rows++ {
			for cols := 1; cols <= kernel.nr; cols++ {
				for _, k := range []int{1, 2, rows, 37} {
					a, b, c := newGuarded[float32](rows, k, 3), newGuarded[float32](k, kernel.nr, 0), newGuarded[float32](rows, cols, 5).randomize(r)
					for _, m := range []guarded[float32]{a, b} {
						for i := range m.Rows {
							for j := range m.Cols {
								m.Row(i)[j] = word()
							}
						}
					}
					accumulate := (rows+cols)%2 == 0
					want := append([]float32(nil), c.Data...)
					tileBF16Any(rows, cols, kernel.nr, k, a.Data, a.Stride, 1, b.Data, want, c.Stride, accumulate)
					kernel.tile(rows, cols, k, a.Data, a.Stride, 1, b.Data, c.Data, c.Stride, accumulate, nil, 0)
					name := fmt.Sprintf("%d×%d tile, k=%d", rows, cols, k)
					c.check(t, name)
					for i := range rows {
						for j := range cols {
							// Products of normal deviates: 2k+1 terms, none above 25.
							tol := float64(2*k+1) * 0x1p-23 * 25 * float64(2*k+1)
							if got, w := c.Row(i)[j], want[i*c.Stride+j]; !(math.Abs(float64(got-w)) <= tol) {
								t.Fatalf("%s: C[%d,%d] = %g, want %g", name, i, j, got, w)
							}
						}
					}
				}
			}
		}
	})
}

// TestBF16Values: what is not finite stays so, and what is too small vanishes.
func TestBF16Values(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	eachImplementation(t, func(t *testing.T) {
		for _, c := range []struct{ a, b, want float32 }{
			{1 + 0x1p-9, 1, 1}, {1 + 0x1p-7, 1, 1 + 0x1p-7}, {3, inf, inf}, {inf, -1, -inf},
			{0, inf, nan}, {1, nan, nan}, {0x1p-130, 0x1p127, 0}, {math.MaxFloat32, 1, inf},
		} {
			out := NewMat[float32](1, 1)
			MatMul(nil, NT, BF16, out, MatOf(1, 1, []float32{c.a}), MatOf(1, 1, []float32{c.b}), false)
			if got := out.Data[0]; got != c.want && !(got != got && c.want != c.want) {
				t.Errorf("%g·%g is %g, want %g", c.a, c.b, got, c.want)
			}
		}
	})
}
