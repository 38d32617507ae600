package convert

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"besa/besa"
	"besa/gguf"
	"besa/internal/demomodel"
	"besa/internal/kernel"
)

// demo is a short conversion of the demo model, into a folder of its own.
func demo(t *testing.T, change func(*Options)) Options {
	t.Helper()
	input := demomodel.File(t)
	dir := filepath.Dir(input)
	o := Options{
		Input: input, Output: filepath.Join(dir, "out.gguf"), Resume: true,
		Method: besa.DefaultOptions(), Threads: 2, Version: "test", Precision: PrecisionFP32,
		Calibration: Calibration{Path: filepath.Join(dir, "calib.txt"), Samples: 5, Len: 32, Seed: 1},
	}
	o.Method.Grid = besa.GridSymmetric
	if change != nil {
		change(&o)
	}
	text := demomodel.Calibration()
	if err := os.WriteFile(o.Calibration.Path, []byte(text[:20000]), 0o644); err != nil {
		t.Fatal(err)
	}
	return o
}

// run converts and returns the output's bytes; nothing else may be left.
func run(t *testing.T, o Options) ([]byte, *Report) {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Dir(o.Output))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 3 {
		t.Fatalf("left behind: %v", left)
	}
	return data, report
}

// stopped is a conversion that was stopped after some blocks, in a folder of
// its own.
func stopped(t *testing.T, blocks int) func(*testing.T) Options {
	t.Helper()
	o := demo(t, nil)
	if err := stopAfter(t, o, blocks); err == nil {
		t.Fatal("was not stopped")
	}
	return func(t *testing.T) Options {
		t.Helper()
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Dir(o.Output))); err != nil {
			t.Fatal(err)
		}
		copied := o
		copied.Input, copied.Output = filepath.Join(dir, filepath.Base(o.Input)), filepath.Join(dir, "out.gguf")
		copied.Calibration.Path = filepath.Join(dir, "calib.txt")
		return copied
	}
}

// stopAfter runs a conversion until blocks are finished.
func stopAfter(t *testing.T, o Options, blocks int) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.OnEvent = func(e Event) {
		if e.Stage == StagePrune && e.Block == blocks {
			cancel()
		}
	}
	_, err := Run(ctx, o)
	return err
}

// TestSameBytes: what the report says is not in the file may not change it.
func TestSameBytes(t *testing.T) {
	small := func(o *Options) { o.Calibration.Samples, o.Calibration.Len = 40, 64 } // 5 MiB of activations
	for name, variant := range map[string]func(*Options){
		"joint":       func(o *Options) {},
		"joint, bf16": func(o *Options) { o.Precision = PrecisionBF16 },
		"unquantised": func(o *Options) { o.Method.Grid = besa.GridNone },
		"asymmetric":  func(o *Options) { o.Method.Grid = besa.GridAsymmetric },
		"bf16":        func(o *Options) { small(o); o.Activations = ActivationsBF16; o.Method.Method = besa.MethodWanda },
		"spilled":     func(o *Options) { small(o); o.Method.Method = besa.MethodWanda },
	} {
		t.Run(name, func(t *testing.T) {
			var first []byte
			for _, threads := range []int{1, 2, 4} {
				o := demo(t, variant)
				o.Threads = threads
				if o.Calibration.Samples > 5 && threads == 4 {
					o.Memory = besaBlock(t, o) + 1<<20
				}
				data, report := run(t, o)
				if spilled := report.Memory.Spill > 0; spilled != (o.Memory > 0) {
					t.Errorf("limit %d: spilled is %v", o.Memory, spilled)
				}
				if first == nil {
					first = data
				}
				if !bytes.Equal(data, first) {
					t.Errorf("%d threads, %d bytes of memory: another file", threads, o.Memory)
				}
				if report.PercentOfPeak <= 0 || report.PeakRSS <= 0 {
					t.Errorf("percent of peak %g, peak memory %d", report.PercentOfPeak, report.PeakRSS)
				}
			}
		})
	}
}

// TestPrecision: what is asked for is what is used and what report and file
// say; auto is bf16 where the CPU has it.
func TestPrecision(t *testing.T) {
	auto := PrecisionFP32
	if kernel.NativeBF16() {
		auto = PrecisionBF16
	}
	files := map[Precision][]byte{}
	for _, tc := range []struct{ asked, used Precision }{{PrecisionFP32, PrecisionFP32}, {PrecisionBF16, PrecisionBF16}, {PrecisionAuto, auto}, {"", auto}} {
		o := demo(t, func(o *Options) { o.Precision = tc.asked })
		data, report := run(t, o)
		if report.Precision != tc.used {
			t.Errorf("%q: the report says %q", tc.asked, report.Precision)
		}
		f, err := gguf.Open(o.Output)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if said, _ := f.String("besa.precision"); said != string(tc.used) {
			t.Errorf("%q: the file says %q", tc.asked, said)
		}
		if files[tc.used] == nil {
			files[tc.used] = data
		}
		if !bytes.Equal(data, files[tc.used]) {
			t.Errorf("%q is not %q", tc.asked, tc.used)
		}
	}
	if bytes.Equal(files[PrecisionFP32], files[PrecisionBF16]) {
		t.Error("bf16 changes nothing")
	}
	if _, err := Run(t.Context(), demo(t, func(o *Options) { o.Precision = "fp8" })); !errors.Is(err, besa.ErrOptions) {
		t.Errorf("fp8: %v", err)
	}
}

// besaBlock is what a conversion needs without its activations.
func besaBlock(t *testing.T, o Options) int64 {
	t.Helper()
	r, err := newRunner(o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close(nil)
	b := Budget{Limit: 1 << 40, Block: besa.Footprint(r.model.Config, o.Calibration.Len, o.Method)}
	if err := b.fit(); err != nil {
		t.Fatal(err)
	}
	return b.Peak
}
