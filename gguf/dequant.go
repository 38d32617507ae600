package gguf

import "encoding/binary"

// Types with blocks of 32 weights. In a byte of 4-bit codes the low nibble is
// weight i and the high nibble weight i+16:
//
//	Q4_0  d:fp16                    16 × codes   (code−8)·d
//	Q4_1  d:fp16 m:fp16             16 × codes   code·d + m
//	Q5_0  d:fp16         fifth:u32  16 × codes   (code−16)·d
//	Q5_1  d:fp16 m:fp16  fifth:u32  16 × codes   code·d + m
//	Q8_0  d:fp16                    32 × int8    code·d
//
// A product that takes part in a sum is converted to float32 explicitly, even
// through a variable: that keeps the compiler from fusing the two on machines
// that could, so every machine gets ggml's bits.

const blockSize = 32

func halfAt(b []byte) float32 { return F16ToF32(binary.LittleEndian.Uint16(b)) }

func dequantizeQ4_0(dst []float32, src []byte) {
	var value [16]float32
	for ; len(dst) >= blockSize && len(src) >= 18; dst, src = dst[blockSize:], src[18:] {
		d := halfAt(src)
		for i := range value {
			value[i] = float32(i-8) * d
		}
		expandNibbles((*[32]float32)(dst), (*[16]byte)(src[2:]), &value)
	}
}

func dequantizeQ4_1(dst []float32, src []byte) {
	var value [16]float32
	for ; len(dst) >= blockSize && len(src) >= 20; dst, src = dst[blockSize:], src[20:] {
		d, m := halfAt(src), halfAt(src[2:])
		for i := range value {
			value[i] = float32(float32(i)*d) + m
		}
		expandNibbles((*[32]float32)(dst), (*[16]byte)(src[4:]), &value)
	}
}

// expandNibbles looks each 4-bit code up in the block's table of values.
func expandNibbles(dst *[32]float32, codes *[16]byte, value *[16]float32) {
	for i, c := range codes {
		dst[i] = value[c&15]
		dst[i+16] = value[c>>4]
	}
}

func dequantizeQ5_0(dst []float32, src []byte) {
	for ; len(dst) >= blockSize && len(src) >= 22; dst, src = dst[blockSize:], src[22:] {
		d, fifth := halfAt(src), binary.LittleEndian.Uint32(src[2:])
		y, codes := (*[32]float32)(dst), (*[16]byte)(src[6:])
		for i, c := range codes {
			y[i] = float32(int32(uint32(c&15)|fifth>>i<<4&16)-16) * d
			y[i+16] = float32(int32(uint32(c>>4)|fifth>>(i+12)&16)-16) * d
		}
	}
}

func dequantizeQ5_1(dst []float32, src []byte) {
	for ; len(dst) >= blockSize && len(src) >= 24; dst, src = dst[blockSize:], src[24:] {
		d, m, fifth := halfAt(src), halfAt(src[2:]), binary.LittleEndian.Uint32(src[4:])
		y, codes := (*[32]float32)(dst), (*[16]byte)(src[8:])
		for i, c := range codes {
			y[i] = float32(float32(int32(uint32(c&15)|fifth>>i<<4&16))*d) + m
			y[i+16] = float32(float32(int32(uint32(c>>4)|fifth>>(i+12)&16))*d) + m
		}
	}
}

func dequantizeQ8_0(dst []float32, src []byte) {
	for ; len(dst) >= blockSize && len(src) >= 34; dst, src = dst[blockSize:], src[34:] {
		d := halfAt(src)
		y, codes := (*[32]float32)(dst), (*[32]byte)(src[2:])
		for i, c := range codes {
			y[i] = float32(int8(c)) * d
		}
	}
}
