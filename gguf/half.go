package gguf

import "math"

// The two conversions of half precision are split so that a loop can have the
// ordinary case in line: the whole is too much for the compiler's budget.

// F16ToF32 converts an IEEE half-precision number, exactly. A signalling NaN
// comes out quiet, as from the multiplication ggml does it with.
func F16ToF32(h uint16) float32 {
	if isNormalF16(h) {
		return normalF16ToF32(h)
	}
	return specialF16ToF32(h)
}

func isNormalF16(h uint16) bool { return h&0x7fff-0x0400 < 0x7800 }

// normalF16ToF32 rebiases the exponent.
func normalF16ToF32(h uint16) float32 {
	return math.Float32frombits(uint32(h&0x8000)<<16 | (uint32(h&0x7fff)<<13 + (127-15)<<23))
}

// specialF16ToF32 converts zero, subnormal numbers, infinity and NaN.
func specialF16ToF32(h uint16) float32 {
	sign, mag := uint32(h&0x8000)<<16, uint32(h&0x7fff)
	switch {
	case mag < 0x0400: // a multiple of 2⁻²⁴; normal in float32
		return math.Float32frombits(sign | math.Float32bits(float32(mag)*0x1p-24))
	case mag == 0x7c00:
		return math.Float32frombits(sign | 0x7f800000)
	}
	return math.Float32frombits(sign | 0x7fc00000 | mag<<13)
}

// F32ToF16 rounds to the nearest half-precision number, ties to even. From
// 65520 on the result is infinite; every NaN becomes 0x7e00 with its sign.
func F32ToF16(f float32) uint16 {
	if w := math.Float32bits(f); !becomesNormalF16(w) {
		return specialF32ToF16(w)
	}
	return normalF32ToF16(math.Float32bits(f))
}

// becomesNormalF16 holds for magnitudes from 2⁻¹⁴ to below 2¹⁶.
func becomesNormalF16(w uint32) bool { return w&0x7fffffff-0x38800000 < 0x47800000-0x38800000 }

// normalF32ToF16 rounds and rebiases. The carry out of the mantissa may reach
// the exponent, and infinity.
func normalF32ToF16(w uint32) uint16 {
	mag := w & 0x7fffffff
	return uint16(w>>16)&0x8000 | uint16((mag+0x0fff+(mag>>13)&1-(127-15)<<23)>>13)
}

// specialF32ToF16 converts what becomes zero, subnormal or infinite, and NaN.
func specialF32ToF16(w uint32) uint16 {
	sign, mag := uint16(w>>16)&0x8000, w&0x7fffffff
	switch {
	case mag > 0x7f800000:
		return sign | 0x7e00
	case mag >= 0x47800000:
		return sign | 0x7c00
	}
	// The last bit of a sum from 0.5 to 1 is worth 2⁻²⁴, as that of a
	// subnormal half: the addition rounds.
	return sign | uint16(math.Float32bits(math.Float32frombits(mag)+0.5)-0x3f000000)
}

// BF16ToF32 converts a bfloat16 number, exactly.
func BF16ToF32(h uint16) float32 {
	return math.Float32frombits(uint32(h) << 16)
}

// F32ToBF16 rounds to the nearest bfloat16 number, ties to even. A NaN keeps
// its upper bits and becomes quiet.
func F32ToBF16(f float32) uint16 {
	w := math.Float32bits(f)
	if w&0x7fffffff > 0x7f800000 {
		return uint16(w>>16) | 64
	}
	return uint16((w + 0x7fff + (w>>16)&1) >> 16)
}
