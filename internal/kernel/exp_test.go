package kernel

import (
	"math"
	"testing"
)

// TestExpAccuracy walks all float32 in steps of a few units and compares with
// float64 in units in the last place.
func TestExpAccuracy(t *testing.T) {
	const limit = 1 // as documented
	step := uint32(997)
	if testing.Short() {
		step *= 16
	}
	eachImplementation(t, func(t *testing.T) {
		x, y := make([]float32, 4096), make([]float32, 4096)
		worst, worstAt := 0.0, float32(0)
		run := func(n int) {
			Exp(y[:n], x[:n])
			for i, v := range x[:n] {
				if e := ulps(y[i], math.Exp(float64(v))); !(e <= worst) {
					worst, worstAt = e, v
				}
			}
		}
		n := 0
		for bits := uint32(0); bits < math.Float32bits(110); bits += step {
			for _, sign := range []uint32{0, 1 << 31} {
				x[n] = math.Float32frombits(bits | sign)
				n++
			}
			if n == len(x) {
				run(n)
				n = 0
			}
		}
		run(n)
		t.Logf("at most %.3f units in the last place, at %g", worst, worstAt)
		if !(worst <= limit) {
			t.Errorf("exp(%g) errs by %.3f units in the last place", worstAt, worst)
		}
	})
}

// ulps is the distance of got from want in units in the last place of a float32 of want's size.
func ulps(got float32, want float64) float64 {
	if math.IsInf(float64(got), 1) && want > math.MaxFloat32 {
		return 0
	}
	_, e := math.Frexp(want)
	return math.Abs(float64(got)-want) / math.Ldexp(1, max(e-24, -149))
}

func TestExpSpecial(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	cases := []struct{ x, want float64 }{
		{0, 1}, {math.Copysign(0, -1), 1}, {inf, inf}, {-inf, 0}, {nan, nan},
		{1e30, inf}, {-1e30, 0}, {88.73, inf}, {-104, 0}, {-150, 0}, {800, inf},
	}
	eachImplementation(t, func(t *testing.T) {
		for _, c := range cases {
			for _, n := range []int{1, 16, 17} { // the whole and the masked part of a loop
				x := make([]float32, n)
				for i := range x {
					x[i] = float32(c.x)
				}
				Exp(x, x)
				for i, v := range x {
					if float64(v) != c.want && !(v != v && c.want != c.want) {
						t.Errorf("exp(%g) at %d of %d = %g, want %g", c.x, i, n, v, c.want)
					}
				}
			}
		}
	})
}

func TestSpecialValues(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	eachImplementation(t, func(t *testing.T) {
		for _, n := range []int{1, 5, 16, 40} {
			x := make([]float32, n)
			for i := range x {
				x[i] = -inf
			}
			if m := Max(x); m != -inf {
				t.Errorf("Max of %d × -Inf = %g", n, m)
			}
			x[n-1] = -7
			if n > 1 {
				x[0] = nan
			}
			if m := Max(x); m != -7 {
				t.Errorf("Max passing over a NaN, n=%d: %g", n, m)
			}
			// A row masked but for one value, as attention's first row is.
			if n > 1 {
				x[0] = -inf
			}
			Softmax(x, x)
			for i, v := range x {
				want := float32(0)
				if i == n-1 {
					want = 1
				}
				if v != want {
					t.Errorf("softmax of a masked row, n=%d: %g at %d, want %g", n, v, i, want)
				}
			}
			one := func(v float32) []float32 {
				s := make([]float32, n)
				for i := range s {
					s[i] = v
				}
				return s
			}
			dst := one(3)
			SiLUMul(dst, one(nan), one(1))
			if v := dst[n-1]; v == v {
				t.Errorf("silu(NaN) = %g", v)
			}
			SiLUMul(dst, one(-200), one(1))
			if v := dst[n-1]; !(math.Abs(float64(v)) < 1e-30) {
				t.Errorf("silu(-200) = %g", v)
			}
			SiLUMul(dst, one(200), one(0.5))
			if v := dst[n-1]; v != 100 {
				t.Errorf("silu(200)/2 = %g", v)
			}
			if d := Dot(one(0), one(inf)); d == d {
				t.Errorf("0·Inf = %g", d)
			}
		}
	})
}
