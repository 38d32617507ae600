package besa

import (
	"errors"
	"fmt"
	"math"

	"besa/internal/kernel"
	"besa/internal/linalg"
)

// Hessian accumulates XᵀX of one linear layer's inputs: half the Hessian of
// ‖XWᵀ − XŴᵀ‖² with respect to a row of Ŵ.
type Hessian struct {
	XX kernel.Mat[float32] // columns × columns
}

// Add adds the window x (tokens × columns).
func (h *Hessian) Add(p *kernel.Pool, x kernel.Mat[float32]) {
	first := h.XX.Data == nil
	if first {
		h.XX = kernel.NewMat[float32](x.Cols, x.Cols)
	}
	kernel.MulTN(p, h.XX, x, x, !first)
}

// percDamp is SparseGPT's damping: this share of the mean of the diagonal is
// added to the diagonal. Where that is not enough the damping grows tenfold,
// up to maxDamp, before the layer is refused.
const (
	percDamp = 0.01
	maxDamp  = 1
)

// factor is the upper triangular U with H⁻¹ = UᵀU of the damped Hessian.
type factor struct {
	U     kernel.Mat[float32]
	ridge float32 // what damping added to the diagonal
	dead  []bool  // input channels that are zero throughout the calibration data
}

// factorize damps and factors h, whose contents stay as they are.
func (h *Hessian) factorize(p *kernel.Pool) (*factor, error) {
	n := h.XX.Cols
	f := &factor{U: kernel.NewMat[float32](n, n), dead: make([]bool, n)}
	var trace float64
	for j := range n {
		d := h.XX.Row(j)[j]
		if !(d >= 0 && d <= math.MaxFloat32) {
			return nil, fmt.Errorf("input channel %d has values that are not finite", j)
		}
		f.dead[j] = d == 0
		trace += float64(d)
	}
	mean := float32(trace / float64(n))
	if mean == 0 {
		mean = 1 // every channel is dead
	}
	for damp := float32(percDamp); ; damp *= 10 {
		kernel.Copy(p, f.U, h.XX)
		f.ridge = damp * mean
		for j, dead := range f.dead {
			if dead {
				f.U.Row(j)[j] = mean
			}
			f.U.Row(j)[j] += f.ridge
		}
		err := linalg.InverseFactor(p, f.U)
		if err == nil || !errors.Is(err, linalg.ErrNotPositiveDefinite) || damp >= maxDamp {
			if err != nil {
				err = fmt.Errorf("calibration Hessian with damping %g: %w; give more calibration text", damp, err)
			}
			return f, err
		}
	}
}

// scales returns 1/√[H⁻¹]_jj: |w| times it is the root of SparseGPT's
// importance w²/[H⁻¹]_jj, so it takes the place of Wanda's input norms. The
// scale of a dead channel is zero.
func (f *factor) scales() []float32 {
	n := f.U.Cols
	diag := make([]float64, n)
	for i := range n {
		for j, u := range f.U.Row(i)[i:] {
			diag[i+j] += float64(u) * float64(u)
		}
	}
	scales := make([]float32, n)
	for j, d := range diag {
		if !f.dead[j] {
			scales[j] = float32(1 / math.Sqrt(d))
		}
	}
	return scales
}
