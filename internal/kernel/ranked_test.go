package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// ranks returns a random permutation of 0 … n-1.
func ranks(r *rand.Rand, n int) []uint16 {
	p := make([]uint16, n)
	for i, v := range r.Perm(n) {
		p[i] = uint16(v)
	}
	return p
}

func prunes(n int) []int { return []int{0, 1, n / 3, n - 1, n} }

func TestKeepRanked(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, n := range append(lengths(), 4096) {
			r := rand.New(rand.NewPCG(uint64(n), 21))
			w, rank := vector[float32](n).spread(r, -1, 1), ranks(r, n)
			for _, prune := range prunes(n) {
				dst := vector[float32](n)
				KeepRanked(dst.Data, w.Data, rank, prune)
				dst.check(t, "KeepRanked")
				for j, v := range dst.Data {
					want := w.Data[j]
					if int(rank[j]) < prune {
						want = 0
					}
					if math.Float32bits(v) != math.Float32bits(want) {
						t.Fatalf("n=%d prune=%d: %g at %d, want %g", n, prune, v, j, want)
					}
				}
			}
			KeepRanked(w.Data, w.Data, rank, n/2)
			w.check(t, "KeepRanked in place")
		}
	})
}

func TestKeepRankedHighestRanks(t *testing.T) {
	n := 1 << 16
	rank, w := make([]uint16, n), make([]float32, n)
	for j := range rank {
		rank[j], w[j] = uint16(n-1-j), 1
	}
	eachImplementation(t, func(t *testing.T) {
		dst := make([]float32, n)
		KeepRanked(dst, w, rank, n-1)
		if dst[0] != 1 || SumSquares(dst) != 1 {
			t.Errorf("one weight kept: first %g, sum %g", dst[0], SumSquares(dst))
		}
	})
}

// TestRankSums bounds the error of a sum of n terms by n+1 units of their magnitudes.
func TestRankSums(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, n := range append(lengths(), 4096) {
			r := rand.New(rand.NewPCG(uint64(n), 22))
			w, dw, dst := vector[float32](n).spread(r, -1, 1), vector[float32](n).spread(r, -1, 1), vector[float32](n)
			rank := ranks(r, n)
			RankSums(dst.Data, w.Data, dw.Data, rank)
			dst.check(t, "RankSums")
			ordered := make([]float64, n)
			for j, k := range rank {
				ordered[k] = float64(w.Data[j]) * float64(dw.Data[j])
			}
			var sum, size float64
			for k, v := range ordered {
				sum += v
				size += math.Abs(v)
				if !(math.Abs(float64(dst.Data[k])-sum) <= float64(k+2)*epsilon[float32]()*size) {
					t.Fatalf("n=%d: sum to rank %d is %g, want %g", n, k, dst.Data[k], sum)
				}
			}
		}
	})
}

// gridCase is a row with a grid: some steps are negative or 0, some weights
// far outside, some exactly between two levels.
func gridCase(r *rand.Rand, n, group int) (g GridRow, w guarded[float32]) {
	g.Group = group
	w = vector[float32](n).spread(r, -1, 1)
	for k := range (n + group - 1) / group {
		h := float32(0.05 + 0.2*r.Float64())
		switch r.IntN(8) {
		case 0:
			h = 0
		case 1:
			h = -h
		}
		g.Step = append(g.Step, h)
		g.Zero = append(g.Zero, float32(r.IntN(16)))
		lo, hi := g.span(k, n)
		for j := lo; j < hi; j++ {
			switch r.IntN(16) {
			case 0:
				w.Data[j] = h * (float32(r.IntN(12)) - 5.5)
			case 1:
				w.Data[j] *= 1e20
			case 2:
				w.Data[j] = 0
			}
		}
	}
	return g, w
}

func TestGridRow(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, group := range []int{16, 32, 64, 128} {
			for _, n := range append(lengths(), 4096) {
				r := rand.New(rand.NewPCG(uint64(n), uint64(group)))
				g, w := gridCase(r, n, group)
				rank := ranks(r, n)
				for _, prune := range prunes(n) {
					testQuantize(t, g, w, rank, prune)
					testGridGrad(t, r, g, w, rank, prune)
				}
			}
		}
	})
}

// testQuantize: the portable twin's values, bit for bit.
func testQuantize(t *testing.T, g GridRow, w guarded[float32], rank []uint16, prune int) {
	t.Helper()
	n := len(w.Data)
	want, got := make([]float32, n), vector[float32](n)
	quantizeGeneric(g, want, w.Data, rank, prune)
	g.Quantize(got.Data, w.Data, rank, prune)
	got.check(t, "Quantize")
	for j, v := range got.Data {
		if math.Float32bits(v) != math.Float32bits(want[j]) {
			t.Fatalf("n=%d group=%d prune=%d: weight %g at %d becomes %g, want %g", n, g.Group, prune, w.Data[j], j, v, want[j])
		}
	}
}

