// Package golden reads the reference tensors that tests compare with.
//
// In: a safetensors file. Out: its tensors as float32, float64 or int slices.
// Only tests import it; any problem with a file fails the test.
package golden

import (
	"encoding/binary"
	"math"
	"os"
	"testing"

	"github.com/nlpodyssey/safetensors"
)

// File is an open reference file.
type File struct {
	t    testing.TB
	path string
	st   safetensors.SafeTensors
}

// Open reads path or fails the test.
func Open(t testing.TB, path string) *File {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := safetensors.Deserialize(data)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return &File{t: t, path: path, st: st}
}

func (f *File) tensor(name string) safetensors.TensorView {
	f.t.Helper()
	v, ok := f.st.Tensor(name)
	if !ok {
		f.t.Fatalf("%s has no tensor %q", f.path, name)
	}
	return v
}

// Has reports whether the file holds a tensor.
func (f *File) Has(name string) bool {
	_, ok := f.st.Tensor(name)
	return ok
}

// Shape returns a tensor's dimensions.
func (f *File) Shape(name string) []int {
	f.t.Helper()
	var s []int
	for _, d := range f.tensor(name).Shape() {
		s = append(s, int(d))
	}
	return s
}

// Floats returns an F32 tensor.
func (f *File) Floats(name string) []float32 {
	f.t.Helper()
	v := f.tensor(name)
	if v.DType() != safetensors.F32 {
		f.t.Fatalf("%s: %q is %v, not F32", f.path, name, v.DType())
	}
	out := make([]float32, len(v.Data())/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(v.Data()[4*i:]))
	}
	return out
}

// Doubles returns an F64 tensor.
func (f *File) Doubles(name string) []float64 {
	f.t.Helper()
	v := f.tensor(name)
	if v.DType() != safetensors.F64 {
		f.t.Fatalf("%s: %q is %v, not F64", f.path, name, v.DType())
	}
	out := make([]float64, len(v.Data())/8)
	for i := range out {
		out[i] = math.Float64frombits(binary.LittleEndian.Uint64(v.Data()[8*i:]))
	}
	return out
}

// Ints returns an I32 or U8 tensor.
func (f *File) Ints(name string) []int {
	f.t.Helper()
	v := f.tensor(name)
	switch data := v.Data(); v.DType() {
	case safetensors.U8:
		out := make([]int, len(data))
		for i, b := range data {
			out[i] = int(b)
		}
		return out
	case safetensors.I32:
		out := make([]int, len(data)/4)
		for i := range out {
			out[i] = int(int32(binary.LittleEndian.Uint32(data[4*i:])))
		}
		return out
	default:
		f.t.Fatalf("%s: %q is %v, not I32 or U8", f.path, name, v.DType())
		return nil
	}
}
