package sparsefmt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"besa/gguf"

	"pgregory.net/rapid"
)

// TestRepack: the layouts convert into each other and back to the same file,
// which expands to the same bytes.
func TestRepack(t *testing.T) {
	_, sparse := newTestModel().sparse(t)
	f, dir := mustOpen(t, sparse), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := f.ExpandTo(context.Background(), at("dense.gguf"), nil); err != nil {
		t.Fatal(err)
	}
	var files [4]string
	for i, layout := range []Layout{LayoutPacked, LayoutPlain, LayoutPacked, LayoutPlain} {
		files[i] = at(fmt.Sprint(i, ".gguf"))
		if _, err := f.Repack(context.Background(), files[i], StoreOptions{Layout: layout}); err != nil {
			t.Fatal(err)
		}
		f = mustOpen(t, files[i])
		if f.Layout() != layout {
			t.Fatalf("the layout is %v, want %v", f.Layout(), layout)
		}
		if _, err := Verify(context.Background(), files[i]); err != nil {
			t.Error(err)
		}
		again := at(fmt.Sprint(i, "-dense.gguf"))
		if err := f.ExpandTo(context.Background(), again, nil); err != nil {
			t.Fatal(err)
		}
		if sha(t, again) != sha(t, at("dense.gguf")) {
			t.Errorf("%v: the expansion differs", layout)
		}
	}
	for i := range 2 {
		if sha(t, files[i]) != sha(t, files[i+2]) {
			t.Errorf("the second %v file differs from the first", []Layout{LayoutPacked, LayoutPlain}[i])
		}
	}
}

// zerosModel is an ordinary model with tensors of every type that Sparsify
// reads, half of whose weights are zero, and of some that it must leave alone.
func zerosModel(t *testing.T) (path string) {
	t.Helper()
	s := &testModel{kvs: newTestModel().kvs, data: map[string][]byte{}}
	add := func(name string, typ gguf.Type, shape []uint64, data []byte) {
		s.tensors, s.data[name] = append(s.tensors, gguf.Tensor{Name: name, Type: typ, Shape: shape}), data
	}
	for _, c := range Codings() {
		for _, group := range []int{32, 64, 128} {
			m := &Matrix{Rows: 40, Cols: 352, Coding: c}
			if c.Quantised() {
				m.Group = group
			}
			fillMatrix(m, uint64(group), func(int) float64 { return 0.4 })
			add(fmt.Sprint(c, ".", group), c.Type(), []uint64{352, 20, 2}, expandAll(t, m))
		}
	}
	f16 := make([]byte, 2*64*64)
	f16[1] = 0x7c // one infinity, the rest is zero
	add("infinite", gguf.F16, []uint64{64, 64}, f16)
	q41 := make([]byte, 64*2*q41Bytes)
	q41[0], q41[2] = 1, 3 // m is no multiple of d
	add("free minimum", gguf.Q4_1, []uint64{64, 64}, q41)
	add("dense", gguf.F16, []uint64{64, 64}, expandAll(t, denseMatrix(64, 64)))
	add("float32", gguf.F32, []uint64{64, 64}, make([]byte, 4*64*64))
	add("vector", gguf.F16, []uint64{64}, make([]byte, 2*64))
	path = filepath.Join(t.TempDir(), "zeros.gguf")
	s.write(t, path)
	return path
}

func denseMatrix(rows, cols int) *Matrix {
	m := &Matrix{Rows: rows, Cols: cols, Coding: CodingF16}
	fillMatrix(m, 1, func(int) float64 { return 1 })
	return m
}

