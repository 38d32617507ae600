package convert

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"besa/besa"
	"besa/gguf"
	"besa/internal/decoder"
	"besa/internal/model"
	"besa/sparsefmt"
)

// store encodes one pruned layer into the work folder.
func (r *runner) store(block int, l decoder.Linear, layer *besa.Layer) (*sparsefmt.Blob, error) {
	name := model.TensorName(block, l)
	src, ok := r.model.File().Tensor(name)
	if !ok {
		return nil, fmt.Errorf("tensor %q is missing", name)
	}
	m, err := formatMatrix(layer, r.Method.Grid, src.Type)
	if err != nil {
		return nil, err
	}
	data, info, err := sparsefmt.EncodeTensor(name, src.Shape, m)
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
// survivors become BF16 where the source is, else F16.
func formatMatrix(layer *besa.Layer, grid besa.Grid, source gguf.Type) (*sparsefmt.Matrix, error) {
	w := layer.Weights
	m := &sparsefmt.Matrix{Rows: w.Rows, Cols: w.Cols, Mask: layer.Mask}
	switch grid {
	case besa.GridSymmetric:
		m.Coding, m.Group, m.Codes, m.Scales = sparsefmt.CodingQ4Sym, layer.Group, layer.Codes, layer.Steps
		return m, nil
	case besa.GridAsymmetric:
		m.Coding, m.Group, m.Codes, m.Scales, m.Zeros = sparsefmt.CodingQ4Asym, layer.Group, layer.Codes, layer.Steps, layer.Zeros
		return m, nil
	}
	m.Values = make([]uint16, len(w.Data))
	if source == gguf.BF16 {
		m.Coding = sparsefmt.CodingBF16
		for i, v := range w.Data {
			m.Values[i] = gguf.F32ToBF16(v)
		}
		return m, nil
	}
	m.Coding = sparsefmt.CodingF16
	for i, v := range w.Data {
		h := gguf.F32ToF16(v)
		if math.IsInf(float64(gguf.F16ToF32(h)), 0) {
			return nil, fmt.Errorf("weight %d is %g, beyond the range of F16: quantise with --joint-q4", i, v)
		}
		m.Values[i] = h
	}
	return m, nil
}
