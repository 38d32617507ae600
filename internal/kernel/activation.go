package kernel

// Exp sets dst[i] = exp(x[i]); dst may be x. The error is less than one unit in
// the last place, denormal results included; overflow gives +Inf, NaN stays NaN.
func Exp[T Float](dst, x []T) {
	sameLength("Exp", len(dst), len(x))
	if d32, ok := floats32(dst); ok {
		x32, _ := floats32(x)
		current.Load().vec.exp(d32, x32)
		return
	}
	genericVecs64.exp(floats64(dst), floats64(x))
}

// ExpSum sets dst[i] = exp(x[i]-shift) and returns their sum, ordered like
// that of [Dot]; dst may be x.
func ExpSum[T Float](dst, x []T, shift T) T {
	sameLength("ExpSum", len(dst), len(x))
	if d32, ok := floats32(dst); ok {
		x32, _ := floats32(x)
		return T(current.Load().vec.expSum(d32, x32, float32(shift)))
	}
	return T(genericVecs64.expSum(floats64(dst), floats64(x), float64(shift)))
}

// Softmax sets dst[i] = exp(x[i]) / Σ exp(x[j]); dst may be x. x must hold a
// finite maximum; -Inf among the others gives zeros.
func Softmax[T Float](dst, x []T) {
	if len(x) == 0 {
		return
	}
	Scale(1/ExpSum(dst, x, Max(x)), dst)
}

// SoftmaxGrad sets dst to the gradient with respect to a softmax's input, from
// its output y and the gradient dy of that: dst[i] = y[i]·(dy[i] - Σ y·dy).
// dst may be y or dy.
func SoftmaxGrad[T Float](dst, y, dy []T) {
	sameLength("SoftmaxGrad", len(dst), len(y), len(dy))
	dot := Dot(y, dy)
	if d32, ok := floats32(dst); ok {
		y32, _ := floats32(y)
		dy32, _ := floats32(dy)
		current.Load().vec.softmaxGrad(d32, y32, dy32, float32(dot))
		return
	}
	genericVecs64.softmaxGrad(floats64(dst), floats64(y), floats64(dy), float64(dot))
}

// SiLUMul sets dst[i] = silu(gate[i])·up[i] with silu(g) = g/(1+e⁻ᵍ), the
// product inside SwiGLU; dst may be gate or up.
func SiLUMul[T Float](dst, gate, up []T) {
	sameLength("SiLUMul", len(dst), len(gate), len(up))
	if d32, ok := floats32(dst); ok {
		g32, _ := floats32(gate)
		u32, _ := floats32(up)
		current.Load().vec.siluMul(d32, g32, u32)
		return
	}
	genericVecs64.siluMul(floats64(dst), floats64(gate), floats64(up))
}

// SiLUMulGrad sets dGate and dUp to the gradients with respect to SiLUMul's
// arguments, given dOut, that of its result. With σ = 1/(1+e⁻ᵍ):
//
//	dUp[i]   = dOut[i]·g·σ
//	dGate[i] = dOut[i]·up[i]·σ·(1 + g·(1-σ))
//
// dGate and dUp may be any of the inputs, but not the same.
func SiLUMulGrad[T Float](dGate, dUp, gate, up, dOut []T) {
	sameLength("SiLUMulGrad", len(dGate), len(dUp), len(gate), len(up), len(dOut))
	if dg32, ok := floats32(dGate); ok {
		du32, _ := floats32(dUp)
		g32, _ := floats32(gate)
		u32, _ := floats32(up)
		do32, _ := floats32(dOut)
		current.Load().vec.siluMulGrad(dg32, du32, g32, u32, do32)
		return
	}
	genericVecs64.siluMulGrad(floats64(dGate), floats64(dUp), floats64(gate), floats64(up), floats64(dOut))
}
