package sparsefmt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"besa/gguf"
)

// opened is a test model as a source, in a directory of its own.
func (s *testModel) opened(t testing.TB) (src *gguf.File, dir string) {
	t.Helper()
	dir = t.TempDir()
	s.write(t, filepath.Join(dir, "source.gguf"))
	src, err := gguf.Open(filepath.Join(dir, "source.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src, dir
}

// onlySource checks that nothing but the source is in the directory.
func onlySource(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "source.gguf" {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	type setup struct {
		s     *testModel
		blobs map[string]Blob
		opts  CreateOptions
	}
	edit := func(x *setup, name string, f func(i *TensorInfo)) {
		b := x.blobs[name]
		f(&b.Info)
		x.blobs[name] = b
	}
	cases := []struct {
		name   string
		change func(x *setup)
		err    error
		part   string
	}{
		{"unknown_tensor", func(x *setup) { x.blobs["x"] = x.blobs[symName] }, ErrUnsupported, "8 tensors are pruned"},
		{"other_blob", func(x *setup) { x.blobs[symName] = x.blobs[asymName] }, ErrUnsupported, "is that of"},
		{"other_shape", func(x *setup) { edit(x, symName, func(i *TensorInfo) { i.Shape = []uint64{21, 96} }) }, ErrUnsupported, "shape"},
		{"coding", func(x *setup) { edit(x, symName, func(i *TensorInfo) { i.Coding = 9 }) }, ErrUnsupported, "unknown coding"},
		{"suffix", func(x *setup) { x.s.add("a.besa", []uint64{4}, nil) }, ErrUnsupported, "the format's own"},
		{"reserved", func(x *setup) { x.opts.Provenance = []gguf.KV{gguf.MustKV("besa.tensors.x", true)} }, ErrUnsupported, "besa.tensors.x"},
		{"foreign", func(x *setup) { x.opts.Provenance = []gguf.KV{gguf.MustKV("general.name", "x")} }, ErrUnsupported, "general.name"},
		{"twice", func(x *setup) {
			x.opts.Provenance = []gguf.KV{gguf.MustKV("besa.a", true), gguf.MustKV("besa.a", true)}
		}, ErrUnsupported, "besa.a"},
		{"sparse_already", func(x *setup) { x.s.kvs = append(x.s.kvs, gguf.MustKV(keyVersion, uint32(1))) }, ErrUnsupported, "already"},
		{"checksum", func(x *setup) { edit(x, symName, func(i *TensorInfo) { i.BlobSum++ }) }, ErrChecksum, symName},
		{"header", func(x *setup) { edit(x, symName, func(i *TensorInfo) { i.Survivors++ }) }, ErrMalformed, "R11"},
		{"short", func(x *setup) { edit(x, symName, func(i *TensorInfo) { i.BlobBytes += 8 }) }, io.ErrUnexpectedEOF, symName},
		{"unreadable", func(x *setup) {
			b := x.blobs[symName]
			b.Open = func() (io.ReadCloser, error) { return nil, os.ErrNotExist }
			x.blobs[symName] = b
		}, os.ErrNotExist, symName},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			x := setup{s: newTestModel()}
			x.blobs = x.s.blobs(t)
			c.change(&x)
			src, dir := x.s.opened(t)
			err := Create(context.Background(), filepath.Join(dir, "sparse.gguf"), src, x.blobs, x.opts)
			if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.part) {
				t.Errorf("Create: %v, want %v and %q", err, c.err, c.part)
			}
			onlySource(t, dir)
		})
	}
}

func TestCreateLongName(t *testing.T) {
	m := &Matrix{Rows: 1, Cols: 32, Coding: CodingF16}
	fillMatrix(m, 1, func(int) float64 { return 1 })
	for n, want := range map[int]error{0: ErrUnsupported, MaxName: nil, MaxName + 1: ErrUnsupported} {
		if _, _, err := EncodeTensor(strings.Repeat("n", n), []uint64{32, 1}, m); !errors.Is(err, want) {
			t.Errorf("a name of %d bytes: %v, want %v", n, err, want)
		}
	}
	if _, _, err := EncodeTensor("x", []uint64{1, 32}, m); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a wrong shape: %v", err)
	}
}

