package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkRanked reports the bytes that must be read and written once, on a
// matrix far larger than the caches.
func BenchmarkRanked(b *testing.B) {
	before := Implementation()
	defer Use(before)
	const rows, group = 4096, 64
	for _, name := range Implementations() {
		for _, cols := range []int{576, 4096, 11008} {
			w, dw, dst := NewMat[float32](rows, cols), NewMat[float32](rows, cols), NewMat[float32](rows, cols)
			rank := make([]uint16, rows*cols)
			r := rand.New(rand.NewPCG(1, 2))
			for i := range rows {
				copy(rank[i*cols:], ranks(r, cols))
				for j := range cols {
					w.Row(i)[j], dw.Row(i)[j] = r.Float32()-0.5, r.Float32()-0.5
				}
			}
			groups := (cols + group - 1) / group
			step, zero := make([]float32, groups), make([]float32, groups)
			for k := range step {
				step[k], zero[k] = 0.06, 8
			}
			grid := GridRow{group, step, zero}
			for _, op := range []struct {
				name  string
				bytes int
				row   func(i int, sums, value, ds, dz []float32)
			}{
				{"Keep", 10, func(i int, _, _, _, _ []float32) { KeepRanked(dst.Row(i), w.Row(i), rank[i*cols:(i+1)*cols], cols/2) }},
				{"Sums", 10, func(i int, sums, _, _, _ []float32) {
					RankSums(sums, w.Row(i), dw.Row(i), rank[i*cols:(i+1)*cols])
				}},
				{"Quantize", 10, func(i int, _, _, _, _ []float32) {
					grid.Quantize(dst.Row(i), w.Row(i), rank[i*cols:(i+1)*cols], cols/2)
				}},
				{"Grad+Sums", 10, func(i int, sums, value, ds, dz []float32) {
					grid.Grad(value, ds, dz, w.Row(i), dw.Row(i), rank[i*cols:(i+1)*cols], cols/2)
					RankSums(sums, value, dw.Row(i), rank[i*cols:(i+1)*cols])
				}},
			} {
				for _, threads := range []int{1, 2} {
					b.Run(fmt.Sprintf("%s/%d/%s/threads=%d", name, cols, op.name, threads), func(b *testing.B) {
						if err := Use(name); err != nil {
							b.Fatal(err)
						}
						pool := NewPool(threads)
						defer pool.Close()
						b.SetBytes(int64(op.bytes * rows * cols))
						for b.Loop() {
							pool.For(rows, rows/threads, func(lo, hi int) {
								sums, value := make([]float32, cols), make([]float32, cols)
								ds, dz := make([]float32, groups), make([]float32, groups)
								for i := lo; i < hi; i++ {
									op.row(i, sums, value, ds, dz)
								}
							})
						}
					})
				}
			}
		}
	}
}
