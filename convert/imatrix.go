package convert

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"besa/besa"
	"besa/gguf"
	"besa/internal/decoder"
	"besa/internal/model"
)

// ErrImatrix marks an importance matrix that cannot serve.
var ErrImatrix = errors.New("importance matrix")

// imatrix holds Σ_t x² of every linear layer's inputs, as llama.cpp's
// llama-imatrix has summed them up over the dense model.
type imatrix struct {
	blocks []besa.Sums
	sum    string // SHA-256 of the numbers, hexadecimal
}

// block returns the sums of one block's layers; nil without an imatrix.
func (m *imatrix) block(b int) *besa.Sums {
	if m == nil {
		return nil
	}
	return &m.blocks[b]
}

// hash identifies the numbers; empty without an imatrix.
func (m *imatrix) hash() string {
	if m == nil {
		return ""
	}
	return m.sum
}

// readImatrix reads the importance matrix that the options name, if any: a GGUF
// with general.type "imatrix" and, for every weight NAME, the F32 tensors
// NAME.in_sum2 (the sums, columns × matrices) and NAME.counts (tokens summed up,
// 1 × matrices); llama.cpp, tools/imatrix. There is one matrix but where experts are mixed.
func readImatrix(o Options, m *model.Model) (*imatrix, error) {
	if o.Imatrix == "" {
		return nil, nil
	}
	if err := o.checkImatrix(); err != nil {
		return nil, err
	}
	f, err := gguf.Open(o.Imatrix)
	if errors.Is(err, gguf.ErrNotGGUF) {
		err = fmt.Errorf("%w (llama-imatrix writes GGUF; it turns an older .dat into one with --in-file OLD -o NEW.gguf)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImatrix, err)
	}
	defer f.Close()
	im, err := sumsOf(f, m)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrImatrix, o.Imatrix, err)
	}
	return im, nil
}

// checkImatrix refuses an imatrix that the method would not look at.
func (o Options) checkImatrix() error {
	m := o.Method
	switch {
	case m.UsesSums():
		return nil
	case m.Method == besa.MethodSparseGPT, m.Method == besa.MethodBESA && m.Importance == besa.ImportanceSparseGPT:
		return fmt.Errorf("%w: sparsegpt needs the correlations of inputs, an imatrix holds only their squares: give a text (--calib), or use wanda",
			besa.ErrOptions)
	}
	return fmt.Errorf("%w: magnitudes do not depend on inputs: leave out the imatrix, or choose wanda", besa.ErrOptions)
}

func sumsOf(f *gguf.File, m *model.Model) (*imatrix, error) {
	if kind, _ := f.String("general.type"); kind != "imatrix" {
		return nil, fmt.Errorf("general.type is %q, not \"imatrix\"", kind)
	}
	im, h := &imatrix{blocks: make([]besa.Sums, m.Layers)}, sha256.New()
	for b := range im.blocks {
		for l := range decoder.NumLinears {
			name := model.TensorName(b, l)
			_, cols := m.Shape(l)
			sums, err := imatrixTensor(f, name+".in_sum2", cols)
			if err != nil {
				return nil, err
			}
			counts, err := imatrixTensor(f, name+".counts", 1)
			if err != nil {
				return nil, err
			}
			if !(counts[0] > 0) {
				return nil, fmt.Errorf("%s was not used: its count is %g", name, counts[0])
			}
			_ = binary.Write(h, binary.LittleEndian, sums) // a hash never fails
			any := false
			im.blocks[b][l] = make([]float64, cols)
			for j, v := range sums {
				im.blocks[b][l][j] = float64(v)
				any = any || v > 0
			}
			if !any {
				return nil, fmt.Errorf("tensor %q: all sums are zero", name+".in_sum2")
			}
		}
	}
	im.sum = hex.EncodeToString(h.Sum(nil))
	return im, nil
}

// imatrixTensor reads a tensor of n numbers, none of which is negative.
func imatrixTensor(f *gguf.File, name string, n int) ([]float32, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("tensor %q is missing: is it another model's, or of too little text?", name)
	}
	if t.Type != gguf.F32 || t.Elements() != uint64(n) {
		return nil, fmt.Errorf("tensor %q has type %s and shape %v, not F32 and %d numbers", name, t.Type, t.Shape, n)
	}
	values := make([]float32, n)
	if err := f.ReadFloats(t, values); err != nil {
		return nil, err
	}
	for j, v := range values {
		if !(v >= 0 && v <= math.MaxFloat32) {
			return nil, fmt.Errorf("tensor %q: number %d is %g; sums of squares are finite and not negative", name, j, v)
		}
	}
	return values, nil
}
