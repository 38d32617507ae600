package sparsefmt

import (
	"encoding/binary"
	"fmt"

	"besa/gguf"
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
	var groups *asymGroups
	if r.zeros {
		groups = new(asymGroups)
	}
	for row := r0; row < r1; {
		v, err := r.tile(row / TileRows)
		if err != nil {
			return err
		}
		for i := row % TileRows; i < v.rows && row < r1; i++ {
			if err := r.expandRow(&v, row, dst[:size], groups); err != nil {
				return err
			}
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

// expandRow writes a row, which is in tile v; groups is there for CodingQ4Asym.
func (r *Reader) expandRow(v *tile, row int, dst []byte, groups *asymGroups) error {
	i := row % TileRows
	var k kernel.Nibbles
	k.Mask, k.Stream, k.Ahead = r.rowMask(v, i), v.stream[max(1, r.width)*v.at[i]:], r.ahead(row)
	k.High, k.Group = v.halves.high(i), r.geometry.group
	switch r.coding {
	case CodingQ4Sym:
		k.Q40(dst, r.rowScales(v, i))
	case CodingQ4Asym:
		return r.expandAsym(v, row, &k, dst, groups)
	case CodingQ8Sym:
		k.Q80(dst, r.rowScales(v, i), k.Group)
	default:
		k.Values(dst)
	}
	return nil
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

// asymGroups are groups of a row that are prepared at a time: in all group
// sizes they are whole mask words.
type asymGroups struct {
	heads [64]uint32
	zeros [64]uint8
}

// expandAsym writes a row of Q4_1 blocks.
func (r *Reader) expandAsym(v *tile, row int, n *kernel.Nibbles, dst []byte, g *asymGroups) error {
	i, scales := row%TileRows, r.rowScales(v, row%TileRows)
	first := r.slot(v.halves, i) * r.groups
	for k := 0; k < r.groups; k += len(g.zeros) {
		groups := min(len(g.zeros), r.groups-k)
		heads, zeros := g.heads[:groups], g.zeros[:groups]
		unpackNibbles(zeros, v.zeros, first+k)
		if !kernel.Minima(heads, scales[2*k:2*(k+groups)], zeros) {
			return r.inexactZero(v, row)
		}
		weights := min(groups*r.geometry.group, r.cols-k*r.geometry.group)
		part, mask := *n, ceilDiv(weights, maskBits)*8
		part.Mask, part.Ahead = n.Mask[:mask], n.Ahead[len(n.Ahead)*k/r.groups:len(n.Ahead)*(k+groups)/r.groups]
		size := weights / quantBlock * gguf.Q4_1.BlockBytes()
		part.Q41(dst[:size], heads, zeros)
		if dst = dst[size:]; len(dst) == 0 {
			break
		}
		n.Mask, n.Stream = n.Mask[mask:], n.Stream[kernel.Survivors(n.Mask[:mask]):]
	}
	return nil
}

// unpackNibbles writes nibbles of src, low ones first, from number first on.
func unpackNibbles(dst, src []byte, first int) {
	src = src[first/2:]
	shift := first % 2 * 4
	for ; len(dst) >= 8 && len(src) >= 8; dst, src = dst[8:], src[4:] {
		x := binary.LittleEndian.Uint64(src) >> shift & 0xffffffff
		x = (x | x<<16) & 0x0000ffff0000ffff
		x = (x | x<<8) & 0x00ff00ff00ff00ff
		x = (x | x<<4) & 0x0f0f0f0f0f0f0f0f
		binary.LittleEndian.PutUint64(dst, x)
	}
	for j := range dst {
		at := first%2 + j
		dst[j] = src[at/2] >> (4 * (at % 2)) & 15
	}
}

// inexactZero says which group of a row breaks rule R17.
func (r *Reader) inexactZero(v *tile, row int) error {
	for k := range r.groups {
		scale, zero := r.group(v, row%TileRows, k)
		if _, ok := kernel.Minimum(scale, zero); !ok {
			return broken(RuleZeroExact, "row %d group %d: scale %#04x, zero code %d", row, k, scale, zero)
		}
	}
	return nil // not reached
}
