package sparsefmt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"testing"

	"besa/gguf"
)

// testModel is a small source model and what is pruned in it: every coding,
// rows that are no multiple of 16, a tensor of three dimensions, rows that
// are all dense and all empty, an alignment that needs padding.
type testModel struct {
	kvs     []gguf.KV
	tensors []gguf.Tensor
	data    map[string][]byte
	pruned  map[string]*Matrix
}

func newTestModel() *testModel {
	m := &testModel{data: map[string][]byte{}, pruned: map[string]*Matrix{}}
	m.kvs = []gguf.KV{
		gguf.MustKV("general.architecture", "llama"),
		gguf.MustKV("general.file_type", uint32(0)),
		gguf.MustKV("tokenizer.ggml.tokens", []string{"a", "b", "<unk>"}),
		gguf.MustKV("tokenizer.ggml.scores", []float32{0.5, -1}),
		gguf.MustKV("someone.elses.key", []bool{true, false}),
	}
	m.add("token_embd.weight", []uint64{32, 5}, nil)
	m.add("blk.0.attn_q.weight", []uint64{96, 21}, &Matrix{Coding: CodingQ4Sym, Group: 64})
	m.add("blk.0.attn_norm.weight", []uint64{7}, nil)
	m.add("blk.0.ffn_up.weight", []uint64{160, 16}, &Matrix{Coding: CodingQ4Asym, Group: 32})
	m.add("blk.0.ffn_gate_exps.weight", []uint64{33, 3, 6}, &Matrix{Coding: CodingF16})
	m.add("blk.0.ffn_down.weight", []uint64{65, 17}, &Matrix{Coding: CodingBF16})
	m.add("blk.0.ffn_tiny.weight", []uint64{32, 1}, &Matrix{Coding: CodingQ4Asym, Group: 128})
	m.add("blk.0.attn_k.weight", []uint64{64, 19}, &Matrix{Coding: CodingQ8Sym, Group: 32})
	m.add("blk.0.attn_output.weight", []uint64{96, 64}, &Matrix{Coding: CodingQ4Sym, Group: 64})
	skew(m.pruned["blk.0.attn_output.weight"])
	m.add("output_norm.weight", []uint64{3}, nil)
	return m
}

// add appends an F32 tensor of random values, pruned to m if that is not nil.
func (s *testModel) add(name string, shape []uint64, m *Matrix) {
	t := gguf.Tensor{Name: name, Type: gguf.F32, Shape: shape}
	r := newTestRand(uint64(len(s.tensors)))
	data := make([]byte, 4*t.Elements())
	for i := range data {
		data[i] = byte(r.next()) &^ 0x40 // no NaN, no Inf
	}
	s.tensors, s.data[name] = append(s.tensors, t), data
	if m == nil {
		return
	}
	m.Cols, m.Rows = int(t.Cols()), int(t.Rows())
	fillMatrix(m, uint64(len(name)), func(row int) float64 { return []float64{0.5, 1, 0, 0.3}[row%4] })
	s.pruned[name] = m
}

// skew makes m what entropy coding is for: columns of different densities,
// few of the codes, and scales of about one size.
func skew(m *Matrix) {
	r := newTestRand(3)
	clear(m.Mask)
	for i := range m.Rows {
		for j := range m.Cols {
			kept := r.next()%16 < uint64(2+j*7%13)
			if kept {
				m.Mask[i*m.Words()+j/64] |= 1 << (j % 64)
			}
			m.Codes[i*m.Cols+j] = 8
			if kept {
				m.Codes[i*m.Cols+j] = uint8(6 + bits.OnesCount64(r.next()&7) + bits.OnesCount64(r.next()&7))
			}
		}
	}
	for k := range m.Scales {
		m.Scales[k] = 0x2c00 | uint16(r.next()&0x3ff)
	}
}

