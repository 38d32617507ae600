//go:build amd64 && !purego

package kernel

import "golang.org/x/sys/cpu"

// expandVBMI2 returns the assembly where the CPU can move bytes by a mask, and
// else the portable functions. AVX-512 alone cannot.
func expandVBMI2() expandKernels {
	x := &cpu.X86
	if !x.HasAVX512BW || !x.HasAVX512VBMI || !x.HasAVX512VBMI2 || !x.HasAVX512VPOPCNTDQ || !x.HasPOPCNT || !x.HasBMI2 {
		return genericExpand()
	}
	return expandKernels{
		q40: expandQ40AVX512, q41: expandQ41AVX512, q80: expandQ80AVX512, f16: expand16AVX512,
		count: countBitsAVX512,
		minima: func(heads []uint32, scales, zeros []byte) bool {
			return minimaAVX512(heads, scales, zeros) == 0
		},
	}
}
