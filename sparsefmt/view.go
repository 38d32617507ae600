package sparsefmt

import (
	"context"
	"fmt"

	"besa/gguf"
)

// TensorView describes a tensor as the expanded file has it, and what it
// costs in the sparse one.
type TensorView struct {
	Name   string    `json:"name"`
	Type   gguf.Type `json:"type"` // in the expanded file
	Shape  []uint64  `json:"shape"`
	Sparse bool      `json:"sparse"`
	// Coding, Group and Survivors are those of a pruned tensor. A dense
	// tensor's Survivors are all its weights: zeros are not counted.
	Coding        Coding `json:"-"`
	Group         int    `json:"group,omitempty"`
	Survivors     uint64 `json:"survivors"`
	StoredBytes   uint64 `json:"stored_bytes"` // in the sparse file, without padding
	ExpandedBytes uint64 `json:"expanded_bytes"`
}

// Elements is the number of weights.
func (v TensorView) Elements() uint64 {
	return gguf.Tensor{Shape: v.Shape}.Elements()
}

// Sparsity is the share of pruned weights.
func (v TensorView) Sparsity() float64 {
	return 1 - float64(v.Survivors)/float64(max(v.Elements(), 1))
}

// BitsPerWeight is the stored size per weight, pruned or not.
func (v TensorView) BitsPerWeight() float64 {
	return 8 * float64(v.StoredBytes) / float64(max(v.Elements(), 1))
}

func (e *entry) view() TensorView {
	if e.blob == nil {
		t := e.stored
		return TensorView{Name: t.Name, Type: t.Type, Shape: t.Shape, Survivors: t.Elements(), StoredBytes: t.Bytes, ExpandedBytes: t.Bytes}
	}
	i := e.info
	return TensorView{
		Name: i.Name, Type: i.Type(), Shape: i.Shape, Sparse: true, Coding: i.Coding, Group: i.Group,
		Survivors: i.Survivors, StoredBytes: i.BlobBytes, ExpandedBytes: i.ExpandedBytes(),
	}
}

// Tensors lists all tensors in the order of the source and of the expansion.
func (f *File) Tensors() []TensorView {
	views := make([]TensorView, len(f.entries))
	for i := range f.entries {
		views[i] = f.entries[i].view()
	}
	return views
}

// Tensor returns one tensor by its name in the expanded file.
func (f *File) Tensor(name string) (TensorView, bool) {
	i, ok := f.byName[name]
	if !ok {
		return TensorView{}, false
	}
	return f.entries[i].view(), true
}

// ReadFloats writes all values of a tensor, pruned or dense, row-major:
// exactly those that the expanded file gives. dst must have as many entries
// as the tensor has weights.
func (f *File) ReadFloats(name string, dst []float32) error {
	i, ok := f.byName[name]
	if !ok {
		return fmt.Errorf("%s: no tensor is called %q", f.Path(), name)
	}
	e := &f.entries[i]
	if e.blob == nil {
		return f.g.ReadFloats(e.stored, dst)
	}
	if uint64(len(dst)) != e.info.Elements() {
		return fmt.Errorf("%s: tensor %q has %d weights, %d floats given", f.Path(), name, e.info.Elements(), len(dst))
	}
	err := gguf.GuardFault(func() error {
		return eachStep(context.Background(), e.blob, func(expanded []byte) error {
			n := len(expanded) / e.blob.RowBytes() * int(e.info.Cols())
			err := gguf.Dequantize(e.info.Type(), dst[:n], expanded)
			dst = dst[n:]
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path(), inTensor(name, err))
	}
	return nil
}
