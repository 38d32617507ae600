package gguf

import (
	"encoding/binary"
	"math"
)

// Quantisation to the block types of 32 weights, after ggml's
// quantize_row_*_ref: round to nearest with a scale from the extreme values,
// no search. Layouts are in dequant.go.

func quantizeQ4_0(dst []byte, src []float32) {
	for ; len(src) >= blockSize && len(dst) >= 18; dst, src = dst[18:], src[blockSize:] {
		x, codes := (*[32]float32)(src), (*[16]byte)(dst[2:])
		// The weight of greatest magnitude becomes code 0, whatever its sign.
		var amax, extreme float32
		for _, v := range x {
			if a := abs32(v); amax < a {
				amax, extreme = a, v
			}
		}
		d := extreme / -8
		id := reciprocal(d)
		binary.LittleEndian.PutUint16(dst, F32ToF16(d))
		for i := range codes {
			lo := min(15, truncInt8(float32(x[i]*id)+8.5))
			hi := min(15, truncInt8(float32(x[i+16]*id)+8.5))
			codes[i] = byte(lo) | byte(hi)<<4
		}
	}
}

func quantizeQ4_1(dst []byte, src []float32) {
	for ; len(src) >= blockSize && len(dst) >= 20; dst, src = dst[20:], src[blockSize:] {
		x, codes := (*[32]float32)(src), (*[16]byte)(dst[4:])
		lowest, highest := float32(math.MaxFloat32), float32(-math.MaxFloat32)
		for _, v := range x {
			if v < lowest {
				lowest = v
			}
			if v > highest {
				highest = v
			}
		}
		d := (highest - lowest) / 15
		id := reciprocal(d)
		binary.LittleEndian.PutUint16(dst, F32ToF16(d))
		binary.LittleEndian.PutUint16(dst[2:], F32ToF16(lowest))
		for i := range codes {
			lo := min(15, truncInt8(float32((x[i]-lowest)*id)+0.5))
			hi := min(15, truncInt8(float32((x[i+16]-lowest)*id)+0.5))
			codes[i] = byte(lo) | byte(hi)<<4
		}
	}
}

func quantizeQ8_0(dst []byte, src []float32) {
	for ; len(src) >= blockSize && len(dst) >= 34; dst, src = dst[34:], src[blockSize:] {
		x, codes := (*[32]float32)(src), (*[32]byte)(dst[2:])
		var amax float32
		for _, v := range x {
			// In this form a NaN replaces the maximum and is itself
			// replaced by the next weight, as in ggml.
			if a := abs32(v); !(amax > a) {
				amax = a
			}
		}
		d := amax / 127
		id := reciprocal(d)
		binary.LittleEndian.PutUint16(dst, F32ToF16(d))
		for i, v := range x {
			codes[i] = byte(roundInt8(v * id))
		}
	}
}

func abs32(x float32) float32 {
	return math.Float32frombits(math.Float32bits(x) &^ (1 << 31))
}

// reciprocal is 1/d, or 0 for either zero.
func reciprocal(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// truncInt8 is C's (int8_t)x as x86-64 computes it: truncated to 32 bits, of
// which the low 8 remain; 0 when 32 bits do not hold x. Go leaves that last
// case to the machine, hence the comparison.
func truncInt8(x float32) int8 {
	if x > -0x1p31 && x < 0x1p31 {
		return int8(int32(x))
	}
	return 0
}

// roundInt8 is (int8_t)roundf(x): halves go away from zero. The sum is exact
// in float64 wherever its truncation depends on it.
func roundInt8(x float32) int8 {
	if x > -0x1p31 && x < 0x1p31 {
		return int8(int32(float64(x) + math.Copysign(0.5, float64(x))))
	}
	return 0
}
