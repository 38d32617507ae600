package gguf

import (
	"encoding/binary"
	"math"
)

// The unquantised types: one weight per block, little endian. The loops take
// runs of fixed length, which spares the bounds checks, then the rest.

const chunk = 16

func dequantizeF32(dst []float32, src []byte) {
	for ; len(dst) >= chunk && len(src) >= 4*chunk; dst, src = dst[chunk:], src[4*chunk:] {
		y, b := (*[chunk]float32)(dst), (*[4 * chunk]byte)(src)
		for i := range y {
			y[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i : 4*i+4]))
		}
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

func quantizeF32(dst []byte, src []float32) {
	for ; len(src) >= chunk && len(dst) >= 4*chunk; dst, src = dst[4*chunk:], src[chunk:] {
		b := (*[4 * chunk]byte)(dst)
		for i, x := range (*[chunk]float32)(src) {
			binary.LittleEndian.PutUint32(b[4*i:4*i+4], math.Float32bits(x))
		}
	}
	for i, x := range src {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
	}
}

func dequantizeF16(dst []float32, src []byte) {
	for ; len(dst) >= chunk && len(src) >= 2*chunk; dst, src = dst[chunk:], src[2*chunk:] {
		y, b := (*[chunk]float32)(dst), (*[2 * chunk]byte)(src)
		for i := range y {
			h := binary.LittleEndian.Uint16(b[2*i : 2*i+2])
			if isNormalF16(h) {
				y[i] = normalF16ToF32(h)
			} else {
				y[i] = specialF16ToF32(h)
			}
		}
	}
	for i := range dst {
		dst[i] = F16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

func quantizeF16(dst []byte, src []float32) {
	for ; len(src) >= chunk && len(dst) >= 2*chunk; dst, src = dst[2*chunk:], src[chunk:] {
		b := (*[2 * chunk]byte)(dst)
		for i, x := range (*[chunk]float32)(src) {
			w := math.Float32bits(x)
			h := normalF32ToF16(w)
			if !becomesNormalF16(w) {
				h = specialF32ToF16(w)
			}
			binary.LittleEndian.PutUint16(b[2*i:2*i+2], h)
		}
	}
	for i, x := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], F32ToF16(x))
	}
}

func dequantizeBF16(dst []float32, src []byte) {
	for ; len(dst) >= chunk && len(src) >= 2*chunk; dst, src = dst[chunk:], src[2*chunk:] {
		y, b := (*[chunk]float32)(dst), (*[2 * chunk]byte)(src)
		for i := range y {
			y[i] = BF16ToF32(binary.LittleEndian.Uint16(b[2*i : 2*i+2]))
		}
	}
	for i := range dst {
		dst[i] = BF16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
	}
}

func quantizeBF16(dst []byte, src []float32) {
	for ; len(src) >= chunk && len(dst) >= 2*chunk; dst, src = dst[2*chunk:], src[chunk:] {
		b := (*[2 * chunk]byte)(dst)
		for i, x := range (*[chunk]float32)(src) {
			binary.LittleEndian.PutUint16(b[2*i:2*i+2], F32ToBF16(x))
		}
	}
	for i, x := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], F32ToBF16(x))
	}
}
