package llama

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/x448/float16"

	"besa/gguf"
	"besa/internal/assets"
	"besa/sparsefmt"
)

// sparseDemo writes the tiny model with the smaller half of every row of its
// blocks pruned and the rest in 4 bits, and what that expands to.
func sparseDemo(t testing.TB) (sparse, dense string) {
	t.Helper()
	src, err := gguf.Open(demo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	blobs := map[string]sparsefmt.Blob{}
	for _, x := range src.Tensors() {
		if !strings.HasPrefix(x.Name, "blk.") || len(x.Shape) < 2 {
			continue
		}
		w := make([]float32, x.Elements())
		if err := src.ReadFloats(x, w); err != nil {
			t.Fatal(err)
		}
		blob, info, err := sparsefmt.EncodeTensor(x.Name, x.Shape, prune(w, int(x.Rows()), int(x.Cols())))
		if err != nil {
			t.Fatal(err)
		}
		blobs[x.Name] = sparsefmt.BlobOf(info, blob)
	}
	dir := t.TempDir()
	sparse, dense = filepath.Join(dir, "demo.sparse.gguf"), filepath.Join(dir, "demo-expanded.gguf")
	if err := sparsefmt.Create(t.Context(), sparse, src, blobs, sparsefmt.CreateOptions{FileType: 2}); err != nil {
		t.Fatal(err)
	}
	f, err := sparsefmt.Open(sparse)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.ExpandTo(t.Context(), dense, nil); err != nil {
		t.Fatal(err)
	}
	return sparse, dense
}

// prune keeps the larger half of every row and rounds it to 15 levels.
func prune(w []float32, rows, cols int) *sparsefmt.Matrix {
	const group = 64
	m := &sparsefmt.Matrix{Rows: rows, Cols: cols, Coding: sparsefmt.CodingQ4Sym, Group: group, Codes: make([]uint8, rows*cols)}
	m.Mask = make([]uint64, rows*m.Words())
	abs := func(x float32) float32 { return max(x, -x) }
	for i := range rows {
		row := w[i*cols : (i+1)*cols]
		sizes := make([]float32, cols)
		for j, x := range row {
			sizes[j] = abs(x)
		}
		slices.Sort(sizes)
		for j, x := range row {
			if abs(x) >= sizes[cols/2] {
				m.Mask[i*m.Words()+j/64] |= 1 << (j % 64)
			}
		}
		for g := 0; g < cols; g += group {
			top := float32(0)
			for _, x := range row[g : g+group] {
				top = max(top, abs(x))
			}
			scale := float16.Fromfloat32(top / 7)
			m.Scales = append(m.Scales, scale.Bits())
			for j, x := range row[g : g+group] {
				q := 8 + int(x/max(scale.Float32(), 1e-8)+8.5) - 8
				m.Codes[i*cols+g+j] = uint8(min(max(q, 0), 15))
			}
		}
	}
	return m
}

// TestExpansionIsTheExpandedFile reads the stream in pieces of all sizes.
func TestExpansionIsTheExpandedFile(t *testing.T) {
	sparse, dense := sparseDemo(t)
	want, err := os.ReadFile(dense)
	if err != nil {
		t.Fatal(err)
	}
	f, err := sparsefmt.Open(sparse)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := newExpansion(f)
	if got, err := io.ReadAll(newReader(e)); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v; want %d, equal: %v", len(got), err, len(want), bytes.Equal(got, want))
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		off := r.IntN(len(want) + 10)
		p := make([]byte, r.IntN(1<<r.IntN(14)))
		n, err := e.ReadAt(p, int64(off))
		rest := want[min(off, len(want)):]
		if (err == io.EOF) != (len(p) > len(rest)) || err != nil && err != io.EOF {
			t.Fatalf("%d bytes at %d: %v", len(p), off, err)
		}
		if !bytes.Equal(p[:n], rest[:min(len(p), len(rest))]) {
			t.Fatalf("%d bytes at %d differ", len(p), off)
		}
	}
	if _, err := e.ReadAt(nil, -1); err == nil {
		t.Error("a negative offset is read")
	}
}

// TestSparseIsItsExpansion: the stream gives llama.cpp the same model as the
// expanded file.
func TestSparseIsItsExpansion(t *testing.T) {
	sparse, dense := sparseDemo(t)
	library := assets.Path(t, assets.Llama)
	var logits [2][]float32
	for i, path := range []string{sparse, dense} {
		var done, total int64
		m, err := Load(t.Context(), path, Options{Library: library, OnProgress: func(d, n int64) { done, total = d, n }})
		if err != nil {
			t.Fatal(err)
		}
		logits[i] = promptLogits(t, m)
		isSparse, pruned, native := m.Sparse()
		if isSparse != (i == 0) || isSparse && (pruned != 28 || native > pruned || done != total || done == 0) {
			t.Errorf("%s: sparse %v, %d pruned, %d native, progress %d of %d", path, isSparse, pruned, native, done, total)
		}
		for range 2 {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if !slices.Equal(logits[0], logits[1]) {
		t.Error("logits differ")
	}
}

// promptLogits evaluates a short text.
func promptLogits(t *testing.T, m *Model) []float32 {
	t.Helper()
	ids, err := m.Tokenize("In the beginning God created the heaven and", true, false)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.NewContext(ContextOptions{Tokens: 64, Sequences: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, id := range ids {
		if err := c.Add(id, i, 0, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Decode(); err != nil {
		t.Fatal(err)
	}
	logits, rows, err := c.Logits()
	if err != nil || rows != len(ids) {
		t.Fatalf("%d rows for %d tokens, %v", rows, len(ids), err)
	}
	return slices.Clone(logits)
}

// TestCorruptSparseIsRefused changes one byte in every tensor.
func TestCorruptSparseIsRefused(t *testing.T) {
	sparse, _ := sparseDemo(t)
	library := assets.Path(t, assets.Llama)
	good, err := os.ReadFile(sparse)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gguf.Open(sparse)
	if err != nil {
		t.Fatal(err)
	}
	tensors, start := g.Tensors(), g.DataOffset()
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.gguf")
	for _, x := range tensors {
		data := slices.Clone(good)
		data[start+x.Offset+x.Bytes/2] ^= 1
		if err := os.WriteFile(bad, data, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := Load(t.Context(), bad, Options{Library: library})
		if err == nil {
			t.Errorf("%s: loads", x.Name)
			_ = m.Close()
		} else if !errors.Is(err, sparsefmt.ErrChecksum) && !errors.Is(err, sparsefmt.ErrMalformed) {
			t.Errorf("%s: %v", x.Name, err)
		}
	}
}

// TestStockRefusesSparse: llama.cpp, given a sparse file as it is, says what it
// lacks, and goes on.
func TestStockRefusesSparse(t *testing.T) {
	sparse, dense := sparseDemo(t)
	m, err := Load(t.Context(), dense, Options{Library: assets.Path(t, assets.Llama)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	err = (&Model{path: sparse}).loadFile()
	if err == nil || !strings.Contains(err.Error(), "llama.cpp says") || !strings.Contains(err.Error(), "tensor") {
		t.Errorf("stock llama.cpp says %v", err)
	}
	promptLogits(t, m)
}
