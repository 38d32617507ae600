package selftext

import (
	"fmt"

	"besa/internal/decoder"
	"besa/internal/kernel"
	"besa/internal/model"
)

// precision is that of the products: the fastest that the machine has.
func precision() kernel.Precision {
	if kernel.NativeBF16() {
		return kernel.BF16
	}
	return kernel.FP32
}

// plan fixes how many sequences are written in step, and whether all weights
// stay in memory; else every block is read again for every token.
func plan(m *model.Model, o Options) (lanes int, resident bool, err error) {
	size := int64(4)
	if precision() == kernel.BF16 {
		size = 2
	}
	block, head := int64(m.Parameters()), int64(m.Vocab)*int64(m.Hidden)
	// While they are laid out, one block or the head is there as float32, too.
	once := max(block, head) * 4
	lane := decoder.LaneBytes(m.Config, m.Layers, o.Tokens+1) + 4*int64(m.Vocab)
	left := o.Sequences - o.First
	waves := (left + maxLanes - 1) / maxLanes
	most := int64((left + waves - 1) / waves) // so that no wave is much smaller than the others
	const few = 8                             // with fewer lanes than that, reading weights again is not much slower
	for _, p := range []struct {
		resident bool
		weights  int64
		least    int64
	}{
		{true, size*(block*int64(m.Layers)+head) + once, min(few, most)},
		{false, size*(block+head) + once, 1},
	} {
		if fit := (o.Memory - p.weights) / lane; fit >= p.least {
			return int(min(fit, most)), p.resident, nil
		}
	}
	return 0, false, fmt.Errorf("%w: for writing its own calibration text the model needs %d MiB more; give more with --memory, or a text with --calib",
		ErrMemory, (size*(block+head)+once+lane-o.Memory)>>20+1)
}

// weights are a model's, laid out for products with few rows.
type weights struct {
	model  *model.Model
	pool   *kernel.Pool
	blocks []*decoder.PackedBlock // empty: they are read when they are needed
	norm   []float32
	head   *kernel.Packed
}

func newWeights(m *model.Model, pool *kernel.Pool, resident bool) (*weights, error) {
	w := &weights{model: m, pool: pool}
	h, err := m.Head()
	if err != nil {
		return nil, err
	}
	w.norm, w.head = h.Norm, kernel.Pack(pool, precision(), h.Weights)
	for i := 0; resident && i < m.Layers; i++ {
		b, err := w.read(i)
		if err != nil {
			return nil, err
		}
		w.blocks = append(w.blocks, b)
	}
	return w, nil
}

func (w *weights) read(i int) (*decoder.PackedBlock, error) {
	b, err := w.model.Block(i)
	if err != nil {
		return nil, err
	}
	if err := b.Check(w.model.Config); err != nil {
		return nil, err
	}
	return decoder.PackBlock(w.pool, precision(), b), nil
}

func (w *weights) block(i int) (*decoder.PackedBlock, error) {
	if len(w.blocks) > 0 {
		return w.blocks[i], nil
	}
	return w.read(i)
}

// logits writes what the model says of the next tokens; x is overwritten.
func (w *weights) logits(dst, x kernel.Mat[float32]) {
	for i := range x.Rows {
		kernel.RMSNorm(x.Row(i), x.Row(i), w.norm, w.model.Eps)
	}
	kernel.MulPacked(w.pool, dst, x, w.head, false)
}
