package sparsefmt

import (
	"encoding/binary"
	"math/bits"
)

// Decode returns the matrix of a blob in canonical form. It checks every rule
// about blobs (R11 to R18); the result is independent of blob.
func Decode(blob []byte, info TensorInfo) (*Matrix, error) {
	r, err := NewReader(blob, info)
	if err != nil {
		return nil, inTensor(info.Name, err)
	}
	if err := r.Check(); err != nil {
		return nil, inTensor(info.Name, err)
	}
	m, err := r.Matrix()
	return m, inTensor(info.Name, err)
}

// Matrix decodes the blob into canonical form.
func (r *Reader) Matrix() (*Matrix, error) {
	// A blob holds a mask bit per weight (NewReader has checked that), so the
	// matrix is at most 17 times as large as the blob.
	elems := r.rows * r.cols
	m := &Matrix{
		Rows: r.rows, Cols: r.cols, Coding: r.coding, Group: r.geometry.group,
		Mask: make([]uint64, r.rows*r.words),
	}
	if r.coding.Quantised() {
		m.Codes = make([]uint8, elems)
		m.Scales = make([]uint16, r.rows*r.groups)
	} else {
		m.Values = make([]uint16, elems)
	}
	if r.zeros {
		m.Zeros = make([]uint8, r.rows*r.groups)
	}
	for t := range r.tiles {
		v, err := r.tile(t)
		if err != nil {
			return nil, err
		}
		for i := range v.rows {
			r.decodeRow(m, &v, t*TileRows+i, i)
		}
	}
	return m, nil
}

// decodeRow fills row dst of m from row i of a tile.
func (r *Reader) decodeRow(m *Matrix, v *tile, dst, i int) {
	mask := m.rowMask(dst)
	for w := range mask {
		mask[w] = binary.LittleEndian.Uint64(r.rowMask(v, i)[8*w:])
	}
	at, high := v.at[i], v.halves.high(i)
	if r.coding.spec().bytes == 2 {
		values := m.Values[dst*r.cols : (dst+1)*r.cols]
		eachKept(mask, func(j int) {
			values[j] = binary.LittleEndian.Uint16(v.stream[2*at:])
			at++
		})
		return
	}
	codes := m.Codes[dst*r.cols : (dst+1)*r.cols]
	for k := range r.groups {
		scale, zero := r.group(v, i, k)
		m.Scales[dst*r.groups+k] = scale
		fill := r.coding.spec().pruned
		if m.Zeros != nil {
			m.Zeros[dst*r.groups+k], fill = zero, zero
		}
		lo := k * m.Group
		for j := lo; j < min(lo+m.Group, r.cols); j++ {
			codes[j] = fill
		}
	}
	code, shift := r.coding.maxCode(), 0
	if high {
		shift = 4
	}
	eachKept(mask, func(j int) {
		codes[j] = v.stream[at] >> shift & code
		at++
	})
}

// eachKept calls f with the columns of a row's survivors, in order.
func eachKept(mask []uint64, f func(j int)) {
	for w, word := range mask {
		for ; word != 0; word &= word - 1 {
			f(w*maskBits + bits.TrailingZeros64(word))
		}
	}
}
