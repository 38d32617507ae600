package main

import (
	"context"
	"encoding/binary"
	"fmt"

	"besa/gguf"
	"besa/sparsefmt"
)

// writeSparse stores the matrices of a written model that have pruned weights
// in the sparse format; a zero is a pruned weight.
func writeSparse(from, to string) error {
	src, err := gguf.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	blobs := map[string]sparsefmt.Blob{}
	for _, m := range matrices() {
		if !m.pruned {
			continue
		}
		t, ok := src.Tensor(m.name)
		if !ok {
			return fmt.Errorf("%s has no tensor %q", from, m.name)
		}
		blob, info, err := sparsefmt.EncodeTensor(m.name, t.Shape, m.unpack(src.Data(t)))
		if err != nil {
			return err
		}
		blobs[m.name] = sparsefmt.BlobOf(info, blob)
	}
	return sparsefmt.Create(context.Background(), to, src, blobs, sparsefmt.CreateOptions{})
}

// unpack is the inverse of pack.
func (m matrix) unpack(data []byte) *sparsefmt.Matrix {
	x := &sparsefmt.Matrix{Rows: m.rows, Cols: m.cols, Coding: sparsefmt.CodingQ4Sym, Group: group, Codes: make([]uint8, m.rows*m.cols)}
	x.Mask = make([]uint64, m.rows*x.Words())
	for at := 0; at < m.rows*m.cols; at += block {
		b := data[at/block*18:][:18]
		r, c := at/m.cols, at%m.cols
		if c%group == 0 {
			x.Scales = append(x.Scales, binary.LittleEndian.Uint16(b))
		}
		for i := range block / 2 {
			x.Codes[at+i], x.Codes[at+block/2+i] = b[2+i]&15, b[2+i]>>4
		}
		for i, code := range x.Codes[at : at+block] {
			if code != 8 {
				x.Mask[r*x.Words()+(c+i)/64] |= 1 << ((c + i) % 64)
			}
		}
	}
	return x
}
