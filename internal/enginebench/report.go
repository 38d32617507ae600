package enginebench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"besa/internal/kernel"
)

// Sections are the parts of a run, in order. The peaks are always measured.
var Sections = []string{"gemm", "attention", "mask", "step", "smollm2"}

// Options say what to measure.
type Options struct {
	Threads int      // fewer than 1: one per CPU
	Quick   bool     // small shapes, a few seconds
	Only    []string // of Sections; empty: all
	Memory  int64    // bytes that may be used
	Begin   func(section string)

	tiny bool // for tests: next to nothing
}

// Report is the result of one run. Percentages are of the peak that the row
// names, measured with the same number of threads.
type Report struct {
	Implementation string  `json:"implementation"`
	Threads        int     `json:"threads"`
	Quick          bool    `json:"quick"`
	Peaks          Peaks   `json:"peaks"`
	Rows           []Row   `json:"rows"`
	Seconds        float64 `json:"seconds"`
}

// Peaks are what the machine can do at most.
type Peaks struct {
	FP32    float64 `json:"fp32_gflops"`
	FP32One float64 `json:"fp32_gflops_one_thread"`
	BF16    float64 `json:"bf16_gflops"` // 0: the CPU has no instructions for it
	BF16One float64 `json:"bf16_gflops_one_thread"`
	Read    float64 `json:"read_gbytes_per_second"`
	ReadOne float64 `json:"read_gbytes_per_second_one_thread"`
	Copy    float64 `json:"copy_gbytes_per_second"` // bytes read and written
	CopyOne float64 `json:"copy_gbytes_per_second_one_thread"`
}

// Row is one measurement: the best of a few repetitions.
type Row struct {
	Section   string  `json:"section"`
	Name      string  `json:"name"`
	Precision string  `json:"precision"`
	Seconds   float64 `json:"seconds"`
	Rate      float64 `json:"rate"`
	Unit      string  `json:"unit"` // of Rate: GFLOP/s or GB/s
	Percent   float64 `json:"percent_of_peak"`
	Peak      string  `json:"peak"` // what Percent refers to: a key of Peaks
	Hint      string  `json:"hint"` // what is measured, in a line
}

// Run measures.
func Run(ctx context.Context, o Options) (*Report, error) {
	for _, s := range o.Only {
		if !slices.Contains(Sections, s) {
			return nil, fmt.Errorf("unknown section %q: have %v", s, Sections)
		}
	}
	start := time.Now()
	pool := kernel.NewPool(o.Threads)
	defer pool.Close()
	b := &bench{ctx: ctx, opts: o, pool: pool, report: &Report{
		Implementation: kernel.Implementation(), Threads: pool.Threads(), Quick: o.Quick,
	}}
	if err := b.checkMemory(); err != nil {
		return nil, err
	}
	b.begin("peaks")
	b.peaks()
	if err := b.sections(); err != nil {
		return nil, err
	}
	b.finish()
	b.report.Seconds = time.Since(start).Seconds()
	return b.report, nil
}

// bench is a run in progress.
type bench struct {
	ctx    context.Context
	opts   Options
	pool   *kernel.Pool
	report *Report
}

func (b *bench) begin(section string) {
	if b.opts.Begin != nil {
		b.opts.Begin(section)
	}
}

func (b *bench) wants(section string) bool {
	return len(b.opts.Only) == 0 || slices.Contains(b.opts.Only, section)
}

// sections runs what is asked for. Steps and mask operator share a block.
func (b *bench) sections() error {
	for _, section := range []struct {
		name string
		run  func() error
	}{
		{"gemm", b.products},
		{"attention", b.attention},
		{"mask", func() error { return b.block(b.large(), "step", b.wants("step"), b.wants("mask")) }},
		{"smollm2", func() error { return b.block(b.little(), "smollm2", true, false) }},
	} {
		if !b.wants(section.name) && !(section.name == "mask" && b.wants("step")) {
			continue
		}
		b.begin(section.name)
		if err := section.run(); err != nil {
			return err
		}
	}
	return nil
}
