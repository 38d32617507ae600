package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"besa/besa"
	"besa/convert"
	"besa/eval"
	"besa/internal/demomodel"
	"besa/sparsefmt"
)

// Windows of the demo: enough steps for the allocation to be learned, few
// enough for two cores to finish within two minutes.
const (
	demoSamples    = 64
	demoLen        = 256
	demoEvalWindow = 256
	demoEvalLimit  = 32
)

type demoOptions struct {
	dir     string
	library string
	threads int
	json    bool
	quiet   bool
}

// demoRow is one line of the demo's table.
type demoRow struct {
	Name            string  `json:"name"`
	File            string  `json:"file"`
	FileBytes       int64   `json:"file_bytes"`
	BitsPerWeight   float64 `json:"bits_per_weight"` // of the block weights
	Sparsity        float64 `json:"sparsity"`
	Perplexity      float64 `json:"perplexity"`                 // Go engine
	PerplexityLlama float64 `json:"perplexity_llama,omitempty"` // llama.cpp, where it is found
	Seconds         float64 `json:"seconds"`                    // of the conversion
}

type demoResult struct {
	Dir     string    `json:"dir"`
	Model   string    `json:"model"`
	Rows    []demoRow `json:"rows"`
	Llama   string    `json:"llama"` // empty: llama.cpp evaluated too; else why not
	Seconds float64   `json:"seconds"`
}

