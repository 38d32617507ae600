package convert

import (
	"fmt"
	"slices"

	"besa/besa"
	"besa/gguf"
	"besa/sparsefmt"
)

// headTensors are what stays dense and is large: the token embeddings, which
// are the output head too where a file has no other, and the head.
var headTensors = map[string]bool{"token_embd.weight": true, "output.weight": true}

// HeadTypes are the types that embeddings and head can be given. Their share of
// a small model is large, and all of the head is read for every token.
var HeadTypes = []gguf.Type{gguf.Q4_0, gguf.Q8_0, gguf.F16, gguf.BF16}

// recoded is a model file whose embeddings and output head have another type.
type recoded struct {
	*gguf.File
	head gguf.Type
}

// recode is the file that tensors which are not pruned are copied from.
func (o Options) recode(f *gguf.File) (sparsefmt.Source, error) {
	if o.Head == "" {
		return f, nil
	}
	head, err := gguf.ParseType(o.Head)
	if err != nil || !slices.Contains(HeadTypes, head) {
		return nil, fmt.Errorf("%w: type %q for embeddings and head; have %v", besa.ErrOptions, o.Head, HeadTypes)
	}
	for _, t := range f.Tensors() {
		if !headTensors[t.Name] {
			continue
		}
		if _, err := head.RowBytes(t.Cols()); err != nil {
			return nil, fmt.Errorf("%w: tensor %q as %s: %w", besa.ErrOptions, t.Name, head, err)
		}
		if !t.Type.CanDequantize() {
			return nil, fmt.Errorf("%w: tensor %q is %s, which cannot become %s", besa.ErrOptions, t.Name, t.Type, head)
		}
	}
	return recoded{f, head}, nil
}

// Tensors lists the tensors with their new types.
func (s recoded) Tensors() []gguf.Tensor {
	all := append([]gguf.Tensor(nil), s.File.Tensors()...)
	for i := range all {
		if t := &all[i]; headTensors[t.Name] {
			row, _ := s.head.RowBytes(t.Cols()) // checked when s was made
			t.Type, t.Bytes = s.head, row*t.Rows()
		}
	}
	return all
}

// Data returns a tensor's data in its new type.
func (s recoded) Data(t gguf.Tensor) []byte {
	old, ok := s.Tensor(t.Name)
	if !ok || old.Type == t.Type {
		return s.File.Data(t)
	}
	src, dst := s.File.Data(old), make([]byte, t.Bytes)
	from, to := uint64(len(src))/old.Rows(), t.Bytes/t.Rows()
	row := make([]float32, t.Cols())
	for i := range t.Rows() {
		// Lengths fit, and both types can: neither fails.
		_ = gguf.Dequantize(old.Type, row, src[i*from:(i+1)*from])
		_ = gguf.Quantize(t.Type, dst[i*to:(i+1)*to], row)
	}
	return dst
}
