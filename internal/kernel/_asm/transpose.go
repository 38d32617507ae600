package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// transposed returns the columns of a square of lanes rows, one per register.
//
// Registers consist of 128-bit lanes L of four values. Interleaving values of
// two rows, then pairs of values of two such, collects in lane L of quads[q][c]
// the values of rows 4q…4q+3 in column 4L+c. What remains is to transpose the
// lanes: column 4L+c is lane L of quads[0][c], quads[1][c], ….
func (s isa) transposed(rows []VecVirtual) []VecVirtual {
	var quads [][4]VecVirtual
	for i := 0; i < s.lanes; i += 4 {
		quads = append(quads, s.interleave4(rows[i:i+4]))
	}
	cols := make([]VecVirtual, s.lanes)
	for c := range 4 {
		if s.wide() {
			s.lanes4(cols, c, quads)
		} else {
			s.lanes2(cols, c, quads)
		}
	}
	return cols
}

// interleave4 transposes each 4×4 square of four rows.
func (s isa) interleave4(r []VecVirtual) (q [4]VecVirtual) {
	lo01, hi01, lo23, hi23 := s.vec(), s.vec(), s.vec(), s.vec()
	VUNPCKLPS(r[1], r[0], lo01) // r0[0] r1[0] r0[1] r1[1]
	VUNPCKHPS(r[1], r[0], hi01) // r0[2] r1[2] r0[3] r1[3]
	VUNPCKLPS(r[3], r[2], lo23)
	VUNPCKHPS(r[3], r[2], hi23)
	for i := range q {
		q[i] = s.vec()
	}
	VUNPCKLPD(lo23, lo01, q[0]) // r0[0] r1[0] r2[0] r3[0]
	VUNPCKHPD(lo23, lo01, q[1])
	VUNPCKLPD(hi23, hi01, q[2])
	VUNPCKHPD(hi23, hi01, q[3])
	return q
}

// lanes2 transposes 2×2 lanes.
func (s isa) lanes2(cols []VecVirtual, c int, quads [][4]VecVirtual) {
	cols[c], cols[4+c] = s.vec(), s.vec()
	VPERM2F128(Imm(0x20), quads[1][c], quads[0][c], cols[c])
	VPERM2F128(Imm(0x31), quads[1][c], quads[0][c], cols[4+c])
}

// lanes4 transposes 4×4 lanes: even and odd ones of two registers, then again.
func (s isa) lanes4(cols []VecVirtual, c int, quads [][4]VecVirtual) {
	const even, odd = 0x88, 0xdd // lanes 0 and 2, or 1 and 3, of both operands
	pick := func(which uint64, a, b VecVirtual) VecVirtual {
		v := s.vec()
		VSHUFF32X4(Imm(which), b, a, v)
		return v
	}
	q := [4]VecVirtual{quads[0][c], quads[1][c], quads[2][c], quads[3][c]}
	even01, odd01 := pick(even, q[0], q[1]), pick(odd, q[0], q[1])
	even23, odd23 := pick(even, q[2], q[3]), pick(odd, q[2], q[3])
	cols[c] = pick(even, even01, even23)
	cols[8+c] = pick(odd, even01, even23)
	cols[4+c] = pick(even, odd01, odd23)
	cols[12+c] = pick(odd, odd01, odd23)
}
