package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// learn writes the functions of learnKernels.
func learn(s isa) {
	s.begin("sigmoid", "(value, slope, x []float32)", "is learnKernels.sigmoid.")
	e := newExpConstants(s)
	s.loop(1, []string{"value", "slope", "x"}, func(l *vectorLoop, _ int) {
		v := e.onePlusExpMinus(l.load("x"))
		sigma, slope := s.vec(), s.vec()
		VMOVAPS(e.one, sigma)
		VDIVPS(v, sigma, sigma)
		Comment("σ - σ·σ would cancel where σ is near 1")
		VMOVAPS(e.one, slope)
		VSUBPS(sigma, slope, slope)
		VMULPS(sigma, slope, slope)
		l.store("value", sigma)
		l.store("slope", slope)
	})
	end()

	s.begin("mulAdd", "(dst, a, b []float32)", "is learnKernels.mulAdd.")
	s.loop(4, []string{"dst", "a", "b"}, func(l *vectorLoop, _ int) {
		v := l.load("dst")
		VFMADD231PS(l.load("b"), l.load("a"), v)
		l.store("dst", v)
	})
	end()

	s.begin("loss", "(grad, out, ref, weight []float32) float32", "is learnKernels.loss.")
	sum := s.sums(2)
	s.loop(2, []string{"grad", "out", "ref", "weight"}, func(l *vectorLoop, slot int) {
		d, wd := l.load("out"), l.load("weight")
		VSUBPS(l.load("ref"), d, d)
		VMULPS(d, wd, wd)
		VFMADD231PS(d, wd, sum[slot])
		VADDPS(wd, wd, wd)
		l.store("grad", wd)
	})
	s.returnSum(sum, addTo)

	optimisers(s)
}

func optimisers(s isa) {
	s.begin("moments", "(m, v, grad []float32, b1, c1, b2, c2 float32)", "is learnKernels.moments.")
	b1, c1, b2, c2 := s.scalar("b1"), s.scalar("c1"), s.scalar("b2"), s.scalar("c2")
	s.loop(1, []string{"m", "v", "grad"}, func(l *vectorLoop, _ int) {
		g, m, v, square := l.load("grad"), l.load("m"), l.load("v"), s.vec()
		VMULPS(c2, g, square)
		VMULPS(g, square, square)
		VMULPS(c1, g, g)
		VFMADD132PS(b1, g, m) // m·b1 + c1·g
		VFMADD132PS(b2, square, v)
		l.store("m", m)
		l.store("v", v)
	})
	end()

	s.begin("descend", "(value, m, v []float32, size, inv, eps float32)", "is learnKernels.descend.")
	size, inv, eps := s.scalar("size"), s.scalar("inv"), s.scalar("eps")
	s.loop(1, []string{"value", "m", "v"}, func(l *vectorLoop, _ int) {
		x, m, root := l.load("value"), l.load("m"), l.load("v")
		VSQRTPS(root, root)
		VFMADD213PS(eps, inv, root)
		VMULPS(size, m, m)
		VDIVPS(root, m, m)
		VSUBPS(m, x, x)
		l.store("value", x)
	})
	end()

	s.begin("drift", "(s, grad, start, value []float32, b, c float32) (dot, abs float32)", "is learnKernels.drift.")
	b, c := s.scalar("b"), s.scalar("c")
	sign := s.inRegister(s.constantBits(1<<31 - 1))
	dots, sizes := s.sums(2), s.sums(2)
	s.loop(2, []string{"s", "grad", "start", "value"}, func(l *vectorLoop, slot int) {
		x, g, d := l.load("s"), l.load("grad"), l.load("start")
		VSUBPS(l.load("value"), d, d)
		VFMADD231PS(d, g, dots[slot])
		VMULPS(c, g, g)
		VFMADD132PS(b, g, x) // s·b + c·grad
		l.store("s", x)
		if s.wide() {
			VPANDD(sign, x, x)
		} else {
			VANDPS(sign, x, x)
		}
		VADDPS(x, sizes[slot], sizes[slot])
	})
	addTo(dots[1], dots[0])
	addTo(sizes[1], sizes[0])
	dot, abs := s.lanesSum(dots[0]), s.lanesSum(sizes[0])
	VMOVSS(dot, result(0))
	VMOVSS(abs, result(1))
	end()
}

// result is the address of a result.
func result(i int) Mem {
	m, err := ReturnIndex(i).Resolve()
	if err != nil {
		panic(err)
	}
	return m.Addr
}
