package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// ranked writes the mask operator's functions. They do whole registers, and
// whole groups, only; what is left of a row is the portable twins'.
func ranked(s isa) {
	keep(s)
	scatter(s)
	prefix(s)
	quantize(s)
	gridGrad(s)
	gridError(s)
}

// columns walks a row a register at a time.
type columns struct {
	s  isa
	at GPVirtual // columns done
}

// floats is the address of the present columns in a slice of float32.
func (c columns) floats(base Register) Mem { return Mem{Base: base, Index: c.at, Scale: 4} }

// ranks is their address in a slice of uint16.
func (c columns) ranks(base Register) Mem { return Mem{Base: base, Index: c.at, Scale: 2} }

// ahead is how far before their use, in bytes, weights are fetched: where much
// is done for each, the CPU's own prefetching comes too late.
const ahead = 1024

// prefetch fetches what the slices of float32 hold ahead bytes on.
func (c columns) prefetch(bases ...Register) {
	for _, b := range bases {
		m := c.floats(b)
		m.Disp = ahead
		PREFETCHT0(m)
	}
}

// base loads a slice argument's address.
func base(name string) GPVirtual { return Load(Param(name).Base(), GP64()).(GPVirtual) }

// wholeRow writes the loop over a row of n columns, a multiple of a register's
// lanes; body does one register's.
func (s isa) wholeRow(n GPVirtual, body func(columns)) {
	c := columns{s, GP64()}
	XORQ(c.at, c.at)
	JMP(LabelRef("columnsEntry"))
	Label("columns")
	body(c)
	ADDQ(Imm(uint64(s.lanes)), c.at)
	Label("columnsEntry")
	CMPQ(c.at, n)
	JL(LabelRef("columns"))
}

// belowPrune returns prune - 1 in every lane: ranks above it are kept.
func (s isa) belowPrune() VecVirtual {
	limit := param("prune")
	DECQ(limit)
	v := s.vec()
	VMOVD(limit.As32(), v.AsX())
	VPBROADCASTD(v.AsX(), v)
	return v
}

// kept returns the mask of the present columns whose rank is above limit.
func (s isa) kept(ranks Mem, limit VecVirtual) Op {
	const greater = 6
	r := s.vec()
	VPMOVZXWD(ranks, r)
	if !s.wide() {
		VPCMPGTD(limit, r, r)
		return r
	}
	k := K()
	VPCMPD(Imm(greater), limit, r, k)
	return k
}

// only returns v in the lanes of the mask and 0 in the others.
func (s isa) only(v VecVirtual, mask Op) VecVirtual {
	r := s.vec()
	if s.wide() {
		VMOVAPS_Z(v, mask, r)
	} else {
		VANDPS(v, mask, r)
	}
	return r
}

func keep(s isa) {
	s.begin("keep", "(dst, w []float32, rank []uint16, prune int)", "is rankedKernels.keep for whole registers.")
	dst, w, rank := base("dst"), base("w"), base("rank")
	limit := s.belowPrune()
	s.wholeRow(Load(Param("w").Len(), GP64()).(GPVirtual), func(c columns) {
		k := s.kept(c.ranks(rank), limit)
		v := s.vec()
		s.loadMasked(c.floats(w), k, v)
		VMOVUPS(v, c.floats(dst))
	})
	end()
}

// scatter stores products where their ranks say: no rank comes twice, so
// there are no conflicts. AVX2 has no instruction for it and stores them one by one.
func scatter(s isa) {
	s.begin("scatter", "(dst, w, dw []float32, rank []uint16)", "is rankedKernels.scatter for whole registers.")
	var products Mem
	if !s.wide() {
		products = AllocLocal(s.bytes())
	}
	dst, w, dw, rank := base("dst"), base("w"), base("dw"), base("rank")
	s.wholeRow(Load(Param("w").Len(), GP64()).(GPVirtual), func(c columns) {
		c.prefetch(w, dw)
		v := s.vec()
		VMOVUPS(c.floats(w), v)
		VMULPS(c.floats(dw), v, v)
		if s.wide() {
			r, all := s.vec(), K()
			VPMOVZXWD(c.ranks(rank), r)
			KXNORW(all, all, all)
			VSCATTERDPS(v, all, Mem{Base: dst, Index: r, Scale: 4})
			return
		}
		VMOVUPS(v, products)
		for i := range s.lanes {
			r, x := GP64(), GP32()
			at := c.ranks(rank)
			at.Disp = 2 * i
			MOVWQZX(at, r)
			MOVL(products.Offset(4*i), x)
			MOVL(x, Mem{Base: dst, Index: r, Scale: 4})
		}
	})
	end()
}

