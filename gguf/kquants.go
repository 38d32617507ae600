package gguf

// Types with super-blocks of 256 weights in sub-blocks whose scales are
// themselves quantised. How the bits are spread is said at each function;
// products are kept unfused as in dequant.go. The codes of a sub-block index a
// table of its values where that is cheaper than computing each.

// dequantizeQ2_K reads 16 × (scale, min) in 4 bits each, 64 bytes of 2-bit
// codes, d and dmin in fp16. Each half of 128 weights has 32 bytes of codes;
// bits 2p, 2p+1 of byte i belong to its weight 32p+i.
func dequantizeQ2_K(dst []float32, src []byte) {
	for ; len(dst) >= superBlock && len(src) >= 84; dst, src = dst[superBlock:], src[84:] {
		scales, codes := (*[16]byte)(src), (*[64]byte)(src[16:])
		d, dmin := halfAt(src[80:]), halfAt(src[82:])
		var value [4]float32
		for sub, s := range scales {
			dl, ml := d*float32(s&15), float32(dmin*float32(s>>4))
			for i := range value {
				value[i] = float32(dl*float32(i)) - ml
			}
			half, plane, part := sub/8, (sub/2)%4, (sub%2)*16
			shift := uint(2*plane) & 7
			q, y := (*[16]byte)(codes[32*half+part:]), (*[16]float32)(dst[16*sub:])
			for i, c := range q {
				y[i] = value[(c>>shift)&3]
			}
		}
	}
}

// dequantizeQ3_K reads 32 bytes of third bits (bit k of byte i belongs to
// weight 32k+i), 64 bytes of 2-bit codes as in Q2_K, 12 bytes of scales, d in
// fp16. A third bit that is clear subtracts 4.
func dequantizeQ3_K(dst []float32, src []byte) {
	for ; len(dst) >= superBlock && len(src) >= 110; dst, src = dst[superBlock:], src[110:] {
		third, codes, d := (*[32]byte)(src), (*[64]byte)(src[32:]), halfAt(src[108:])
		scales := unpackQ3Scales((*[12]byte)(src[96:]))
		var value [8]float32
		for sub, s := range scales {
			dl := d * float32(s)
			for i := range value {
				value[i] = dl * float32(i-4)
			}
			half, plane, part := sub/8, (sub/2)%4, (sub%2)*16
			shift, bit := uint(2*plane)&7, uint(sub/2)&7
			q, h := (*[16]byte)(codes[32*half+part:]), (*[16]byte)(third[part:])
			y := (*[16]float32)(dst[16*sub:])
			for i, c := range q {
				y[i] = value[(c>>shift)&3|((h[i]>>bit)&1)<<2]
			}
		}
	}
}

// unpackQ3Scales returns the 16 signed scales of 6 bits: low nibbles in bytes
// 0–7 (low half scales 0–7, high half 8–15), upper two bits in bytes 8–11,
// bits 2k, 2k+1 those of scales 4k … 4k+3.
func unpackQ3Scales(b *[12]byte) (scales [16]int8) {
	for i := range scales {
		low := (b[i%8] >> uint(i/8*4)) & 15
		high := (b[8+i%4] >> uint(i/4*2)) & 3
		scales[i] = int8(low|high<<4) - 32
	}
	return scales
}

// unpackK4Scales returns the 6-bit scales and mins of the eight sub-blocks of
// Q4_K and Q5_K: of 0–3 whole in bytes 0–3 and 4–7, whose upper two bits are
// those of 4–7; the low nibbles of these in bytes 8–11.
func unpackK4Scales(b *[12]byte) (scales, mins [8]uint8) {
	for j := range 4 {
		scales[j], mins[j] = b[j]&63, b[j+4]&63
		scales[j+4] = b[j+8]&15 | (b[j]>>6)<<4
		mins[j+4] = b[j+8]>>4 | (b[j+4]>>6)<<4
	}
	return scales, mins
}

// dequantizeQ4_K reads d, dmin in fp16, 12 bytes of scales and mins, then 32
// bytes for each pair of sub-blocks of 32 weights: low nibbles the first, high
// nibbles the second.
func dequantizeQ4_K(dst []float32, src []byte) {
	for ; len(dst) >= superBlock && len(src) >= 144; dst, src = dst[superBlock:], src[144:] {
		d, dmin := halfAt(src), halfAt(src[2:])
		scales, mins := unpackK4Scales((*[12]byte)(src[4:]))
		var value [16]float32
		for sub := range scales {
			dl, ml := d*float32(scales[sub]), float32(dmin*float32(mins[sub]))
			for i := range value {
				value[i] = float32(dl*float32(i)) - ml
			}
			q, y := (*[32]byte)(src[16+32*(sub/2):]), (*[32]float32)(dst[32*sub:])
			shift := uint(sub%2*4) & 7
			for i, c := range q {
				y[i] = value[(c>>shift)&15]
			}
		}
	}
}

// dequantizeQ5_K reads the fields of Q4_K with 32 bytes of fifth bits (bit k
// of byte i belongs to weight i of sub-block k) before the nibbles.
func dequantizeQ5_K(dst []float32, src []byte) {
	for ; len(dst) >= superBlock && len(src) >= 176; dst, src = dst[superBlock:], src[176:] {
		d, dmin := halfAt(src), halfAt(src[2:])
		scales, mins := unpackK4Scales((*[12]byte)(src[4:]))
		fifth := (*[32]byte)(src[16:])
		for sub := range scales {
			dl, ml := d*float32(scales[sub]), float32(dmin*float32(mins[sub]))
			q, y := (*[32]byte)(src[48+32*(sub/2):]), (*[32]float32)(dst[32*sub:])
			shift, bit := uint(sub%2*4)&7, uint(sub)&7
			for i, c := range q {
				code := (c>>shift)&15 | ((fifth[i]>>bit)&1)<<4
				y[i] = float32(dl*float32(code)) - ml
			}
		}
	}
}

// dequantizeQ6_K reads 128 bytes of low nibbles, 64 of upper two bits, 16 int8
// scales, d in fp16. A half of 128 weights is four runs of 32: runs 0 and 2
// are the nibbles of its first 32 bytes, 1 and 3 those of the next 32; run r
// takes bits 2r, 2r+1 of the half's 32 upper bytes.
func dequantizeQ6_K(dst []float32, src []byte) {
	for ; len(dst) >= superBlock && len(src) >= 210; dst, src = dst[superBlock:], src[210:] {
		d, scales := halfAt(src[208:]), (*[16]byte)(src[192:])
		for sub, s := range scales {
			dl := d * float32(int8(s))
			half, run, part := sub/8, (sub/2)%4, (sub%2)*16
			lowShift, highShift := uint(run/2*4)&7, uint(2*run)&7
			low := (*[16]byte)(src[64*half+32*(run%2)+part:])
			high := (*[16]byte)(src[128+32*half+part:])
			y := (*[16]float32)(dst[16*sub:])
			for i, c := range low {
				code := (c>>lowShift)&15 | ((high[i]>>highShift)&3)<<4
				y[i] = dl * float32(int8(code)-32)
			}
		}
	}
}
