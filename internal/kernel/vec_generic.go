package kernel

import "math"

// genericVectors returns the portable vector functions, the definition of what the others compute.
func genericVectors[T Float]() vectorKernels[T] {
	return vectorKernels[T]{
		dot: dotGeneric[T], maximum: maximumGeneric[T], axpy: axpyGeneric[T], scale: scaleGeneric[T],
		add: addGeneric[T], mul: mulGeneric[T], exp: expGeneric[T], expSum: expSumGeneric[T],
		siluMul: siluMulGeneric[T], siluMulGrad: siluMulGradGeneric[T], softmaxGrad: softmaxGradGeneric[T],
		mulScaled: mulScaledGeneric[T], dot3: dot3Generic[T], normGrad: normGradGeneric[T], normGradAdd: normGradAddGeneric[T],
		rotate: rotateGeneric[T], rotatePairs: rotatePairsGeneric[T],
	}
}

func dotGeneric[T Float](a, b []T) T {
	var sum T
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

func maximumGeneric[T Float](x []T) T {
	m := T(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

func axpyGeneric[T Float](alpha T, x, y []T) {
	for i, v := range x {
		y[i] += alpha * v
	}
}

func scaleGeneric[T Float](alpha T, x []T) {
	for i := range x {
		x[i] *= alpha
	}
}

func addGeneric[T Float](dst, a, b []T) {
	for i, v := range a {
		dst[i] = v + b[i]
	}
}

func mulGeneric[T Float](dst, a, b []T) {
	for i, v := range a {
		dst[i] = v * b[i]
	}
}

func expGeneric[T Float](dst, x []T) {
	for i, v := range x {
		dst[i] = T(math.Exp(float64(v)))
	}
}

func expSumGeneric[T Float](dst, x []T, shift T) T {
	var sum T
	for i, v := range x {
		e := T(math.Exp(float64(v - shift)))
		dst[i] = e
		sum += e
	}
	return sum
}

func sigmoid[T Float](x T) T { return T(1 / (1 + math.Exp(-float64(x)))) }

func siluMulGeneric[T Float](dst, gate, up []T) {
	for i, g := range gate {
		dst[i] = g * sigmoid(g) * up[i]
	}
}

func siluMulGradGeneric[T Float](dGate, dUp, gate, up, dOut []T) {
	for i, g := range gate {
		s := sigmoid(g)
		u, d := up[i], dOut[i]
		dGate[i] = d * u * s * (1 + g*(1-s))
		dUp[i] = d * g * s
	}
}

func softmaxGradGeneric[T Float](dst, y, dy []T, dot T) {
	for i, v := range y {
		dst[i] = v * (dy[i] - dot)
	}
}
