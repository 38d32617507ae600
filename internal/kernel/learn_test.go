package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestLearn compares every function of loss and optimisers with float64.
func TestLearn(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, n := range lengths() {
			r := rand.New(rand.NewPCG(uint64(n), 31))
			random := func(low, high float64) guarded[float32] { return vector[float32](n).spread(r, low, high) }
			testSigmoid(t, n, random(-30, 30))
			testMulAdd(t, n, random(-1, 1), random(-1, 1), random(-1, 1))
			testWeightedError(t, n, random(-1, 1), random(-1, 1), random(0, 1))
			testMoments(t, n, random(-1, 1), random(0, 1), random(-1, 1))
			testDescend(t, n, random(-1, 1), random(-1, 1), random(0, 1))
			testDrift(t, n, random(-1, 1), random(-1, 1), random(-1, 1), random(-1, 1))
		}
	})
}

// within fails unless got is want up to units of round-off of size.
func within(t *testing.T, what string, n, i int, got float32, want, size, units float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= units*epsilon[float32]()*size+tiny[float32]()) {
		t.Fatalf("%s n=%d: %g at %d, want %g", what, n, got, i, want)
	}
}

func testSigmoid(t *testing.T, n int, x guarded[float32]) {
	t.Helper()
	value, slope := vector[float32](n), vector[float32](n)
	Sigmoid(value.Data, slope.Data, x.Data)
	for _, g := range []guarded[float32]{value, slope, x} {
		g.check(t, "Sigmoid")
	}
	for i, v := range x.Data {
		s := sigma(float64(v))
		within(t, "Sigmoid", n, i, value.Data[i], s, s, 8)
		within(t, "Sigmoid's slope", n, i, slope.Data[i], s*(1-s), s, 16) // 1-σ cancels where σ is near 1
	}
}

func testMulAdd(t *testing.T, n int, dst, a, b guarded[float32]) {
	t.Helper()
	before := append([]float32(nil), dst.Data...)
	MulAdd(dst.Data, a.Data, b.Data)
	dst.check(t, "MulAdd")
	for i, v := range before {
		p := float64(a.Data[i]) * float64(b.Data[i])
		within(t, "MulAdd", n, i, dst.Data[i], float64(v)+p, math.Abs(float64(v))+math.Abs(p), 2)
	}
}

func testWeightedError(t *testing.T, n int, out, ref, weight guarded[float32]) {
	t.Helper()
	grad := vector[float32](n)
	got := WeightedError(grad.Data, out.Data, ref.Data, weight.Data)
	grad.check(t, "WeightedError")
	var sum float64
	for i, w := range weight.Data {
		d := float64(out.Data[i] - ref.Data[i])
		sum += float64(w) * d * d
		within(t, "WeightedError's gradient", n, i, grad.Data[i], 2*float64(w)*d, 2*float64(w)*math.Abs(d), 4)
	}
	within(t, "WeightedError", n, 0, got, sum, sum, float64(n+4))
}

func testMoments(t *testing.T, n int, m, v, grad guarded[float32]) {
	t.Helper()
	const b1, c1, b2, c2 = 0.875, 0.25, 0.75, 0.5 // exact
	m0, v0 := append([]float32(nil), m.Data...), append([]float32(nil), v.Data...)
	Moments(m.Data, v.Data, grad.Data, b1, c1, b2, c2)
	m.check(t, "Moments")
	v.check(t, "Moments")
	for i, f := range grad.Data {
		g, a, b := float64(f), float64(m0[i]), float64(v0[i])
		within(t, "first moment", n, i, m.Data[i], b1*a+c1*g, math.Abs(a)+math.Abs(g), 3)
		within(t, "second moment", n, i, v.Data[i], b2*b+c2*g*g, b+g*g, 4)
	}
}

func testDescend(t *testing.T, n int, value, m, v guarded[float32]) {
	t.Helper()
	const size, inv, eps = 0.5, 2, 0.125
	before := append([]float32(nil), value.Data...)
	Descend(value.Data, m.Data, v.Data, size, inv, eps)
	value.check(t, "Descend")
	for i, x := range before {
		step := size * float64(m.Data[i]) / (inv*math.Sqrt(float64(v.Data[i])) + eps)
		within(t, "Descend", n, i, value.Data[i], float64(x)-step, math.Abs(float64(x))+math.Abs(step), 8)
	}
}

func testDrift(t *testing.T, n int, s, grad, start, value guarded[float32]) {
	t.Helper()
	const b, c = 0.75, 0.5
	before := append([]float32(nil), s.Data...)
	dot, abs := Drift(s.Data, grad.Data, start.Data, value.Data, b, c)
	s.check(t, "Drift")
	var wantDot, wantAbs, size float64
	for i, x := range before {
		g := float64(grad.Data[i])
		p := g * (float64(start.Data[i]) - float64(value.Data[i]))
		wantDot += p
		size += math.Abs(p)
		want := b*float64(x) + c*g
		wantAbs += math.Abs(want)
		within(t, "Drift", n, i, s.Data[i], want, math.Abs(float64(x))+math.Abs(g), 3)
	}
	within(t, "Drift's product", n, 0, dot, wantDot, size, float64(n+4))
	within(t, "Drift's size", n, 0, abs, wantAbs, wantAbs+float64(n), float64(n+4))
}
