package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"besa/besa"
	"besa/gguf"
	"besa/internal/decoder"
	"besa/internal/demomodel"
	"besa/internal/kernel"
	"besa/internal/model"
)

// entryOf is one tensor of an importance matrix.
type entryOf struct {
	kind   gguf.Type
	values []float32
}

// sumsOwn collects Σx² as method wanda does, and prunes as it goes.
func sumsOwn(t *testing.T, o Options) map[string]entryOf {
	t.Helper()
	r, err := newRunner(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.close(nil) }()
	for _, step := range []func(context.Context) error{r.calibrate, r.openWindows, func(context.Context) error { return r.embed() }} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	eng, err := decoder.NewEngine[float32](r.model.Config, r.Calibration.Len, r.pool)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]entryOf{}
	acts := eng.NewActivations()
	for b := range r.model.Layers {
		block, err := r.model.Block(b)
		if err != nil {
			t.Fatal(err)
		}
		var norms [decoder.NumLinears]besa.InputNorms
		for i := range r.in.Len() {
			x, err := r.in.Load(i)
			if err == nil {
				err = eng.Forward(block, x, acts)
			}
			if err != nil {
				t.Fatal(err)
			}
			for l := range norms {
				norms[l].Add(r.pool, acts.Input(decoder.Linear(l)))
			}
		}
		for l := range decoder.NumLinears {
			sums := make([]float32, len(norms[l].Sum))
			for j, v := range norms[l].Sum {
				sums[j] = float32(v)
			}
			name := model.TensorName(b, l)
			entries[name+".in_sum2"] = entryOf{gguf.F32, sums}
			entries[name+".counts"] = entryOf{gguf.F32, []float32{float32(r.in.Len() * r.Calibration.Len)}}
		}
		_, err = besa.PruneBlock(t.Context(), besa.Job{
			Engine: eng, Block: block, In: r.in, Ref: r.ref,
			Stored: func(l decoder.Linear, w kernel.Mat[float32]) error { return r.round(b, l, w) },
		}, r.methodFor(b))
		if err != nil {
			t.Fatal(err)
		}
	}
	return entries
}

