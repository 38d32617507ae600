package sparsefmt

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// ExpandRows writes rows r0 to r1-1 of a blob in the type it expands to,
// without decoding the others. dst must have (r1-r0) rows' bytes.
func ExpandRows(blob []byte, info TensorInfo, r0, r1 int, dst []byte) error {
	r, err := NewReader(blob, info)
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
	if r0 < 0 || r1 < r0 || r1 > r.rows {
		return fmt.Errorf("rows %d to %d: out of the range 0 to %d", r0, r1, r.rows)
	}
	size := r.RowBytes()
	if len(dst) != (r1-r0)*size {
		return fmt.Errorf("rows %d to %d: %d bytes given, want %d", r0, r1, len(dst), (r1-r0)*size)
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
	default:
		expandValues(r.rowMask(v, i), v.stream[2*at:], dst)
	}
	return nil
}

const (
	q40Bytes = 18 // d, 16 bytes of codes
	q41Bytes = 20 // d, m, 16 bytes of codes
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

// expandedSum is the XXH3-64 of the whole expanded tensor.
func (r *Reader) expandedSum(ctx context.Context) (uint64, error) {
	h := xxh3.New()
	err := r.eachTile(func(expanded []byte) error {
		_, _ = h.Write(expanded) // a hash never fails
		return ctx.Err()
	})
	return h.Sum64(), err
}

// eachTile calls f with the expanded bytes of one tile after the other; the
// buffer is reused. Memory: one expanded tile.
func (r *Reader) eachTile(f func(expanded []byte) error) error {
	size := r.RowBytes()
	buf := make([]byte, min(TileRows, r.rows)*size)
	for row := 0; row < r.rows; row += TileRows {
		n := min(TileRows, r.rows-row)
		if err := r.ExpandRows(row, row+n, buf[:n*size]); err != nil {
			return err
		}
		if err := f(buf[:n*size]); err != nil {
			return err
		}
	}
	return nil
}
