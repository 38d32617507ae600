package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// lengths around every multiple at which a loop changes its ways.
func lengths() []int {
	var n []int
	for i := range 70 {
		n = append(n, i)
	}
	return append(n, 127, 128, 129, 191, 192, 193, 576, 1000, 1537)
}

// vector is guarded memory for n values.
func vector[T Float](n int) guarded[T] { return newGuarded[T](1, n, 0) }

func (g guarded[T]) values() []T { return g.Data }

// spread fills a vector with values of many magnitudes and both signs.
func (g guarded[T]) spread(r *rand.Rand, low, high float64) guarded[T] {
	for i := range g.Data {
		g.Data[i] = T(low + (high-low)*r.Float64())
	}
	return g
}

// elementwise is a vector function with its meaning in float64: outputs from inputs.
type elementwise struct {
	name      string
	in, out   int
	low, high float64 // range of the inputs
	float32s  func(out, in [][]float32)
	float64s  func(out, in [][]float64)
	want      func(in []float64) []float64
	// bound of the error as a multiple of the unit round-off, given the inputs
	// and the wanted result
	bound func(in []float64, want float64) float64
}

func twins(name string, in, out int, low, high float64, f32 func(out, in [][]float32), f64 func(out, in [][]float64),
	want func(in []float64) []float64, bound func(in []float64, want float64) float64) elementwise {
	return elementwise{name, in, out, low, high, f32, f64, want, bound}
}

func sigma(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

var elementwises = []elementwise{
	twins("Add", 2, 1, -4, 4,
		func(o, x [][]float32) { Add(o[0], x[0], x[1]) }, func(o, x [][]float64) { Add(o[0], x[0], x[1]) },
		func(x []float64) []float64 { return []float64{x[0] + x[1]} },
		func(x []float64, want float64) float64 { return math.Abs(want) }),
	twins("Mul", 2, 1, -4, 4,
		func(o, x [][]float32) { Mul(o[0], x[0], x[1]) }, func(o, x [][]float64) { Mul(o[0], x[0], x[1]) },
		func(x []float64) []float64 { return []float64{x[0] * x[1]} },
		func(x []float64, want float64) float64 { return math.Abs(want) }),
	twins("Axpy", 2, 1, -4, 4,
		func(o, x [][]float32) { copy(o[0], x[0]); Axpy(-1.5, x[1], o[0]) }, func(o, x [][]float64) { copy(o[0], x[0]); Axpy(-1.5, x[1], o[0]) },
		func(x []float64) []float64 { return []float64{x[0] - 1.5*x[1]} },
		func(x []float64, want float64) float64 { return math.Abs(want) + 1.5*math.Abs(x[1]) }),
	twins("Scale", 1, 1, -4, 4,
		func(o, x [][]float32) { copy(o[0], x[0]); Scale(0.7, o[0]) }, func(o, x [][]float64) { copy(o[0], x[0]); Scale(0.7, o[0]) },
		func(x []float64) []float64 { return []float64{x[0] * 0.7} },
		func(x []float64, want float64) float64 { return 2 * math.Abs(want) }), // 0.7 rounds too
	// Two units in the last place are at most four units of round-off.
	twins("Exp", 1, 1, -90, 90,
		func(o, x [][]float32) { Exp(o[0], x[0]) }, func(o, x [][]float64) { Exp(o[0], x[0]) },
		func(x []float64) []float64 { return []float64{math.Exp(x[0])} },
		func(x []float64, want float64) float64 { return 4 * want }),
	// σ is good to about 4 units; the products add one each.
	twins("SiLUMul", 2, 1, -20, 20,
		func(o, x [][]float32) { SiLUMul(o[0], x[0], x[1]) }, func(o, x [][]float64) { SiLUMul(o[0], x[0], x[1]) },
		func(x []float64) []float64 { return []float64{x[0] * sigma(x[0]) * x[1]} },
		func(x []float64, want float64) float64 { return 8 * math.Abs(want) }),
	// The sum σ + g·σ·(1-σ) cancels for negative g: bounded by its terms.
	twins("SiLUMulGrad", 3, 2, -20, 20,
		func(o, x [][]float32) { SiLUMulGrad(o[0], o[1], x[0], x[1], x[2]) },
		func(o, x [][]float64) { SiLUMulGrad(o[0], o[1], x[0], x[1], x[2]) },
		func(x []float64) []float64 {
			s := sigma(x[0])
			return []float64{x[2] * x[1] * s * (1 + x[0]*(1-s)), x[2] * x[0] * s}
		},
		func(x []float64, want float64) float64 {
			s := sigma(x[0])
			return 12*math.Abs(x[2])*s*(math.Abs(x[1])*(1+math.Abs(x[0]))) + 8*math.Abs(want)
		}),
}

func TestElementwise(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, e := range elementwises {
			for _, n := range lengths() {
				testElementwise(t, e, e.float32s, n)
				testElementwise(t, e, e.float64s, n)
			}
		}
	})
}

