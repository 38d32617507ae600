package linalg

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"besa/internal/kernel"
)

// gram returns XᵀX/rows + damp·I for random X.
func gram(n, rows int, damp float32) kernel.Mat[float32] {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	x := kernel.NewMat[float32](rows, n)
	for i := range x.Data {
		x.Data[i] = float32(rng.NormFloat64()) / float32(math.Sqrt(float64(rows)))
	}
	h := kernel.NewMat[float32](n, n)
	kernel.MulTN(nil, h, x, x, false)
	for i := range n {
		h.Row(i)[i] += damp
	}
	return h
}

func TestInverseFactor(t *testing.T) {
	for _, n := range []int{1, 2, 17, block - 1, block, block + 1, 2*block + 5, 300} {
		h := gram(n, 2*n+3, 0.01)
		u := kernel.NewMat[float32](n, n)
		copy(u.Data, h.Data)
		if err := InverseFactor(nil, u); err != nil {
			t.Fatalf("%d columns: %v", n, err)
		}
		for i := range n {
			for j := range i {
				if u.Row(i)[j] != 0 {
					t.Fatalf("%d columns: U[%d,%d] = %g below the diagonal", n, i, j, u.Row(i)[j])
				}
			}
		}
		// h·UᵀU must be the identity.
		inv, id := kernel.NewMat[float32](n, n), kernel.NewMat[float32](n, n)
		kernel.MulTN(nil, inv, u, u, false)
		kernel.MulNN(nil, id, h, inv, false)
		for i := range n {
			for j, v := range id.Row(i) {
				want := float32(0)
				if i == j {
					want = 1
				}
				if math.Abs(float64(v-want)) > 2e-4 {
					t.Fatalf("%d columns: (H·UᵀU)[%d,%d] = %g", n, i, j, v)
				}
			}
		}
	}
}

func TestInverseFactorThreads(t *testing.T) {
	one, four := gram(333, 700, 0.01), gram(333, 700, 0.01)
	pool := kernel.NewPool(4)
	defer pool.Close()
	if err := errors.Join(InverseFactor(nil, one), InverseFactor(pool, four)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(one.Data, four.Data) {
		t.Error("one and four threads differ")
	}
}

func TestInverseFactorRefuses(t *testing.T) {
	singular := gram(40, 10, 0) // 10 samples cannot span 40 channels
	nan := gram(8, 20, 0.01)
	nan.Row(3)[3] = float32(math.NaN())
	inf := gram(8, 20, 0.01)
	inf.Row(0)[0] = float32(math.Inf(1))
	for name, h := range map[string]kernel.Mat[float32]{"singular": singular, "nan": nan, "inf": inf} {
		if err := InverseFactor(nil, h); !errors.Is(err, ErrNotPositiveDefinite) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := InverseFactor(nil, kernel.NewMat[float32](3, 4)); err == nil {
		t.Error("a matrix that is not square is accepted")
	}
}
