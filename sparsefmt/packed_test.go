package sparsefmt

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/xxh3"
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
		if ReleaseBuffers(); len(idleDecoders.list) > 0 {
			t.Fatalf("%d decoders are left", len(idleDecoders.list))
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

// inflated is a packed blob, valid throughout, of many equal chunks whose every
// section repeats one byte.
func inflated(t *testing.T, chunks int) ([]byte, TensorInfo) {
	t.Helper()
	const rows, cols = 4096, 1024 // a chunk of the largest size
	m := &Matrix{Rows: rows, Cols: cols, Coding: CodingF16, Mask: make([]uint64, rows*cols/maskBits), Values: make([]uint16, rows*cols)}
	for i := range m.Mask {
		m.Mask[i] = ^uint64(0)
	}
	plain, info, err := EncodeTensor("x", []uint64{cols, rows}, m)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(plain, info)
	if err != nil {
		t.Fatal(err)
	}
	sections, err := r.collect(0, r.tiles)
	if err != nil {
		t.Fatal(err)
	}
	info.Shape = []uint64{cols, rows * uint64(chunks)}
	info.Survivors *= uint64(chunks)
	g, err := info.geometry()
	if err != nil {
		t.Fatal(err)
	}
	blob := joinPacked(&g, r.tiles, slices.Repeat([][]byte{sections.encode()}, chunks), info.Survivors)
	info.Layout, info.BlobBytes, info.BlobSum = LayoutPacked, uint64(len(blob)), xxh3.Hash(blob)
	return blob, info
}

// TestPlainIsBounded: a packed blob of some kilobytes that stands for gigabytes
// can be checked and expanded by rows, but is not unpacked into memory.
func TestPlainIsBounded(t *testing.T) {
	blob, info := inflated(t, 400)
	p, err := NewPacked(blob, info)
	if err != nil {
		t.Fatal(err)
	}
	row := make([]byte, p.RowBytes())
	if err := p.ExpandRows(p.Rows()-1, p.Rows(), row); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err = p.Plain()
	runtime.ReadMemStats(&after)
	most := max(plainFree, plainGrowth*len(blob))
	if want := fmt.Sprintf("the packed blob of %d bytes is more than %d bytes in the plain layout", len(blob), most); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), want) {
		t.Fatalf("Plain: %v, want %q", err, want)
	}
	const decoders = 256 << 20 // what every processor may need, whatever the blob
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(most)+decoders {
		t.Errorf("%d bytes were allocated for a blob of %d", n, len(blob))
	}
	blob, info = inflated(t, 3)
	if p, err = NewPacked(blob, info); err != nil {
		t.Fatal(err)
	}
	if _, plain, err := p.Plain(); err != nil || plain.BlobBytes < 3<<23 {
		t.Errorf("three such chunks: %d bytes, %v", plain.BlobBytes, err)
	}
}
