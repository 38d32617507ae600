package convert

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"besa/besa"
)

// TestResume stops a conversion after every block in turn and continues it,
// also after what a crash or a bad disk may do to the journal.
func TestResume(t *testing.T) {
	for name, variant := range map[string]func(*Options){
		"joint":       func(o *Options) {},
		"unquantised": func(o *Options) { o.Method.Grid = besa.GridNone },
		"asymmetric":  func(o *Options) { o.Method.Grid = besa.GridAsymmetric },
		"bf16":        func(o *Options) { o.Activations = ActivationsBF16 },
		"dense path":  func(o *Options) { o.Method.Reference = besa.PathDense },
		"two blocks":  func(o *Options) { o.Method.LossGranularity = besa.LossPerPair },
		"refined":     func(o *Options) { o.Method.Refine.Along, o.Method.Refine.Passes = true, 1 },
		"norms":       func(o *Options) { o.Method.Refine.Norms, o.Method.Refine.Passes = true, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			want, _ := run(t, demo(t, variant))
			stops := []int{2}
			if name == "joint" || name == "two blocks" {
				stops = []int{1, 2, 3, 4}
			}
			for _, stop := range stops {
				o := demo(t, variant)
				err := stopAfter(t, o, stop)
				kept, ok := errors.AsType[*KeptError](err)
				if !ok || !errors.Is(err, context.Canceled) || kept.Done != stop || kept.Blocks != 4 {
					t.Fatalf("stopped after %d blocks: %v", stop, err)
				}
				o.Threads = 1 // another number of threads is no other conversion
				got, report := run(t, o)
				if report.Resumed != stop || len(report.Blocks) != 4 {
					t.Errorf("%d blocks resumed, not %d; %d reported", report.Resumed, stop, len(report.Blocks))
				}
				if !bytes.Equal(got, want) {
					t.Errorf("continued after block %d: another file", stop)
				}
			}
		})
	}
}

