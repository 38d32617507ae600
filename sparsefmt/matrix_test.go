package sparsefmt

import (
	"bytes"
	"math"
	"reflect"
	"testing"

	"besa/gguf"

	"pgregory.net/rapid"
)

// densities of the random masks: what a row may look like.
var densities = []float64{0, 0.05, 0.3, 0.5, 0.7, 1}

// drawMatrix draws a valid matrix in canonical form.
func drawMatrix(t *rapid.T) *Matrix {
	return drawMatrixOf(t, rapid.SampledFrom(Codings()).Draw(t, "coding"))
}

func drawMatrixOf(t *rapid.T, c Coding) *Matrix {
	rows := rapid.IntRange(1, 40).Draw(t, "rows")
	m := &Matrix{Rows: rows, Coding: c}
	if c.Quantised() {
		m.Cols = quantBlock * rapid.IntRange(1, 12).Draw(t, "blocks")
		m.Group = rapid.SampledFrom([]int{32, 64, 128}).Draw(t, "group")
	} else {
		m.Cols = rapid.IntRange(1, 300).Draw(t, "cols")
	}
	seed := rapid.Uint64().Draw(t, "seed")
	fillMatrix(m, seed, func(row int) float64 { return densities[int(seed>>(row%8*4)&15)%len(densities)] })
	return m
}

// fillMatrix fills m, whose dimensions are set, with random contents in
// canonical form; density gives the share of survivors by row.
func fillMatrix(m *Matrix, seed uint64, density func(row int) float64) {
	r := newTestRand(seed)
	m.Mask = make([]uint64, m.Rows*m.Words())
	if m.Coding.Quantised() {
		m.Codes = make([]uint8, m.Rows*m.Cols)
		m.Scales = make([]uint16, m.Rows*m.Groups())
	} else {
		m.Values = make([]uint16, m.Rows*m.Cols)
	}
	if m.Coding == CodingQ4Asym {
		m.Zeros = make([]uint8, len(m.Scales))
	}
	for k := range m.Scales {
		m.Scales[k] = randomScale(r)
		if m.Zeros != nil {
			m.Scales[k] &^= 0xf // a short mantissa: every zero code is exact
			m.Zeros[k] = uint8(r.next() & 15)
		}
	}
	for i := range m.Rows {
		limit := uint64(density(i) * math.MaxUint32)
		for j := range m.Cols {
			kept := r.next()&math.MaxUint32 <= limit && limit > 0
			if kept {
				m.Mask[i*m.Words()+j/64] |= 1 << (j % 64)
			}
			fillWeight(m, r, i, j, kept)
		}
	}
}

func fillWeight(m *Matrix, r *testRand, i, j int, kept bool) {
	at := i*m.Cols + j
	switch {
	case !m.Coding.Quantised():
		if kept {
			m.Values[at] = randomValue(r, m.Coding.spec().expMask)
		}
	case kept:
		m.Codes[at] = uint8(r.next()) & m.Coding.maxCode()
	case m.Zeros != nil:
		m.Codes[at] = m.Zeros[i*m.Groups()+j/m.Group]
	default:
		m.Codes[at] = m.Coding.spec().pruned
	}
}

// testRand is splitmix64: tests and committed vectors must not depend on the
// generator of a library.
type testRand struct{ state uint64 }

func newTestRand(seed uint64) *testRand { return &testRand{seed} }

func (r *testRand) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// randomScale is a finite fp16: mostly ordinary, sometimes any sign, size,
// subnormal or zero. 15 times it stays finite.
func randomScale(r *testRand) uint16 {
	x := r.next()
	switch x >> 60 {
	case 0:
		return uint16(x>>8) & 0x8000 // ±0
	case 1:
		return uint16(x) & 0x83ff // subnormal
	case 2:
		return 0x6800 | uint16(x)&0x83ff // 2048 and up
	default:
		return gguf.F32ToF16(0.01 + float32(x&0xffff)/0xffff)
	}
}

// randomValue is any finite 16-bit float.
func randomValue(r *testRand, exp uint16) uint16 {
	v := uint16(r.next())
	if v&exp == exp {
		v &^= exp & (exp << 1) // lowers the exponent
	}
	return v
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMatrix(t)
		blob, info, err := EncodeTensor("x", []uint64{uint64(m.Cols), uint64(m.Rows)}, m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Encode(m)
		if err != nil || !bytes.Equal(blob, again) {
			t.Fatalf("a second Encode differs (%v)", err)
		}
		got, err := Decode(blob, info)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("decode(encode(x)) differs from x:\n%+v\n%+v", got, m)
		}
		if uint64(m.Survivors()) != info.Survivors {
			t.Fatalf("%d survivors in the table, %d in the matrix", info.Survivors, m.Survivors())
		}
		checkExpansion(t, m, blob, info)
	})
}

// checkExpansion compares the fast path from the blob with Matrix.ExpandRow,
// for all rows at once, for each alone and for a range.
func checkExpansion(t *rapid.T, m *Matrix, blob []byte, info TensorInfo) {
	size := m.RowBytes()
	want := make([]byte, m.Rows*size)
	for i := range m.Rows {
		if err := m.ExpandRow(i, want[i*size:(i+1)*size]); err != nil {
			t.Fatal(err)
		}
		checkFloats(t, m, i, want[i*size:(i+1)*size])
	}
	got := make([]byte, len(want))
	if err := ExpandRows(blob, info, 0, m.Rows, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("ExpandRows differs from Matrix.ExpandRow")
	}
	r0 := rapid.IntRange(0, m.Rows).Draw(t, "r0")
	r1 := rapid.IntRange(r0, m.Rows).Draw(t, "r1")
	part := make([]byte, (r1-r0)*size)
	if err := ExpandRows(blob, info, r0, r1, part); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(part, want[r0*size:r1*size]) {
		t.Fatalf("rows %d to %d differ", r0, r1)
	}
}

// checkFloats checks the law of bit-exactness: dequantising the expansion
// gives (code − zero)·d for survivors and zero for pruned weights.
func checkFloats(t *rapid.T, m *Matrix, i int, expanded []byte) {
	got := make([]float32, m.Cols)
	if err := gguf.Dequantize(m.Coding.Type(), got, expanded); err != nil {
		t.Fatal(err)
	}
	direct := make([]float32, m.Cols)
	if err := m.Floats(i, direct); err != nil {
		t.Fatal(err)
	}
	for j, x := range got {
		if want := plainValue(m, i, j); x != want || math.Float32bits(x) != math.Float32bits(direct[j]) {
			t.Fatalf("row %d column %d: the expansion says %g, Floats %g, the definition %g", i, j, x, direct[j], want)
		}
		if !m.Kept(i, j) && x != 0 {
			t.Fatalf("row %d column %d is pruned and %g", i, j, x)
		}
	}
}

// plainValue is a weight by the definition of its coding.
func plainValue(m *Matrix, i, j int) float32 {
	if !m.Kept(i, j) {
		return 0
	}
	at := i*m.Cols + j
	switch m.Coding {
	case CodingF16:
		return gguf.F16ToF32(m.Values[at])
	case CodingBF16:
		return math.Float32frombits(uint32(m.Values[at]) << 16)
	case CodingQ8Sym:
		return float32(int8(m.Codes[at])) * gguf.F16ToF32(m.Scales[i*m.Groups()+j/m.Group])
	}
	k, zero := i*m.Groups()+j/m.Group, uint8(8)
	if m.Zeros != nil {
		zero = m.Zeros[k]
	}
	return float32(int(m.Codes[at])-int(zero)) * gguf.F16ToF32(m.Scales[k])
}
