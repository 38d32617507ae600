package model

import (
	"context"
	"errors"
	"fmt"

	"besa/gguf"
	"besa/internal/kernel"
)

// ErrNotFinite marks a model with a weight that is NaN or infinite.
var ErrNotFinite = errors.New("not finite")

// CheckFinite reads all tensors of an ordinary GGUF, the copied ones too, and
// reports the first weight that is NaN or infinite. Tensors of types that have
// no such values, or that besa cannot read, are passed over.
func (m *Model) CheckFinite(ctx context.Context, p *kernel.Pool) error {
	for _, t := range m.file.Tensors() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !t.Type.CanDequantize() {
			continue
		}
		at, value, err := m.notFinite(p, t)
		m.file.Release(t)
		if err != nil {
			return fmt.Errorf("%s: tensor %q: %w", m.file.Path(), t.Name, err)
		}
		if at >= 0 {
			cols := int64(t.Cols())
			return fmt.Errorf("%s: tensor %q: %w: row %d, column %d is %v: the model is damaged, or was exported beyond the range of its type",
				m.file.Path(), t.Name, ErrNotFinite, at/cols, at%cols, value)
		}
	}
	return nil
}

// notFinite returns the first weight of a tensor that is not finite; at < 0: none.
func (m *Model) notFinite(p *kernel.Pool, t gguf.Tensor) (at int64, value float32, err error) {
	data := m.file.Data(t)
	blocks := len(data) / t.Type.BlockBytes()
	const weights = 1 << 16 // at a time
	grain := max(weights/t.Type.BlockSize(), 1)
	parts := (blocks + grain - 1) / grain
	type finding struct {
		at    int64
		value float32
		err   error
	}
	found := make([]finding, parts)
	p.For(parts, 1, func(lo, hi int) {
		buf := make([]float32, grain*t.Type.BlockSize())
		for i := lo; i < hi; i++ {
			first, last := i*grain, min((i+1)*grain, blocks)
			w := buf[:(last-first)*t.Type.BlockSize()]
			found[i].at = -1
			found[i].err = gguf.GuardFault(func() error {
				return gguf.Dequantize(t.Type, w, data[first*t.Type.BlockBytes():last*t.Type.BlockBytes()])
			})
			for j, v := range w {
				if v-v != 0 {
					found[i].at, found[i].value = int64(first)*int64(t.Type.BlockSize())+int64(j), v
					break
				}
			}
		}
	})
	for _, f := range found {
		if f.at >= 0 || f.err != nil {
			return f.at, f.value, f.err
		}
	}
	return -1, 0, nil
}