func TestResumeAfterDamage(t *testing.T) {
	want, _ := run(t, demo(t, nil))
	conversion := stopped(t, 3)
	rng := rand.New(rand.NewPCG(1, 2))
	damage := func(path string, harm func([]byte) []byte) func(*testing.T, Options) {
		return func(t *testing.T, o Options) {
			path := filepath.Join(o.Output+JournalSuffix, path)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, harm(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(b []byte) []byte { b[rng.IntN(len(b))] ^= 1 << rng.IntN(8); return b }
	cut := func(b []byte) []byte { return b[:rng.IntN(len(b))] }
	for name, tc := range map[string]struct {
		harm    func(*testing.T, Options)
		resumed []int // possible numbers of blocks
	}{
		"torn last record": {damage("log", func(b []byte) []byte { return b[:len(b)-3] }), []int{2}},
		"empty log":        {damage("log", func(b []byte) []byte { return nil }), []int{0}},
		"cut log":          {damage("log", cut), []int{0, 1, 2}},
		"flipped log":      {damage("log", flip), []int{0, 1, 2}},
		"rubbish":          {damage("log", func(b []byte) []byte { return append(b, "rubbish\n"...) }), []int{3}},
		"cut block":        {damage("block-1", cut), []int{2}},
		"flipped block":    {damage("block-2", flip), []int{2}},
		"lost block": {func(t *testing.T, o Options) {
			if err := os.Remove(filepath.Join(o.Output+JournalSuffix, "block-0")); err != nil {
				t.Fatal(err)
			}
		}, []int{2}},
		"unfinished files": {func(t *testing.T, o Options) {
			for _, n := range []string{"block-3", "output.gguf", ".gguf-1.tmp"} {
				if err := os.WriteFile(filepath.Join(o.Output+JournalSuffix, n), []byte("half"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}, []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			o := conversion(t)
			tc.harm(t, o)
			got, report := run(t, o)
			if !slices.Contains(tc.resumed, report.Resumed) {
				t.Errorf("%d blocks resumed, want one of %v", report.Resumed, tc.resumed)
			}
			if !bytes.Equal(got, want) {
				t.Error("another file")
			}
		})
	}
}

func TestResumeRefusesAnotherConversion(t *testing.T) {
	conversion := stopped(t, 2)
	for name, tc := range map[string]struct {
		change func(*testing.T, *Options)
		want   string
	}{
		"seed":      {func(_ *testing.T, o *Options) { o.Calibration.Seed = 7 }, "seed (1 then, 7 now)"},
		"precision": {func(_ *testing.T, o *Options) { o.Precision = PrecisionBF16 }, "precision (fp32 then, bf16 now)"},
		"method":    {func(_ *testing.T, o *Options) { o.Method.Sparsity = 0.6 }, "sparsity (0.5 then, 0.6 now)"},
		"refine":    {func(_ *testing.T, o *Options) { o.Method.Refine.Along = true }, "refine"},
		"version":   {func(_ *testing.T, o *Options) { o.Version = "newer" }, "version of besa (test then, newer now)"},
		"weights": {func(t *testing.T, o *Options) {
			data, err := os.ReadFile(o.Input)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)-1] ^= 1
			if err := os.WriteFile(o.Input, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "weights of the model"},
		"text": {func(t *testing.T, o *Options) {
			if err := os.WriteFile(o.Calibration.Path, []byte(strings.Repeat("other words ", 2000)), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "calibration text"},
	} {
		t.Run(name, func(t *testing.T) {
			o := conversion(t)
			before := o
			tc.change(t, &o)
			_, err := Run(t.Context(), o)
			if !errors.Is(err, ErrJournal) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "--resume=false") {
				t.Fatalf("error %v", err)
			}
			if before.Version != o.Version { // the refusal has not cost anything
				if _, report := run(t, before); report.Resumed != 2 {
					t.Errorf("%d blocks are left after the refusal", report.Resumed)
				}
				return
			}
			o.Resume = false
			if _, report := run(t, o); report.Resumed != 0 {
				t.Errorf("started afresh with %d blocks", report.Resumed)
			}
		})
	}
}

// TestFingerprintKnowsEveryOption fails when an option is added without
// deciding whether the result depends on it.
func TestFingerprintKnowsEveryOption(t *testing.T) {
	decided := map[string]string{
		"Input": "by content", "Output": "no", "Force": "no", "Layout": "yes", "Resume": "no", "Method": "field by field", "Targets": "yes",
		"Calibration": "field by field", "Imatrix": "by content", "Activations": "yes", "Precision": "yes", "Threads": "no", "Version": "yes", "SplitMaxSize": "no",
		"Head": "yes", "Memory": "no", "SpillDir": "no", "OnEvent": "no",
		"Path": "by content", "Column": "by content", "Samples": "yes", "Len": "yes", "Stride": "yes", "Seed": "yes",
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[Options](), reflect.TypeFor[Calibration]()} {
		for i := range typ.NumField() {
			if name := typ.Field(i).Name; decided[name] == "" {
				t.Errorf("%v.%s: does the output's content depend on it? Put it into the fingerprint if so, and into this table", typ, name)
			}
		}
	}
}

// TestKilledAfterNaming: the output has its name, the journal is still there.
func TestKilledAfterNaming(t *testing.T) {
	conversion := stopped(t, 4)
	output, _ := run(t, conversion(t))
	named := func(t *testing.T) Options {
		o := conversion(t)
		j := journal{dir: o.Output + JournalSuffix}
		var err error
		if j.log, err = os.OpenFile(j.path(logName), os.O_WRONLY|os.O_APPEND, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(j.path(outputName), output, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.name(o.Output), j.log.Close()); err != nil {
			t.Fatal(err)
		}
		return o
	}
	t.Run("same", func(t *testing.T) {
		o := named(t)
		before, err := os.Stat(o.Output)
		if err != nil {
			t.Fatal(err)
		}
		data, report := run(t, o)
		after, err := os.Stat(o.Output)
		if err != nil || !os.SameFile(before, after) || !bytes.Equal(data, output) {
			t.Errorf("the output was written again (%v)", err)
		}
		if report.Resumed != 4 || report.FileBytes != int64(len(output)) || report.BitsPerWeight == 0 {
			t.Errorf("%+v", report)
		}
	})
	t.Run("another", func(t *testing.T) {
		o := named(t)
		o.Calibration.Seed = 9
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("another conversion to the same output: %v", err)
		}
		if data, err := os.ReadFile(o.Output); err != nil || !bytes.Equal(data, output) {
			t.Errorf("the output has %d bytes, %v", len(data), err)
		}
		if _, err := os.Stat(o.Output + JournalSuffix); err == nil {
			t.Error("the journal is still there")
		}
	})
}

func TestOneConversionAtATime(t *testing.T) {
	o := demo(t, nil)
	j, err := lockJournal(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrJournal) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second conversion: %v", err)
	}
	if err := j.close(false); err != nil {
		t.Fatal(err)
	}
	run(t, o)
}

func TestFailureThatWouldComeAgainLeavesNothing(t *testing.T) {
	o := demo(t, nil)
	if err := stopAfter(t, o, 1); err == nil {
		t.Fatal("was not stopped")
	}
	r, err := newRunner(o)
	if err != nil {
		t.Fatal(err)
	}
	if r.journal, err = lockJournal(o.Output); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{r.calibrate, r.resume} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.close(errors.New("loss is NaN")); err == nil || err.Error() != "loss is NaN" {
		t.Errorf("closed with %v", err)
	}
	if _, err := os.Stat(o.Output + JournalSuffix); err == nil {
		t.Error("the journal is still there")
	}
}

func FuzzParseRecords(f *testing.F) {
	log, err := appendRecord(nil, record{Fingerprint: fingerprint{{"seed", "1"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(log)
	for i := range 3 {
		if log, err = appendRecord(log, record{Block: &blockRecord{Report: BlockReport{Block: i}}}); err != nil {
			f.Fatal(err)
		}
		f.Add(log)
	}
	f.Add(log[:len(log)-5])
	if log, err = appendRecord(log, record{Complete: true}); err != nil {
		f.Fatal(err)
	}
	f.Add(log)
	f.Add([]byte("0123456789abcdef {}\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		c := parseRecords(log)
		if c.sound > len(log) || (c.sound == 0) != (c.fingerprint == nil) || c.fingerprint == nil && (len(c.blocks) > 0 || c.complete) {
			t.Fatalf("of %d bytes: %+v", len(log), c)
		}
		// What is sound reads the same alone, and more can be written after it.
		if again := parseRecords(log[:c.sound]); !reflect.DeepEqual(c, again) {
			t.Fatal("the sound part reads differently alone")
		}
		if c.fingerprint == nil {
			return
		}
		const block = 1 << 20
		more, err := appendRecord(slices.Clone(log[:c.sound]), record{Block: &blockRecord{Report: BlockReport{Block: block, Seconds: 7}}})
		if err != nil {
			t.Fatal(err)
		}
		grown := parseRecords(more)
		if grown.sound != len(more) || grown.blocks[block].Report.Seconds != 7 || grown.complete {
			t.Fatalf("after another record: %+v", grown)
		}
	})
}