func newDemo(std streams) *cobra.Command {
	o := &demoOptions{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "the whole job on a tiny model inside this binary",
		Long: `Demo prunes a tiny model that is embedded in this binary, with Wanda, with BESA as in
the paper and with the survivors refined (convert's default), unquantised and jointly
with 4 bits, and measures all of them on text the model never saw. It needs no network and no llama.cpp; where llama.cpp's library is found the
expanded files are measured in it too.`,
		Example: `  besa demo
  besa demo --dir /tmp/demo --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), std) },
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "", "folder for the files (default: a new temporary one)")
	f.StringVar(&o.library, "llama-lib", "", "folder or file of libllama (default: $BESA_LLAMA_LIB, the cache, system paths)")
	f.IntVar(&o.threads, "threads", 0, "threads (default: all)")
	f.BoolVar(&o.json, "json", false, "print the results as JSON")
	f.BoolVar(&o.quiet, "quiet", false, "no progress")
	return c
}

func (o *demoOptions) run(ctx context.Context, std streams) error {
	started := time.Now()
	if err := o.unpack(); err != nil {
		return err
	}
	result := demoResult{Dir: o.dir, Model: o.path("model.gguf")}
	llama := true
	if _, err := eval.FindLibrary(o.library); err != nil {
		if o.library != "" {
			return err
		}
		llama, result.Llama = false, err.Error()
	}
	paper, wanda := besa.DefaultOptions(), besa.DefaultOptions()
	wanda.Method = besa.MethodWanda
	refined := paper.Refined()
	variants := []struct {
		name, file string
		method     besa.Options
		grid       besa.Grid
	}{
		{"Wanda", "wanda", wanda, besa.GridNone},
		{"BESA as in the paper", "besa", paper, besa.GridNone},
		{"BESA, refined", "besa-refined", refined, besa.GridNone},
		{"Wanda, 4-bit", "wanda-q4", wanda, besa.GridSymmetric},
		{"BESA as in the paper, joint 4-bit", "besa-q4", paper, besa.GridSymmetric},
		{"BESA, refined, joint 4-bit", "besa-q4-refined", refined, besa.GridSymmetric},
	}
	p := newProgress(std.err, "demo", o.quiet)
	defer p.finish()
	in, err := inspect(result.Model)
	if err != nil {
		return err
	}
	p.update(0, "dense")
	dense := demoRow{Name: "dense", File: result.Model, FileBytes: in.FileBytes, BitsPerWeight: in.BitsPerWeight}
	if err := o.measure(ctx, &dense, result.Model, llama); err != nil {
		return err
	}
	result.Rows = append(result.Rows, dense)
	for i, v := range variants {
		p.update(float64(i+1)/float64(len(variants)+1), v.name)
		v.method.Grid = v.grid
		row, err := o.variant(ctx, v.name, v.file, v.method, llama)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		result.Rows = append(result.Rows, *row)
	}
	p.finish()
	result.Seconds = time.Since(started).Seconds()
	if o.json {
		return printJSON(std.out, result)
	}
	return result.print(std)
}

func (o *demoOptions) path(name string) string { return filepath.Join(o.dir, name) }

// unpack writes the embedded model and texts.
func (o *demoOptions) unpack() error {
	var err error
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "besa-demo-*"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(o.path("model.gguf"), demomodel.Model(), 0o644),
		os.WriteFile(o.path("calibration.txt"), []byte(demomodel.Calibration()), 0o644),
		os.WriteFile(o.path("evaluation.txt"), []byte(demomodel.Evaluation()), 0o644),
	)
}

// variant converts, expands and measures one variant.
func (o *demoOptions) variant(ctx context.Context, name, file string, method besa.Options, llama bool) (*demoRow, error) {
	out := o.path(file + ".sparse.gguf")
	report, err := convert.Run(ctx, convert.Options{
		Input: o.path("model.gguf"), Output: out, Force: true, Layout: sparsefmt.LayoutPacked, Method: method, Threads: o.threads, Version: version,
		Precision:   convert.PrecisionFP32, // what the CPU has shall not decide what a demonstration shows
		Calibration: convert.Calibration{Path: o.path("calibration.txt"), Samples: demoSamples, Len: demoLen},
	})
	if err != nil {
		return nil, err
	}
	row := &demoRow{
		Name: name, File: out, FileBytes: report.FileBytes, BitsPerWeight: report.BitsPerWeight,
		Sparsity: report.Sparsity, Seconds: report.Seconds,
	}
	s, err := sparsefmt.Open(out)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	expanded := o.path(file + "-expanded.gguf")
	if err := s.ExpandTo(ctx, expanded, nil); err != nil {
		return nil, err
	}
	return row, o.measure(ctx, row, expanded, llama)
}

// measure fills in the perplexities: the Go engine reads the row's own file,
// llama.cpp the dense one.
func (o *demoOptions) measure(ctx context.Context, row *demoRow, dense string, llama bool) error {
	var err error
	if row.Perplexity, err = o.perplexity(ctx, row.File, eval.EngineGo); err != nil || !llama {
		return err
	}
	row.PerplexityLlama, err = o.perplexity(ctx, dense, eval.EngineLlama)
	return err
}

func (o *demoOptions) perplexity(ctx context.Context, path string, engine eval.Engine) (float64, error) {
	m, err := eval.Open(ctx, path, eval.OpenOptions{Engine: engine, Library: o.library, Threads: o.threads})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	r, err := eval.Perplexity(ctx, m, demomodel.Evaluation(), eval.PerplexityOptions{
		Protocol: eval.Paper, Ctx: demoEvalWindow, Limit: demoEvalLimit,
	})
	return r.Perplexity, err
}

func (r *demoResult) print(std streams) error {
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "model\tfile\tbits/weight\tpruned\tperplexity\tin llama.cpp\t")
	for _, row := range r.Rows {
		llama := "-"
		if row.PerplexityLlama > 0 {
			llama = fmt.Sprintf("%.2f", row.PerplexityLlama)
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%.0f %%\t%.2f\t%s\t\n", row.Name, size(row.FileBytes), row.BitsPerWeight, 100*row.Sparsity, row.Perplexity, llama)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Llama != "" {
		fmt.Fprintln(std.out, "llama.cpp:", r.Llama)
	}
	_, err := fmt.Fprintf(std.out, "files: %s (*-expanded.gguf load in any llama.cpp-based app); %.0f s\n", r.Dir, r.Seconds)
	return err
}
