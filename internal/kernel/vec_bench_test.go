package kernel

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkVectors reports elements per nanosecond, of the best run, on
// vectors that fit the first-level cache.
func BenchmarkVectors(b *testing.B) {
	const n = 1536
	// Rotations repeated by cosines and sines like these shrink their vectors to
	// zero, which costs no time.
	v := make([][]float32, 5)
	for i := range v {
		v[i] = make([]float32, n)
		for j := range v[i] {
			v[i][j] = float32(j%37)/37 - 0.4
		}
	}
	before := Implementation()
	defer Use(before)
	for _, f := range []struct {
		name string
		call func()
	}{
		{"Dot", func() { Dot(v[0], v[1]) }},
		{"Max", func() { Max(v[0]) }},
		{"Axpy", func() { Axpy(1e-9, v[0], v[1]) }},
		{"Scale", func() { Scale(1, v[0]) }},
		{"Add", func() { Add(v[4], v[0], v[1]) }},
		{"Exp", func() { Exp(v[4], v[0]) }},
		{"Softmax", func() { Softmax(v[4], v[0]) }},
		{"SoftmaxGrad", func() { SoftmaxGrad(v[4], v[0], v[1]) }},
		{"RMSNorm", func() { RMSNorm(v[4], v[0], v[1], 1e-5) }},
		{"RMSNormGrad", func() { RMSNormGrad(v[4], v[0], v[1], v[2], 0.5, false) }},
		{"Rotate", func() { Rotate(v[3], v[4], v[0], v[1], 1) }},
		{"RotatePairs", func() { RotatePairs(v[4], v[0][:n/2], v[1][:n/2], 1) }},
		{"SiLUMul", func() { SiLUMul(v[4], v[0], v[1]) }},
		{"SiLUMulGrad", func() { SiLUMulGrad(v[3], v[4], v[0], v[1], v[2]) }},
	} {
		for _, name := range Implementations() {
			b.Run(fmt.Sprintf("%s/%s", f.name, name), func(b *testing.B) {
				if err := Use(name); err != nil {
					b.Fatal(err)
				}
				best := time.Hour
				for b.Loop() {
					start := time.Now()
					for range 20 {
						f.call()
					}
					best = min(best, time.Since(start))
				}
				b.ReportMetric(20*n/float64(best.Nanoseconds()), "elements/ns")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
