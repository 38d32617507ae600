package besa

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"besa/internal/kernel"
)

// randomMatrix holds normal values, some of them equal in magnitude.
func randomMatrix(rng *rand.Rand, rows, cols int) kernel.Mat[float32] {
	m := kernel.NewMat[float32](rows, cols)
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
		if rng.IntN(4) == 0 {
			m.Data[i] = float32(rng.IntN(5)-2) / 4
		}
	}
	return m
}

func TestRankIsAStableSort(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for _, cols := range []int{1, 2, 63, 300, 5000} {
		w := randomMatrix(rng, 70, cols)
		clear(w.Row(0)) // all alike
		norms := make([]float32, cols)
		for j := range norms {
			norms[j] = float32(math.Ldexp(1, rng.IntN(40)-20))
		}
		norms[0] = 0
		for _, norms := range [][]float32{norms, nil} {
			rank, err := Rank(nil, w, norms)
			if err != nil {
				t.Fatal(err)
			}
			metric, order := make([]float32, cols), make([]int, cols)
			for i := range w.Rows {
				importance(metric, w.Row(i), norms)
				for j := range order {
					order[j] = j
				}
				slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(metric[a], metric[b]) })
				for k, j := range order {
					if got := rank.Row(i)[j]; int(got) != k {
						t.Fatalf("%d columns, row %d: column %d has rank %d, want %d", cols, i, j, got, k)
					}
				}
			}
		}
	}
}

// TestBackwardOfGridAlone: the gradients of clipping do not depend on whether
// they are taken together with the allocation's.
func TestBackwardOfGridAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	const rows, cols = 30, 130 // the last group is cut short
	w, dw := randomMatrix(rng, rows, cols), randomMatrix(rng, rows, cols)
	rank, err := Rank(nil, w, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := NewAllocation(rows, cols, NewCandidates(0.01, RuleOfficial), 0, GranularityRow)
	a.Update(nil)
	c := newClipping(GridAsymmetric, rows, cols, 32)
	c.fitRange(nil, w, true)
	c.update(nil)
	a.Backward(nil, rank, w, dw, c, 0)
	together := [2][]float32{slices.Clone(c.rawGrad[0]), slices.Clone(c.rawGrad[1])}
	grad := slices.Clone(a.Grad)
	c.backward(nil, w, dw, rank, a.Prune)
	for s := range together {
		if !slices.Equal(together[s], c.rawGrad[s]) || slices.Max(together[s]) == 0 {
			t.Errorf("gradients of strength %d differ", s)
		}
	}
	// Frozen, the grid leaves its gradients alone and the allocation's are the same.
	c.frozen = true
	clear(c.rawGrad[0])
	a.Backward(nil, rank, w, dw, c, 0)
	if !slices.Equal(grad, a.Grad) || slices.Max(c.rawGrad[0]) != 0 {
		t.Error("freezing the grid changes the allocation's gradients, or fills its own")
	}
}

func BenchmarkRank(b *testing.B) {
	rng := rand.New(rand.NewPCG(6, 6))
	w := kernel.NewMat[float32](512, 4096)
	for i := range w.Data {
		w.Data[i] = float32(rng.NormFloat64())
	}
	pool := kernel.NewPool(0)
	defer pool.Close()
	for b.Loop() {
		if _, err := Rank(pool, w, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(w.Data)), "ns/weight")
}
