package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// norms writes the functions of vectorKernels for normalisation and rotary
// positions.
func norms(s isa) {
	s.begin("mulScaled", "(dst, a, b []float32, alpha float32)", "is vectorKernels.mulScaled.")
	alpha := s.scalar("alpha")
	s.loop(4, []string{"dst", "a", "b"}, func(l *vectorLoop, _ int) {
		v := l.load("a")
		VMULPS(alpha, v, v)
		VMULPS(l.load("b"), v, v)
		l.store("dst", v)
	})
	end()

	s.begin("dot3", "(a, b, c []float32) float32", "is vectorKernels.dot3.")
	sum := s.sums(4)
	s.loop(4, []string{"a", "b", "c"}, func(l *vectorLoop, i int) {
		v := l.load("a")
		VMULPS(l.load("b"), v, v)
		VFMADD231PS(l.load("c"), v, sum[i])
	})
	s.returnSum(sum, addTo)

	normGrad(s, "normGrad", false)
	normGrad(s, "normGradAdd", true)

	s.begin("rotate", "(a, b, cos, sin []float32, sign float32)", "is vectorKernels.rotate.")
	sign := s.scalar("sign")
	s.loop(1, []string{"a", "b", "cos", "sin"}, func(l *vectorLoop, _ int) {
		a, b, cos, sin := l.load("a"), l.load("b"), l.load("cos"), l.load("sin")
		x, y := s.vec(), s.vec()
		VMULPS(sign, sin, sin)
		VMULPS(sin, b, x)
		VFMSUB231PS(cos, a, x) // a·cos - b·sin
		VMULPS(cos, b, y)
		VFMADD231PS(sin, a, y) // b·cos + a·sin
		l.store("a", x)
		l.store("b", y)
	})
	end()
	rotatePairs(s)
}

func normGrad(s isa, name string, add bool) {
	s.begin(name, "(dx, dy, x, weight []float32, r, rc float32)", "is vectorKernels."+name+".")
	r, rc := s.scalar("r"), s.scalar("rc")
	s.loop(2, []string{"dx", "dy", "x", "weight"}, func(l *vectorLoop, _ int) {
		Comment("r·dy·weight - rc·x")
		v := l.load("dy")
		VMULPS(l.load("weight"), v, v)
		VMULPS(r, v, v)
		VFNMADD231PS(l.load("x"), rc, v)
		if add {
			VADDPS(l.load("dx"), v, v)
		}
		l.store("dx", v)
	})
	end()
}

// rotatePairs takes half a register of cosines and sines for one of pairs and
// doubles each value in place.
func rotatePairs(s isa) {
	s.begin("rotatePairs", "(v, cos, sin []float32, sign float32)", "is vectorKernels.rotatePairs.")
	sign := s.scalar("sign")
	v, cos, sin := Load(Param("v").Base(), GP64()), Load(Param("cos").Base(), GP64()), Load(Param("sin").Base(), GP64())
	n := Load(Param("cos").Len(), GP64()).(GPVirtual)
	half := s.lanes / 2
	low := func(v VecVirtual) Op {
		if s.wide() {
			return v.AsY()
		}
		return v.AsX()
	}
	turn := func(c, sn, x VecVirtual) VecVirtual {
		Comment("c, c, … and s, s, …; swapped = odd, even; even: x·c - swapped·s, odd: x·c + swapped·s")
		for _, d := range []VecVirtual{c, sn} {
			VPMOVZXDQ(low(d), d)
			VMOVSLDUP(d, d)
		}
		swapped := s.vec()
		VMULPS(sign, sn, sn)
		VPERMILPS(Imm(0xb1), x, swapped)
		VMULPS(sn, swapped, swapped)
		VFMADDSUB231PS(c, x, swapped)
		return swapped
	}
	SUBQ(Imm(uint64(half)), n)
	JL(LabelRef("tail"))
	Label("whole")
	c, sn, x := s.vec(), s.vec(), s.vec()
	VMOVUPS(Mem{Base: cos}, low(c))
	VMOVUPS(Mem{Base: sin}, low(sn))
	VMOVUPS(Mem{Base: v}, x)
	VMOVUPS(turn(c, sn, x), Mem{Base: v})
	ADDQ(Imm(uint64(s.bytes()/2)), cos)
	ADDQ(Imm(uint64(s.bytes()/2)), sin)
	ADDQ(Imm(uint64(s.bytes())), v)
	SUBQ(Imm(uint64(half)), n)
	JGE(LabelRef("whole"))
	Label("tail")
	ADDQ(Imm(uint64(half)), n)
	JZ(LabelRef("done"))
	angles := s.columnMasks(n, 1)[0]
	ADDQ(n, n)
	pairs := s.columnMasks(n, 1)[0]
	c, sn, x = s.vec(), s.vec(), s.vec()
	s.loadMasked(Mem{Base: cos}, angles, c)
	s.loadMasked(Mem{Base: sin}, angles, sn)
	s.loadMasked(Mem{Base: v}, pairs, x)
	s.storeMasked(turn(c, sn, x), pairs, Mem{Base: v})
	Label("done")
	end()
}
