package besa

import (
	"cmp"
	"math"
	"slices"

	"besa/internal/kernel"
)

// sweepWidth is the number of columns whose errors are gathered before the
// columns to their right are updated in one product (SparseGPT's block size).
const sweepWidth = 128

// sweep walks through the columns of a layer from left to right, replaces each
// weight by what is stored for it, and moves the error onto the columns not
// yet visited, so that the layer's output on the calibration data stays as
// close as it can (Frantar and Alistarh, 2023; OBS with the factor U).
type sweep struct {
	w     kernel.Mat[float32] // weights; replaced
	u     kernel.Mat[float32] // upper triangular, H⁻¹ = UᵀU
	keep  []bool              // rows × columns
	width int

	// choose, when set, decides keep for columns lo to hi before they are
	// visited; chooseRow likewise for one row, before each multiple of m.
	choose    func(lo, hi int)
	m         int
	chooseRow func(i, lo, hi int)
	// store, when set, returns what is stored for survivor j of row i.
	store func(i, j int, w float32) float32
}

func (s *sweep) run(p *kernel.Pool) {
	width := min(s.width, s.w.Cols)
	errs := kernel.NewMat[float32](s.w.Rows, width)
	for lo := 0; lo < s.w.Cols; lo += width {
		hi := min(lo+width, s.w.Cols)
		if s.choose != nil {
			s.choose(lo, hi)
		}
		e := errs.View(0, s.w.Rows, 0, hi-lo)
		p.For(s.w.Rows, 4, func(r0, r1 int) {
			for i := r0; i < r1; i++ {
				s.row(i, lo, hi, e.Row(i))
			}
		})
		if hi < s.w.Cols {
			kernel.MulNN(p, s.w.View(0, s.w.Rows, hi, s.w.Cols), e, s.u.View(lo, hi, hi, s.w.Cols), true)
		}
	}
}

// row visits columns lo to hi of row i and leaves the negated errors in errs.
func (s *sweep) row(i, lo, hi int, errs []float32) {
	row, keep := s.w.Row(i), s.keep[i*s.w.Cols:(i+1)*s.w.Cols]
	for j := lo; j < hi; j++ {
		if s.chooseRow != nil && j%s.m == 0 {
			s.chooseRow(i, j, min(j+s.m, s.w.Cols))
		}
		var stored float32
		if keep[j] {
			stored = row[j]
			if s.store != nil {
				stored = s.store(i, j, stored)
			}
		}
		u := s.u.Row(j)
		e := (stored - row[j]) / u[j]
		row[j] = stored
		errs[j-lo] = e
		if e != 0 {
			kernel.Axpy(e, u[j+1:hi], row[j+1:hi])
		}
	}
}

// sparseGPT prunes w to the given sparsity (or pattern) and updates the
// survivors. In every block of columns the weights with the least
// w²/U_jj² go, over all rows together, as in the official code; their number
// is exact, where the official threshold takes one more. It returns what is
// kept, rows × columns.
func sparseGPT(p *kernel.Pool, w kernel.Mat[float32], f *factor, sparsity float64, pattern Pattern, width int) []bool {
	s := &sweep{w: w, u: f.U, keep: make([]bool, w.Rows*w.Cols), width: width}
	for k := range s.keep {
		s.keep[k] = true
	}
	for i := range w.Rows {
		row := w.Row(i)
		for j, dead := range f.dead {
			if dead {
				row[j] = 0
			}
		}
	}
	if pattern.M > 0 {
		s.m, s.chooseRow = pattern.M, func(i, lo, hi int) {
			var metric [maxPattern]float32
			for j := lo; j < hi; j++ {
				metric[j-lo] = abs32(w.Row(i)[j] / f.U.Row(j)[j])
			}
			pattern.prune(s.keep[i*w.Cols+lo:i*w.Cols+hi], metric[:hi-lo])
		}
	} else {
		var done int // weights in the blocks before
		s.choose = func(lo, hi int) {
			next := done + w.Rows*(hi-lo)
			// Shares of the running total add up to the exact count of the layer.
			count := int(math.Round(sparsity*float64(next))) - int(math.Round(sparsity*float64(done)))
			done = next
			s.chooseLeast(lo, hi, count)
		}
	}
	s.run(p)
	return s.keep
}

// chooseLeast drops the count least important weights of columns lo to hi; of
// equals the earlier in row-major order go first.
func (s *sweep) chooseLeast(lo, hi, count int) {
	type candidate struct {
		metric float32
		at     int
	}
	all := make([]candidate, 0, s.w.Rows*(hi-lo))
	for i := range s.w.Rows {
		row := s.w.Row(i)
		for j := lo; j < hi; j++ {
			all = append(all, candidate{abs32(row[j] / s.u.Row(j)[j]), i*s.w.Cols + j})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if c := cmp.Compare(a.metric, b.metric); c != 0 {
			return c
		}
		return a.at - b.at
	})
	for _, c := range all[:count] {
		s.keep[c.at] = false
	}
}
