package convert

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"

	"besa/besa"
	"besa/gguf"
	"besa/internal/decoder"
	"besa/internal/kernel"
	"besa/internal/model"
	"besa/sparsefmt"
)

// store encodes one pruned layer into the work folder.
func (r *runner) store(block int, l decoder.Linear, layer *besa.Layer) (*sparsefmt.Blob, error) {
	src, err := r.source(block, l)
	if err != nil {
		return nil, err
	}
	name := src.Name
	data, info, err := sparsefmt.EncodeTensor(name, src.Shape, formatMatrix(layer, r.Method.Grid, src.Type))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(r.work, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return nil, fmt.Errorf("store %s: %w", name, err)
	}
	blob := sparsefmt.Blob{Info: info, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
	r.blobs[name] = blob
	return &blob, nil
}

// formatMatrix translates a pruned layer into the format's terms. Unquantised
// weights have been rounded to the coding already.
func formatMatrix(layer *besa.Layer, grid besa.Grid, source gguf.Type) *sparsefmt.Matrix {
	w := layer.Weights
	m := &sparsefmt.Matrix{Rows: w.Rows, Cols: w.Cols, Mask: layer.Mask}
	switch grid {
	case besa.GridSymmetric:
		m.Coding, m.Group, m.Codes, m.Scales = sparsefmt.CodingQ4Sym, layer.Group, layer.Codes, layer.Steps
		return m
	case besa.GridAsymmetric:
		m.Coding, m.Group, m.Codes, m.Scales, m.Zeros = sparsefmt.CodingQ4Asym, layer.Group, layer.Codes, layer.Steps, layer.Zeros
		return m
	}
	c := unquantised(source)
	m.Coding, m.Values = c.coding, make([]uint16, len(w.Data))
	for i, v := range w.Data {
		m.Values[i] = c.bits(v)
	}
	return m
}

// halfCoding is how unquantised survivors are stored.
type halfCoding struct {
	coding sparsefmt.Coding
	bits   func(float32) uint16
	value  func(uint16) float32
}

// unquantised survivors become BF16 where the source is, else F16.
func unquantised(source gguf.Type) halfCoding {
	if source == gguf.BF16 {
		return halfCoding{sparsefmt.CodingBF16, gguf.F32ToBF16, gguf.BF16ToF32}
	}
	return halfCoding{sparsefmt.CodingF16, gguf.F32ToF16, gguf.F16ToF32}
}

// round rounds unquantised weights to the values that the file will hold.
func (r *runner) round(block int, l decoder.Linear, w kernel.Mat[float32]) error {
	src, err := r.source(block, l)
	if err != nil {
		return err
	}
	c := unquantised(src.Type)
	var bad atomic.Bool
	r.pool.For(w.Rows, 8, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			row := w.Row(i)
			for j, v := range row {
				row[j] = c.value(c.bits(v))
				if math.IsInf(float64(row[j]), 0) {
					bad.Store(true)
				}
			}
		}
	})
	if bad.Load() {
		return fmt.Errorf("a weight is beyond the range of %s: quantise with --joint-q4", c.coding.Type())
	}
	return nil
}

// source is the tensor that linear layer l of a block is read from.
func (r *runner) source(block int, l decoder.Linear) (gguf.Tensor, error) {
	name := model.TensorName(block, l)
	src, ok := r.model.File().Tensor(name)
	if !ok {
		return src, fmt.Errorf("tensor %q is missing", name)
	}
	return src, nil
}
