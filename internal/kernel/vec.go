package kernel

import "fmt"

// vectorKernels are the vector functions of an implementation; where none is
// given here, their meaning is that of the exported functions of the same
// name. Lengths are equal.
type vectorKernels[T Float] struct {
	dot         func(a, b []T) T
	maximum     func(x []T) T
	axpy        func(alpha T, x, y []T)
	scale       func(alpha T, x []T)
	add         func(dst, a, b []T)
	mul         func(dst, a, b []T)
	exp         func(dst, x []T)
	expSum      func(dst, x []T, shift T) T
	siluMul     func(dst, gate, up []T)
	siluMulGrad func(dGate, dUp, gate, up, dOut []T)
	softmaxGrad func(dst, y, dy []T, dot T)     // dst = y·(dy - dot)
	mulScaled   func(dst, a, b []T, alpha T)    // dst = a·alpha·b
	dot3        func(a, b, c []T) T             // Σ a·b·c
	normGrad    func(dx, dy, x, w []T, r, rc T) // dx = r·dy·w - rc·x
	normGradAdd func(dx, dy, x, w []T, r, rc T) // dx += r·dy·w - rc·x
	rotate      func(a, b, cos, sin []T, sign T)
	rotatePairs func(v, cos, sin []T, sign T)
}

// Dot returns Σ a[i]·b[i]. The order of the sum depends on the length and the
// implementation only: portably from first to last; in assembly in as many
// interleaved sums as registers hold, then pairwise. So it does not depend on
// threads, but a sum of parts differs from the sum of the whole.
func Dot[T Float](a, b []T) T {
	sameLength("Dot", len(a), len(b))
	if a32, ok := floats32(a); ok {
		b32, _ := floats32(b)
		return T(current.Load().vec.dot(a32, b32))
	}
	return T(genericVecs64.dot(floats64(a), floats64(b)))
}

// SumSquares returns Σ x[i]², summed like [Dot].
func SumSquares[T Float](x []T) T { return Dot(x, x) }

// Max returns the largest x[i], passing over NaNs, and -Inf when there is none.
func Max[T Float](x []T) T {
	if x32, ok := floats32(x); ok {
		return T(current.Load().vec.maximum(x32))
	}
	return T(genericVecs64.maximum(floats64(x)))
}

// Axpy adds alpha·x[i] to y[i], in one rounding where the CPU has a fused multiply-add.
func Axpy[T Float](alpha T, x, y []T) {
	sameLength("Axpy", len(x), len(y))
	if x32, ok := floats32(x); ok {
		y32, _ := floats32(y)
		current.Load().vec.axpy(float32(alpha), x32, y32)
		return
	}
	genericVecs64.axpy(float64(alpha), floats64(x), floats64(y))
}

// Scale multiplies x by alpha in place.
func Scale[T Float](alpha T, x []T) {
	if x32, ok := floats32(x); ok {
		current.Load().vec.scale(float32(alpha), x32)
		return
	}
	genericVecs64.scale(float64(alpha), floats64(x))
}

// Add sets dst[i] = a[i] + b[i]; dst may be a or b.
func Add[T Float](dst, a, b []T) {
	sameLength("Add", len(dst), len(a), len(b))
	if d32, ok := floats32(dst); ok {
		a32, _ := floats32(a)
		b32, _ := floats32(b)
		current.Load().vec.add(d32, a32, b32)
		return
	}
	genericVecs64.add(floats64(dst), floats64(a), floats64(b))
}

// Mul sets dst[i] = a[i]·b[i]; dst may be a or b.
func Mul[T Float](dst, a, b []T) {
	sameLength("Mul", len(dst), len(a), len(b))
	if d32, ok := floats32(dst); ok {
		a32, _ := floats32(a)
		b32, _ := floats32(b)
		current.Load().vec.mul(d32, a32, b32)
		return
	}
	genericVecs64.mul(floats64(dst), floats64(a), floats64(b))
}

func sameLength(name string, n int, others ...int) {
	for _, o := range others {
		if o != n {
			panic(fmt.Sprintf("kernel: %s: lengths %d and %d differ", name, n, o))
		}
	}
}
