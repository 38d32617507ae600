package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// isa is a vector instruction set.
type isa struct {
	name  string
	lanes int // 32-bit words per register
	rows  int // of a full tile: as many as leave registers for two panels of B and two of A
	per   int // values in a word of a product's packed operands: one float32 or two bf16
}

var (
	avx2   = isa{"AVX2", 8, 6, 1}
	avx512 = isa{"AVX512", 16, 12, 1}
	// avx512bf16 differs from avx512 in products only.
	avx512bf16 = isa{"AVX512BF16", 16, 12, 2}
)

// eachProduct calls f for every instruction set that has products of its own.
func eachProduct(f func(isa)) {
	eachISA(f)
	f(avx512bf16)
}

// mulAdd: acc += a·b, summed over the values of a word.
func (s isa) mulAdd(a, b, acc Op) {
	if s.per == 2 {
		vdpbf16ps(a, b, acc)
	} else {
		VFMADD231PS(a, b, acc)
	}
}

func eachISA(f func(isa)) {
	f(avx2)
	f(avx512)
}

func (s isa) wide() bool { return s.lanes == 16 }

// bytes is the size of a register.
func (s isa) bytes() int { return 4 * s.lanes }

// vec returns a fresh register.
func (s isa) vec() VecVirtual {
	if s.wide() {
		return ZMM()
	}
	return YMM()
}

func (s isa) vecs(n int) []VecVirtual {
	v := make([]VecVirtual, n)
	for i := range v {
		v[i] = s.vec()
	}
	return v
}

// zero: v = 0.
func (s isa) zero(v Op) {
	if s.wide() {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

// begin opens a function; the name gets the instruction set's as its suffix.
func (s isa) begin(name, signature, doc string) {
	TEXT(name+s.name, NOSPLIT, "func"+signature)
	Pragma("noescape")
	Doc(name + s.name + " " + doc)
}

// end closes it. The upper halves of the registers are cleared: SSE code that
// follows would otherwise depend on them at every instruction.
func end() {
	VZEROUPPER()
	RET()
}

// param loads an argument into a register.
func param(name string) GPVirtual { return Load(Param(name), GP64()).(GPVirtual) }

// bytesOf turns a distance in elements into one in bytes.
func bytesOf(r GPVirtual) GPVirtual {
	SHLQ(Imm(2), r)
	return r
}

// multiples holds odd multiples of a distance, from which x86 addressing
// makes the others by scaling by 1, 2, 4 or 8.
type multiples map[int]GPVirtual

// newMultiples prepares to address base + i·step for i < n ≤ 8.
func newMultiples(step GPVirtual, n int) multiples {
	m := multiples{1: step}
	for i := 3; i < n; i += 2 {
		r := GP64()
		if i == 3 {
			LEAQ(Mem{Base: step, Index: step, Scale: 2}, r)
		} else {
			LEAQ(Mem{Base: m[i-2], Index: step, Scale: 2}, r)
		}
		m[i] = r
	}
	return m
}

// of returns the address base + i·step + disp.
func (m multiples) of(base Register, i, disp int) Mem {
	a := Mem{Base: base, Disp: disp}
	if i == 0 {
		return a
	}
	scale := uint8(1)
	for i%2 == 0 {
		i, scale = i/2, scale*2
	}
	a.Index, a.Scale = m[i], scale
	return a
}
