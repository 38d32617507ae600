package sparsefmt

import (
	"encoding/binary"
	"fmt"
	"sync"

	"besa/internal/kernel"
)

// ExpandRows writes rows r0 to r1-1 of a blob of either layout in the type it
// expands to, without decoding others that are not stored together with them.
// dst must have (r1-r0) rows' bytes.
func ExpandRows(blob []byte, info TensorInfo, r0, r1 int, dst []byte) error {
	r, err := openBlob(blob, info)
	if err != nil {
		return inTensor(info.Name, err)
	}
	return inTensor(info.Name, r.ExpandRows(r0, r1, dst))
}

// Rows is the number of rows.
func (r *Reader) Rows() int { return r.rows }

// RowBytes is the size of a row in the type the blob expands to.
func (r *Reader) RowBytes() int { return expandedRowBytes(r.coding, r.cols) }

// ExpandRows writes rows r0 to r1-1 in the type the blob expands to. dst must
// have (r1-r0) × RowBytes bytes; its contents after an error are undefined.
func (r *Reader) ExpandRows(r0, r1 int, dst []byte) error {
	size := r.RowBytes()
	if err := checkRange(r0, r1, r.rows, size, len(dst)); err != nil {
		return err
	}
	groups := idleGroups.Get().(*asymGroups)
	defer idleGroups.Put(groups)
	for row := r0; row < r1; {
		v, err := r.tile(row / TileRows)
		if err != nil {
			return err
		}
		if r.zeros {
			if err := r.prepare(groups, &v, row/TileRows); err != nil {
				return err
			}
		}
		for i := row % TileRows; i < v.rows && row < r1; i++ {
			r.expandRow(&v, row, dst[:size], groups)
			dst, row = dst[size:], row+1
		}
	}
	return nil
}

// checkRange checks the arguments of ExpandRows.
func checkRange(r0, r1, rows, rowBytes, given int) error {
	if r0 < 0 || r1 < r0 || r1 > rows {
		return fmt.Errorf("rows %d to %d: out of the range 0 to %d", r0, r1, rows)
	}
	if want := (r1 - r0) * rowBytes; given != want {
		return fmt.Errorf("rows %d to %d: %d bytes given, want %d", r0, r1, given, want)
	}
	return nil
}

// expandRow writes a row, which is in tile v; groups is the tile's.
func (r *Reader) expandRow(v *tile, row int, dst []byte, groups *asymGroups) {
	i := row % TileRows
	var k kernel.Nibbles
	k.Mask, k.Stream, k.Ahead = r.rowMask(v, i), v.stream[max(1, r.width)*v.at[i]:], r.ahead(row)
	k.High, k.Group = v.halves.high(i), r.geometry.group
	switch r.coding {
	case CodingQ4Sym:
		k.Q40(dst, r.rowScales(v, i))
	case CodingQ4Asym:
		at := r.slot(v.halves, i) * r.groups
		k.Q41(dst, groups.heads[at:at+r.groups], groups.zeros[at:at+r.groups])
	case CodingQ8Sym:
		k.Q80(dst, r.rowScales(v, i), k.Group)
	default:
		k.Values(dst)
	}
}

// ahead is a row's share of the tile behind its own, which is read next.
func (r *Reader) ahead(row int) []byte {
	t, i := row/TileRows+1, uint64(row%TileRows)
	if t == r.tiles {
		return nil
	}
	start, size := r.offset(t), r.offset(t+1)-r.offset(t)
	return r.blob[start+size*i/TileRows : start+size*(i+1)/TileRows]
}

// asymGroups is what Q4_1 has for the groups of a tile, in slot order.
type asymGroups struct {
	heads []uint32
	zeros []uint8
}

// idleGroups saves the garbage of a tile's groups for every few rows.
var idleGroups = sync.Pool{New: func() any { return new(asymGroups) }}

// prepare fills g for tile t. An inexact zero in any of its rows is an error.
func (r *Reader) prepare(g *asymGroups, v *tile, t int) error {
	zeros := resize(&g.zeros, r.groups*v.rows)
	if len(g.heads) < len(zeros) {
		g.heads = make([]uint32, len(zeros))
	}
	unpackNibbles(zeros, v.zeros)
	if kernel.Minima(g.heads[:len(zeros)], v.scales, zeros) {
		return nil
	}
	for i := range v.rows {
		for k := range r.groups {
			scale, zero := r.group(v, i, k)
			if _, ok := kernel.Minimum(scale, zero); !ok {
				return broken(RuleZeroExact, "row %d group %d: scale %#04x, zero code %d", t*TileRows+i, k, scale, zero)
			}
		}
	}
	return nil // not reached
}

// unpackNibbles writes the nibbles of src, low ones first.
func unpackNibbles(dst, src []byte) {
	for ; len(dst) >= 8; dst, src = dst[8:], src[4:] {
		x := uint64(binary.LittleEndian.Uint32(src))
		x = (x | x<<16) & 0x0000ffff0000ffff
		x = (x | x<<8) & 0x00ff00ff00ff00ff
		x = (x | x<<4) & 0x0f0f0f0f0f0f0f0f
		binary.LittleEndian.PutUint64(dst, x)
	}
	for j := range dst {
		dst[j] = src[j/2] >> (4 * (j % 2)) & 15
	}
}
