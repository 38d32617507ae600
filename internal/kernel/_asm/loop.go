package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// vectorLoop walks slices of equal length a register at a time.
type vectorLoop struct {
	s      isa
	at     GPVirtual // bytes done
	slices map[string]GPVirtual
	mask   Op // of the lanes in use, nil when all are
	disp   int
}

// loop writes the loop over the named slices: unroll registers at a time,
// then one, then the rest under a mask. body does one register; slot tells
// which of the unrolled ones.
func (s isa) loop(unroll int, slices []string, body func(l *vectorLoop, slot int)) {
	l := &vectorLoop{s: s, at: GP64(), slices: map[string]GPVirtual{}}
	for _, name := range slices {
		l.slices[name] = Load(Param(name).Base(), GP64()).(GPVirtual)
	}
	n := Load(Param(slices[0]).Len(), GP64()).(GPVirtual)
	XORQ(l.at, l.at)
	if unroll > 1 {
		s.rounds(l, n, unroll, "unrolled", "single", body)
	}
	s.rounds(l, n, 1, "single", "tail", body)
	JZ(LabelRef("done"))
	l.mask = s.columnMasks(n, 1)[0]
	body(l, 0)
	l.mask = nil
	Label("done")
}

// rounds writes a loop of unroll registers a round. It falls through to the
// label next with the number of values left, and the flags of that.
func (s isa) rounds(l *vectorLoop, n GPVirtual, unroll int, name, next string, body func(*vectorLoop, int)) {
	step := uint64(unroll * s.lanes)
	SUBQ(Imm(step), n)
	JL(LabelRef(next + "Entry"))
	Label(name)
	for slot := range unroll {
		l.disp = slot * s.bytes()
		body(l, slot)
	}
	l.disp = 0
	ADDQ(U32(4*step), l.at)
	SUBQ(Imm(step), n)
	JGE(LabelRef(name))
	Label(next + "Entry")
	ADDQ(Imm(step), n)
}

// mem is the address of the present register's values in a slice.
func (l *vectorLoop) mem(slice string) Mem {
	return Mem{Base: l.slices[slice], Index: l.at, Scale: 1, Disp: l.disp}
}

// load returns the present values of a slice, zeros where the mask hides them.
func (l *vectorLoop) load(slice string) VecVirtual {
	v := l.s.vec()
	if l.mask == nil {
		VMOVUPS(l.mem(slice), v)
	} else {
		l.s.loadMasked(l.mem(slice), l.mask, v)
	}
	return v
}

// store writes them.
func (l *vectorLoop) store(slice string, v Op) {
	if l.mask == nil {
		VMOVUPS(v, l.mem(slice))
	} else {
		l.s.storeMasked(v, l.mask, l.mem(slice))
	}
}

// masked returns v with other in place of what the mask hides.
func (l *vectorLoop) masked(v, other VecVirtual) VecVirtual {
	if l.mask == nil {
		return v
	}
	r := l.s.vec()
	if l.s.wide() {
		VBLENDMPS(v, other, l.mask, r)
	} else {
		VBLENDVPS(l.mask, v, other, r)
	}
	return r
}

// scalar returns an argument in every lane.
func (s isa) scalar(name string) VecVirtual {
	v := s.vec()
	m, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(m.Addr, v)
	return v
}

var constants = map[uint32]Mem{}

// constant returns a value in every lane: from memory for AVX2, which has no
// registers to spare, else in a register.
func (s isa) constant(f float32) Op { return s.constantBits(math.Float32bits(f)) }

// constantBits is constant for any 32 bits.
func (s isa) constantBits(bits uint32) Op {
	m, ok := constants[bits]
	if !ok {
		m = GLOBL(fmt.Sprintf("const_%08x", bits), RODATA|NOPTR)
		for i := range 8 {
			DATA(4*i, U32(bits))
		}
		constants[bits] = m
	}
	if !s.wide() {
		return m
	}
	v := s.vec()
	VBROADCASTSS(m, v)
	return v
}

// register returns a constant in a register.
func (s isa) register(f float32) VecVirtual { return s.inRegister(s.constant(f)) }

func (s isa) inRegister(c Op) VecVirtual {
	if v, ok := c.(VecVirtual); ok {
		return v
	}
	v := s.vec()
	VMOVUPS(c, v)
	return v
}