// prefix adds the register shifted by 1, 2, 4, … lanes to itself, and the sum
// of all before.
func prefix(s isa) {
	s.begin("prefix", "(x []float32)", "is rankedKernels.prefix for whole registers.")
	x := base("x")
	zero, carry := s.vec(), s.vec()
	s.zero(zero)
	s.zero(carry)
	last := s.vec() // the index of the last lane, in every lane
	VPBROADCASTD(lastLane(s), last)
	s.wholeRow(Load(Param("x").Len(), GP64()).(GPVirtual), func(c columns) {
		v, shifted := s.vec(), s.vec()
		VMOVUPS(c.floats(x), v)
		if s.wide() {
			for _, by := range []uint64{1, 2, 4, 8} {
				VALIGND(Imm(16-by), zero, v, shifted)
				VADDPS(shifted, v, v)
			}
		} else {
			for _, by := range []uint64{1, 2} {
				VPSLLDQ(Imm(4*by), v, shifted)
				VADDPS(shifted, v, v)
			}
			Comment("add the lower half's sum to the upper half")
			VPERM2F128(Imm(0x08), v, v, shifted)
			VPSHUFD(Imm(0xff), shifted, shifted)
			VADDPS(shifted, v, v)
		}
		total := s.vec()
		VPERMPS(v, last, total)
		VADDPS(carry, v, v)
		VMOVUPS(v, c.floats(x))
		VADDPS(total, carry, carry)
	})
	end()
}

// lastLane is the index of a register's last lane in memory.
func lastLane(s isa) Mem {
	m := GLOBL("lastLane"+s.name, RODATA|NOPTR)
	DATA(0, U32(s.lanes-1))
	return m
}

// grid is a 4-bit grid in registers: its step, what weights are divided by
// (infinity where the step is 0, which makes every value 0), and its zero point.
type grid struct {
	s             isa
	h, divisor, z VecVirtual
	none, top     Op // 0 and the highest code
	infinity      Op
}

func (s isa) newGrid() *grid {
	g := &grid{s: s, h: s.vec(), divisor: s.vec(), z: s.vec(), top: s.constant(15), infinity: s.constantBits(0x7f800000)}
	none := s.vec()
	s.zero(none)
	g.none = none
	return g
}

// load takes step and zero point from memory.
func (g *grid) load(step, zero Mem) {
	const equal = 0
	VBROADCASTSS(step, g.h)
	VBROADCASTSS(zero, g.z)
	if g.s.wide() {
		k := K()
		VCMPPS(Imm(equal), g.none, g.h, k)
		VMOVAPS(g.h, g.divisor)
		VMOVAPS(g.infinity, k, g.divisor)
	} else {
		VCMPPS(Imm(equal), g.none, g.h, g.divisor)
		VANDPS(g.infinity, g.divisor, g.divisor)
		VORPS(g.h, g.divisor, g.divisor)
	}
}

// code returns the codes of weights w, which become w in units of the step.
func (g *grid) code(w VecVirtual) VecVirtual {
	const nearestEven = 0
	q := g.s.vec()
	VDIVPS(g.divisor, w, w)
	if g.s.wide() {
		VRNDSCALEPS(Imm(nearestEven), w, q)
	} else {
		VROUNDPS(Imm(nearestEven), w, q)
	}
	VADDPS(g.z, q, q)
	VMAXPS(g.none, q, q)
	VMINPS(g.top, q, q)
	return q
}

// wholeGroups writes the loop over a row's groups; init does what comes before
// a group's columns, body one register of columns, done what comes after.
func (g *grid) wholeGroups(init func(), body func(columns), done func(at func(slice string) Mem)) {
	s := g.s
	step, zero := base("step"), base("zero")
	groups := Load(Param("step").Len(), GP64()).(GPVirtual)
	group := param("group")
	k, c, until := GP64(), columns{s, GP64()}, GP64()
	XORQ(k, k)
	XORQ(c.at, c.at)
	XORQ(until, until)
	JMP(LabelRef("groupsEntry"))
	Label("groups")
	g.load(Mem{Base: step, Index: k, Scale: 4}, Mem{Base: zero, Index: k, Scale: 4})
	init()
	ADDQ(group, until)
	Label("columns")
	body(c)
	ADDQ(Imm(uint64(s.lanes)), c.at)
	CMPQ(c.at, until)
	JL(LabelRef("columns"))
	done(func(slice string) Mem { return Mem{Base: base(slice), Index: k, Scale: 4} })
	INCQ(k)
	Label("groupsEntry")
	CMPQ(k, groups)
	JL(LabelRef("groups"))
}

