package sparsefmt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// expandedBytes is the file that ExpandTo writes.
func expandedBytes(t testing.TB, f *File) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "expanded.gguf")
	if err := f.ExpandTo(context.Background(), path, nil); err != nil {
		t.Fatal(err)
	}
	return mustRead(t, path)
}

// eachLayout runs a test on the test model in every layout.
func eachLayout(t *testing.T, test func(t *testing.T, f *File)) {
	for _, layout := range []Layout{LayoutPlain, LayoutPacked} {
		t.Run(layout.String(), func(t *testing.T) {
			test(t, mustOpen(t, newTestModel().layout(t, layout)))
		})
	}
}

// layout creates the sparse file in a layout.
func (s *testModel) layout(t testing.TB, layout Layout) (path string) {
	t.Helper()
	src, dir := s.opened(t)
	path = filepath.Join(dir, "sparse.gguf")
	blobs := map[string]Blob{}
	for _, x := range s.tensors {
		if m := s.pruned[x.Name]; m != nil {
			blob, info, err := EncodeTensor(x.Name, x.Shape, m)
			if err == nil && layout == LayoutPacked {
				blob, info, err = Pack(blob, info)
			}
			if err != nil {
				t.Fatal(err)
			}
			blobs[x.Name] = BlobOf(info, blob)
		}
	}
	if err := Create(context.Background(), path, src, blobs, CreateOptions{Layout: layout}); err != nil {
		t.Fatal(err)
	}
	return path
}

// small chunks, so that a small model has many of them.
func smallChunks(d *DenseReader, steps int64) *DenseReader {
	for i := range d.extents {
		if s := &d.extents[i]; s.rows != nil {
			s.chunk = steps * int64(s.rows.RowStep()) * int64(s.rows.RowBytes())
		}
	}
	return d
}

// Any read, across any border, gives the bytes of the expanded file, whatever
// the cache holds.
func TestDenseReaderIsTheExpandedFile(t *testing.T) { eachLayout(t, denseReaderIsTheExpandedFile) }

func denseReaderIsTheExpandedFile(t *testing.T, f *File) {
	want := expandedBytes(t, f)
	for name, d := range map[string]*DenseReader{
		"default":    f.DenseReader(),
		"no cache":   smallChunks(f.DenseReaderSize(0), 1),
		"one chunk":  smallChunks(f.DenseReaderSize(1500), 1),
		"two steps":  smallChunks(f.DenseReaderSize(5000), 2),
		"everything": smallChunks(f.DenseReaderSize(1<<20), 1),
	} {
		t.Run(name, func(t *testing.T) {
			if d.Size() != int64(len(want)) {
				t.Fatalf("size %d, want %d", d.Size(), len(want))
			}
			if err := iotest.TestReader(io.NewSectionReader(d, 0, d.Size()), want); err != nil {
				t.Error(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				off := rapid.Int64Range(0, d.Size()+2).Draw(t, "offset")
				if rapid.Bool().Draw(t, "near a border") {
					s := rapid.SampledFrom(d.extents).Draw(t, "tensor")
					off = rapid.SampledFrom([]int64{s.start, s.end, int64(len(d.header))}).Draw(t, "border") + rapid.Int64Range(-3, 3).Draw(t, "from it")
				}
				checkRead(t, d, want, off, rapid.IntRange(0, 3000).Draw(t, "length"))
			})
			if d.chunks.bytes > d.chunks.limit || len(d.chunks.chunks) != d.chunks.recent.Len() {
				t.Errorf("the cache has %d bytes of %d, %d chunks in the map, %d in the list", d.chunks.bytes, d.chunks.limit, len(d.chunks.chunks), d.chunks.recent.Len())
			}
		})
	}
}

// checkRead compares one read with the expanded file.
func checkRead(t interface{ Errorf(string, ...any) }, d *DenseReader, want []byte, off int64, n int) {
	p := bytes.Repeat([]byte{0xee}, n)
	got, err := d.ReadAt(p, off)
	expect := want[min(off, int64(len(want))):min(off+int64(n), int64(len(want)))]
	if got != len(expect) || !bytes.Equal(p[:got], expect) {
		t.Errorf("%d bytes at %d: %d read, %d expected, or other ones", n, off, got, len(expect))
	}
	if (err == io.EOF) != (got < n) || err != nil && err != io.EOF {
		t.Errorf("%d bytes at %d: %d read and error %v", n, off, got, err)
	}
}

// Many goroutines with a cache that is too small for them.
func TestDenseReaderConcurrently(t *testing.T) { eachLayout(t, denseReaderConcurrently) }

func denseReaderConcurrently(t *testing.T, f *File) {
	want := expandedBytes(t, f)
	d := smallChunks(f.DenseReaderSize(4000), 1)
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for range 300 {
				checkRead(t, d, want, r.Int64N(d.Size()), r.IntN(2000))
			}
		})
	}
	wg.Wait()
}

// A damaged tile or chunk is an error with the tensor's name, every time; what
// lies before it is read.
func TestDenseReaderOfADamagedFile(t *testing.T) { eachLayout(t, denseReaderOfADamagedFile) }

func denseReaderOfADamagedFile(t *testing.T, f *File) {
	g := f.GGUF()
	stored, _ := g.Tensor(symName + Suffix)
	at := g.DataOffset() + stored.Offset + stored.Bytes/2 // in a chunk of the packed layout
	if rows, _, _ := f.Rows(symName); f.Layout() == LayoutPlain {
		at = g.DataOffset() + stored.Offset + rows.(*Reader).firstTile() // its masks
	}
	raw, err := os.OpenFile(f.Path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, int64(at)); err != nil {
		t.Fatal(err)
	}
	d := f.DenseReader()
	start := d.extents[f.byName[symName]].start
	for range 2 {
		p := make([]byte, 40)
		n, err := d.ReadAt(p, start-32)
		var re *RuleError
		if n != 32 || !errors.As(err, &re) || re.Tensor != symName {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	if _, err := d.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("negative offset")
	}
}

// BenchmarkDenseReader reads a tensor of 32 Mi weights, half of them pruned: in
// order, in pieces of 1 MiB, and 4 KiB at random places, kept and not kept.
func BenchmarkDenseReader(b *testing.B) {
	for _, layout := range []Layout{LayoutPlain, LayoutPacked} {
		f := mustOpen(b, benchModel().layout(b, layout))
		b.Run(layout.String()+" in order", func(b *testing.B) {
			d := f.DenseReader()
			p := make([]byte, 1<<20)
			b.SetBytes(d.Size())
			for b.Loop() {
				for off := int64(0); off < d.Size(); off += int64(len(p)) {
					if _, err := d.ReadAt(p, off); err != nil && err != io.EOF {
						b.Fatal(err)
					}
				}
			}
		})
		for name, d := range map[string]*DenseReader{"kept": f.DenseReader(), "not kept": f.DenseReaderSize(1 << 20)} {
			b.Run(layout.String()+" random "+name, func(b *testing.B) {
				p := make([]byte, 4<<10)
				b.SetBytes(int64(len(p)))
				r := rand.New(rand.NewPCG(1, 2))
				for b.Loop() {
					if _, err := d.ReadAt(p, r.Int64N(d.Size()-int64(len(p)))); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// benchModel has one tensor of 8192 × 4096 weights.
func benchModel() *testModel {
	s := &testModel{data: map[string][]byte{}, pruned: map[string]*Matrix{}}
	m := &Matrix{Coding: CodingQ4Sym, Group: 128}
	s.add("w", []uint64{4096, 8192}, m)
	fillMatrix(m, 3, func(int) float64 { return 0.5 })
	return s
}
