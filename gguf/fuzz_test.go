package gguf

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// seed adds the files of others and every malformed one.
func seed(f *testing.F) {
	for _, name := range containers {
		b, err := os.ReadFile(filepath.Join("testdata", "container", name+".gguf"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, c := range corruptions {
		s := valid()
		c.change(s)
		if b := s.bytes(); len(b) < 4096 {
			f.Add(b)
		}
	}
}

// FuzzParse: whatever parse accepts can be used without harm, and writing it
// gives the same header.
func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parse(b)
		if err != nil {
			if h != nil {
				t.Fatal("a failed parse returns something")
			}
			return
		}
		for _, kv := range h.kvs {
			if got := readings(kv); got == "" {
				t.Errorf("key %q of type %s: no getter answers", kv.Key, kv.Type)
			}
		}
		for _, x := range h.tensors {
			end := h.dataOffset + x.Offset + x.Bytes
			if end > uint64(len(b)) || x.Elements() == 0 || x.Elements()/uint64(x.Type.BlockSize())*uint64(x.Type.BlockBytes()) != x.Bytes {
				t.Errorf("tensor %+v of a file of %d bytes", x, len(b))
			}
		}
		again := AppendHeader(nil, h.kvs, h.tensors)
		again[4] = b[4] // the version may be 2
		if !bytes.HasPrefix(b, again) {
			t.Errorf("header written anew differs:\n%x\n%x", b, again)
		}
	})
}

// FuzzOpen puts the bytes into a file: gguf-parser-go must come to the same
// result as parse, and the checks before it must leave it nothing to panic at.
func FuzzOpen(f *testing.F) {
	seed(f)
	path := filepath.Join(f.TempDir(), "model.gguf")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		file, err := Open(path)
		if err == nil {
			for _, x := range file.Tensors() {
				if x.Type.CanDequantize() {
					if err := file.ReadFloats(x, make([]float32, x.Elements())); err != nil {
						t.Error(err)
					}
				}
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		if strings.Contains(err.Error(), "panic:") || strings.Contains(err.Error(), "differently") {
			t.Error(err)
		}
	})
}

// FuzzParts makes a model of two parts out of any bytes: whatever is joined can
// be used without harm, and written in parts again reads the same.
func FuzzParts(f *testing.F) {
	add := func(m *splitModel) { f.Add(m.parts[0].bytes(), m.parts[1].bytes()) }
	two := func() *splitModel {
		m := validSplit()
		m.parts = m.parts[:2]
		for i, s := range m.parts {
			s.kvs = append(s.kvs[:len(s.kvs)-3], splitKVs(uint16(i), 2, 3)...)
		}
		return m
	}
	add(two())
	for _, c := range corruptSplits {
		if m := two(); c.name != "part missing" && !strings.Contains(c.name, "last part") {
			m.parts = append(m.parts, two().parts[1])
			c.change(m)
			add(m)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, a, b []byte) {
		first := filepath.Join(dir, partName("m", 0, 2))
		if err := errors.Join(os.WriteFile(first, a, 0o666), os.WriteFile(filepath.Join(dir, partName("m", 1, 2)), b, 0o666)); err != nil {
			t.Fatal(err)
		}
		m, err := Open(first)
		if err != nil {
			if m != nil {
				t.Fatal("a failed Open returns something")
			}
			return
		}
		defer m.Close()
		n := 0
		for i, part := range m.Parts() {
			n += len(part.Tensors())
			if len(m.Parts()) > 1 {
				// What this package writes for the part is a valid header of the same tensors.
				h, _, err := scanHeader(m.PartHeader(i))
				if err != nil || len(h.tensors) != len(part.Tensors()) {
					t.Errorf("part %d: %v", i, err)
				}
			}
		}
		if n != len(m.Tensors()) {
			t.Errorf("%d tensors in parts, %d in all", n, len(m.Tensors()))
		}
		for _, x := range m.Tensors() {
			if y, ok := m.Tensor(x.Name); !ok || y.Offset != x.Offset || uint64(len(m.Data(x))) != x.Bytes {
				t.Errorf("tensor %+v", x)
			}
		}
	})
}
