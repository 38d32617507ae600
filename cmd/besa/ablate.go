package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"besa/besa"
	"besa/convert"
	"besa/eval"
	"besa/internal/ablate"
	"besa/internal/corpus"
)

type ablateOptions struct {
	ablate.Options
	protocol  string
	engine    string
	precision string
	memory    byteSize
	into      string
	json      bool
	quiet     bool
}

func newAblate(std streams) *cobra.Command {
	o := &ablateOptions{}
	o.Method = besa.DefaultOptions()
	c := &cobra.Command{
		Use:   "ablate --calib TEXT --data TEXT --out DIR MODEL.gguf",
		Short: "repeat the paper's experiments on a model",
		Long: `Ablate converts a model again and again, as the tables and figures of the paper ask,
and measures the perplexity of each result. Every finished conversion is a cell, a JSON
file in DIR/cells; running the command again skips the cells that are there and takes up
the one that was cut off. DIR/ablations.md and the plots in DIR/img show what is finished.`,
		Example: `  besa ablate --calib c4.json.gz --data wiki.test.raw --out ablations model.gguf
  besa ablate --tables sparsity,step --calib c4.json.gz --calib-samples 32 --calib-len 256 \
      --data wiki.test.raw --ctx 512 --limit 16 --engine go --out ablations model.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Model = args[0]
			return o.run(c.Context(), std)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Out, "out", "", "folder for cells, report and plots")
	f.StringSliceVar(&o.Tables, "tables", nil, "tables to make, of "+strings.Join(ablate.TableNames(), ", ")+" (default: all)")
	f.Float64Var(&o.Method.Sparsity, "sparsity", o.Method.Sparsity, "fraction of weights to prune where a table does not vary it")
	f.IntVar(&o.Method.Group, "group-size", o.Method.Group, "weights per scale of the 4-bit grids: 128, 64 or 32")
	f.StringVar(&o.Calibration.Path, "calib", "", "calibration text: a plain text, JSON lines (either also .gz), Parquet, or a folder of them")
	f.StringVar(&o.Calibration.Column, "calib-column", corpus.DefaultColumn, "field of JSON lines or column of Parquet that holds the text")
	f.IntVar(&o.Calibration.Samples, "calib-samples", 0, "calibration windows (default 128)")
	f.IntVar(&o.Calibration.Len, "calib-len", 0, "tokens per window (default 2048, or the model's context)")
	f.IntVar(&o.Calibration.Stride, "calib-stride", 0, "tokens from one window's start to the next in the joined text (default: random documents, one window of each)")
	f.Uint64Var(&o.Calibration.Seed, "seed", 0, "seed of every random choice")
	f.StringArrayVar(&o.Data, "data", nil, "text to measure perplexity on (repeatable; the first is plotted)")
	f.StringVar(&o.protocol, "protocol", string(eval.Paper), "perplexity: paper or llama.cpp")
	f.IntVar(&o.Perplexity.Ctx, "ctx", 0, "tokens per window of --data (default: the protocol's)")
	f.IntVar(&o.Perplexity.Limit, "limit", 0, "score only the first windows (default: all)")
	f.StringVar(&o.engine, "engine", string(eval.EngineLlama), "llama (llama.cpp) or go (besa's own engine)")
	f.StringVar(&o.Open.Library, "llama-lib", "", "folder or file of libllama (default: $BESA_LLAMA_LIB, the cache, system paths)")
	f.IntVar(&o.Threads, "threads", 0, "threads (default: all)")
	f.Var(&o.memory, "memory", "memory to keep within, as for convert")
	f.StringVar(&o.precision, "precision", string(convert.PrecisionAuto), "arithmetic of matrix products while pruning, as for convert: auto, fp32 or bf16")
	f.StringVar(&o.into, "into", "", "Markdown document that the report is put into as well, its plots into img beside it")
	f.BoolVar(&o.json, "json", false, "print cells and figures as JSON")
	f.BoolVar(&o.quiet, "quiet", false, "no progress")
	for _, name := range []string{"calib", "data", "out"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return c
}

// complete derives what the flags say together.
func (o *ablateOptions) complete() {
	o.Perplexity.Protocol, o.Open.Engine = eval.Protocol(o.protocol), eval.Engine(o.engine)
	o.Open.Threads, o.Memory, o.Precision, o.Version = o.Threads, int64(o.memory), convert.Precision(o.precision), version
	o.Command = o.command()
}

// command is the command line with files by their names alone: what a reader
// of the report has lies elsewhere.
func (o *ablateOptions) command() string {
	line := []string{"besa ablate"}
	add := func(flag string, value any) { line = append(line, fmt.Sprintf("--%s %v", flag, value)) }
	if len(o.Tables) > 0 {
		add("tables", strings.Join(o.Tables, ","))
	}
	if o.Method.Sparsity != besa.DefaultOptions().Sparsity {
		add("sparsity", o.Method.Sparsity)
	}
	if o.Method.Group != besa.DefaultOptions().Group {
		add("group-size", o.Method.Group)
	}
	add("calib", filepath.Base(o.Calibration.Path))
	if o.Calibration.Column != corpus.DefaultColumn {
		add("calib-column", o.Calibration.Column)
	}
	type number struct {
		flag  string
		value int
	}
	for _, n := range []number{{"calib-samples", o.Calibration.Samples}, {"calib-len", o.Calibration.Len}, {"calib-stride", o.Calibration.Stride}, {"seed", int(o.Calibration.Seed)}} {
		if n.value != 0 {
			add(n.flag, n.value)
		}
	}
	for _, d := range o.Data {
		add("data", filepath.Base(d))
	}
	for _, n := range []number{{"ctx", o.Perplexity.Ctx}, {"limit", o.Perplexity.Limit}} {
		if n.value != 0 {
			add(n.flag, n.value)
		}
	}
	add("engine", o.engine)
	add("out", "DIR")
	return strings.Join(append(line, filepath.Base(o.Model)), " ")
}

func (o *ablateOptions) run(ctx context.Context, std streams) error {
	o.complete()
	p := newProgress(std.err, "ablate", o.quiet)
	defer p.finish()
	o.OnEvent = func(e ablate.Event) { p.update(e.Done, e.Detail) }
	result, err := ablate.Run(ctx, o.Options)
	p.finish()
	if err != nil {
		return err
	}
	if o.into != "" {
		if err := result.Into(o.into); err != nil {
			return err
		}
	}
	if o.json {
		return printJSON(std.out, result)
	}
	text, err := os.ReadFile(result.Report)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "%s\n%s: %d cells, %d of them finished before; %.0f s\n",
		text, result.Report, len(result.Cells), result.Skipped, result.Seconds)
	return err
}
