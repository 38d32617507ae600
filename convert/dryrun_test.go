package convert

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"besa/besa"
	"besa/internal/decoder"
)

func init() { measureTime = 50 * time.Millisecond }

// TestDryRun: a plan changes nothing and is what then happens.
func TestDryRun(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"joint":       func(o *Options) {},
		"unquantised": func(o *Options) { o.Method.Grid = besa.GridNone; o.Method.Reference = besa.PathDense },
		"wanda":       func(o *Options) { o.Method.Method = besa.MethodWanda },
	} {
		t.Run(name, func(t *testing.T) {
			o := demo(t, change)
			p, err := DryRun(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(filepath.Dir(o.Output)); len(left) != 2 {
				t.Fatalf("a dry run leaves %v", left)
			}
			if !(p.Seconds > 0) || !(p.GFLOPS > 0) || p.DiskBytes < p.FileBytes || p.Resumed != 0 {
				t.Errorf("plan %+v", p)
			}
			_, report := run(t, o)
			if off := float64(p.FileBytes)/float64(report.FileBytes) - 1; math.Abs(off) > 0.01 {
				t.Errorf("%d bytes planned, %d written", p.FileBytes, report.FileBytes)
			}
			if p.Memory != report.Memory || p.Samples != report.Samples || p.Blocks != len(report.Blocks) || p.Precision != report.Precision {
				t.Errorf("planned %+v, done %+v", p, report)
			}
		})
	}
}

func TestDryRunOfTheRest(t *testing.T) {
	o := stopped(t, 3)(t)
	p, err := DryRun(t.Context(), o)
	if err != nil || p.Resumed != 3 {
		t.Fatalf("plan %+v, %v", p, err)
	}
	fresh := o
	fresh.Resume = false
	whole, err := DryRun(t.Context(), fresh)
	if err != nil || whole.Resumed != 0 || whole.FLOPs != 4*p.FLOPs || whole.DiskBytes <= p.DiskBytes {
		t.Errorf("without the journal %+v, %v", whole, err)
	}
	other := o
	other.Calibration.Seed++
	if _, err := DryRun(t.Context(), other); !errors.Is(err, ErrJournal) {
		t.Errorf("another conversion's journal: %v", err)
	}
	if _, report := run(t, o); report.Resumed != 3 {
		t.Errorf("after dry runs %d blocks are left", report.Resumed)
	}
}

func TestDryRunRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Options)
		want   error
		text   string
		plan   bool
	}{
		"calibration": {func(o *Options) { o.Calibration.Samples = 1e6 }, ErrCalibration, "--calib-samples", false},
		"memory":      {func(o *Options) { o.Memory = 1 << 20 }, ErrMemory, "--memory", true},
		"no folder":   {func(o *Options) { o.Output += "/none/out.gguf" }, os.ErrNotExist, "none", false},
		"spill": {func(o *Options) {
			o.Calibration.Samples, o.Memory, o.SpillDir = 100, 24<<20, "/nowhere/at/all"
		}, os.ErrNotExist, "/nowhere/at/all", true},
		"output": {func(o *Options) { o.Output = o.Input; o.Force = true }, ErrOutput, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := DryRun(t.Context(), demo(t, tc.change))
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) || (p != nil) != tc.plan {
				t.Errorf("plan %v, %v", p, err)
			}
		})
	}
}

// TestScaled: what is measured keeps the model's proportions and is small enough.
func TestScaled(t *testing.T) {
	large := decoder.Config{Hidden: 8192, FFN: 28672, Heads: 64, KVHeads: 8, HeadDim: 128, Eps: 1e-5, RopeDim: 128, RopeBase: 1e4, RopeScale: 1}
	for _, most := range []float64{1e6, 1e9, 1e11, 1e15} {
		c, tokens := scaled(large, 2048, most)
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
		if (stepFLOPs(c, tokens) > most && tokens > 64) || c.Hidden < 64 || c.Heads/c.KVHeads > 8 {
			t.Errorf("at most %g: %+v, %d tokens", most, c, tokens)
		}
		if most == 1e15 && c.Hidden != 8192 {
			t.Errorf("scaled for nothing: %+v", c)
		}
	}
}
