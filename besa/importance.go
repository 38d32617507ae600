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

// Norms returns ‖X_:,j‖₂ for every channel; nil where nothing was added.
func (n *InputNorms) Norms() []float32 {
	if n.Sum == nil {
		return nil
	}
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

// Ranking holds the rank of every weight in its row's order of importance: 0
// for the least important; equal importance keeps the order of columns. Ranks
// in the order of the weights make masking a comparison.
type Ranking struct {
	Rows, Cols int
	rank       []uint16
}

// Row returns the ranks of row i's columns.
func (r *Ranking) Row(i int) []uint16 { return r.rank[i*r.Cols : (i+1)*r.Cols] }

// Rank ranks the columns of every row of w by |w|·norms (by |w| when norms is
// nil). It refuses values that have no order.
func Rank(p *kernel.Pool, w kernel.Mat[float32], norms []float32) (*Ranking, error) {
	if w.Cols > maxColumns {
		return nil, fmt.Errorf("rank %d columns: at most %d are supported", w.Cols, maxColumns)
	}
	if norms != nil && len(norms) != w.Cols {
		return nil, fmt.Errorf("rank %d columns with %d input norms", w.Cols, len(norms))
	}
	r := &Ranking{Rows: w.Rows, Cols: w.Cols, rank: make([]uint16, w.Rows*w.Cols)}
	bad := make([]bool, w.Rows)
	p.For(w.Rows, 64, func(lo, hi int) {
		metric, s := make([]float32, w.Cols), newSorter(w.Cols)
		for i := lo; i < hi; i++ {
			importance(metric, w.Row(i), norms)
			bad[i] = !s.rank(r.Row(i), metric)
		}
	})
	if i := slices.Index(bad, true); i >= 0 {
		return nil, fmt.Errorf("row %d has a weight or an input norm that is not finite", i)
	}
	return r, nil
}

// sorter ranks rows of values that are not negative, whose bits order like
// integers: a radix sort by bytes, the lowest first, which keeps the order of
// equals.
type sorter struct {
	keys, next []sortKey
	count      [4][256]uint32
}

type sortKey struct {
	bits   uint32
	column uint32
}

func newSorter(cols int) *sorter {
	return &sorter{keys: make([]sortKey, cols), next: make([]sortKey, cols)}
}

// rank writes every column's rank; it returns false when a value is not finite.
func (s *sorter) rank(rank []uint16, metric []float32) bool {
	clear(s.count[:])
	for j, v := range metric {
		if !(v <= math.MaxFloat32) {
			return false
		}
		b := math.Float32bits(v)
		s.keys[j] = sortKey{b, uint32(j)}
		s.count[0][b&0xff]++
		s.count[1][b>>8&0xff]++
		s.count[2][b>>16&0xff]++
		s.count[3][b>>24]++
	}
	for digit := range s.count {
		s.pass(uint(8*digit), &s.count[digit])
	}
	for k, key := range s.keys {
		rank[key.column] = uint16(k)
	}
	return true
}

// pass sorts by the byte at shift, of whose values there are count.
func (s *sorter) pass(shift uint, count *[256]uint32) {
	at := uint32(0)
	for d, n := range count {
		if int(n) == len(s.keys) {
			return // all alike
		}
		count[d] = at
		at += n
	}
	for _, k := range s.keys {
		d := k.bits >> shift & 0xff
		s.next[count[d]] = k
		count[d]++
	}
	s.keys, s.next = s.next, s.keys
}
