package gguf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The files under testdata/container were written by the PyPI package gguf and
// by llama.cpp itself, see testdata/make_goldens.py.
var containers = []string{"pypi", "ggml"}

type goldenFile struct {
	Alignment uint64
	Metadata  []struct {
		Key   string
		Type  any // name, or a list of one name for an array
		Value any // integers as strings
	}
	Tensors []struct {
		Name, Type, SHA256 string
		Shape              []uint64
	}
}

func openGolden(t *testing.T, name string) (*File, goldenFile) {
	t.Helper()
	f, err := Open(filepath.Join("testdata", "container", name+".gguf"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	text, err := os.ReadFile(filepath.Join("testdata", "container", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var want goldenFile
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	return f, want
}

func TestReadsWhatOthersWrote(t *testing.T) {
	for _, name := range containers {
		t.Run(name, func(t *testing.T) {
			f, want := openGolden(t, name)
			if f.Alignment() != want.Alignment {
				t.Errorf("alignment %d, want %d", f.Alignment(), want.Alignment)
			}
			for _, m := range want.Metadata {
				got, ok := anyValue(f, m.Key)
				if !ok || fmt.Sprint(got) != fmt.Sprint(m.Value) {
					t.Errorf("%s: got %v %v, want %v", m.Key, got, ok, m.Value)
				}
				kv, _ := f.Lookup(m.Key)
				if typ, array := m.Type.([]any); array {
					elem, _, _ := kv.Elem()
					m.Type = typ[0]
					if kv.Type != Array || elem.String() != strings.ToLower(typ[0].(string)) {
						t.Errorf("%s: type %s of %s, want array of %s", m.Key, kv.Type, elem, typ[0])
					}
				} else if kv.Type.String() != strings.ToLower(m.Type.(string)) {
					t.Errorf("%s: type %s, want %s", m.Key, kv.Type, m.Type)
				}
			}
			checkTensors(t, f, want)
		})
	}
}

// anyValue reads a key through the getter that belongs to its type.
func anyValue(f *File, key string) (any, bool) {
	kv, ok := f.Lookup(key)
	if !ok {
		return nil, false
	}
	elem, _, array := kv.Elem()
	t := kv.Type
	if array {
		t = elem
	}
	pick := func(scalar, list func() (any, bool)) (any, bool) {
		if array {
			return list()
		}
		return scalar()
	}
	switch t {
	case String:
		return pick(func() (any, bool) { return untyped(f.String(key)) }, func() (any, bool) { return untyped(f.Strings(key)) })
	case Bool:
		return pick(func() (any, bool) { return untyped(f.Bool(key)) }, func() (any, bool) { return untyped(f.Bools(key)) })
	case Float32, Float64:
		return pick(func() (any, bool) { return untyped(f.Float(key)) }, func() (any, bool) { return untyped(f.Floats(key)) })
	case Uint64:
		return pick(func() (any, bool) { return untyped(f.Uint(key)) }, func() (any, bool) { return untyped(f.Uints(key)) })
	}
	return pick(func() (any, bool) { return untyped(f.Int(key)) }, func() (any, bool) { return untyped(f.Ints(key)) })
}

func untyped[T any](v T, ok bool) (any, bool) { return v, ok }

func checkTensors(t *testing.T, f *File, want goldenFile) {
	t.Helper()
	if len(f.Tensors()) != len(want.Tensors) {
		t.Fatalf("%d tensors, want %d", len(f.Tensors()), len(want.Tensors))
	}
	for i, w := range want.Tensors {
		got := f.Tensors()[i]
		// llama.cpp drops trailing dimensions of 1.
		shape := slices.Clone(w.Shape)
		for len(shape) > len(got.Shape) && shape[len(shape)-1] == 1 {
			shape = shape[:len(shape)-1]
		}
		if got.Name != w.Name || got.Type.String() != w.Type || !slices.Equal(got.Shape, shape) {
			t.Errorf("tensor %d is %q %s %v, want %q %s %v", i, got.Name, got.Type, got.Shape, w.Name, w.Type, w.Shape)
		}
		sum := sha256.Sum256(f.Data(got))
		if hex.EncodeToString(sum[:]) != w.SHA256 {
			t.Errorf("tensor %q: other data", got.Name)
		}
		x := make([]float32, got.Elements())
		if err := f.ReadFloats(got, x); err != nil {
			t.Error(err)
		}
	}
}

// Parse, then write: the same bytes.
func TestRoundTripIsByteIdentical(t *testing.T) {
	for _, name := range containers {
		t.Run(name, func(t *testing.T) {
			f, _ := openGolden(t, name)
			path := filepath.Join(t.TempDir(), "out.gguf")
			copyFile(t, f, path)
			want, err := os.ReadFile(f.Path())
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes came back as %d other ones", len(want), len(got))
			}
		})
	}
}

// copyFile writes f anew through a Writer, in chunks of odd size for every
// other tensor.
func copyFile(t *testing.T, f *File, path string) {
	t.Helper()
	w, err := Create(path, f.KVs(), f.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for i, x := range f.Tensors() {
		if i%2 == 0 {
			if err := w.WriteTensor(x.Name, f.Data(x)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		tw, err := w.TensorWriter(x.Name)
		if err != nil {
			t.Fatal(err)
		}
		for chunk := range slices.Chunk(f.Data(x), 7) {
			if _, err := tw.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}
