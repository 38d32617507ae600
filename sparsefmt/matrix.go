package sparsefmt

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"besa/gguf"
	"besa/internal/kernel"
)

// Matrix is a pruned weight matrix in the clear: Rows output channels by Cols
// input channels. Only the entries whose mask bit is set are survivors; the
// others are pruned and expand to zero, whatever the code of a survivor is.
//
// In canonical form (what Decode returns) a pruned entry's code is the one
// whose value is zero: 8 for CodingQ4Sym, the group's zero code for
// CodingQ4Asym, 0 for CodingQ8Sym; its Values entry is 0. Encode and ExpandRow ignore the codes
// and values of pruned entries.
type Matrix struct {
	Rows, Cols int
	Coding     Coding
	// Group is the number of consecutive weights of a row that share a scale:
	// 32, 64 or 128; the last group of a row may be shorter. 0 for 16-bit codings.
	Group int
	// Mask has Rows × ceil(Cols/64) words; bit i of word w is set when weight
	// 64w+i of the row is kept. Bits beyond Cols are zero.
	Mask []uint64
	// Codes has Rows × Cols entries: 0..15 in 4-bit codings, signed bytes in
	// CodingQ8Sym, none in the others.
	Codes []uint8
	// Scales holds fp16 bits, Rows × ceil(Cols/Group); finite, any sign.
	Scales []uint16
	// Zeros has a zero code 0..15 per scale (CodingQ4Asym only).
	Zeros []uint8
	// Values has Rows × Cols fp16 or bfloat16 bit patterns (16-bit codings only).
	Values []uint16
}

// Words is the number of mask words per row.
func (m *Matrix) Words() int { return ceilDiv(m.Cols, maskBits) }

// Groups is the number of scales per row; 0 for 16-bit codings.
func (m *Matrix) Groups() int {
	if m.Group <= 0 {
		return 0
	}
	return ceilDiv(m.Cols, m.Group)
}

// Kept reports whether the weight at row i, column j survived.
func (m *Matrix) Kept(i, j int) bool {
	return m.Mask[i*m.Words()+j/maskBits]>>(j%maskBits)&1 != 0
}

// Survivors counts the kept weights.
func (m *Matrix) Survivors() int {
	n := 0
	for _, w := range m.Mask {
		n += bits.OnesCount64(w)
	}
	return n
}

