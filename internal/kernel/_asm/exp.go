package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// exponentials writes the functions of vectorKernels that need eˣ. They are not
// unrolled: a CPU has room for the chains of several rounds at once.
func exponentials(s isa) {
	s.begin("exp", "(dst, x []float32)", "is vectorKernels.exp.")
	e := newExpConstants(s)
	s.loop(1, []string{"dst", "x"}, func(l *vectorLoop, _ int) {
		l.store("dst", e.exp(l.load("x")))
	})
	end()

	s.begin("expSum", "(dst, x []float32, shift float32) float32", "is vectorKernels.expSum.")
	e = newExpConstants(s)
	shift, zero := s.scalar("shift"), s.vec()
	sum := s.sums(1)
	s.zero(zero)
	s.loop(1, []string{"dst", "x"}, func(l *vectorLoop, _ int) {
		x := l.load("x")
		VSUBPS(shift, x, x)
		v := e.exp(x)
		l.store("dst", v)
		VADDPS(l.masked(v, zero), sum[0], sum[0])
	})
	s.returnSum(sum, addTo)

	s.begin("siluMul", "(dst, gate, up []float32)", "is vectorKernels.siluMul.")
	e = newExpConstants(s)
	s.loop(1, []string{"dst", "gate", "up"}, func(l *vectorLoop, _ int) {
		Comment("dst = gate / (1 + exp(-gate)) · up")
		g := l.load("gate")
		v := e.onePlusExpMinus(g)
		VDIVPS(v, g, v)
		VMULPS(l.load("up"), v, v)
		l.store("dst", v)
	})
	end()

	s.begin("siluMulGrad", "(dGate, dUp, gate, up, dOut []float32)", "is vectorKernels.siluMulGrad.")
	e = newExpConstants(s)
	s.loop(1, []string{"dGate", "dUp", "gate", "up", "dOut"}, func(l *vectorLoop, _ int) {
		Comment("σ = 1 / (1 + exp(-gate)); dUp = dOut·gate·σ; dGate = dOut·up·(σ + gate·σ·(1-σ))")
		g := l.load("gate")
		v := e.onePlusExpMinus(g)
		one := s.vec()
		VMOVAPS(e.one, one)
		sigma := s.vec()
		VDIVPS(v, one, sigma)
		silu, d, up := s.vec(), l.load("dOut"), l.load("up")
		VMULPS(sigma, g, silu)
		VSUBPS(sigma, one, one)
		VFMADD231PS(one, silu, sigma)
		VMULPS(d, up, up)
		VMULPS(sigma, up, up)
		VMULPS(d, silu, silu)
		l.store("dGate", up)
		l.store("dUp", silu)
	})
	end()
}

// expConstants holds what eˣ needs in registers or memory.
type expConstants struct {
	s                      isa
	low, high              Op
	log2e, ln2High, ln2Low Op
	coefficients           []Op // from the highest power down
	one                    Op
	bias                   Op // AVX2: that of a float32's exponent
	signBit                Op
}

// The polynomial 1 + r + r²·(c₂ + c₃·r + … + c₆·r⁴) meets eʳ on |r| ≤ ln2/2
// with a relative error of 3.1e-9, least in the maximum norm, with
// coefficients rounded to float32 one after the other.
var expCoefficients = []float32{0x1.6a5228p-10, 0x1.12396cp-7, 0x1.5558aap-5, 0x1.555492p-3, 0x1.fffffcp-2, 1, 1}

func newExpConstants(s isa) *expConstants {
	e := &expConstants{s: s,
		// Beyond these, the result is zero or +Inf and stays so.
		low: s.constant(-105), high: s.constant(105),
		log2e: s.constant(0x1.715476p0), ln2High: s.constant(0x1.62e43p-1), ln2Low: s.constant(-0x1.05c61p-29),
		one: s.constant(1), signBit: s.constantBits(1 << 31),
	}
	for _, c := range expCoefficients {
		e.coefficients = append(e.coefficients, s.constant(c))
	}
	if !s.wide() {
		e.bias = s.constantBits(127)
	}
	return e
}

// exp returns eˣ in place of x: with n the whole number nearest to x/ln2,
// eˣ = 2ⁿ·e^(x - n·ln2).
func (e *expConstants) exp(x VecVirtual) VecVirtual {
	s := e.s
	n, p := s.vec(), s.vec()
	Comment("x = clamp(x, low, high), NaN stays; n = round(x/ln2); r = x - n·ln2")
	VMAXPS(x, s.inRegister(e.low), x)
	VMINPS(x, s.inRegister(e.high), x)
	VMULPS(e.log2e, x, n)
	if s.wide() {
		VRNDSCALEPS(Imm(0), n, n)
	} else {
		VROUNDPS(Imm(8), n, n)
	}
	VFNMADD231PS(e.ln2High, n, x)
	VFNMADD231PS(e.ln2Low, n, x)
	Comment("p = 1 + r + r²·(…), times 2ⁿ")
	VMOVAPS(e.coefficients[0], p)
	for _, c := range e.coefficients[1:] {
		VFMADD213PS(c, x, p) // p = p·r + c
	}
	if s.wide() {
		VSCALEFPS(n, p, p)
		return p
	}
	// 2ⁿ need not be a normal number but its two halves are; only the second
	// product rounds, if it is not normal.
	half := s.vec()
	VCVTPS2DQ(n, n)
	VPSRAD(Imm(1), n, half)
	VPSUBD(half, n, n)
	for _, h := range []VecVirtual{half, n} {
		VPADDD(e.bias, h, h)
		VPSLLD(Imm(23), h, h)
		VMULPS(h, p, p)
	}
	return p
}

// onePlusExpMinus returns 1 + e⁻ˣ and leaves x alone.
func (e *expConstants) onePlusExpMinus(x VecVirtual) VecVirtual {
	minus := e.s.vec()
	if e.s.wide() {
		VPXORD(e.signBit, x, minus)
	} else {
		VXORPS(e.signBit, x, minus)
	}
	v := e.exp(minus)
	VADDPS(e.one, v, v)
	return v
}
