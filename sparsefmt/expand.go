package sparsefmt

import (
	"encoding/binary"
	"fmt"
	"math/bits"
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
	for row := r0; row < r1; {
		v, err := r.tile(row / TileRows)
		if err != nil {
			return err
		}
		for i := row % TileRows; i < v.rows && row < r1; i++ {
			if err := r.expandRow(&v, row, dst[:size]); err != nil {
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

// expandRow writes a row, which is in tile v.
func (r *Reader) expandRow(v *tile, row int, dst []byte) error {
	i := row % TileRows
	at, shift := r.position(v, i)
	switch r.coding {
	case CodingQ4Sym:
		r.expandSym(v, i, at, shift, dst)
	case CodingQ4Asym:
		if k := r.expandAsym(v, i, at, shift, dst); k >= 0 {
			scale, zero := r.group(v, i, k)
			return broken(RuleZeroExact, "row %d group %d: scale %#04x, zero code %d", row, k, scale, zero)
		}
	case CodingQ8Sym:
		r.expandBytes(v, i, at, dst)
	default:
		expandValues(r.rowMask(v, i), v.stream[2*at:], dst)
	}
	return nil
}

const (
	q40Bytes = 18 // d, 16 bytes of codes
	q41Bytes = 20 // d, m, 16 bytes of codes
	q80Bytes = 34 // d, 32 bytes of codes
)

// expandSym writes a row of Q4_0 blocks.
func (r *Reader) expandSym(v *tile, i, at int, shift uint, dst []byte) {
	mask := r.rowMask(v, i)
	for k := range r.groups {
		scale, _ := r.group(v, i, k)
		for n := r.groupBlocks(k); n > 0; n-- {
			m := binary.LittleEndian.Uint32(mask)
			lo, hi := expandBlock((*[64]byte)(v.stream[at:]), m, shift, pruned4Sym)
			q := (*[q40Bytes]byte)(dst)
			binary.LittleEndian.PutUint16(q[0:], scale)
			binary.LittleEndian.PutUint64(q[2:], lo)
			binary.LittleEndian.PutUint64(q[10:], hi)
			at += bits.OnesCount32(m)
			mask, dst = mask[4:], dst[q40Bytes:]
		}
	}
}

// expandAsym writes a row of Q4_1 blocks. It returns the first group whose
// minimum fp16 cannot hold, or -1.
func (r *Reader) expandAsym(v *tile, i, at int, shift uint, dst []byte) int {
	mask := r.rowMask(v, i)
	for k := range r.groups {
		scale, zero := r.group(v, i, k)
		least, ok := asymMin(scale, zero)
		if !ok {
			return k
		}
		for n := r.groupBlocks(k); n > 0; n-- {
			m := binary.LittleEndian.Uint32(mask)
			lo, hi := expandBlock((*[64]byte)(v.stream[at:]), m, shift, zero)
			q := (*[q41Bytes]byte)(dst)
			binary.LittleEndian.PutUint16(q[0:], scale)
			binary.LittleEndian.PutUint16(q[2:], least)
			binary.LittleEndian.PutUint64(q[4:], lo)
			binary.LittleEndian.PutUint64(q[12:], hi)
			at += bits.OnesCount32(m)
			mask, dst = mask[4:], dst[q41Bytes:]
		}
	}
	return -1
}

// expandBytes writes a row of Q8_0 blocks; pruned codes are 0.
func (r *Reader) expandBytes(v *tile, i, at int, dst []byte) {
	mask := r.rowMask(v, i)
	clear(dst)
	for k := range r.groups {
		scale, _ := r.group(v, i, k)
		for n := r.groupBlocks(k); n > 0; n-- {
			binary.LittleEndian.PutUint16(dst, scale)
			for m := binary.LittleEndian.Uint32(mask); m != 0; m &= m - 1 {
				dst[2+bits.TrailingZeros32(m)] = v.stream[at]
				at++
			}
			mask, dst = mask[4:], dst[q80Bytes:]
		}
	}
}

// groupBlocks is the number of blocks of 32 weights in group k of a row.
func (r *Reader) groupBlocks(k int) int {
	per := r.geometry.group / quantBlock
	return min(per, r.cols/quantBlock-k*per)
}

// expandValues writes a row of 16-bit values; pruned ones are +0.
func expandValues(mask, stream, dst []byte) {
	clear(dst)
	at := 0
	for w := 0; 8*w < len(mask); w++ {
		out := dst[2*maskBits*w:]
		for word := binary.LittleEndian.Uint64(mask[8*w:]); word != 0; word &= word - 1 {
			j := bits.TrailingZeros64(word)
			out[2*j], out[2*j+1] = stream[at], stream[at+1]
			at += 2
		}
	}
}
