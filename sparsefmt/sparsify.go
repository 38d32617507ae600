package sparsefmt

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"besa/gguf"
)

// DefaultMinSparsity keeps Sparsify from tensors that nobody pruned: about a
// tenth of the weights that Q4_0 rounds are zero.
const DefaultMinSparsity = 0.2

// Sparsified is what Sparsify did with a tensor that it looked at.
type Sparsified struct {
	Name     string    `json:"name"`
	Type     gguf.Type `json:"type"`
	Sparsity float64   `json:"sparsity"` // share of the weights that are zero
	// Dense says why the tensor is stored as it was; empty for a blob.
	Dense string `json:"dense,omitempty"`
}

// Sparsify writes an ordinary GGUF as a sparse one: every weight that is zero
// counts as pruned. It is lossless, the new file expands to the tensors of the
// old, byte for byte, and to its metadata; no provenance is added, since
// nothing is known of how the zeros came about.
//
// Tensors of type F16, BF16, Q8_0, Q4_0 and Q4_1 can be stored as blobs; they
// are if at least minSparsity of their weights are zero, the format can hold
// them, and the blob is smaller. Zero means +0 (F16, BF16), code 0 (Q8_0),
// code 8 (Q4_0), or the code z with -z·d = m (Q4_1). Infinities and minima that
// are no multiple of the step are what the format cannot hold.
//
// It returns the names of the files and a line for every tensor of two or more
// dimensions. Memory: the largest tensor, taken apart; blobs wait in a
// temporary file beside path.
func Sparsify(ctx context.Context, path string, src *gguf.File, minSparsity float64, opts StoreOptions) ([]string, []Sparsified, error) {
	if IsSparse(src) {
		return nil, nil, fmt.Errorf("%w: %s is a sparse GGUF already", ErrUnsupported, src.Path())
	}
	if err := gguf.CheckOutput(path, opts.SplitBytes != 0, true, src.Path()); err != nil {
		return nil, nil, err
	}
	s := &sparsifier{spool: spool{dir: filepath.Dir(path)}, layout: max(opts.Layout, LayoutPlain), min: minSparsity, blobs: map[string]Blob{}}
	defer s.spool.close()
	total, done := 0.0, 0.0
	for _, t := range src.Tensors() {
		total += float64(t.Bytes)
	}
	for _, t := range src.Tensors() {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if len(t.Shape) > 1 && !strings.HasSuffix(t.Name, Suffix) {
			if err := s.tensor(src, t); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", src.Path(), inTensor(t.Name, err))
			}
			src.Release(t)
		}
		done += float64(t.Bytes)
		opts.progress(done / total / 2)
	}
	paths, err := opts.create(ctx, path, src, s.blobs, CreateOptions{}, 0.5)
	return paths, s.report, err
}

type sparsifier struct {
	spool  spool
	layout Layout
	min    float64
	blobs  map[string]Blob
	report []Sparsified
}

// tensor decides about one tensor.
func (s *sparsifier) tensor(src *gguf.File, t gguf.Tensor) error {
	r := Sparsified{Name: t.Name, Type: t.Type}
	err := gguf.GuardFault(func() (err error) {
		r.Sparsity, r.Dense, err = s.store(t, src.Data(t))
		return err
	})
	s.report = append(s.report, r)
	return err
}

// store puts a tensor's blob into the spool, or says why it has none.
func (s *sparsifier) store(t gguf.Tensor, data []byte) (sparsity float64, dense string, err error) {
	z, ok := zeroReaders[t.Type]
	if !ok {
		return 0, fmt.Sprintf("no coding holds %v", t.Type), nil
	}
	if len(t.Name) > MaxName {
		return 0, fmt.Sprintf("its name is longer than %d bytes", MaxName), nil
	}
	if err := checkShape(z.coding, t.Rows(), t.Cols(), z.group()); err != nil {
		return 0, err.Error(), nil
	}
	m, err := z.read(t, data)
	if err != nil {
		return 0, err.Error(), nil
	}
	sparsity = 1 - float64(m.Survivors())/float64(t.Elements())
	if sparsity < s.min {
		return sparsity, "too few zeros", nil
	}
	blob, info, err := EncodeTensor(t.Name, t.Shape, m)
	if err != nil {
		return sparsity, err.Error(), nil
	}
	if s.layout == LayoutPacked {
		if blob, info, err = Pack(blob, info); err != nil {
			return sparsity, err.Error(), nil
		}
	}
	if info.BlobBytes >= info.ExpandedBytes() {
		return sparsity, "its mask does not pay", nil
	}
	s.blobs[t.Name], err = s.spool.add(info, blob)
	return sparsity, "", err
}
