//go:build amd64 && !purego

package kernel

import "golang.org/x/sys/cpu"

// The assembly of the expansion does whole words of the mask, 64 weights; the
// portable twins do the rest of a row.

// expandVBMI2 returns the assembly where the CPU can move bytes by a mask, and
// else the portable functions. AVX-512 alone cannot.
func expandVBMI2() expandKernels {
	if !cpu.X86.HasAVX512BW || !cpu.X86.HasAVX512VBMI2 || !cpu.X86.HasPOPCNT || !cpu.X86.HasBMI2 {
		return genericExpand()
	}
	return expandKernels{
		q40: func(dst, mask, stream []byte, shift uint, scales []byte, per uint) {
			w := len(dst) / (2 * q40Bytes)
			expandQ40AVX512(w, dst, mask, stream, shift, scales, per)
			if rest := dst[2*w*q40Bytes:]; len(rest) != 0 {
				expandQ40Generic(rest, mask[8*w:], stream[countBitsAVX512(mask[:8*w]):], shift, scales[2*(2*w>>per):], per)
			}
		},
		q41: func(dst, mask, stream []byte, shift uint, heads []uint32, zeros []byte, per uint) {
			w := len(dst) / (2 * q41Bytes)
			expandQ41AVX512(w, dst, mask, stream, shift, heads, zeros, per)
			if rest := dst[2*w*q41Bytes:]; len(rest) != 0 {
				expandQ41Generic(rest, mask[8*w:], stream[countBitsAVX512(mask[:8*w]):], shift, heads[2*w>>per:], zeros[2*w>>per:], per)
			}
		},
		q80: func(dst, mask, stream, scales []byte, per uint) {
			w := len(dst) / (2 * q80Bytes)
			expandQ80AVX512(w, dst, mask, stream, scales, per)
			if rest := dst[2*w*q80Bytes:]; len(rest) != 0 {
				expandQ80Generic(rest, mask[8*w:], stream[countBitsAVX512(mask[:8*w]):], scales[2*(2*w>>per):], per)
			}
		},
		f16: func(dst, mask, stream []byte) {
			w := len(dst) / (2 * 64)
			expand16AVX512(w, dst, mask, stream)
			if rest := dst[2*64*w:]; len(rest) != 0 {
				expand16Generic(rest, mask[8*w:], stream[2*countBitsAVX512(mask[:8*w]):])
			}
		},
		count: countBitsAVX512,
		minima: func(heads []uint32, scales, zeros []byte) bool {
			n := len(heads) &^ 15
			return minimaAVX512(heads[:n], scales, zeros) == 0 && minimaGeneric(heads[n:], scales[2*n:], zeros[n:])
		},
	}
}