// TestSameFile: neither Create nor ExpandTo writes over its input, by
// whatever name.
func TestSameFile(t *testing.T) {
	s := newTestModel()
	source, sparse := s.sparse(t)
	links := map[string]string{}
	for _, path := range []string{source, sparse} {
		links[path] = path + ".link"
		if err := os.Symlink(path, path+".link"); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(path, path+".hard"); err != nil {
			t.Fatal(err)
		}
	}
	src, err := gguf.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	f := mustOpen(t, sparse)
	for _, suffix := range []string{"", ".link", ".hard"} {
		if err := Create(context.Background(), source+suffix, src, s.blobs(t), CreateOptions{}); err == nil || !strings.Contains(err.Error(), "is the input itself") {
			t.Errorf("Create to source%s: %v", suffix, err)
		}
		if err := f.ExpandTo(context.Background(), sparse+suffix, nil); err == nil || !strings.Contains(err.Error(), "is the input itself") {
			t.Errorf("ExpandTo to sparse%s: %v", suffix, err)
		}
	}
}

// TestCancel cancels at the start and after the first bytes.
func TestCancel(t *testing.T) {
	s := newTestModel()
	src, dir := s.opened(t)
	_, sparse := s.sparse(t)
	f := mustOpen(t, sparse)
	for _, late := range []bool{false, true} {
		start := func() (context.Context, func(done, total int64)) {
			ctx, cancel := context.WithCancel(context.Background())
			if !late {
				cancel()
			}
			return ctx, func(done, total int64) { cancel() }
		}
		ctx, progress := start()
		err := Create(ctx, filepath.Join(dir, "sparse.gguf"), src, s.blobs(t), CreateOptions{Progress: progress})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Create: %v", err)
		}
		ctx, progress = start()
		if err := f.ExpandTo(ctx, filepath.Join(dir, "expanded.gguf"), progress); !errors.Is(err, context.Canceled) {
			t.Errorf("ExpandTo: %v", err)
		}
		onlySource(t, dir)
		if !late {
			ctx, _ = start()
			if report, err := Verify(ctx, sparse); !errors.Is(err, context.Canceled) || report.OK() {
				t.Errorf("Verify: %v, %+v", err, report)
			}
		}
	}
}

// TestMetadata: the source's pairs survive both ways, an earlier run's do not.
func TestMetadata(t *testing.T) {
	s := newTestModel()
	s.kvs = append(s.kvs, gguf.MustKV("besa.method", "wanda"), gguf.MustKV("general.alignment", uint32(64)), gguf.MustKV("z", []string{}))
	src, dir := s.opened(t)
	sparse, expanded := filepath.Join(dir, "sparse.gguf"), filepath.Join(dir, "expanded.gguf")
	if err := Create(context.Background(), sparse, src, s.blobs(t), CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, sparse)
	if err := f.ExpandTo(context.Background(), expanded, nil); err != nil {
		t.Fatal(err)
	}
	g, err := gguf.Open(expanded)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	var want []gguf.KV
	for _, kv := range s.kvs {
		if kv.Key != "besa.method" {
			want = append(want, kv)
		}
	}
	if len(g.KVs()) != len(want) {
		t.Fatalf("%d pairs in the expansion, want %d", len(g.KVs()), len(want))
	}
	for i, kv := range want {
		for _, got := range []gguf.KV{f.GGUF().KVs()[i], g.KVs()[i]} {
			if got.Key != kv.Key || got.Type != kv.Type || !bytes.Equal(got.Raw, kv.Raw) {
				t.Errorf("pair %d is %v, want %v", i, got, kv)
			}
		}
	}
	if g.Alignment() != 64 {
		t.Errorf("the alignment is %d", g.Alignment())
	}
}

// TestCutShort: a file that another process truncates is an error, no crash.
func TestCutShort(t *testing.T) {
	s := newTestModel()
	s.add("blk.1.big.weight", []uint64{512, 512}, &Matrix{Coding: CodingF16})
	_, sparse := s.sparse(t)
	f := mustOpen(t, sparse)
	if err := os.Truncate(sparse, 8192); err != nil {
		t.Fatal(err)
	}
	if err := f.ExpandTo(context.Background(), sparse+".out", nil); !errors.Is(err, gguf.ErrTruncated) {
		t.Errorf("ExpandTo: %v", err)
	}
	if err := f.ReadFloats("blk.1.big.weight", make([]float32, 512*512)); !errors.Is(err, gguf.ErrTruncated) {
		t.Errorf("ReadFloats: %v", err)
	}
}
