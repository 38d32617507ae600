package sparsefmt

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"besa/gguf"
)

// splitSource is a split test model: source in two parts or more, sparse file
// in parts of at most maxBytes.
func (s *testModel) splitSparse(t testing.TB, maxBytes uint64) (paths []string) {
	t.Helper()
	src, dir := s.opened(t)
	opts := CreateOptions{Provenance: testProvenance, FileType: 2, keepBlobs: true}
	paths, err := CreateSplit(context.Background(), filepath.Join(dir, "sparse.gguf"), maxBytes, src, s.blobs(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// A sparse file in parts says and expands to the same as in one, and its
// expansion may be in parts as well.
func TestSplit(t *testing.T) {
	s := newTestModel()
	_, whole := s.sparse(t)
	paths := s.splitSparse(t, 2000)
	if len(paths) < 3 {
		t.Fatalf("parts %q", paths)
	}
	a, b := mustOpen(t, whole), mustOpen(t, paths[0])
	if x, y := gguf.AppendHeader(nil, a.GGUF().KVs(), a.GGUF().Tensors()), gguf.AppendHeader(nil, b.GGUF().KVs(), b.GGUF().Tensors()); !bytes.Equal(x, y) {
		t.Error("the joined header is not that of the file in one piece")
	}
	if report, err := Verify(context.Background(), paths[0]); err != nil || !report.OK() {
		t.Errorf("Verify: %v", err)
	}
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.gguf"), filepath.Join(dir, "two.gguf")
	if err := a.ExpandTo(context.Background(), one, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.ExpandTo(context.Background(), two, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mustRead(t, one), mustRead(t, two)) {
		t.Error("the expansions differ")
	}
	expanded, err := b.Expand(context.Background(), filepath.Join(dir, "three.gguf"), ExpandOptions{SplitBytes: 2000})
	if err != nil || len(expanded) < 3 {
		t.Fatalf("%v, parts %q", err, expanded)
	}
	sameModel(t, one, expanded[0])
}

// sameModel compares pairs, tensors and data of two models.
func sameModel(t *testing.T, a, b string) {
	t.Helper()
	var files [2]*gguf.File
	for i, path := range []string{a, b} {
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	x, y := files[0], files[1]
	if !bytes.Equal(gguf.AppendHeader(nil, x.KVs(), x.Tensors()), gguf.AppendHeader(nil, y.KVs(), y.Tensors())) {
		t.Error("the headers differ")
	}
	for _, tensor := range x.Tensors() {
		if !bytes.Equal(x.Data(tensor), y.Data(tensor)) {
			t.Errorf("%s differs", tensor.Name)
		}
	}
}

// TestEveryByteOfEveryPartCounts flips a bit of one byte after the other:
// Verify must notice, wherever it is.
func TestEveryByteOfEveryPartCounts(t *testing.T) {
	s := &testModel{data: map[string][]byte{}, pruned: map[string]*Matrix{}}
	s.kvs = []gguf.KV{gguf.MustKV("general.architecture", "llama")}
	s.add("a", []uint64{3}, nil)
	s.add("b", []uint64{32, 2}, &Matrix{Coding: CodingQ4Sym, Group: 32})
	s.add("c", []uint64{5}, nil)
	paths := s.splitSparse(t, 32)
	if len(paths) != 3 {
		t.Fatalf("parts %q", paths)
	}
	for _, path := range paths {
		good := mustRead(t, path)
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			if err := os.WriteFile(path, bad, 0o666); err != nil {
				t.Fatal(err)
			}
			if report, err := Verify(context.Background(), paths[0]); err == nil || report.OK() && len(report.Failures) > 0 {
				t.Errorf("%s: byte %d of %d: not noticed", filepath.Base(path), i, len(good))
			}
		}
		if err := os.WriteFile(path, good, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Verify(context.Background(), paths[0]); err != nil {
		t.Error(err)
	}
}
