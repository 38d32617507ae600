package main

import (
	"encoding/binary"

	"besa/gguf"
)

// writeImatrix writes an importance matrix that finds every input channel
// equally important: llama-quantize makes no low-bit i-quant without one, and the
// speed of the result does not depend on it.
func writeImatrix(path string) error {
	var tensors []gguf.Tensor
	var data [][]byte
	add := func(name string, n int) {
		tensors = append(tensors, gguf.Tensor{Name: name, Type: gguf.F32, Shape: []uint64{uint64(n), 1}})
		data = append(data, ones(n))
	}
	for _, m := range matrices() {
		add(m.name+".in_sum2", m.cols)
		add(m.name+".counts", 1)
	}
	w, err := gguf.Create(path, []gguf.KV{
		gguf.MustKV("general.type", "imatrix"),
		gguf.MustKV("imatrix.datasets", []string{"none"}),
		gguf.MustKV("imatrix.chunk_count", uint32(1)),
		gguf.MustKV("imatrix.chunk_size", uint32(1)),
	}, tensors)
	if err != nil {
		return err
	}
	defer w.Abort()
	for i, t := range tensors {
		if err := w.WriteTensor(t.Name, data[i]); err != nil {
			return err
		}
	}
	return w.Commit()
}

// ones is n times the number 1 in F32.
func ones(n int) []byte {
	data := make([]byte, 4*n)
	for i := range n {
		binary.LittleEndian.PutUint32(data[4*i:], 0x3f800000)
	}
	return data
}
