package sparsefmt

import (
	"encoding/binary"

	"besa/internal/kernel"
)

// Check verifies every rule about the inside of a blob: R12 to R18. The
// checksums and the header are not its business.
func (r *Reader) Check() error {
	if err := r.zeroBytesAt(r.tablesEnd(), r.firstTile(), "before the first tile"); err != nil {
		return err
	}
	total := uint64(0)
	for t := range r.tiles {
		v, err := r.tile(t)
		if err != nil {
			return err
		}
		for i := range v.rows {
			total += uint64(v.count[i])
			if err := r.checkRow(&v, i, t*TileRows+i); err != nil {
				return err
			}
		}
		if err := r.checkUnused(&v, t); err != nil {
			return err
		}
	}
	if total != r.survivors {
		return broken(RuleSurvivors, "the masks hold %d survivors, the header says %d", total, r.survivors)
	}
	return r.zeroBytesAt(r.offset(r.tiles), uint64(len(r.blob)), "after the last tile")
}

// checkRow checks the numbers of row i of a tile (rules R16, R17).
func (r *Reader) checkRow(v *tile, i, row int) error {
	for k := range r.groups {
		scale, zero := r.group(v, i, k)
		if scale&f16ExpMask == f16ExpMask {
			return broken(RuleFinite, "row %d group %d: scale %#04x", row, k, scale)
		}
		if _, ok := kernel.Minimum(scale, zero); r.zeros && !ok {
			return broken(RuleZeroExact, "row %d group %d: scale %#04x, zero code %d", row, k, scale, zero)
		}
	}
	exp := r.coding.spec().expMask
	if exp == 0 {
		return nil
	}
	for n := range v.count[i] {
		if x := binary.LittleEndian.Uint16(v.stream[2*(v.at[i]+n):]); x&exp == exp {
			return broken(RuleFinite, "row %d survivor %d: value %#04x", row, n, x)
		}
	}
	return nil
}

// checkUnused checks the bits of a tile that hold nothing (rule R18): the odd
// zero code, the shorter nibble plane and the padding.
func (r *Reader) checkUnused(v *tile, t int) error {
	if codes := v.rows * r.groups; len(v.zeros) != 0 && codes%2 != 0 && v.zeros[len(v.zeros)-1]>>4 != 0 {
		return broken(RuleUnusedBits, "tile %d: the nibble after the last zero code is set", t)
	}
	if r.nibbles {
		low, high := v.halves.sum(v.count[:v.rows])
		mask := byte(0xf0)
		if low < high {
			mask = 0x0f
		}
		for i := min(low, high); i < v.length; i++ {
			if v.stream[i]&mask != 0 {
				return broken(RuleUnusedBits, "tile %d: byte %d of the stream has bits in the plane that has ended", t, i)
			}
		}
	}
	end := uint64(len(r.blob)-len(v.stream)) + uint64(v.length)
	return r.zeroBytesAt(end, r.offset(t+1), "after a tile")
}

// zeroBytesAt checks that blob[from:to] is zero.
func (r *Reader) zeroBytesAt(from, to uint64, where string) error {
	if i := firstNonZero(r.blob[from:to]); i >= 0 {
		return broken(RuleUnusedBits, "byte %d, padding %s, is %#02x", from+uint64(i), where, r.blob[from+uint64(i)])
	}
	return nil
}

// firstNonZero returns the index of the first byte that is not zero, or -1.
func firstNonZero(b []byte) int {
	for i, x := range b {
		if x != 0 {
			return i
		}
	}
	return -1
}
