package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// vectors writes the functions of vectorKernels. Unrolled by four: enough
// sums to hide the latency of an addition, enough work to hide the loop's.
func vectors(s isa) {
	s.begin("dot", "(a, b []float32) float32", "is vectorKernels.dot.")
	sum := s.sums(4)
	s.loop(4, []string{"a", "b"}, func(l *vectorLoop, i int) {
		VFMADD231PS(l.load("b"), l.load("a"), sum[i])
	})
	s.returnSum(sum, addTo)

	s.begin("maximum", "(x []float32) float32", "is vectorKernels.maximum.")
	infinity := s.register(float32(math.Inf(-1)))
	tops := s.vecs(4)
	for _, v := range tops {
		VMOVAPS(infinity, v)
	}
	s.loop(4, []string{"x"}, func(l *vectorLoop, i int) {
		VMAXPS(tops[i], l.masked(l.load("x"), infinity), tops[i])
	})
	s.returnSum(tops, func(a, b Op) { VMAXPS(a, b, b) })

	s.begin("axpy", "(alpha float32, x, y []float32)", "is vectorKernels.axpy.")
	alpha := s.scalar("alpha")
	s.loop(4, []string{"x", "y"}, func(l *vectorLoop, _ int) {
		y := l.load("y")
		VFMADD231PS(l.load("x"), alpha, y)
		l.store("y", y)
	})
	end()

	s.begin("scale", "(alpha float32, x []float32)", "is vectorKernels.scale.")
	alpha = s.scalar("alpha")
	s.loop(4, []string{"x"}, func(l *vectorLoop, _ int) {
		x := l.load("x")
		VMULPS(alpha, x, x)
		l.store("x", x)
	})
	end()

	s.elementwise("add", "is vectorKernels.add.", func(a, b VecVirtual) { VADDPS(b, a, a) })
	s.elementwise("mul", "is vectorKernels.mul.", func(a, b VecVirtual) { VMULPS(b, a, a) })

	s.begin("softmaxGrad", "(dst, y, dy []float32, dot float32)", "is vectorKernels.softmaxGrad.")
	dot := s.scalar("dot")
	s.loop(4, []string{"dst", "y", "dy"}, func(l *vectorLoop, _ int) {
		v := l.load("dy")
		VSUBPS(dot, v, v)
		VMULPS(l.load("y"), v, v)
		l.store("dst", v)
	})
	end()
}

// elementwise writes dst = f(a, b); f leaves its result in a.
func (s isa) elementwise(name, doc string, f func(a, b VecVirtual)) {
	s.begin(name, "(dst, a, b []float32)", doc)
	s.loop(4, []string{"dst", "a", "b"}, func(l *vectorLoop, _ int) {
		a := l.load("a")
		f(a, l.load("b"))
		l.store("dst", a)
	})
	end()
}

// sums returns n zeroed registers.
func (s isa) sums(n int) []VecVirtual {
	v := s.vecs(n)
	for _, r := range v {
		s.zero(r)
	}
	return v
}

func addTo(a, b Op) { VADDPS(a, b, b) }

// returnSum ends a function with the sum (or what else to, which is b = b + a,
// makes of it) of all lanes of all registers: pairs of registers, then halves.
func (s isa) returnSum(v []VecVirtual, to func(a, b Op)) {
	Comment("sum registers, then halves")
	for ; len(v) > 1; v = v[:len(v)/2] {
		for i := range len(v) / 2 {
			to(v[len(v)/2+i], v[i])
		}
	}
	y := v[0].AsY()
	half := YMM()
	if s.wide() {
		VEXTRACTF64X4(Imm(1), v[0], half)
		to(half, y)
	}
	x, quarter := v[0].AsX(), half.AsX()
	VEXTRACTF128(Imm(1), y, quarter)
	to(quarter, x)
	VPSHUFD(Imm(0xee), x, quarter) // lanes 2, 3
	to(quarter, x)
	VPSHUFD(Imm(0x55), x, quarter) // lane 1
	to(quarter, x)
	VZEROUPPER() // before avo's MOVSS, an SSE instruction
	Store(x, ReturnIndex(0))
	RET()
}
