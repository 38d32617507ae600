package kernel

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestPackedIsMatMul: the same bits as the product that packs for itself,
// whatever the number of rows and threads.
func TestPackedIsMatMul(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	fill := func(m Mat[float32]) Mat[float32] {
		for i := range m.Data {
			m.Data[i] = float32(rng.NormFloat64())
		}
		return m
	}
	pool := NewPool(3)
	defer pool.Close()
	for _, name := range Implementations() {
		t.Run(name, func(t *testing.T) {
			was := Implementation()
			if err := Use(name); err != nil {
				t.Fatal(err)
			}
			defer Use(was)
			for _, s := range [][3]int{{1, 1, 1}, {3, 33, 7}, {14, 64, 576}, {65, 130, 1537}, {31, 1000, 300}} {
				m, n, k := s[0], s[1], s[2]
				a, b := fill(NewMat[float32](m, k)), fill(NewMat[float32](n, k))
				for _, precision := range []Precision{FP32, BF16} {
					packed := Pack(pool, precision, b)
					for _, accumulate := range []bool{false, true} {
						want, got := fill(NewMat[float32](m, n)), NewMat[float32](m, n)
						copy(got.Data, want.Data)
						MatMul(nil, NT, precision, want, a, b, accumulate)
						MulPacked(pool, got, a, packed, accumulate)
						if !slices.Equal(got.Data, want.Data) {
							t.Errorf("%d×%d·%d×%d in %s, accumulate %v: another result", m, k, n, k, precision, accumulate)
						}
						last := NewMat[float32](1, n)
						if MulPacked(nil, last, a.View(m-1, m, 0, k), packed, false); !accumulate && !slices.Equal(last.Data, got.Row(m-1)) {
							t.Errorf("%d×%d·%d×%d in %s: the last row alone is another", m, k, n, k, precision)
						}
					}
				}
			}
		})
	}
}