// Validate checks everything that Encode requires of m.
func (m *Matrix) Validate() error {
	if m.Rows < 0 || m.Cols < 0 {
		return fmt.Errorf("%w: %d×%d matrix", ErrUnsupported, m.Rows, m.Cols)
	}
	if err := checkShape(m.Coding, uint64(m.Rows), uint64(m.Cols), m.Group); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err := m.checkLengths(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	for i := range m.Rows {
		if err := m.checkRow(i); err != nil {
			return fmt.Errorf("%w: row %d: %w", ErrUnsupported, i, err)
		}
	}
	return nil
}

func (m *Matrix) checkLengths() error {
	// MaxDim keeps these products within 64 bits; on 32-bit machines a wrapped
	// product cannot equal the length of a slice that exists.
	elems, scales := uint64(m.Rows)*uint64(m.Cols), uint64(m.Rows)*uint64(m.Groups())
	want := map[string][2]uint64{
		"mask":   {uint64(len(m.Mask)), uint64(m.Rows) * uint64(m.Words())},
		"codes":  {uint64(len(m.Codes)), elems},
		"scales": {uint64(len(m.Scales)), scales},
		"zeros":  {uint64(len(m.Zeros)), 0},
		"values": {uint64(len(m.Values)), 0},
	}
	if !m.Coding.Quantised() {
		want["codes"] = [2]uint64{uint64(len(m.Codes)), 0}
		want["values"] = [2]uint64{uint64(len(m.Values)), elems}
	}
	if m.Coding.spec().zeros {
		want["zeros"] = [2]uint64{uint64(len(m.Zeros)), scales}
	}
	for _, name := range []string{"mask", "codes", "scales", "zeros", "values"} {
		if w := want[name]; w[0] != w[1] {
			return fmt.Errorf("%s: %d entries for %d×%d %v, want %d", name, w[0], m.Rows, m.Cols, m.Coding, w[1])
		}
	}
	return nil
}

// checkRow validates the contents of row i; lengths are known to be right.
func (m *Matrix) checkRow(i int) error {
	mask := m.rowMask(i)
	if t := mask[len(mask)-1] & tailMask(m.Cols); t != 0 {
		return fmt.Errorf("mask bits beyond column %d are set", m.Cols)
	}
	g := m.Groups()
	for k, h := range m.Scales[i*g : (i+1)*g] {
		if h&f16ExpMask == f16ExpMask {
			return fmt.Errorf("group %d: scale %#04x is not finite", k, h)
		}
		if m.Zeros == nil {
			continue
		}
		z := m.Zeros[i*g+k]
		if z > 15 {
			return fmt.Errorf("group %d: zero code %d: must be at most 15", k, z)
		}
		if _, ok := kernel.Minimum(h, z); !ok {
			return fmt.Errorf("group %d: %w: scale %g, zero code %d", k, ErrInexactZero, gguf.F16ToF32(h), z)
		}
	}
	return m.checkSurvivors(i, mask)
}

func (m *Matrix) checkSurvivors(i int, mask []uint64) error {
	row := i * m.Cols
	for w, word := range mask {
		for ; word != 0; word &= word - 1 {
			j := w*maskBits + bits.TrailingZeros64(word)
			if m.Coding.Quantised() {
				if c := m.Codes[row+j]; c > m.Coding.maxCode() {
					return fmt.Errorf("column %d: code %d: must be at most %d", j, c, m.Coding.maxCode())
				}
				continue
			}
			if exp := m.Coding.spec().expMask; m.Values[row+j]&exp == exp {
				return fmt.Errorf("column %d: value %#04x is not finite", j, m.Values[row+j])
			}
		}
	}
	return nil
}

// RowBytes is the size of a row in the expanded type.
func (m *Matrix) RowBytes() int { return expandedRowBytes(m.Coding, m.Cols) }

// ExpandRow writes row i in the type the matrix expands to. dst must have
// RowBytes bytes; m must be valid. It is the definition that the faster paths
// from a blob are tested against.
func (m *Matrix) ExpandRow(i int, dst []byte) error {
	if i < 0 || i >= m.Rows {
		return fmt.Errorf("row %d of %d: out of range", i, m.Rows)
	}
	if len(dst) != m.RowBytes() {
		return fmt.Errorf("row %d: %d bytes given, %v needs %d", i, len(dst), m.Coding.Type(), m.RowBytes())
	}
	if !m.Coding.Quantised() {
		for j := range m.Cols {
			var v uint16
			if m.Kept(i, j) {
				v = m.Values[i*m.Cols+j]
			}
			binary.LittleEndian.PutUint16(dst[2*j:], v)
		}
		return nil
	}
	size := m.Coding.Type().BlockBytes()
	for b := range m.Cols / quantBlock {
		if err := m.expandBlock(i, b, dst[b*size:(b+1)*size]); err != nil {
			return fmt.Errorf("row %d: block %d: %w", i, b, err)
		}
	}
	return nil
}

// expandBlock writes block b of row i: d, [m,] then 16 bytes whose low nibbles
// are weights 0–15 and whose high nibbles are weights 16–31, or 32 bytes.
func (m *Matrix) expandBlock(i, b int, dst []byte) error {
	k := i*m.Groups() + b*quantBlock/m.Group
	binary.LittleEndian.PutUint16(dst, m.Scales[k])
	zero, q := m.Coding.spec().pruned, dst[2:]
	if m.Coding == CodingQ4Asym {
		zero = m.Zeros[k]
		min, ok := kernel.Minimum(m.Scales[k], zero)
		if !ok {
			return ErrInexactZero
		}
		binary.LittleEndian.PutUint16(dst[2:], min)
		q = dst[4:]
	}
	code := func(j int) uint8 {
		if j += b * quantBlock; m.Kept(i, j) {
			return m.Codes[i*m.Cols+j]
		}
		return zero
	}
	if m.Coding == CodingQ8Sym {
		for j := range quantBlock {
			q[j] = code(j)
		}
		return nil
	}
	for j := range quantBlock / 2 {
		q[j] = code(j) | code(j+quantBlock/2)<<4
	}
	return nil
}

// Floats writes the Cols values of row i, exactly those that llama.cpp
// computes from the expanded row.
func (m *Matrix) Floats(i int, dst []float32) error {
	if len(dst) != m.Cols {
		return fmt.Errorf("row %d: %d floats given, want %d", i, len(dst), m.Cols)
	}
	buf := make([]byte, m.RowBytes())
	if err := m.ExpandRow(i, buf); err != nil {
		return err
	}
	return gguf.Dequantize(m.Coding.Type(), dst, buf)
}

func (m *Matrix) rowMask(i int) []uint64 {
	w := m.Words()
	return m.Mask[i*w : (i+1)*w]
}

// tailMask has the bits of a row's last mask word that lie beyond cols.
func tailMask(cols int) uint64 {
	if r := cols % maskBits; r != 0 {
		return ^uint64(0) << r
	}
	return 0
}

// expandedRowBytes is the size of a row of the expanded type. 4-bit types
// have cols a multiple of their block.
func expandedRowBytes(c Coding, cols int) int {
	if !c.Quantised() {
		return 2 * cols
	}
	return cols / quantBlock * c.Type().BlockBytes()
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