// writeImatrix writes the file that llama-imatrix would.
func writeImatrix(t *testing.T, kind string, entries map[string]entryOf) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "imatrix.gguf")
	var tensors []gguf.Tensor
	var datas [][]byte
	for name, e := range entries {
		shape := []uint64{uint64(len(e.values)), 1}
		data, err := binary.Append(nil, binary.LittleEndian, e.values)
		if err != nil {
			t.Fatal(err)
		}
		if e.kind == gguf.F16 {
			data = data[:len(data)/2]
		}
		tensors, datas = append(tensors, gguf.Tensor{Name: name, Type: e.kind, Shape: shape}), append(datas, data)
	}
	kv, err := gguf.NewKV("general.type", kind)
	if err != nil {
		t.Fatal(err)
	}
	w, err := gguf.Create(path, []gguf.KV{kv}, tensors)
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range datas {
		if err := w.WriteTensor(tensors[i].Name, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

// pruned returns the pruned tensors of a file, as stored.
func pruned(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]byte{}
	for _, x := range f.Tensors() {
		all[x.Name] = bytes.Clone(f.Data(x))
	}
	return all
}

// TestImatrix: sums that this engine collects give the same masks, codes and
// steps from a file as from the windows, with no windows at all; stopped and
// continued too. The plan says so.
func TestImatrix(t *testing.T) {
	for name, variant := range map[string]func(*Options){
		"unquantised": func(o *Options) { o.Method.Grid = besa.GridNone },
		"joint":       func(*Options) {},
	} {
		t.Run(name, func(t *testing.T) {
			o := demo(t, func(o *Options) { variant(o); o.Method.Method = besa.MethodWanda })
			run(t, o)
			want := pruned(t, o.Output)
			file := writeImatrix(t, "imatrix", sumsOwn(t, Options{
				Input: o.Input, Output: o.Output, Force: true, Method: o.Method, Calibration: o.Calibration, Threads: 2, Precision: o.Precision,
			}))

			without := func() Options {
				o := demo(t, func(o *Options) { variant(o); o.Method.Method = besa.MethodWanda })
				o.Imatrix, o.Calibration = file, Calibration{}
				return o
			}
			o = without()
			plan, err := DryRun(t.Context(), o)
			if err != nil || plan.Sampling != SamplingNone || plan.Samples != 0 || !(plan.Seconds > 0) || plan.FLOPs != 0 {
				t.Fatalf("planned %+v, %v", plan, err)
			}
			whole, report := run(t, o)
			if report.Sampling != SamplingNone || report.Samples != 0 || report.Imatrix != file || report.Memory != plan.Memory {
				t.Errorf("%+v", report)
			}
			got := pruned(t, o.Output)
			for name, data := range want {
				if !bytes.Equal(got[name], data) {
					t.Errorf("tensor %q is another than from the windows", name)
				}
			}

			o = without()
			if err := stopAfter(t, o, 2); err == nil {
				t.Fatal("was not stopped")
			}
			again, report := run(t, o)
			if report.Resumed != 2 || !bytes.Equal(again, whole) {
				t.Errorf("continued after %d blocks: the same is %v", report.Resumed, bytes.Equal(again, whole))
			}
		})
	}
}

// constant is an importance matrix of the demo model whose every sum is 1 but
// for those of the attention's inputs, which rise.
func constant(t *testing.T) map[string]entryOf {
	t.Helper()
	path := demomodel.File(t)
	m, err := model.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	entries := map[string]entryOf{}
	for b := range m.Layers {
		for l := range decoder.NumLinears {
			_, cols := m.Shape(l)
			sums := make([]float32, cols)
			for j := range sums {
				sums[j] = 1
				if l <= decoder.V {
					sums[j] += float32(j * b)
				}
			}
			entries[model.TensorName(b, l)+".in_sum2"] = entryOf{gguf.F32, sums}
			entries[model.TensorName(b, l)+".counts"] = entryOf{gguf.F32, []float32{512}}
		}
	}
	return entries
}

// TestImatrixWithText: besa learns on windows and ranks by the imatrix, which
// is part of what an output depends on; in pairs each block has its own.
func TestImatrixWithText(t *testing.T) {
	file := writeImatrix(t, "imatrix", constant(t))
	for name, variant := range map[string]func(*Options){
		"besa":       func(*Options) {},
		"two blocks": func(o *Options) { o.Method.LossGranularity = besa.LossPerPair },
	} {
		plain, _ := run(t, demo(t, variant))
		o := demo(t, func(o *Options) { variant(o); o.Imatrix = file })
		got, report := run(t, o)
		if bytes.Equal(got, plain) || report.Samples != 5 {
			t.Errorf("%s: the imatrix changes nothing; %d windows", name, report.Samples)
		}
		f, err := gguf.Open(o.Output)
		if err != nil {
			t.Fatal(err)
		}
		if said, _ := f.String("besa.imatrix.name"); said != "imatrix.gguf" {
			t.Errorf("the file names %q", said)
		}
		if sum, _ := f.String("besa.imatrix.sha256"); len(sum) != 64 {
			t.Errorf("the file's hash of the imatrix is %q", sum)
		}
		f.Close()
	}
	// Another imatrix is another conversion.
	o := demo(t, func(o *Options) { o.Imatrix = file })
	if err := stopAfter(t, o, 1); err == nil {
		t.Fatal("was not stopped")
	}
	o.Imatrix = ""
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrJournal) || !strings.Contains(err.Error(), "imatrix") {
		t.Errorf("continued without the imatrix: %v", err)
	}
}

