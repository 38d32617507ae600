package kernel

import "math"

// learnKernels are the functions of loss and optimisers of an implementation;
// where none is given here, their meaning is that of the exported functions of
// the same name. Lengths are equal.
type learnKernels struct {
	sigmoid func(value, slope, x []float32)
	mulAdd  func(dst, a, b []float32)
	loss    func(grad, out, ref, weight []float32) float32
	moments func(m, v, grad []float32, b1, c1, b2, c2 float32)
	descend func(value, m, v []float32, size, inv, eps float32)
	drift   func(s, grad, start, value []float32, b, c float32) (dot, abs float32)
}

// Sigmoid sets value[i] = σ(x[i]) = 1/(1+e⁻ˣ) and slope[i] = σ·(1-σ), its
// derivative; one of them may be x.
func Sigmoid(value, slope, x []float32) {
	sameLength("Sigmoid", len(value), len(slope), len(x))
	current.Load().learn.sigmoid(value, slope, x)
}

// MulAdd adds a[i]·b[i] to dst[i].
func MulAdd(dst, a, b []float32) {
	sameLength("MulAdd", len(dst), len(a), len(b))
	current.Load().learn.mulAdd(dst, a, b)
}

// WeightedError returns Σ weight·(out - ref)², summed like [Dot], and sets grad
// to its gradient with respect to out: 2·weight·(out - ref).
func WeightedError(grad, out, ref, weight []float32) float32 {
	sameLength("WeightedError", len(grad), len(out), len(ref), len(weight))
	return current.Load().learn.loss(grad, out, ref, weight)
}

// Moments sets m = b1·m + c1·grad and v = b2·v + c2·grad²: the first and second
// moment of an Adam-like optimiser.
func Moments(m, v, grad []float32, b1, c1, b2, c2 float32) {
	sameLength("Moments", len(m), len(v), len(grad))
	current.Load().learn.moments(m, v, grad, b1, c1, b2, c2)
}

// Descend subtracts size·m/(inv·√v + eps) from value: such an optimiser's step.
func Descend(value, m, v []float32, size, inv, eps float32) {
	sameLength("Descend", len(value), len(m), len(v))
	current.Load().learn.descend(value, m, v, size, inv, eps)
}

// Drift sets s = b·s + c·grad and returns Σ grad·(start - value) and Σ |s|, from
// which Prodigy estimates its step size; summed like [Dot].
func Drift(s, grad, start, value []float32, b, c float32) (dot, abs float32) {
	sameLength("Drift", len(s), len(grad), len(start), len(value))
	return current.Load().learn.drift(s, grad, start, value, b, c)
}

// genericLearn returns the portable functions, the definition of what the
// others compute.
func genericLearn() learnKernels {
	return learnKernels{
		sigmoid: sigmoidGeneric, mulAdd: mulAddGeneric, loss: lossGeneric,
		moments: momentsGeneric, descend: descendGeneric, drift: driftGeneric,
	}
}

func sigmoidGeneric(value, slope, x []float32) {
	for i, v := range x {
		s := sigmoid(v)
		value[i], slope[i] = s, s*(1-s)
	}
}

func mulAddGeneric(dst, a, b []float32) {
	for i, v := range a {
		dst[i] += v * b[i]
	}
}

func lossGeneric(grad, out, ref, weight []float32) float32 {
	var sum float32
	for i, o := range out {
		d := o - ref[i]
		wd := weight[i] * d
		sum += wd * d
		grad[i] = 2 * wd
	}
	return sum
}

func momentsGeneric(m, v, grad []float32, b1, c1, b2, c2 float32) {
	for i, g := range grad {
		m[i] = b1*m[i] + c1*g
		v[i] = b2*v[i] + c2*g*g
	}
}

func descendGeneric(value, m, v []float32, size, inv, eps float32) {
	for i := range value {
		value[i] -= size * m[i] / (inv*float32(math.Sqrt(float64(v[i]))) + eps)
	}
}

func driftGeneric(s, grad, start, value []float32, b, c float32) (dot, abs float32) {
	for i, g := range grad {
		dot += g * (start[i] - value[i])
		s[i] = b*s[i] + c*g
		abs += max(s[i], -s[i])
	}
	return dot, abs
}
