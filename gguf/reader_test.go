package gguf

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestReadFloats(t *testing.T) {
	f, err := Open(writeFile(t, valid().bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first, _ := f.Tensor("first")
	x := make([]float32, first.Elements())
	if err := f.ReadFloats(first, x); err != nil {
		t.Fatal(err)
	}
	if want := floatsOf(f.Data(first)); x[5] != want[5] || want[5] == 0 {
		t.Errorf("read %v, want %v", x[5], want[5])
	}
	if err := f.ReadFloats(first, x[1:]); err == nil || !strings.Contains(err.Error(), `tensor "first": dequantize F32: 112 bytes do not hold 27 weights`) {
		t.Errorf("too small a slice: %v", err)
	}
	for _, alien := range []Tensor{{}, {Name: "third"}, {Name: "first", Offset: 1 << 40, Bytes: 112}, {Name: "first", Bytes: 1 << 40}} {
		if f.Data(alien) != nil || f.ReadFloats(alien, x) == nil {
			t.Errorf("data of %+v", alien)
		}
	}
}

// Data stays what it is after Release, for ranges within a page and beyond.
func TestRelease(t *testing.T) {
	s := valid()
	s.tensors = []rawTensor{
		{name: "small", shape: []uint64{8}, typ: uint32(F32)},
		{name: "big", shape: []uint64{1 << 16}, typ: uint32(F32), offset: 32},
	}
	s.data = 32 + 1<<18
	f, err := Open(writeFile(t, s.bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, x := range append(f.Tensors(), Tensor{Name: "no such"}) {
		before := bytes.Clone(f.Data(x))
		f.Release(x)
		if !bytes.Equal(f.Data(x), before) {
			t.Errorf("%s: other data after Release", x.Name)
		}
	}
}

func TestUseAfterClose(t *testing.T) {
	f, err := Open(writeFile(t, valid().bytes()))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := f.Tensor("first")
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := f.Lookup("general.architecture"); ok || f.Data(first) != nil || len(f.Tensors()) != 0 || len(f.KVs()) != 0 {
		t.Error("a closed file still answers")
	}
}

func TestManyReaders(t *testing.T) {
	f, err := Open(writeFile(t, valid().bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, x := range f.Tensors() {
				if err := f.ReadFloats(x, make([]float32, x.Elements())); err != nil {
					t.Error(err)
				}
			}
			if _, ok := f.String("general.architecture"); !ok {
				t.Error("no architecture")
			}
		})
	}
	wg.Wait()
}

// gguf-parser-go follows part numbers, trims names and expands "~": none of
// that must show.
func TestNamesTheParserReadsInItsOwnWay(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s := valid()
	s.tensors[0].name = " spaced "
	s.kvs[1] = rawKV{key: "split.no", typ: uint32(Uint16), value: []byte{1, 0}}
	for _, name := range []string{"m-00002-of-00003.gguf", "~", "~x", "-v", "with space ü.gguf", "no-extension"} {
		if err := os.WriteFile(name, s.bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		f, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := f.Tensor(" spaced "); !ok {
			t.Errorf("%s: no tensor %q", name, " spaced ")
		}
		f.Close()
	}
}

// The second reading is refused when it differs; here because the file has
// been exchanged in between.
func TestSecondOpinionCounts(t *testing.T) {
	s := valid()
	h, err := parse(s.bytes())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change  func(*spec)
		message string
	}{
		"tensor gone":    {func(s *spec) { s.tensors = s.tensors[:1] }, "1 tensors, not 2"},
		"pair gone":      {func(s *spec) { s.kvs = s.kvs[:1] }, "1 metadata pairs, not 2"},
		"header longer":  {func(s *spec) { s.kvs[0].value = text(strings.Repeat("x", 50)) }, "tensor data at 256, not 224"},
		"name other":     {func(s *spec) { s.tensors[0].name = "worst" }, `tensor 0 is "worst"`},
		"type other":     {func(s *spec) { s.tensors[1].typ = uint32(IQ4_NL) }, "tensor 1 is"},
		"offset other":   {func(s *spec) { s.tensors[1].offset = 96 }, "tensor 1 is"},
		"shape other":    {func(s *spec) { s.tensors[0].shape = []uint64{7, 4} }, "tensor 0 is"},
		"no GGUF at all": {func(s *spec) { s.magic = "XXXX" }, "gguf-parser-go: invalid GGUF format"},
		"it panics":      {func(s *spec) { s.tensors[1].shape = []uint64{32, 1 << 62} }, "gguf-parser-go: panic"},
	} {
		s := valid()
		c.change(s)
		path := writeFile(t, s.bytes())
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := secondOpinion(f, path, 1<<20, h); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: got %v, want %q", name, err, c.message)
		}
	}
}

// A file cut short under the mapping ends ReadFloats, not the program.
func TestFileCutShortWhileOpen(t *testing.T) {
	if !canMap {
		return // the file is a copy
	}
	s := valid()
	s.tensors = []rawTensor{{name: "big", shape: []uint64{1 << 18}, typ: uint32(F32)}}
	s.data = 1 << 20
	path := writeFile(t, s.bytes())
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 1<<16); err != nil {
		t.Fatal(err)
	}
	big, _ := f.Tensor("big")
	err = f.ReadFloats(big, make([]float32, big.Elements()))
	if !errors.Is(err, ErrTruncated) || !strings.Contains(err.Error(), "cut short while in use") {
		t.Errorf("got %v", err)
	}
	// A copy of it through a Writer fails as well.
	w, err := Create(filepath.Join(t.TempDir(), "out.gguf"), nil, []Tensor{big})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.WriteTensor("big", f.Data(big)); err == nil {
		t.Error("data that is gone was written")
	}
}