// TestMagnitudeNeedsNothing: magnitudes can be compared without a text.
func TestMagnitudeNeedsNothing(t *testing.T) {
	for _, grid := range []besa.Grid{besa.GridNone, besa.GridSymmetric, besa.GridAsymmetric} {
		o := demo(t, func(o *Options) { o.Method.Method, o.Method.Grid = besa.MethodMagnitude, grid })
		o.Calibration = Calibration{}
		if _, report := run(t, o); report.Sampling != SamplingNone || math.Abs(report.Sparsity-0.5) > 0.01 {
			t.Errorf("grid %q: %+v", grid, report)
		}
	}
}

func TestImatrixRefuses(t *testing.T) {
	const name = "blk.1.ffn_down.weight"
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	first := func(v float32) func(map[string]entryOf) {
		return func(m map[string]entryOf) { m[name+".in_sum2"].values[0] = v }
	}
	for what, tc := range map[string]struct {
		kind   string
		harm   func(map[string]entryOf)
		method func(*besa.Options)
		want   error
		text   string
	}{
		"a model":          {"model", nil, nil, ErrImatrix, `general.type is "model"`},
		"no sums":          {"imatrix", func(m map[string]entryOf) { delete(m, name+".in_sum2") }, nil, ErrImatrix, name + `.in_sum2" is missing`},
		"no counts":        {"imatrix", func(m map[string]entryOf) { delete(m, name+".counts") }, nil, ErrImatrix, name + `.counts" is missing`},
		"other columns":    {"imatrix", func(m map[string]entryOf) { m[name+".in_sum2"] = entryOf{gguf.F32, make([]float32, 7)} }, nil, ErrImatrix, "shape [7 1]"},
		"two counts":       {"imatrix", func(m map[string]entryOf) { m[name+".counts"] = entryOf{gguf.F32, []float32{1, 1}} }, nil, ErrImatrix, "shape [2 1]"},
		"other type":       {"imatrix", func(m map[string]entryOf) { m[name+".in_sum2"] = entryOf{gguf.F16, m[name+".in_sum2"].values} }, nil, ErrImatrix, "type F16"},
		"NaN":              {"imatrix", first(nan), nil, ErrImatrix, "number 0 is NaN"},
		"infinity":         {"imatrix", first(inf), nil, ErrImatrix, "number 0 is +Inf"},
		"negative":         {"imatrix", first(-1), nil, ErrImatrix, "number 0 is -1"},
		"all zero":         {"imatrix", func(m map[string]entryOf) { clear(m[name+".in_sum2"].values) }, nil, ErrImatrix, "all sums are zero"},
		"count of zero":    {"imatrix", func(m map[string]entryOf) { m[name+".counts"].values[0] = 0 }, nil, ErrImatrix, "its count is 0"},
		"count of NaN":     {"imatrix", func(m map[string]entryOf) { m[name+".counts"].values[0] = nan }, nil, ErrImatrix, "is NaN"},
		"sparsegpt":        {"imatrix", nil, func(o *besa.Options) { o.Method = besa.MethodSparseGPT }, besa.ErrOptions, "correlations"},
		"its importance":   {"imatrix", nil, func(o *besa.Options) { o.Method, o.Importance = besa.MethodBESA, besa.ImportanceSparseGPT }, besa.ErrOptions, "correlations"},
		"plain magnitudes": {"imatrix", nil, func(o *besa.Options) { o.Method, o.Grid = besa.MethodMagnitude, besa.GridNone }, besa.ErrOptions, "do not depend on inputs"},
	} {
		entries := constant(t)
		if tc.harm != nil {
			tc.harm(entries)
		}
		o := demo(t, func(o *Options) {
			o.Method.Method = besa.MethodWanda
			if tc.method != nil {
				tc.method(&o.Method)
			}
			o.Imatrix = writeImatrix(t, tc.kind, entries)
		})
		if _, err := Run(t.Context(), o); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v", what, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(o.Output)); len(left) != 2 {
			t.Errorf("%s: left behind %v", what, left)
		}
	}
}