// testElementwise runs e on vectors of its own, and with outputs in the place of inputs.
func testElementwise[T Float](t *testing.T, e elementwise, f func(out, in [][]T), n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(n), 7))
	in, inputs := make([][]T, e.in), make([]guarded[T], e.in)
	for i := range in {
		inputs[i] = vector[T](n).spread(r, e.low, e.high)
		in[i] = inputs[i].values()
	}
	saved := make([][]T, e.in)
	for i := range in {
		saved[i] = append([]T(nil), in[i]...)
	}
	out, outputs := make([][]T, e.out), make([]guarded[T], e.out)
	for i := range out {
		outputs[i] = vector[T](n)
		out[i] = outputs[i].values()
	}
	f(out, in)
	name := fmt.Sprintf("%s %T n=%d", e.name, T(0), n)
	for i := range outputs {
		outputs[i].check(t, name)
		inputs[i].check(t, name)
	}
	x := make([]float64, e.in)
	for k := range n {
		for i := range x {
			x[i] = float64(saved[i][k])
		}
		for i, want := range e.want(x) {
			got := float64(out[i][k])
			tol := epsilon[T]()*e.bound(x, want) + tiny[T]()
			if !(math.Abs(got-want) <= tol) && !(math.Abs(want) > largest[T]() && math.IsInf(got, 1)) {
				t.Fatalf("%s: result %d of %v: got %g, want %g, error %g > %g", name, i, x, got, want, math.Abs(got-want), tol)
			}
		}
	}
	// In place: outputs over the inputs must not change the results.
	f(in[:e.out], in)
	for i := range out {
		for k := range n {
			if in[i][k] != out[i][k] {
				t.Fatalf("%s: in place, result %d at %d is %g, not %g", name, i, k, in[i][k], out[i][k])
			}
		}
	}
}

// tiny is the spacing of the smallest numbers: what underflow may cost.
func tiny[T Float]() float64 {
	if epsilon[T]() == 0x1p-24 {
		return math.SmallestNonzeroFloat32 * 8
	}
	return math.SmallestNonzeroFloat64 * 8
}

func largest[T Float]() float64 {
	if epsilon[T]() == 0x1p-24 {
		return math.MaxFloat32
	}
	return math.MaxFloat64
}

// Sums of n terms err by at most n·u/(1-n·u) times the sum of the magnitudes;
// a term that errs by e units counts like e more terms.
func TestReductions(t *testing.T) {
	eachImplementation(t, func(t *testing.T) {
		for _, n := range lengths() {
			testReductions[float32](t, n)
			testReductions[float64](t, n)
		}
	})
}

func testReductions[T Float](t *testing.T, n int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(n), 3))
	a, b := vector[T](n).spread(r, -3, 3), vector[T](n).spread(r, -3, 3)
	check := func(what string, got T, want, size, terms float64) {
		t.Helper()
		u := terms * epsilon[T]()
		if !(math.Abs(float64(got)-want) <= u/(1-u)*size) {
			t.Fatalf("%s %T n=%d: got %g, want %g", what, got, n, float64(got), want)
		}
	}
	var dot, dotSize, squares, exps float64
	top := math.Inf(-1)
	for i := range n {
		x, y := float64(a.Data[i]), float64(b.Data[i])
		dot += x * y
		dotSize += math.Abs(x * y)
		squares += x * x
		top = max(top, x)
		exps += math.Exp(x - 1)
	}
	check("Dot", Dot(a.Data, b.Data), dot, dotSize, float64(n+1))
	check("SumSquares", SumSquares(a.Data), squares, squares, float64(n+1))
	if got := Max(a.Data); float64(got) != top {
		t.Fatalf("Max n=%d: got %g, want %g", n, float64(got), top)
	}
	dst := vector[T](n)
	check("ExpSum", ExpSum(dst.Data, a.Data, 1), exps, exps, float64(n+8))
	dst.check(t, "ExpSum")
	if n == 0 {
		Softmax(dst.Data, a.Data)
		return
	}
	Softmax(dst.Data, a.Data)
	dst.check(t, "Softmax")
	for i := range n {
		check("Softmax", dst.Data[i], math.Exp(float64(a.Data[i])-1)/exps, math.Exp(float64(a.Data[i])-1)/exps, float64(n+32))
	}
	grad := vector[T](n)
	SoftmaxGrad(grad.Data, dst.Data, b.Data)
	grad.check(t, "SoftmaxGrad")
	var inner float64
	for i := range n {
		inner += float64(dst.Data[i]) * float64(b.Data[i])
	}
	for i := range n {
		y, dy := float64(dst.Data[i]), float64(b.Data[i])
		check("SoftmaxGrad", grad.Data[i], y*(dy-inner), y*6, float64(n+4))
	}
}
