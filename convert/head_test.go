package convert

import (
	"errors"
	"testing"

	"besa/besa"
	"besa/gguf"
)

// Embeddings in another type are those that gguf's own functions give; every
// other tensor stays as it is.
func TestRecode(t *testing.T) {
	const rows, cols = 5, 64
	var in []float32
	for i := range rows * cols {
		in = append(in, float32(i%37)-18)
	}
	quantise := func(kind gguf.Type, from []float32) []byte {
		n, err := kind.RowBytes(uint64(len(from)))
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, n)
		if err := gguf.Quantize(kind, data, from); err != nil {
			t.Fatal(err)
		}
		return data
	}
	old, other := quantise(gguf.Q8_0, in), quantise(gguf.F32, in[:cols])
	path := t.TempDir() + "/m.gguf"
	w, err := gguf.Create(path, nil, []gguf.Tensor{
		{Name: "token_embd.weight", Type: gguf.Q8_0, Shape: []uint64{cols, rows}},
		{Name: "output_norm.weight", Type: gguf.F32, Shape: []uint64{cols}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := errors.Join(w.WriteTensor("token_embd.weight", old), w.WriteTensor("output_norm.weight", other), w.Commit()); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := (Options{Head: "q6_k"}).recode(f); !errors.Is(err, besa.ErrOptions) {
		t.Errorf("a type that cannot be written: %v", err)
	}
	src, err := (Options{Head: "q4_0"}).recode(f)
	if err != nil {
		t.Fatal(err)
	}
	stored := make([]float32, len(in))
	if err := gguf.Dequantize(gguf.Q8_0, stored, old); err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]byte{quantise(gguf.Q4_0, stored), other} {
		tensor := src.Tensors()[i]
		if got := src.Data(tensor); string(got) != string(want) || tensor.Bytes != uint64(len(want)) {
			t.Errorf("%s: %d bytes (%d announced), want %d that differ or not", tensor.Name, len(got), tensor.Bytes, len(want))
		}
	}
}