// write creates the source file.
func (s *testModel) write(t testing.TB, path string) {
	t.Helper()
	w, err := gguf.Create(path, s.kvs, s.tensors)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range s.tensors {
		if err := w.WriteTensor(x.Name, s.data[x.Name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

// blobs encodes the pruned tensors.
func (s *testModel) blobs(t testing.TB) map[string]Blob {
	t.Helper()
	blobs := map[string]Blob{}
	for _, x := range s.tensors {
		m, ok := s.pruned[x.Name]
		if !ok {
			continue
		}
		b, info, err := EncodeTensor(x.Name, x.Shape, m)
		if err != nil {
			t.Fatal(err)
		}
		blobs[x.Name] = BlobOf(info, b)
	}
	return blobs
}

var testProvenance = []gguf.KV{
	gguf.MustKV("besa.method", "besa"),
	gguf.MustKV("besa.sparsity.target", float32(0.5)),
	gguf.MustKV("besa.seed", uint64(7)),
}

// sparse creates source and plain sparse file in a fresh directory.
func (s *testModel) sparse(t testing.TB) (source, sparse string) {
	t.Helper()
	return s.sparseAs(t, LayoutPlain)
}

// sparseAs creates source and sparse file of a layout in a fresh directory.
func (s *testModel) sparseAs(t testing.TB, layout Layout) (source, sparse string) {
	t.Helper()
	dir := t.TempDir()
	source, sparse = filepath.Join(dir, "source.gguf"), filepath.Join(dir, "sparse.gguf")
	s.write(t, source)
	src, err := gguf.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	opts := CreateOptions{Provenance: testProvenance, FileType: 2, Layout: layout, keepBlobs: true}
	if err := Create(context.Background(), sparse, src, s.blobs(t), opts); err != nil {
		t.Fatal(err)
	}
	return source, sparse
}

func mustOpen(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestCreateIsDeterministic(t *testing.T) {
	s := newTestModel()
	_, a := s.sparse(t)
	_, b := s.sparse(t)
	if x, y := mustRead(t, a), mustRead(t, b); !bytes.Equal(x, y) {
		t.Fatal("two runs of Create wrote different bytes")
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestExpandTo checks the expansion against one made directly: the source
// with every pruned tensor quantised by hand.
func TestExpandTo(t *testing.T) {
	s := newTestModel()
	_, sparse := s.sparse(t)
	dir := t.TempDir()
	got, want := filepath.Join(dir, "got.gguf"), filepath.Join(dir, "want.gguf")
	var last, steps int64
	progress := func(done, total int64) {
		if done < last || done > total {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		last, steps = done, steps+1
	}
	if err := mustOpen(t, sparse).ExpandTo(context.Background(), got, progress); err != nil {
		t.Fatal(err)
	}
	if steps == 0 {
		t.Error("no progress was reported")
	}
	direct := &testModel{data: map[string][]byte{}}
	direct.kvs = append(direct.kvs, s.kvs...)
	direct.kvs[1] = gguf.MustKV("general.file_type", uint32(2))
	direct.kvs = append(direct.kvs, testProvenance...)
	direct.kvs = append(direct.kvs, gguf.MustKV("general.quantization_version", uint32(2)))
	for _, x := range s.tensors {
		direct.data[x.Name] = s.data[x.Name]
		if m, ok := s.pruned[x.Name]; ok {
			x.Type = m.Coding.Type()
			direct.data[x.Name] = expandAll(t, m)
		}
		direct.tensors = append(direct.tensors, x)
	}
	direct.write(t, want)
	if !bytes.Equal(mustRead(t, got), mustRead(t, want)) {
		t.Fatal("the expansion differs from the file quantised directly")
	}
}

func expandAll(t testing.TB, m *Matrix) []byte {
	t.Helper()
	size := m.RowBytes()
	b := make([]byte, m.Rows*size)
	for i := range m.Rows {
		if err := m.ExpandRow(i, b[i*size:(i+1)*size]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestView(t *testing.T) {
	s := newTestModel()
	_, path := s.sparse(t)
	f := mustOpen(t, path)
	views := f.Tensors()
	if len(views) != len(s.tensors) {
		t.Fatalf("%d tensors, want %d", len(views), len(s.tensors))
	}
	for i, v := range views {
		x := s.tensors[i]
		m, sparse := s.pruned[x.Name]
		want := TensorView{Name: x.Name, Type: gguf.F32, Shape: x.Shape, Survivors: x.Elements(), StoredBytes: 4 * x.Elements(), ExpandedBytes: 4 * x.Elements()}
		if sparse {
			want.Type, want.Sparse, want.Coding, want.Group = m.Coding.Type(), true, m.Coding, m.Group
			want.Survivors, want.StoredBytes, want.ExpandedBytes = uint64(m.Survivors()), v.StoredBytes, uint64(m.Rows*m.RowBytes())
		}
		if fmt.Sprint(v) != fmt.Sprint(want) {
			t.Errorf("view %+v, want %+v", v, want)
		}
		if _, info, ok := f.Rows(x.Name); ok != sparse || ok && info.Name != x.Name {
			t.Errorf("%s: Rows says %v, %+v", x.Name, ok, info)
		}
		checkReadFloats(t, f, x, m)
	}
	if _, ok := f.Tensor("blk.0.attn_q.weight.besa"); ok {
		t.Error("the name of a blob is visible")
	}
	if err := f.ReadFloats("nothing", nil); err == nil {
		t.Error("a tensor that is not there was read")
	}
}

func checkReadFloats(t *testing.T, f *File, x gguf.Tensor, m *Matrix) {
	t.Helper()
	got := make([]float32, x.Elements())
	if err := f.ReadFloats(x.Name, got); err != nil {
		t.Fatal(err)
	}
	if m == nil {
		return
	}
	row := make([]float32, m.Cols)
	for i := range m.Rows {
		if err := m.Floats(i, row); err != nil {
			t.Fatal(err)
		}
		for j, v := range row {
			if g := got[i*m.Cols+j]; math.Float32bits(g) != math.Float32bits(v) {
				t.Fatalf("%s: row %d column %d is %g, want %g", x.Name, i, j, g, v)
			}
		}
	}
	if err := f.ReadFloats(x.Name, got[1:]); err == nil {
		t.Errorf("%s: a short slice was accepted", x.Name)
	}
}

func TestOpenOrdinaryFile(t *testing.T) {
	s := newTestModel()
	source, sparse := s.sparse(t)
	if _, err := Open(source); !errors.Is(err, ErrNotSparse) {
		t.Errorf("an ordinary GGUF: %v, want ErrNotSparse", err)
	}
	for path, want := range map[string]bool{source: false, sparse: true} {
		g, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if IsSparse(g) != want {
			t.Errorf("IsSparse(%s) is %v", filepath.Base(path), !want)
		}
		g.Close()
	}
}
