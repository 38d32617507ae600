package ablate

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"besa/besa"
	"besa/convert"
	"besa/eval"
	"besa/internal/demomodel"
)

// options are a run on the demo model that takes a second or two.
func options(t *testing.T, tables ...string) Options {
	t.Helper()
	dir := t.TempDir()
	o := Options{
		Model: demomodel.File(t), Out: filepath.Join(dir, "out"), Tables: tables,
		Data:   []string{filepath.Join(dir, "eval.txt"), filepath.Join(dir, "other.txt")},
		Method: besa.DefaultOptions(), Precision: convert.PrecisionFP32, Threads: 2, Version: "test",
		Calibration: convert.Calibration{Path: filepath.Join(dir, "calib.txt"), Samples: 8, Len: 32},
		Perplexity:  eval.PerplexityOptions{Ctx: 32, Limit: 2}, Open: eval.OpenOptions{Engine: eval.EngineGo},
	}
	text := demomodel.Evaluation()
	for path, data := range map[string]string{
		o.Calibration.Path: demomodel.Calibration()[:20000],
		o.Data[0]:          text[:3000], o.Data[1]: text[3000:6000],
	} {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// files reads a folder: names with their contents.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		all[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func figures(r *Result) (all []Figures) {
	for _, c := range r.Cells {
		f := c.Figures
		f.Seconds = 0
		all = append(all, f)
	}
	return all
}

// Every table consists of conversions that can be made, each under its own name.
func TestTrialsAreValid(t *testing.T) {
	for _, table := range allTables(besa.DefaultOptions(), defaultSamples) {
		labels := map[string]bool{}
		for _, trial := range table.trials {
			if err := trial.method.Validate(); err != nil && !trial.dense {
				t.Errorf("%s, %s: %v", table.name, trial.label, err)
			}
			if labels[trial.label] {
				t.Errorf("%s: two trials are called %q", table.name, trial.label)
			}
			labels[trial.label] = true
		}
	}
}

// TestInterruptedRunContinues stops a run in the middle of its third cell.
func TestInterruptedRunContinues(t *testing.T) {
	o := options(t, "loss-granularity", "layers")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.OnEvent = func(e Event) {
		if strings.HasPrefix(e.Detail, "3 of") && strings.Contains(e.Detail, "block 3") {
			cancel()
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	before := files(t, filepath.Join(o.Out, cellFolder))
	if len(before) != 2 {
		t.Fatalf("%d cells are finished, want 2", len(before))
	}
	if text := files(t, o.Out)[reportName]; !strings.Contains(text, "| two-blocks | – | – | – | – | – |") {
		t.Errorf("the report of an interrupted run:\n%s", text)
	}

	var details []string
	o.OnEvent = func(e Event) {
		details = append(details, e.Detail)
		if !(e.Done >= 0 && e.Done <= 1) {
			t.Errorf("progress %g", e.Done)
		}
	}
	continued, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if continued.Skipped != 2 || len(continued.Cells) != 5 {
		t.Errorf("%d of %d cells were skipped, want 2 of 5", continued.Skipped, len(continued.Cells))
	}
	if slices.Contains(details, "1 of 3: layer, block 1 of 4") {
		t.Errorf("the cell that was cut off began again: %v", details)
	}
	after := files(t, filepath.Join(o.Out, cellFolder))
	for name, data := range before {
		if after[name] != data {
			t.Errorf("cell %s was measured again", name)
		}
	}
	o.OnEvent = nil

	whole := o
	whole.Out = t.TempDir()
	once, err := Run(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range figures(once) {
		g := figures(continued)[i]
		if !slices.Equal(f.Perplexity, g.Perplexity) || !slices.Equal(f.Error, g.Error) || f.Sparsity != g.Sparsity ||
			!slices.EqualFunc(f.Layers, g.Layers, maps.Equal) {
			t.Errorf("cell %d differs from that of a run that was not interrupted", i)
		}
	}
	if left := files(t, o.Out); len(left) != 5+1+2 {
		t.Errorf("left: %v", slices.Sorted(maps.Keys(left)))
	}
}

// TestReport runs the table with the most in it, and looks at what comes out.
func TestReport(t *testing.T) {
	o := options(t, "sparsity", "calibration")
	o.Calibration.Len, o.Perplexity.Limit = 16, 1
	result, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// Dense, four methods at five sparsities, and two more sizes of calibration.
	if len(result.Cells) != 1+20+2 {
		t.Fatalf("%d cells", len(result.Cells))
	}
	for _, c := range result.Cells {
		if c.Conditions.Dense {
			continue
		}
		if got, want := c.Sparsity, c.Conditions.Method.Sparsity; got < want-1e-3 || got > want+1e-3 {
			t.Errorf("%s: sparsity %g, want %g", c.Conditions.Method.Method, got, want)
		}
		if len(c.Perplexity) != 2 || !(c.Perplexity[1].Perplexity > 1) || len(c.Error) != 4 {
			t.Errorf("%s: %+v", c.Conditions.Method.Method, c.Figures)
		}
	}
	all := files(t, o.Out)
	text := all[reportName]
	for _, want := range []string{
		"| perplexity on eval | 30 % | 40 % | 50 % | 60 % | 70 % |", "| perplexity on other |", "| SparseGPT |", "Dense: ",
		"![Perplexity by method and sparsity](img/ablate-sparsity.svg)", "| Figure 4 | pruned | eval | other | convert, s |", "| 32 | 50.00 % |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "–") {
		t.Errorf("the report has gaps:\n%s", text)
	}
	for _, name := range []string{"ablate-sparsity.svg", "ablate-calibration.svg"} {
		svg := all[filepath.Join(imageFolder, name)]
		if !strings.Contains(svg, "<svg") || !strings.Contains(svg, "perplexity") {
			t.Errorf("%s is no plot", name)
		}
		checkXML(t, name, svg)
	}
	again, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if again.Skipped != len(result.Cells) || !maps.Equal(files(t, o.Out), all) {
		t.Errorf("a finished run changes: %d cells skipped", again.Skipped)
	}
}

// TestCellsKnowTheirConditions changes what figures depend on: nothing
// finished may be taken for it. A damaged cell counts as none.
func TestCellsKnowTheirConditions(t *testing.T) {
	o := options(t, "layers")
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	finished := func(o Options) int {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		result, err := Run(ctx, o)
		if errors.Is(err, context.Canceled) {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		return result.Skipped
	}
	if finished(o) != 1 {
		t.Fatal("the finished cell is not found")
	}
	for name, change := range map[string]func(*Options){
		"data":        func(o *Options) { o.Data = o.Data[:1] },
		"ctx":         func(o *Options) { o.Perplexity.Ctx = 24 },
		"limit":       func(o *Options) { o.Perplexity.Limit = 1 },
		"protocol":    func(o *Options) { o.Perplexity.Protocol = eval.LlamaCpp },
		"engine":      func(o *Options) { o.Open.Engine = eval.EngineLlama },
		"calibration": func(o *Options) { o.Calibration.Path = o.Data[0] },
		"samples":     func(o *Options) { o.Calibration.Samples = 9 },
		"length":      func(o *Options) { o.Calibration.Len = 31 },
		"stride":      func(o *Options) { o.Calibration.Stride = 40 },
		"seed":        func(o *Options) { o.Calibration.Seed = 2 },
		"method":      func(o *Options) { o.Method.Lambda = 4 },
		"sparsity":    func(o *Options) { o.Method.Sparsity = 0.4 },
		"precision":   func(o *Options) { o.Precision = convert.PrecisionBF16 },
		"version":     func(o *Options) { o.Version = "other" },
	} {
		changed := o
		change(&changed)
		if finished(changed) != 0 {
			t.Errorf("%s: the cell of other conditions is taken", name)
		}
	}
	other := o
	other.Threads, other.Memory = 1, 1<<30
	if finished(other) != 1 {
		t.Error("the number of threads makes another cell")
	}
	cells, err := filepath.Glob(filepath.Join(o.Out, cellFolder, "*.json"))
	if err != nil || len(cells) != 1 {
		t.Fatal(cells, err)
	}
	if err := os.Truncate(cells[0], 100); err != nil {
		t.Fatal(err)
	}
	if finished(o) != 0 {
		t.Error("a damaged cell is taken")
	}
}

func TestRefuses(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no data":        func(o *Options) { o.Data = nil },
		"no calibration": func(o *Options) { o.Calibration.Path = "" },
		"no such table":  func(o *Options) { o.Tables = []string{"figure 3"} },
	} {
		o := options(t, "layers")
		change(&o)
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := os.Stat(o.Out); err == nil {
			t.Errorf("%s: a folder was made", name)
		}
	}
}

func TestInto(t *testing.T) {
	dir := t.TempDir()
	r := &Result{Report: filepath.Join(dir, "out", reportName)}
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(r.Report, "first\n")
	write(filepath.Join(dir, "out", imageFolder, "a.svg"), "<svg/>")
	doc := filepath.Join(dir, "docs", "results.md")
	write(doc, "before\n")
	for _, text := range []string{"first\n", "second\n"} {
		write(r.Report, text)
		if err := r.Into(doc); err != nil {
			t.Fatal(err)
		}
		got := files(t, filepath.Join(dir, "docs"))
		if want := "before\n\n" + beginMark + text + endMark; got["results.md"] != want || got["img/a.svg"] != "<svg/>" {
			t.Errorf("got %q, want %q", got["results.md"], want)
		}
	}
	write(doc, beginMark)
	if err := r.Into(doc); err == nil || !strings.Contains(err.Error(), "one is missing") {
		t.Errorf("a document with one mark: error %v", err)
	}
}
