package besa

import (
	"fmt"
	"math"
	"slices"

	"besa/internal/kernel"
)

// InputNorms accumulates Σ_t x² per input channel of one linear layer.
type InputNorms struct {
	Sum []float64
}

// Add adds the squares of x (tokens × channels).
func (n *InputNorms) Add(p *kernel.Pool, x kernel.Mat[float32]) {
	if n.Sum == nil {
		n.Sum = make([]float64, x.Cols)
	}
	p.For(x.Cols, 64, func(lo, hi int) {
		sum := n.Sum[lo:hi]
		for t := range x.Rows {
			for j, v := range x.Row(t)[lo:hi] {
				sum[j] += float64(v) * float64(v)
			}
		}
	})
}

// Norms returns ‖X_:,j‖₂ for every channel.
func (n *InputNorms) Norms() []float32 {
	norms := make([]float32, len(n.Sum))
	for j, s := range n.Sum {
		norms[j] = float32(math.Sqrt(s))
	}
	return norms
}

// importance writes one row's |w|·norm (Eq 2), or |w| when norms is nil.
func importance(dst, w, norms []float32) {
	if norms == nil {
		for j, v := range w {
			dst[j] = abs32(v)
		}
		return
	}
	for j, v := range w {
		dst[j] = abs32(v) * norms[j]
	}
}

func abs32(v float32) float32 {
	return math.Float32frombits(math.Float32bits(v) &^ (1 << 31))
}

// maxColumns is the widest layer whose ranks fit a uint16.
const maxColumns = 1 << 16

// Ranking lists every row's columns from least to most important; equal
// importance keeps the order of columns.
type Ranking struct {
	Rows, Cols int
	order      []uint16
}

// Row returns row i's columns, least important first.
func (r *Ranking) Row(i int) []uint16 { return r.order[i*r.Cols : (i+1)*r.Cols] }

// Rank orders the columns of every row of w by |w|·norms (by |w| when norms is
// nil). It refuses values that have no order.
func Rank(p *kernel.Pool, w kernel.Mat[float32], norms []float32) (*Ranking, error) {
	if w.Cols > maxColumns {
		return nil, fmt.Errorf("rank %d columns: at most %d are supported", w.Cols, maxColumns)
	}
	if norms != nil && len(norms) != w.Cols {
		return nil, fmt.Errorf("rank %d columns with %d input norms", w.Cols, len(norms))
	}
	r := &Ranking{Rows: w.Rows, Cols: w.Cols, order: make([]uint16, w.Rows*w.Cols)}
	bad := make([]bool, w.Rows)
	p.For(w.Rows, 8, func(lo, hi int) {
		metric := make([]float32, w.Cols)
		keys := make([]uint64, w.Cols)
		for i := lo; i < hi; i++ {
			importance(metric, w.Row(i), norms)
			bad[i] = !rankRow(r.Row(i), metric, keys)
		}
	})
	if i := slices.Index(bad, true); i >= 0 {
		return nil, fmt.Errorf("row %d has a weight or an input norm that is not finite", i)
	}
	return r, nil
}

// rankRow sorts metric, whose values are not negative: their bits then order
// like integers, and the column in the low bits makes the order stable.
func rankRow(order []uint16, metric []float32, keys []uint64) bool {
	for j, v := range metric {
		if !(v <= math.MaxFloat32) {
			return false
		}
		keys[j] = uint64(math.Float32bits(v))<<16 | uint64(j)
	}
	slices.Sort(keys)
	for k, key := range keys {
		order[k] = uint16(key)
	}
	return true
}