func quantize(s isa) {
	s.begin("quantize", "(group int, step, zero, dst, w []float32, rank []uint16, prune int)", "is rankedKernels.quantize for whole groups.")
	dst, w, rank := base("dst"), base("w"), base("rank")
	limit := s.belowPrune()
	g := s.newGrid()
	g.wholeGroups(func() {}, func(c columns) {
		v := s.vec()
		VMOVUPS(c.floats(w), v)
		q := g.code(v)
		VSUBPS(g.z, q, q)
		VMULPS(g.h, q, q)
		VMOVUPS(s.only(q, s.kept(c.ranks(rank), limit)), c.floats(dst))
	}, func(func(string) Mem) {})
	end()
}

func gridGrad(s isa) {
	s.begin("gridGrad", "(group int, step, zero, value, dStep, dZero, w, dw []float32, rank []uint16, prune int)",
		"is rankedKernels.gridGrad for whole groups.")
	value, w, dw, rank := base("value"), base("w"), base("dw"), base("rank")
	limit := s.belowPrune()
	g := s.newGrid()
	sum, clipped := s.vec(), s.vec()
	start := func() {
		s.zero(sum)
		s.zero(clipped)
	}
	g.wholeGroups(start, func(c columns) {
		c.prefetch(w, dw)
		u, d, v := s.vec(), s.vec(), s.vec()
		s.loadMasked(c.floats(dw), s.kept(c.ranks(rank), limit), d)
		VMOVUPS(c.floats(w), u)
		q := g.code(u)
		inside := g.inside(q)
		VSUBPS(g.z, q, q)
		VMULPS(g.h, q, v)
		VMOVUPS(v, c.floats(value))
		Comment("sum += d·(q - z - (u where inside)); clipped += d where not")
		VSUBPS(s.only(u, inside), q, q)
		VFMADD231PS(q, d, sum)
		VSUBPS(s.only(d, inside), d, d)
		VADDPS(d, clipped, clipped)
	}, func(at func(string) Mem) {
		VMULPS(g.h, clipped, clipped)
		x, y := s.lanesSum(sum), s.lanesSum(clipped)
		VMOVSS(x, at("dStep"))
		minus := XMM()
		VXORPS(minus, minus, minus)
		VSUBSS(y, minus, minus)
		VMOVSS(minus, at("dZero"))
	})
	end()
}

// inside returns the mask of codes that are neither the lowest nor the highest.
func (g *grid) inside(q VecVirtual) Op {
	const less = 1
	if g.s.wide() {
		above, k := K(), K()
		VCMPPS(Imm(less), q, g.none, above)
		VCMPPS(Imm(less), g.top, q, k)
		KANDW(above, k, k)
		return k
	}
	above, k := YMM(), YMM()
	VCMPPS(Imm(less), q, g.none, above)
	VCMPPS(Imm(less), g.top, q, k)
	VANDPS(above, k, k)
	return k
}

// lanesSum adds the lanes of v up and returns the sum in the lowest.
func (s isa) lanesSum(v VecVirtual) Op {
	y := v.AsY()
	half := YMM()
	if s.wide() {
		VEXTRACTF64X4(Imm(1), v, half)
		VADDPS(half, y, y)
	}
	x, quarter := v.AsX(), half.AsX()
	VEXTRACTF128(Imm(1), y, quarter)
	VADDPS(quarter, x, x)
	VPSHUFD(Imm(0xee), x, quarter)
	VADDPS(quarter, x, x)
	VPSHUFD(Imm(0x55), x, quarter)
	VADDPS(quarter, x, x)
	return x
}

func gridError(s isa) {
	s.begin("gridError", "(w, weight []float32, step, zero float32) float32", "is rankedKernels.gridError.")
	g := s.newGrid()
	g.load(argument("step"), argument("zero"))
	sum := s.sums(2)
	s.loop(2, []string{"w", "weight"}, func(l *vectorLoop, slot int) {
		w, weight := l.load("w"), l.load("weight")
		u := s.vec()
		VMOVAPS(w, u)
		d := g.code(u)
		VSUBPS(g.z, d, d)
		VFMSUB213PS(w, g.h, d) // (q - z)·h - w
		VMULPS(d, weight, weight)
		VFMADD231PS(d, weight, sum[slot])
	})
	s.returnSum(sum, addTo)
}

// argument is the address of an argument.
func argument(name string) Mem {
	m, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return m.Addr
}
