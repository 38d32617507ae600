package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestNorm(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, n := range lengths() {
			if n > 0 {
				testNorm[float32](t, n)
				testNorm[float64](t, n)
			}
		}
		RMSNormGrad[float32](nil, nil, nil, nil, 1, true)
	})
}

// testNorm bounds the errors by (n+8) units of the terms: the sums have n of
// them, of which the worst case is never far off when all are positive.
func testNorm[T Float](t *testing.T, n int) {
	t.Helper()
	const eps = 1e-5
	r := rand.New(rand.NewPCG(uint64(n), 9))
	x, w, dy := vector[T](n).spread(r, -3, 3), vector[T](n).spread(r, 0.5, 1.5), vector[T](n).spread(r, -1, 1)
	y, dx := vector[T](n), vector[T](n)
	unit := float64(n+8) * epsilon[T]()
	check := func(what string, i int, got T, want, size float64) {
		t.Helper()
		if !(math.Abs(float64(got)-want) <= unit*size) {
			t.Fatalf("%s %T n=%d: %g at %d, want %g", what, got, n, float64(got), i, want)
		}
	}
	var squares, dot, dotSize float64
	for i := range n {
		v := float64(x.Data[i])
		squares += v * v
		dot += float64(w.Data[i]) * float64(dy.Data[i]) * v
		dotSize += math.Abs(float64(w.Data[i]) * float64(dy.Data[i]) * v)
	}
	rstd := 1 / math.Sqrt(squares/float64(n)+eps)
	got := RMSNorm(y.Data, x.Data, w.Data, eps)
	check("RMSNorm's factor", 0, got, rstd, rstd)
	y.check(t, "RMSNorm")
	RMSNormGrad(dx.Data, dy.Data, x.Data, w.Data, got, false)
	dx.check(t, "RMSNormGrad")
	once := append([]T(nil), dx.Data...)
	RMSNormGrad(dx.Data, dy.Data, x.Data, w.Data, got, true)
	dx.check(t, "RMSNormGrad, accumulating")
	for i := range n {
		xi, wi, di := float64(x.Data[i]), float64(w.Data[i]), float64(dy.Data[i])
		want := xi * rstd * wi
		check("RMSNorm", i, y.Data[i], want, math.Abs(want))
		c := rstd * rstd / float64(n)
		want = rstd * (wi*di - xi*c*dot)
		size := rstd * (math.Abs(wi*di) + math.Abs(xi)*c*dotSize)
		check("RMSNormGrad", i, once[i], want, 4*size)
		check("RMSNormGrad, accumulating", i, dx.Data[i], 2*want, 8*size)
	}
	// In place, both.
	RMSNormGrad(dy.Data, dy.Data, x.Data, w.Data, got, false)
	RMSNorm(x.Data, x.Data, w.Data, eps)
	for i := range n {
		if dy.Data[i] != once[i] || x.Data[i] != y.Data[i] {
			t.Fatalf("%T n=%d: in place, results differ at %d", got, n, i)
		}
	}
}

func TestRotate(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, n := range lengths() {
			for _, sign := range []float64{1, -1} {
				testRotate[float32](t, n, sign)
				testRotate[float64](t, n, sign)
			}
		}
	})
}

// testRotate: each result is two products and a sum of values up to 1: 4 units are ample.
func testRotate[T Float](t *testing.T, n int, sign float64) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(n), 11))
	cos, sin := vector[T](n), vector[T](n)
	for i := range n {
		s, c := math.Sincos(r.Float64() * 7)
		cos.Data[i], sin.Data[i] = T(c), T(s)
	}
	pairs := vector[T](2*n).spread(r, -1, 1)
	a, b := vector[T](n), vector[T](n)
	for i := range n {
		a.Data[i], b.Data[i] = pairs.Data[2*i], pairs.Data[2*i+1]
	}
	before := append([]T(nil), pairs.Data...)
	Rotate(a.Data, b.Data, cos.Data, sin.Data, T(sign))
	RotatePairs(pairs.Data, cos.Data, sin.Data, T(sign))
	name := fmt.Sprintf("%T n=%d sign=%g", T(0), n, sign)
	for _, v := range []guarded[T]{a, b, pairs, cos, sin} {
		v.check(t, name)
	}
	for i := range n {
		x, y, c, s := float64(before[2*i]), float64(before[2*i+1]), float64(cos.Data[i]), sign*float64(sin.Data[i])
		wantA, wantB := x*c-y*s, x*s+y*c
		for _, g := range []struct {
			got  T
			want float64
		}{{a.Data[i], wantA}, {b.Data[i], wantB}, {pairs.Data[2*i], wantA}, {pairs.Data[2*i+1], wantB}} {
			if !(math.Abs(float64(g.got)-g.want) <= 4*epsilon[T]()) {
				t.Fatalf("%s: %g at %d, want %g", name, float64(g.got), i, g.want)
			}
		}
	}
}
