package sparsefmt

import (
	"context"
	"fmt"

	"besa/gguf"

	"github.com/zeebo/xxh3"
)

// TensorInfo is a pruned tensor's row in the table of a sparse GGUF. Its JSON
// form keeps the row beside a blob until the file is written.
type TensorInfo struct {
	// Name is the tensor's name in the source and in the expanded file.
	Name string `json:"name"`
	// Shape is in ggml's order: Shape[0] is the number of columns, the product
	// of the others the number of rows.
	Shape  []uint64 `json:"shape"`
	Coding Coding   `json:"coding"`
	// Group is the number of weights that share a scale; 0 for 16-bit codings.
	Group     int    `json:"group"`
	Survivors uint64 `json:"survivors"`
	// Layout is that of the blob; the zero value means plain.
	Layout Layout `json:"layout,omitzero"`
	// BlobBytes and BlobSum are the blob's size and its XXH3-64; ExpandedSum
	// is the XXH3-64 of the expanded tensor's bytes.
	BlobBytes   uint64 `json:"blob_bytes"`
	BlobSum     uint64 `json:"blob_xxh3"`
	ExpandedSum uint64 `json:"expanded_xxh3"`
}

// Type is the ggml type the tensor expands to.
func (t TensorInfo) Type() gguf.Type { return t.Coding.Type() }

// Cols is the length of a row.
func (t TensorInfo) Cols() uint64 {
	if len(t.Shape) == 0 {
		return 0
	}
	return t.Shape[0]
}

// Rows is the product of all dimensions but the first, or more than MaxDim
// when that product is out of range.
func (t TensorInfo) Rows() uint64 {
	rows := uint64(1)
	for _, n := range t.Shape[min(1, len(t.Shape)):] {
		if n > MaxDim {
			return MaxDim + 1
		}
		if rows *= n; rows > MaxDim {
			return MaxDim + 1
		}
	}
	return rows
}

// Elements is the number of weights, pruned or not.
func (t TensorInfo) Elements() uint64 { return t.Rows() * t.Cols() }

// ExpandedBytes is the size of the expanded tensor.
func (t TensorInfo) ExpandedBytes() uint64 {
	return t.Rows() * uint64(expandedRowBytes(t.Coding, int(t.Cols())))
}

// BitsPerWeight is the size of the blob per weight of the matrix.
func (t TensorInfo) BitsPerWeight() float64 {
	return float64(t.BlobBytes) * 8 / float64(max(t.Elements(), 1))
}

// StoredBytes is what the tensor takes in a file: where the mask does not pay,
// the tensor is stored dense, as it expands.
func (t TensorInfo) StoredBytes() uint64 { return min(t.BlobBytes, t.ExpandedBytes()) }

// Validate checks the name and the shape (rules R5 and R6) without looking at
// a blob.
func (t TensorInfo) Validate() error {
	if err := checkName(t.Name); err != nil {
		return err
	}
	_, err := t.geometry()
	return err
}

func checkName(name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return broken(RuleNames, "a name of %d bytes: must have 1 to %d", len(name), MaxName)
	}
	return nil
}

func (t TensorInfo) geometry() (geometry, error) {
	if n := len(t.Shape); n < 1 || n > 4 {
		return geometry{}, broken(RuleShape, "%d dimensions: must be 1 to 4", n)
	}
	g, err := newGeometry(t.Coding, t.Rows(), t.Cols(), t.Group)
	if err != nil {
		return geometry{}, broken(RuleShape, "%v", err)
	}
	if t.Survivors > t.Elements() {
		return geometry{}, broken(RuleShape, "%d survivors among %d weights", t.Survivors, t.Elements())
	}
	return g, nil
}

// EncodeTensor encodes a matrix in the plain layout and describes the blob. The product of
// shape[1:] must be m.Rows and shape[0] must be m.Cols.
func EncodeTensor(name string, shape []uint64, m *Matrix) ([]byte, TensorInfo, error) {
	info := TensorInfo{Name: name, Shape: shape, Layout: LayoutPlain, Coding: m.Coding, Group: m.Group}
	if err := checkName(name); err != nil {
		return nil, TensorInfo{}, fmt.Errorf("tensor %q: %w: %w", name, ErrUnsupported, err)
	}
	if info.Cols() != uint64(m.Cols) || info.Rows() != uint64(m.Rows) {
		return nil, TensorInfo{}, fmt.Errorf("tensor %q: %w: shape %v for a %d×%d matrix", name, ErrUnsupported, shape, m.Rows, m.Cols)
	}
	blob, err := Encode(m)
	if err != nil {
		return nil, TensorInfo{}, fmt.Errorf("tensor %q: %w", name, err)
	}
	info.Survivors = uint64(m.Survivors())
	info.BlobBytes, info.BlobSum = uint64(len(blob)), xxh3.Hash(blob)
	r, err := NewReader(blob, info)
	if err != nil {
		return nil, TensorInfo{}, inTensor(name, err)
	}
	if info.ExpandedSum, err = expandedSum(context.Background(), r); err != nil {
		return nil, TensorInfo{}, inTensor(name, err)
	}
	return blob, info, nil
}
