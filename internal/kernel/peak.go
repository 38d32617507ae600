package kernel

import (
	"runtime"
	"sync"
	"time"
)

// PeakGFLOPS measures what the implementation in use can do at most in FP32:
// 10⁹ floating-point operations per second of that many threads together doing
// nothing but the multiply-adds its products are made of, on registers. It
// takes about d and returns the best tenth of it.
func PeakGFLOPS(d time.Duration, threads int) float64 {
	return measurePeak(current.Load().peak, d, threads)
}

// PeakBF16GFLOPS is [PeakGFLOPS] in BF16, and 0 when the implementation in use
// has no instructions for it.
func PeakBF16GFLOPS(d time.Duration, threads int) float64 {
	if peak := current.Load().peakBF16; peak != nil {
		return measurePeak(peak, d, threads)
	}
	return 0
}

func measurePeak(peak func(n int) (flops int), d time.Duration, threads int) float64 {
	threads = max(threads, 1)
	n := 1 << 10
	for { // rounds that take about a tenth of d
		start := time.Now()
		peak(n)
		if t := time.Since(start); t > d/20 || t > time.Second {
			break
		}
		n *= 2
	}
	var best float64
	for start := time.Now(); best == 0 || time.Since(start) < d; {
		flops := make([]int, threads)
		var all sync.WaitGroup
		t := time.Now()
		for i := range threads {
			all.Go(func() { flops[i] = peak(n) })
		}
		all.Wait()
		total := 0
		for _, f := range flops {
			total += f
		}
		best = max(best, float64(total)/time.Since(t).Seconds()/1e9)
	}
	return best
}

// peakGeneric runs n rounds of eight independent multiply-adds.
func peakGeneric(n int) int {
	const a = 0.999
	s0, s1, s2, s3, s4, s5, s6, s7 := float32(1), float32(2), float32(3), float32(4), float32(5), float32(6), float32(7), float32(8)
	b := float32(n)
	for range n {
		s0 = s0*a + b
		s1 = s1*a + b
		s2 = s2*a + b
		s3 = s3*a + b
		s4 = s4*a + b
		s5 = s5*a + b
		s6 = s6*a + b
		s7 = s7*a + b
	}
	runtime.KeepAlive(s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7)
	return 16 * n
}
