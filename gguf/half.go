package gguf

import "math"

// F16ToF32 converts an IEEE half-precision number, exactly. A signalling NaN
// comes out quiet, as from the multiplication ggml does it with.
func F16ToF32(h uint16) float32 {
	sign, mag := uint32(h&0x8000)<<16, uint32(h&0x7fff)
	if mag-0x0400 < 0x7800 { // normal: rebias the exponent
		return math.Float32frombits(sign | (mag<<13 + (127-15)<<23))
	}
	return f16Special(sign, mag)
}

// f16Special converts zero, subnormal numbers, infinity and NaN.
func f16Special(sign, mag uint32) float32 {
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
	w := math.Float32bits(f)
	sign, mag := uint16(w>>16)&0x8000, w&0x7fffffff
	switch {
	case mag > 0x7f800000:
		return sign | 0x7e00
	case mag >= 0x47800000: // 2¹⁶
		return sign | 0x7c00
	case mag < 0x38800000: // 2⁻¹⁴: the sum's last bit is worth 2⁻²⁴
		return sign | uint16(math.Float32bits(math.Float32frombits(mag)+0.5)-0x3f000000)
	}
	// The carry out of the mantissa may reach the exponent, and infinity.
	mag += 0x0fff + mag>>13&1 - (127-15)<<23
	return sign | uint16(mag>>13)
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
	return uint16((w + 0x7fff + w>>16&1) >> 16)
}
