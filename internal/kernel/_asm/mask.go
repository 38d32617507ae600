package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Masks let a kernel load and store part of a register without touching the
// memory of the rest. AVX-512 keeps them in mask registers, AVX2 in the sign
// bits of a vector.

// columnMasks makes the masks of count registers side by side, of which the
// first n lanes are used: lane j of register r where r·lanes+j < n. n, at
// most 16 for AVX2 and 63 for AVX-512, is left alone; CX is not.
func (s isa) columnMasks(n Register, count int) []Op {
	masks := make([]Op, count)
	if s.wide() {
		MOVQ(n, RCX)
		bits := GP64()
		MOVQ(I32(1), bits)
		SHLQ(CL, bits)
		DECQ(bits)
		for r := range masks {
			k := K()
			KMOVW(bits.As32(), k)
			masks[r] = k
			if r < count-1 {
				SHRQ(Imm(16), bits)
			}
		}
		return masks
	}
	p := GP64()
	LEAQ(signTable().Offset(64), p)
	MOVQ(n, RCX)
	SHLQ(Imm(2), RCX)
	SUBQ(RCX, p)
	for r := range masks {
		v := YMM()
		VMOVUPS(Mem{Base: p, Disp: 32 * r}, v)
		masks[r] = v
	}
	return masks
}

var signs Mem

// signTable is 16 negative values and 16 that are not: from its middle less n
// on, lane j is negative where j < n.
func signTable() Mem {
	if signs.Symbol.Name == "" {
		signs = GLOBL("signs", RODATA|NOPTR)
		for i := range 32 {
			DATA(4*i, I32(i>>4-1))
		}
	}
	return signs
}

// loadMasked loads the lanes of the mask and sets the others to zero.
func (s isa) loadMasked(m Mem, mask, v Op) {
	if s.wide() {
		VMOVUPS_Z(m, mask, v)
	} else {
		VMASKMOVPS(m, mask, v)
	}
}

// storeMasked stores the lanes of the mask.
func (s isa) storeMasked(v, mask Op, m Mem) {
	if s.wide() {
		VMOVUPS(v, mask, m)
	} else {
		VMASKMOVPS(v, mask, m)
	}
}