// testGridGrad: values as by Quantize, sums within the rounding of their terms.
func testGridGrad(t *testing.T, r *rand.Rand, g GridRow, w guarded[float32], rank []uint16, prune int) {
	t.Helper()
	n, groups := len(w.Data), len(g.Step)
	dw, value := vector[float32](n).spread(r, -1, 1), vector[float32](n)
	dStep, dZero := vector[float32](groups), vector[float32](groups)
	g.Grad(value.Data, dStep.Data, dZero.Data, w.Data, dw.Data, rank, prune)
	name := fmt.Sprintf("Grad n=%d group=%d prune=%d", n, g.Group, prune)
	for _, v := range []guarded[float32]{value, dStep, dZero, w, dw} {
		v.check(t, name)
	}
	all := make([]float32, n)
	quantizeGeneric(g, all, w.Data, rank, 0)
	for k, h := range g.Step {
		lo, hi := g.span(k, n)
		var step, zero, stepSize, zeroSize float64
		for j := lo; j < hi; j++ {
			if math.Float32bits(value.Data[j]) != math.Float32bits(all[j]) {
				t.Fatalf("%s: value %g at %d, want %g", name, value.Data[j], j, all[j])
			}
			if int(rank[j]) < prune {
				continue
			}
			d := float64(dw.Data[j])
			q, u := GridCode(w.Data[j], h, g.Zero[k])
			c := float64(q - g.Zero[k])
			if q > 0 && q < GridTop {
				step += d * (c - float64(u))
				stepSize += math.Abs(d) * (math.Abs(c) + math.Abs(float64(u)))
			} else {
				step += d * c
				stepSize += math.Abs(d * c)
				zero -= d * float64(h)
				zeroSize += math.Abs(d * float64(h))
			}
		}
		if h == 0 {
			continue
		}
		unit := float64(g.Group+4) * epsilon[float32]()
		if !(math.Abs(float64(dStep.Data[k])-step) <= unit*stepSize) || !(math.Abs(float64(dZero.Data[k])-zero) <= unit*zeroSize) {
			t.Fatalf("%s: group %d gives %g and %g, want %g and %g", name, k, dStep.Data[k], dZero.Data[k], step, zero)
		}
	}
}

func TestGridError(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, n := range lengths() {
			r := rand.New(rand.NewPCG(uint64(n), 23))
			w, weight := vector[float32](n).spread(r, -1, 1), vector[float32](n).spread(r, 0, 1)
			for _, h := range []float32{0.1, -0.07, 0} {
				var want float64
				for j, v := range w.Data {
					q, _ := GridCode(v, h, 8)
					d := float64(q-8)*float64(h) - float64(v)
					want += float64(weight.Data[j]) * d * d
				}
				// d itself is a difference that may cancel: it errs by a unit of w.
				got := GridError(w.Data, weight.Data, h, 8)
				if !(math.Abs(float64(got)-want) <= float64(n+8)*epsilon[float32]()*(want+float64(n))) {
					t.Fatalf("n=%d step %g: %g, want %g", n, h, got, want)
				}
			}
		}
	})
}

func TestGridMisuse(t *testing.T) {
	g := GridRow{Group: 32, Step: make([]float32, 2), Zero: make([]float32, 2)}
	for name, f := range map[string]func(){
		"steps": func() { g.Quantize(make([]float32, 65), make([]float32, 65), make([]uint16, 65), 0) },
		"zeros": func() {
			GridRow{Group: 32, Step: g.Step}.Quantize(make([]float32, 64), make([]float32, 64), make([]uint16, 64), 0)
		},
		"group": func() {
			GridRow{Group: 8, Step: g.Step, Zero: g.Zero}.Quantize(make([]float32, 16), make([]float32, 16), make([]uint16, 16), 0)
		},
		"ranks": func() { KeepRanked(make([]float32, 3), make([]float32, 3), make([]uint16, 2), 0) },
		"sums":  func() { RankSums(make([]float32, 3), make([]float32, 3), make([]float32, 2), make([]uint16, 3)) },
		"gradients": func() {
			g.Grad(make([]float32, 64), make([]float32, 1), make([]float32, 2), make([]float32, 64), make([]float32, 64), make([]uint16, 64), 0)
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			f()
		}()
	}
}
