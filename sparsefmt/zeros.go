package sparsefmt

import (
	"encoding/binary"
	"fmt"
	"slices"

	"besa/gguf"
	"besa/internal/kernel"
)

// zeroReader takes tensors of one ggml type apart.
type zeroReader struct {
	coding Coding
	// block reads weights b·32 … b·32+31 of a quantised tensor into m: scale,
	// zero code, codes. It returns false where the format cannot hold them.
	block func(m *Matrix, b int, src []byte) bool
}

var zeroReaders = map[gguf.Type]zeroReader{
	gguf.F16:  {coding: CodingF16},
	gguf.BF16: {coding: CodingBF16},
	gguf.Q4_0: {CodingQ4Sym, readQ40},
	gguf.Q4_1: {CodingQ4Asym, readQ41},
	gguf.Q8_0: {CodingQ8Sym, readQ80},
}

func (z zeroReader) group() int {
	if z.coding.Quantised() {
		return quantBlock
	}
	return 0
}

// read returns the tensor as a matrix whose pruned weights are those that are
// zero: it expands to data. Rows and columns are within the format's limits.
func (z zeroReader) read(t gguf.Tensor, data []byte) (*Matrix, error) {
	m := &Matrix{Rows: int(t.Rows()), Cols: int(t.Cols()), Coding: z.coding, Group: z.group()}
	elems := m.Rows * m.Cols
	m.Mask = make([]uint64, m.Rows*m.Words())
	if !z.coding.Quantised() {
		m.Values = make([]uint16, elems)
		return m, m.eachRow(func(i int) error { m.readValues(i, data); return nil })
	}
	m.Codes, m.Scales = make([]uint8, elems), make([]uint16, elems/quantBlock)
	if z.coding.spec().zeros {
		m.Zeros = make([]uint8, elems/quantBlock)
	}
	size := t.Type.BlockBytes()
	err := m.eachRow(func(i int) error {
		for b := i * m.Groups(); b < (i+1)*m.Groups(); b++ {
			if !z.block(m, b, data[b*size:(b+1)*size]) {
				return fmt.Errorf("row %d: no 4-bit zero code z gives its minimum, m = -z·d", i)
			}
		}
		m.pruneZeros(i)
		return nil
	})
	if err == nil {
		m.widenGroups()
	}
	return m, err
}

// eachRow calls f for all rows, on all processors.
func (m *Matrix) eachRow(f func(i int) error) error {
	const rows = 64 // at a time
	return parallel(ceilDiv(m.Rows, rows), func(k int) error {
		for i := k * rows; i < min((k+1)*rows, m.Rows); i++ {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	})
}

// readValues fills row i of 16-bit values and its mask.
func (m *Matrix) readValues(i int, data []byte) {
	mask := m.rowMask(i)
	for j := range m.Cols {
		if v := binary.LittleEndian.Uint16(data[2*(i*m.Cols+j):]); v != 0 {
			m.Values[i*m.Cols+j] = v
			mask[j/maskBits] |= 1 << (j % maskBits)
		}
	}
}

// pruneZeros makes the mask of row i of codes.
func (m *Matrix) pruneZeros(i int) {
	mask, zero := m.rowMask(i), m.Coding.spec().pruned
	for j := range m.Cols {
		if m.Zeros != nil {
			zero = m.Zeros[(i*m.Cols+j)/quantBlock]
		}
		if m.Codes[i*m.Cols+j] != zero {
			mask[j/maskBits] |= 1 << (j % maskBits)
		}
	}
}

// widenGroups makes the scale groups as long as the scales allow: files whose
// scales were chosen for 64 or 128 weights have them once per 32.
func (m *Matrix) widenGroups() {
	for m.Group < maxGroup {
		before, group := m.Groups(), 2*m.Group
		for i := range m.Rows {
			for k := i * before; k < (i+1)*before; k++ {
				first := k - (k-i*before)%2
				if m.Scales[k] != m.Scales[first] || m.Zeros != nil && m.Zeros[k] != m.Zeros[first] {
					return
				}
			}
		}
		k := 0
		for i := range m.Rows {
			for n := i * before; n < (i+1)*before; n += 2 {
				m.Scales[k] = m.Scales[n]
				if m.Zeros != nil {
					m.Zeros[k] = m.Zeros[n]
				}
				k++
			}
		}
		m.Scales, m.Group = slices.Clip(m.Scales[:k]), group
		if m.Zeros != nil {
			m.Zeros = slices.Clip(m.Zeros[:k])
		}
	}
}

func readNibbles(codes []uint8, q []byte) {
	for j, b := range q[:quantBlock/2] {
		codes[j], codes[j+quantBlock/2] = b&15, b>>4
	}
}

func readQ40(m *Matrix, b int, src []byte) bool {
	m.Scales[b] = binary.LittleEndian.Uint16(src)
	readNibbles(m.Codes[b*quantBlock:(b+1)*quantBlock], src[2:])
	return true
}

func readQ80(m *Matrix, b int, src []byte) bool {
	m.Scales[b] = binary.LittleEndian.Uint16(src)
	copy(m.Codes[b*quantBlock:(b+1)*quantBlock], src[2:])
	return true
}

func readQ41(m *Matrix, b int, src []byte) bool {
	scale, least := binary.LittleEndian.Uint16(src), binary.LittleEndian.Uint16(src[2:])
	codes := m.Codes[b*quantBlock : (b+1)*quantBlock]
	m.Scales[b] = scale
	readNibbles(codes, src[4:])
	if scale&0x7fff == 0 { // all weights are m, which must be zero: any code may be that of zero
		m.Zeros[b] = codes[0]
		return least == 0
	}
	zero, ok := zeroCode(scale, least)
	m.Zeros[b] = zero
	return ok
}

// zeroCode returns the code z for which least is -z·scale, exactly.
func zeroCode(scale, least uint16) (uint8, bool) {
	if scale&f16ExpMask == f16ExpMask {
		return 0, false
	}
	for z := range uint8(16) {
		if m, ok := kernel.Minimum(scale, z); ok && m == least {
			return z, true
		}
	}
	return 0, false
}
