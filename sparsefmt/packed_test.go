package sparsefmt

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// packMatrix encodes m in both layouts.
func packMatrix(t testing.TB, m *Matrix) (plain []byte, plainInfo TensorInfo, packed []byte, packedInfo TensorInfo) {
	t.Helper()
	plain, plainInfo, err := EncodeTensor("x", []uint64{uint64(m.Cols), uint64(m.Rows)}, m)
	if err != nil {
		t.Fatal(err)
	}
	packed, packedInfo, err = Pack(plain, plainInfo)
	if err != nil {
		t.Fatal(err)
	}
	return plain, plainInfo, packed, packedInfo
}

// checkPacked checks the laws of the packed layout: unpacking gives the plain
// blob back, and rows expand to the same bytes.
func checkPacked(t testing.TB, plain []byte, plainInfo TensorInfo, packed []byte, packedInfo TensorInfo) {
	t.Helper()
	p, err := NewPacked(packed, packedInfo)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	back, backInfo, err := p.Plain()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back, plain) || !reflect.DeepEqual(backInfo, plainInfo) {
		t.Fatal("unpacking does not give the plain blob back")
	}
	r, err := NewReader(plain, plainInfo)
	if err != nil {
		t.Fatal(err)
	}
	want, got := make([]byte, r.Rows()*r.RowBytes()), make([]byte, r.Rows()*r.RowBytes())
	if err := r.ExpandRows(0, r.Rows(), want); err != nil {
		t.Fatal(err)
	}
	for r0 := 0; r0 < r.Rows(); {
		r1 := min(r0+1+r0%37, r.Rows())
		if err := p.ExpandRows(r0, r1, got[r0*r.RowBytes():r1*r.RowBytes()]); err != nil {
			t.Fatal(err)
		}
		r0 = r1
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the layouts expand differently")
	}
}

func TestPackedRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMatrix(t)
		blob, info, err := EncodeTensor("x", []uint64{uint64(m.Cols), uint64(m.Rows)}, m)
		if err != nil {
			t.Fatal(err)
		}
		packed, packedInfo, err := Pack(blob, info)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewPacked(packed, packedInfo)
		if err != nil {
			t.Fatal(err)
		}
		back, backInfo, err := r.Plain()
		if err != nil || !bytes.Equal(back, blob) || !reflect.DeepEqual(backInfo, info) {
			t.Fatalf("unpacking does not give the plain blob back (%v)", err)
		}
		expanded := make([]byte, m.Rows*m.RowBytes())
		if err := r.ExpandRows(0, m.Rows, expanded); err != nil || !bytes.Equal(expanded, expandMatrix(t, m)) {
			t.Fatalf("the packed blob expands differently (%v)", err)
		}
	})
}

func expandMatrix(t *rapid.T, m *Matrix) []byte {
	b := make([]byte, m.Rows*m.RowBytes())
	for i := range m.Rows {
		if err := m.ExpandRow(i, b[i*m.RowBytes():(i+1)*m.RowBytes()]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestPackedSparsities: several chunks, classes and block modes; at every
// sparsity the packed blob is smaller than the plain one.
func TestPackedSparsities(t *testing.T) {
	for _, c := range Codings() {
		for _, density := range []float64{0, 0.3, 0.5, 0.75, 1} {
			t.Run(fmt.Sprintf("%v_%.0f", c, 100*density), func(t *testing.T) {
				m := &Matrix{Rows: 1000, Cols: 1504, Coding: c}
				if c.Quantised() {
					m.Group = 64
				}
				fillMatrix(m, 8, func(int) float64 { return density })
				plain, plainInfo, packed, packedInfo := packMatrix(t, m)
				checkPacked(t, plain, plainInfo, packed, packedInfo)
				if len(packed) > len(plain) {
					t.Errorf("%d bytes packed, %d plain", len(packed), len(plain))
				}
			})
		}
	}
}

// TestTranspose compares the bit tricks with the definition.
func TestTranspose(t *testing.T) {
	r := newTestRand(1)
	for range 1000 {
		x := r.next()
		var want uint64
		for i := range 64 {
			want |= x >> i & 1 << (i%8*8 + i/8)
		}
		if got := transpose8(x); got != want {
			t.Fatalf("%#016x becomes %#016x, want %#016x", x, got, want)
		}
	}
}
