package convert

import (
	"fmt"

	"besa/besa"
	"besa/gguf"
	"besa/internal/decoder"
	"besa/internal/model"
	"besa/sparsefmt"
)

// tuned is a model file whose blocks' norms have other gains, in float32.
type tuned struct {
	sparsefmt.Source
	gains map[string][]float32 // by tensor
}

// tune gives the file the gains that refinement found, if it moved any.
func (r *runner) tune(src sparsefmt.Source) sparsefmt.Source {
	gains := map[string][]float32{}
	for b, rec := range r.journal.blocks {
		if n := rec.Norms; n != nil {
			gains[model.AttnNormName(b)], gains[model.FFNNormName(b)] = n.Attn, n.FFN
		}
	}
	if len(gains) == 0 {
		return src
	}
	return tuned{src, gains}
}

// Tensors lists the tensors with their new types.
func (s tuned) Tensors() []gguf.Tensor {
	all := append([]gguf.Tensor(nil), s.Source.Tensors()...)
	for i := range all {
		if g := s.gains[all[i].Name]; g != nil {
			all[i].Type, all[i].Bytes = gguf.F32, 4*uint64(len(g))
		}
	}
	return all
}

// Data returns a tensor's data.
func (s tuned) Data(t gguf.Tensor) []byte {
	g := s.gains[t.Name]
	if g == nil {
		return s.Source.Data(t)
	}
	data := make([]byte, 4*len(g))
	_ = gguf.Quantize(gguf.F32, data, g) // lengths fit: it cannot fail
	return data
}

// checkNorms tells whether a journal's gains are those of a block of this shape.
func checkNorms(n *besa.Norms, c decoder.Config) error {
	if n != nil && (len(n.Attn) != c.Hidden || len(n.FFN) != c.Hidden) {
		return fmt.Errorf("%w: norms of %d and %d gains, not %d", ErrJournal, len(n.Attn), len(n.FFN), c.Hidden)
	}
	return nil
}
