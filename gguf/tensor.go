package gguf

import (
	"fmt"
	"math"
)

// Tensor describes a tensor of a file.
type Tensor struct {
	Name   string
	Type   Type
	Shape  []uint64 // in ggml's order: Shape[0] is the length of a row; 1 to 4 dimensions
	Offset uint64   // of its data, from the start of the data section
	Bytes  uint64   // of its data, without padding
}

// Cols is the length of a row, Shape[0].
func (t Tensor) Cols() uint64 {
	if len(t.Shape) == 0 {
		return 0
	}
	return t.Shape[0]
}

// Rows is the number of rows: the product of the other dimensions.
func (t Tensor) Rows() uint64 {
	if len(t.Shape) == 0 {
		return 0
	}
	rows := uint64(1)
	for _, n := range t.Shape[1:] {
		rows *= n
	}
	return rows
}

// Elements is the number of weights. It cannot overflow for a tensor that a
// [File] or a [Writer] has accepted.
func (t Tensor) Elements() uint64 { return t.Cols() * t.Rows() }

// tensorBytes checks type and shape and returns the size of the data.
func tensorBytes(t Type, shape []uint64) (uint64, error) {
	if _, ok := t.info(); !ok {
		if int64(t) < int64(len(types)) {
			return 0, fmt.Errorf("%w: type %d was removed from ggml", ErrUnsupportedType, uint32(t))
		}
		return 0, fmt.Errorf("%w: type %d is not known", ErrUnsupportedType, uint32(t))
	}
	if len(shape) < 1 || len(shape) > maxDims {
		return 0, fmt.Errorf("%w: %d dimensions, not 1 to %d", ErrMalformed, len(shape), maxDims)
	}
	elements := uint64(1)
	for _, n := range shape {
		if n == 0 {
			return 0, fmt.Errorf("%w: shape %v has a zero dimension", ErrMalformed, shape)
		}
		var ok bool
		if elements, ok = mul64(elements, n); !ok || elements > math.MaxInt64 {
			return 0, fmt.Errorf("%w: shape %v: number of elements overflows", ErrMalformed, shape)
		}
	}
	if shape[0]%uint64(t.BlockSize()) != 0 {
		return 0, fmt.Errorf("%w: rows of %d weights are no multiple of the %s block of %d",
			ErrMalformed, shape[0], t, t.BlockSize())
	}
	n, ok := mul64(elements/uint64(t.BlockSize()), uint64(t.BlockBytes()))
	if !ok || n > math.MaxInt64 {
		return 0, fmt.Errorf("%w: shape %v of %s: size overflows", ErrMalformed, shape, t)
	}
	return n, nil
}
