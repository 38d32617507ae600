package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// shape of a product: m×n outputs, sums of k.
type shape struct{ m, n, k int }

// shapes that the engine meets: SmolLM2's linear layers at 512 and 2048 tokens
// (forward NT, gradient of the input NN, of the weights TN) and a large one.
func benchShapes(f form) []shape {
	var s []shape
	for _, tokens := range []int{512, 2048} {
		for _, w := range [][2]int{{576, 576}, {576, 192}, {576, 1536}, {1536, 576}} {
			in, out := w[0], w[1]
			switch f.form {
			case NT:
				s = append(s, shape{tokens, out, in})
			case NN:
				s = append(s, shape{tokens, in, out})
			default:
				s = append(s, shape{out, in, tokens})
			}
		}
	}
	return append(s, shape{2048, 4096, 4096})
}

// BenchmarkMul reports the best iteration's GFLOP/s and what part that is of
// the peak measured just before and after.
func BenchmarkMul(b *testing.B) {
	before := Implementation()
	defer Use(before)
	for _, name := range Implementations() {
		for _, threads := range []int{1, 2} {
			for _, f := range forms {
				for _, s := range benchShapes(f) {
					if name == "generic" && s.m*s.n*s.k > 1<<30 || f.precision == BF16 && name != "avx512bf16" {
						continue
					}
					b.Run(fmt.Sprintf("%s/threads=%d/%s/%dx%dx%d", name, threads, f.name, s.m, s.n, s.k), func(b *testing.B) {
						if err := Use(name); err != nil {
							b.Fatal(err)
						}
						benchMul(b, f, s, threads)
					})
				}
			}
		}
	}
}

func benchMul(b *testing.B, f form, s shape, threads int) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(rows, cols int, trans bool) Mat[float32] {
		if trans {
			rows, cols = cols, rows
		}
		m := NewMat[float32](rows, cols)
		for i := range m.Data {
			m.Data[i] = r.Float32() - 0.5
		}
		return m
	}
	x, y, c := random(s.m, s.k, f.transA), random(s.k, s.n, f.transB), NewMat[float32](s.m, s.n)
	pool := NewPool(threads)
	defer pool.Close()
	measure := PeakGFLOPS
	if f.precision == BF16 {
		measure = PeakBF16GFLOPS
	}
	peak := measure(20*time.Millisecond, threads)
	call(f, pool, c, x, y, false)
	best := time.Hour
	for b.Loop() {
		start := time.Now()
		call(f, pool, c, x, y, false)
		best = min(best, time.Since(start))
	}
	peak = max(peak, measure(20*time.Millisecond, threads))
	rate := 2 * float64(s.m) * float64(s.n) * float64(s.k) / best.Seconds() / 1e9
	b.ReportMetric(rate, "GFLOP/s")
	b.ReportMetric(100*rate/peak, "%peak")
	b.ReportMetric(0, "ns/op")
}
