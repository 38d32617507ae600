package enginebench

import (
	"time"

	"besa/internal/kernel"
)

// keys of Peaks that rows refer to.
const (
	peakFP32 = "fp32_gflops"
	peakBF16 = "bf16_gflops"
	peakRead = "read_gbytes_per_second"
)

// precisions are those that this CPU has instructions for.
func precisions() []kernel.Precision {
	if kernel.NativeBF16() {
		return []kernel.Precision{kernel.FP32, kernel.BF16}
	}
	return []kernel.Precision{kernel.FP32}
}

// arithmetic adds a row whose rate, of products in a precision, is flops over seconds.
func (b *bench) arithmetic(p kernel.Precision, section, name string, flops, seconds float64, hint string) {
	r := Row{
		Section: section, Name: name, Precision: p.String(), Hint: hint,
		Seconds: seconds, Rate: flops / seconds / 1e9, Unit: "GFLOP/s", Peak: peakFP32,
	}
	if p == kernel.BF16 {
		r.Peak = peakBF16
	}
	b.add(r)
}

// peakTime is how long a peak is measured.
func (b *bench) peakTime() time.Duration {
	if b.opts.tiny {
		return time.Millisecond
	}
	return 200 * time.Millisecond
}

// peaks measures the machine before anything else runs.
func (b *bench) peaks() {
	p := &b.report.Peaks
	b.arithmeticPeaks()
	one := kernel.NewPool(1)
	defer one.Close()
	m := b.newMemory()
	p.ReadOne, p.CopyOne = m.read(one), m.copy(one)
	p.Read, p.Copy = m.read(b.pool), m.copy(b.pool)
}

// arithmeticPeaks raises the arithmetic peaks to what is measured now: other work
// on the machine, which rows share, only ever lowers one measurement.
func (b *bench) arithmeticPeaks() {
	p := &b.report.Peaks
	p.FP32One = max(p.FP32One, kernel.PeakGFLOPS(b.peakTime(), 1))
	p.FP32 = max(p.FP32, p.FP32One, kernel.PeakGFLOPS(b.peakTime(), b.pool.Threads()))
	p.BF16One = max(p.BF16One, kernel.PeakBF16GFLOPS(b.peakTime(), 1))
	p.BF16 = max(p.BF16, p.BF16One, kernel.PeakBF16GFLOPS(b.peakTime(), b.pool.Threads()))
}

// finish measures the arithmetic peaks once more and relates all rows to the
// highest figures.
func (b *bench) finish() {
	b.arithmeticPeaks()
	for i := range b.report.Rows {
		r := &b.report.Rows[i]
		switch r.Peak {
		case peakFP32:
			r.Percent = 100 * r.Rate / b.report.Peaks.FP32
		case peakBF16:
			r.Percent = 100 * r.Rate / b.report.Peaks.BF16
		case peakRead:
			r.Percent = 100 * r.Rate / b.report.Peaks.Read
		}
	}
}

// memory is two matrices far larger than the caches.
type memory struct{ a, b kernel.Mat[float32] }

func (b *bench) newMemory() memory {
	rows, cols := 2048, 16384 // 128 MiB each
	if b.opts.tiny {
		rows = 16
	}
	// The system hands out pages when they are first written.
	return memory{randomMatrix(b.pool, rows, cols, 1), randomMatrix(b.pool, rows, cols, 1)}
}

func (m memory) bytes() float64 { return float64(4 * len(m.a.Data)) }

// read returns 10⁹ bytes per second read from two streams.
func (m memory) read(p *kernel.Pool) float64 {
	t := best(5, func() {
		p.For(m.a.Rows, m.a.Rows/p.Threads()+1, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				kernel.Dot(m.a.Row(i), m.b.Row(i))
			}
		})
	})
	return 2 * m.bytes() / t / 1e9
}

// copy returns 10⁹ bytes per second read and written.
func (m memory) copy(p *kernel.Pool) float64 {
	t := best(5, func() {
		p.For(m.a.Rows, m.a.Rows/p.Threads()+1, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				copy(m.b.Row(i), m.a.Row(i))
			}
		})
	})
	return 2 * m.bytes() / t / 1e9
}

// best runs f that many times and returns the shortest time in seconds.
func best(times int, f func()) float64 {
	shortest := 0.0
	for i := range times {
		start := time.Now()
		f()
		if t := time.Since(start).Seconds(); i == 0 || t < shortest {
			shortest = t
		}
	}
	return shortest
}
