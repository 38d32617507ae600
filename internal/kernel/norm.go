package kernel

import "math"

// RMSNorm sets dst[i] = x[i]·r·weight[i] and returns r = 1/√(Σx²/n + eps);
// dst may be x. The vectors must not be empty.
func RMSNorm[T Float](dst, x, weight []T, eps float64) T {
	sameLength("RMSNorm", len(dst), len(x), len(weight))
	r := T(1 / math.Sqrt(float64(SumSquares(x))/float64(len(x))+eps))
	if d32, ok := floats32(dst); ok {
		x32, _ := floats32(x)
		w32, _ := floats32(weight)
		current.Load().vec.mulScaled(d32, x32, w32, float32(r))
	} else {
		genericVecs64.mulScaled(floats64(dst), floats64(x), floats64(weight), float64(r))
	}
	return r
}

// RMSNormGrad sets dx, or adds to it with accumulate, the gradient with respect
// to RMSNorm's x, given dy, that of its result, and r, which it returned:
//
//	r·(weight[i]·dy[i] - x[i]·c)   with c = r²/n·Σ weight·dy·x
//
// dx may be dy.
func RMSNormGrad[T Float](dx, dy, x, weight []T, r T, accumulate bool) {
	sameLength("RMSNormGrad", len(dx), len(dy), len(x), len(weight))
	if dx32, ok := floats32(dx); ok {
		dy32, _ := floats32(dy)
		x32, _ := floats32(x)
		w32, _ := floats32(weight)
		normGrad(&current.Load().vec, dx32, dy32, x32, w32, float32(r), accumulate)
		return
	}
	normGrad(&genericVecs64, floats64(dx), floats64(dy), floats64(x), floats64(weight), float64(r), accumulate)
}

func normGrad[T Float](v *vectorKernels[T], dx, dy, x, weight []T, r T, accumulate bool) {
	if len(x) == 0 {
		return
	}
	rc := r * r * r / T(len(x)) * v.dot3(dy, weight, x)
	if accumulate {
		v.normGradAdd(dx, dy, x, weight, r, rc)
	} else {
		v.normGrad(dx, dy, x, weight, r, rc)
	}
}

// Rotate turns the pairs (a[i], b[i]) by angles of the given cosines and sines,
// or back when sign is -1 instead of 1:
//
//	a[i], b[i] = a[i]·cos[i] - b[i]·sign·sin[i], a[i]·sign·sin[i] + b[i]·cos[i]
func Rotate[T Float](a, b, cos, sin []T, sign T) {
	sameLength("Rotate", len(a), len(b), len(cos), len(sin))
	if a32, ok := floats32(a); ok {
		b32, _ := floats32(b)
		c32, _ := floats32(cos)
		s32, _ := floats32(sin)
		current.Load().vec.rotate(a32, b32, c32, s32, float32(sign))
		return
	}
	genericVecs64.rotate(floats64(a), floats64(b), floats64(cos), floats64(sin), float64(sign))
}

// RotatePairs is Rotate for pairs that lie side by side: (v[2i], v[2i+1]).
func RotatePairs[T Float](v, cos, sin []T, sign T) {
	sameLength("RotatePairs", len(v), 2*len(cos), 2*len(sin))
	if v32, ok := floats32(v); ok {
		c32, _ := floats32(cos)
		s32, _ := floats32(sin)
		current.Load().vec.rotatePairs(v32, c32, s32, float32(sign))
		return
	}
	genericVecs64.rotatePairs(floats64(v), floats64(cos), floats64(sin), float64(sign))
}