// TestSparsify: what comes out expands to the very file that went in.
func TestSparsify(t *testing.T) {
	source := zerosModel(t)
	src, err := gguf.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for _, layout := range []Layout{LayoutPlain, LayoutPacked} {
		dir := t.TempDir()
		sparse, dense := filepath.Join(dir, "sparse.gguf"), filepath.Join(dir, "dense.gguf")
		_, report, err := Sparsify(context.Background(), sparse, src, DefaultMinSparsity, StoreOptions{Layout: layout})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(context.Background(), sparse); err != nil {
			t.Fatal(err)
		}
		f := mustOpen(t, sparse)
		if err := f.ExpandTo(context.Background(), dense, nil); err != nil {
			t.Fatal(err)
		}
		if sha(t, dense) != sha(t, source) {
			t.Errorf("%v: the expansion is not the source", layout)
		}
		why := map[string]string{
			"infinite": `tensor "infinite": not representable in a sparse GGUF: row 0: column 0: value 0x7c00 is not finite`,
			"float32":  "no coding holds F32", "dense": "too few zeros",
			"free minimum": "row 0: no 4-bit zero code z gives its minimum, m = -z·d",
		}
		for _, r := range report {
			if r.Dense != why[r.Name] {
				t.Errorf("%v, tensor %q: %q, want %q", layout, r.Name, r.Dense, why[r.Name])
			}
			v, _ := f.Tensor(r.Name)
			if v.Sparse != (r.Dense == "") {
				t.Errorf("tensor %q: sparse %v, %q", r.Name, v.Sparse, r.Dense)
			}
			// Scales that are stored once per 32 weights are found to be shared.
			if want := map[string]int{"q4_sym.128": 128, "q4_sym.64": 64, "q8_sym.128": 128, "q8_sym.32": 32}[r.Name]; want != 0 && v.Group != want {
				t.Errorf("tensor %q: group %d, want %d", r.Name, v.Group, want)
			}
		}
		if len(report) != len(src.Tensors())-1 {
			t.Errorf("%d tensors in the report of %d", len(report), len(src.Tensors()))
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 2 {
			t.Errorf("%d files are left (%v)", len(left), err)
		}
	}
}

// TestRetype: expanding to another type gives the very same values or fails.
func TestRetype(t *testing.T) {
	exact := map[string]int{}
	for _, coding := range Codings() {
		rapid.Check(t, func(t *rapid.T) { retype(t, drawMatrixOf(t, coding), exact) })
	}
	for pair := range always {
		if exact[pair] == 0 {
			t.Errorf("%s was never tried", pair)
		}
	}
}

// retype expands a matrix to every type, and counts by coding and type where that
// is exact.
func retype(t *rapid.T, m *Matrix, exact map[string]int) {
	if m.Coding.Quantised() && rapid.Bool().Draw(t, "narrow") { // what q4_0 and f16 hold
		for i := range m.Codes {
			m.Codes[i] = m.Codes[i]%16 - m.Coding.spec().pruned*map[Coding]uint8{CodingQ8Sym: 1}[m.Coding]
		}
		for i := range m.Scales {
			m.Scales[i] = 0x3c00
		}
	}
	native := expandMatrix(t, m)
	want := make([]float32, m.Rows*m.Cols)
	if err := gguf.Dequantize(m.Coding.Type(), want, native); err != nil {
		t.Fatal(err)
	}
	for _, to := range ExpandTypes() {
		if to.BlockSize() > 1 && m.Cols%to.BlockSize() != 0 {
			continue
		}
		r, err := newRetyper(m.Coding.Type(), to)
		var out []byte
		if err == nil && r != nil {
			err = r.rows(&out, native)
		}
		pair := fmt.Sprint(m.Coding, " ", to)
		if err != nil {
			if !errors.Is(err, ErrInexact) {
				t.Fatal(err)
			}
			if always[pair] {
				t.Fatalf("%s: %v", pair, err)
			}
			continue
		}
		if exact[pair]++; r == nil {
			continue
		}
		got := make([]float32, len(want))
		if err := gguf.Dequantize(to, got, out); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%s: weight %d is %g, want %g", pair, i, got[i], want[i])
			}
		}
	}
}

// always are the pairs that besa expand --help promises.
var always = map[string]bool{
	"q4_sym Q4_0": true, "q4_sym Q8_0": true, "q4_sym F32": true,
	"q4_asym Q4_1": true, "q4_asym Q8_0": true, "q4_asym F32": true,
	"q8_sym Q8_0": true, "q8_sym F32": true,
	"f16 F16": true, "f16 F32": true, "bf16 F32": true,
}

// TestRetypeCases: exactly what is representable is written.
func TestRetypeCases(t *testing.T) {
	q40 := func(d uint16, q byte) []byte {
		b := make([]byte, q40Bytes)
		le.PutUint16(b, d)
		for i := range b[2:] {
			b[2+i] = 0x88
		}
		b[2] = q | 0x80
		return b
	}
	for _, c := range []struct {
		name string
		src  []byte
		from gguf.Type
		to   gguf.Type
		ok   bool
	}{
		{"1 times 7", q40(0x3c00, 15), gguf.Q4_0, gguf.F16, true},
		{"11 bits times 7", q40(0x3fff, 15), gguf.Q4_0, gguf.F16, false},
		{"11 bits times -8", q40(0x3fff, 0), gguf.Q4_0, gguf.F16, true},
		{"11 bits times 0", q40(0x3fff, 8), gguf.Q4_0, gguf.F16, true},
		{"the largest step", q40(0x7bff, 8), gguf.Q4_0, gguf.Q4_1, false},
		{"an eighth of it", q40(0x6fff, 8), gguf.Q4_0, gguf.Q4_1, true},
		{"the least step", q40(0x0001, 0), gguf.Q4_0, gguf.Q4_1, true},
		{"zero code 7", append([]byte{0, 0x3c, 0, 0xc7}, make([]byte, 16)...), gguf.Q4_1, gguf.Q4_0, false},
		{"zero code 8", append([]byte{0, 0x3c, 0, 0xc8}, make([]byte, 16)...), gguf.Q4_1, gguf.Q4_0, true},
		{"code 7", append([]byte{0, 0x3c, 7}, make([]byte, 31)...), gguf.Q8_0, gguf.Q4_0, true},
		{"code 8", append([]byte{0, 0x3c, 8}, make([]byte, 31)...), gguf.Q8_0, gguf.Q4_0, false},
		{"code -8", append([]byte{0, 0x3c, 0xf8}, make([]byte, 31)...), gguf.Q8_0, gguf.Q4_0, true},
		{"code -9", append([]byte{0, 0x3c, 0xf7}, make([]byte, 31)...), gguf.Q8_0, gguf.Q4_0, false},
	} {
		r, err := newRetyper(c.from, c.to)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		if err := r.rows(&out, c.src); (err == nil) != c.ok {
			t.Errorf("%s, %v to %v: %v", c.name, c.from, c.to, err)
		}
	}
	for _, from := range []gguf.Type{gguf.F16, gguf.BF16} {
		if _, err := newRetyper(from, gguf.Q8_0); !errors.Is(err, ErrInexact) {
			t.Errorf("%v to Q8_0: %v", from, err)
		}
	}
}
