package convert

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync/atomic"

	"besa/besa"
	"besa/gguf"
	"besa/internal/decoder"
	"besa/internal/kernel"
	"besa/internal/model"
	"besa/sparsefmt"
)

// encode makes the blob of one pruned layer.
func (r *runner) encode(block int, l decoder.Linear, layer *besa.Layer) ([]byte, sparsefmt.TensorInfo, error) {
	src, err := r.source(block, l)
	if err != nil {
		return nil, sparsefmt.TensorInfo{}, err
	}
	return sparsefmt.EncodeTensor(src.Name, src.Shape, formatMatrix(layer, r.Method.Grid, src.Type))
}

// decode reads the weights that a blob stands for.
func (r *runner) decode(b sparsefmt.Blob, w kernel.Mat[float32]) (err error) {
	in, err := b.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	blob, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	reader, err := sparsefmt.NewReader(blob, b.Info)
	if err != nil {
		return err
	}
	const rows = 64 // at a time
	failed := make([]error, (w.Rows+rows-1)/rows)
	r.pool.For(w.Rows, rows, func(lo, hi int) {
		expanded := make([]byte, (hi-lo)*reader.RowBytes())
		err := reader.ExpandRows(lo, hi, expanded)
		if err == nil {
			err = gguf.Dequantize(b.Info.Type(), w.Data[lo*w.Cols:hi*w.Cols], expanded)
		}
		failed[lo/rows] = err
	})
	return errors.Join(failed...)
}

// check tells whether a record of the journal describes this model's tensors.
func (r *runner) check(b blockRecord) error {
	if b.Report.Block >= r.model.Layers || len(b.Tensors) != int(decoder.NumLinears) {
		return fmt.Errorf("%w: block %d with %d tensors", ErrJournal, b.Report.Block, len(b.Tensors))
	}
	if err := checkNorms(b.Norms, r.model.Config); err != nil {
		return err
	}
	for l, t := range b.Tensors {
		src, err := r.source(b.Report.Block, decoder.Linear(l))
		if err != nil {
			return err
		}
		if t.Name != src.Name || !slices.Equal(t.Shape, src.Shape) || t.Validate() != nil {
			return fmt.Errorf("%w: tensor %q is not the model's", ErrJournal, t.Name)
		}
	}
	return nil
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
