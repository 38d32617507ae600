package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"besa/besa"
	"besa/convert"
	"besa/internal/corpus"
	"besa/sparsefmt"
)

type convertOptions struct {
	convert.Options
	method      *methodFlags
	jointQ4     bool
	grid        string
	targets     []string
	activations string
	layout      string
	memory      byteSize
	split       partSize
	dryRun      bool
	json        bool
	quiet       bool
}

func newConvert(std streams) *cobra.Command {
	o := &convertOptions{layout: sparsefmt.LayoutPacked.String()}
	o.Method, o.Precision = besa.DefaultOptions(), convert.PrecisionAuto
	c := &cobra.Command{
		Use:   "convert MODEL.gguf",
		Short: "prune (and quantise) a model into a sparse GGUF",
		Long: `Convert prunes every linear layer of every block, block by block, so that each
block's output on the calibration text stays close to that of the dense block. With
--joint-q4 the survivors become 4-bit codes, and what is clipped is learned together
with what is pruned. Norms are copied as they are, embeddings and the output head
too unless --head says otherwise.`,
		Example: `  besa convert --joint-q4 --calib text.txt model.gguf -o model.sparse.gguf
  besa convert --method wanda --sparsity 0.6 --calib c4.json.gz model.gguf
  besa convert --method wanda --joint-q4 --imatrix imatrix.gguf model.gguf
  besa convert --joint-q4 --calib text.txt --calib-samples 32 --calib-len 512 --json model.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Input = args[0]
			if err := o.complete(c.Flags().Changed("grid")); err != nil {
				return err
			}
			return o.run(c.Context(), std)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.Output, "output", "o", "", "sparse GGUF to write (default: beside the input, named after method and sparsity)")
	addLayoutFlag(f, &o.layout)
	addSplitFlag(f, &o.split)
	f.BoolVar(&o.Force, "force", false, "replace an existing output")
	f.BoolVar(&o.Resume, "resume", true, "continue an interrupted conversion to the same output; --resume=false starts afresh")
	f.BoolVar(&o.jointQ4, "joint-q4", false, "quantise the survivors to 4 bits, jointly with pruning")
	f.StringVar(&o.grid, "grid", string(besa.GridSymmetric), "4-bit grid: symmetric (expands to Q4_0) or asymmetric (Q4_1)")
	f.IntVar(&o.Method.Group, "group-size", o.Method.Group, "weights per scale: 128, 64 or 32; the last group of a row may be shorter")
	f.StringVar(&o.Head, "head", "", "type of token embeddings and output head: q4_0, q8_0, f16 or bf16 (default: as they are)")
	o.method = bindMethod(f, &o.Method)
	f.StringArrayVar(&o.targets, "target-sparsity", nil, "PATTERN=VALUE: sparsity of the linear layers whose name matches, as in attn_v=0.3 or 'blk.0.*=0.2' (repeatable); the others make up for it")
	f.StringVar(&o.Calibration.Path, "calib", "", "calibration text: a plain text, JSON lines (either also .gz), Parquet, or a folder of them (default: the model writes its own)")
	f.StringVar(&o.Calibration.Column, "calib-column", corpus.DefaultColumn, "field of JSON lines or column of Parquet that holds the text")
	f.StringVar(&o.Imatrix, "imatrix", "", "llama.cpp's importance matrix of the model (llama-imatrix, GGUF): its sums of squared inputs take the place of those on the calibration text; wanda then needs no text, besa learns on one all the same")
	f.IntVar(&o.Calibration.Samples, "calib-samples", 0, "calibration windows (default 128, or as many as the text holds)")
	f.IntVar(&o.Calibration.Len, "calib-len", 0, "tokens per window (default 2048, or the model's context)")
	f.IntVar(&o.Calibration.Stride, "calib-stride", 0, "tokens from one window's start to the next in the joined text (default: random documents, one window of each)")
	f.Uint64Var(&o.Calibration.Seed, "seed", 0, "seed of every random choice")
	f.IntVar(&o.Threads, "threads", 0, "threads (default: all)")
	f.Var(&o.memory, "memory", "memory to keep within, such as 8GiB; past it activations go to a spill file (default: 3/4 of what the system or its cgroup has)")
	f.StringVar(&o.SpillDir, "spill-dir", "", "folder for the spill file (default: that of the output)")
	f.StringVar(&o.activations, "activations", string(convert.ActivationsFP32), "format of activations between blocks: fp32, or bf16 in half the room")
	choice(f, &o.Precision, "precision", "arithmetic of matrix products; auto is bf16 where the CPU has instructions for it", convert.Precisions)
	f.BoolVar(&o.dryRun, "dry-run", false, "check everything that could fail later, measure for two seconds and print the plan; change nothing")
	f.BoolVar(&o.json, "json", false, "print the report as JSON")
	f.BoolVar(&o.quiet, "quiet", false, "no progress")
	return c
}

// complete turns flags into options.
func (o *convertOptions) complete(gridGiven bool) error {
	o.Version = version
	o.Layout = layoutNamed(o.layout)
	o.SplitMaxSize = uint64(o.split)
	o.Memory, o.Activations = int64(o.memory), convert.Activations(o.activations)
	if err := o.method.complete(); err != nil {
		return err
	}
	for _, t := range o.targets {
		target, err := parseTarget(t)
		if err != nil {
			return err
		}
		o.Targets = append(o.Targets, target)
	}
	o.Method.Grid = besa.GridNone
	if o.jointQ4 {
		o.Method.Grid = besa.Grid(o.grid)
	} else if gridGiven {
		return errors.New("--grid shapes the 4-bit grid: add --joint-q4")
	}
	if o.Calibration.Path == "" && (o.Calibration.Stride != 0 || o.Calibration.Column != corpus.DefaultColumn) {
		return errors.New("--calib-column and --calib-stride are for a text of yours: add --calib")
	}
	if o.Output == "" {
		o.Output = defaultOutput(o.Input, o.Method)
	}
	return o.Method.Validate()
}

// parseTarget reads "pattern=sparsity".
func parseTarget(s string) (convert.Target, error) {
	pattern, value, ok := strings.Cut(s, "=")
	sparsity, err := strconv.ParseFloat(value, 64)
	if !ok || pattern == "" || err != nil {
		return convert.Target{}, fmt.Errorf("--target-sparsity %q: write PATTERN=VALUE, as in attn_v=0.3", s)
	}
	return convert.Target{Pattern: pattern, Sparsity: sparsity}, nil
}

// defaultOutput names the output after the input without its quantisation tag:
// the last part of a GGUF's name is read as a stock quant, which ours is not.
func defaultOutput(input string, m besa.Options) string {
	base := partSuffix.ReplaceAllString(strings.TrimSuffix(input, ".gguf"), "")
	if i := strings.LastIndexAny(base, ".-"); i > len(filepath.Dir(input)) && looksLikeQuant(base[i+1:]) {
		base = base[:i]
	}
	tag := fmt.Sprintf("%s_S%d", strings.ToUpper(string(m.Method)), int(math.Round(m.Sparsity*100)))
	if m.Pattern.M != 0 {
		tag = fmt.Sprintf("%s_%dof%d", strings.ToUpper(string(m.Method)), m.Pattern.N, m.Pattern.M)
	}
	if m.Grid != besa.GridNone {
		tag += "_Q4"
	}
	return base + "-" + tag + ".sparse.gguf"
}

func looksLikeQuant(s string) bool {
	s = strings.ToUpper(s)
	for _, p := range []string{"Q2_", "Q3_", "Q4_", "Q5_", "Q6_", "Q8_", "F16", "F32", "BF16", "FP16", "IQ"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func (o *convertOptions) run(ctx context.Context, std streams) error {
	p := newProgress(std.err, "convert", o.quiet)
	o.OnEvent = func(e convert.Event) {
		if e.Message != "" {
			p.message(e.Message)
			return
		}
		detail := string(e.Stage)
		switch block := fmt.Sprintf("block %d of %d", min(e.Block+1, e.Blocks), e.Blocks); e.Stage {
		case convert.StagePrune:
			detail = block
		case convert.StageWriteOwn:
			detail = "the model writes its calibration text"
		case convert.StageRestore:
			detail = "passing through " + block
		}
		p.update(e.Done, detail)
	}
	if o.dryRun {
		plan, err := convert.DryRun(ctx, o.Options)
		p.finish()
		return o.printPlan(std, plan, err)
	}
	report, err := convert.Run(ctx, o.Options)
	p.finish()
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(std.out, report)
	}
	printReport(std, report)
	return nil
}

func printReport(std streams, r *convert.Report) {
	fmt.Fprintf(std.out, "%s: %s, %.2f %% of block weights pruned, %.3f bits per block weight%s\n",
		r.Output, size(r.FileBytes), 100*r.Sparsity, r.BitsPerWeight, inParts(r.Parts))
	if r.Samples == 0 {
		fmt.Fprintf(std.out, "input %s; no calibration text; %.1f s, peak memory %s\n", size(r.InputBytes), r.Seconds, size(r.PeakRSS))
		return
	}
	fmt.Fprintf(std.out, "input %s; %d windows of %d tokens; %.1f s (%.0f GFLOP/s in blocks, %.0f %% of the fp32 peak, products in %s), peak memory %s\n",
		size(r.InputBytes), r.Samples, r.Tokens, r.Seconds, r.GFLOPS, r.PercentOfPeak, r.Precision, size(r.PeakRSS))
}
