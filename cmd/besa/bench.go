package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"besa/convert"
	"besa/internal/enginebench"
)

func newBench(std streams) *cobra.Command {
	var o enginebench.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "bench",
		Short: "measure the engine on this machine",
		Long: `bench measures the engine: what this machine can do at most (arithmetic, memory),
and which share of that the engine reaches with the matrix products and the
attention of LLaMA-7B's block, the mask operator, and whole BESA steps. All on
random weights; each figure is the best of a few repetitions.

A step on LLaMA-7B's block takes about 5 GiB of memory and the whole run a minute
or two; --quick takes a small block and a few seconds instead. Other work on the
machine lowers the figures.`,
		Example: `  besa bench
  besa bench --quick --threads 1
  besa bench --only gemm,step --json | jq '.rows[] | [.name, .percent_of_peak]'
  BESA_KERNEL=avx2 besa bench --only gemm`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Memory = convert.DefaultMemory()
			o.Begin = func(section string) { fmt.Fprintf(std.err, "measuring: %s\n", section) }
			return runBench(c.Context(), std, o, asJSON)
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	f.BoolVar(&o.Quick, "quick", false, "small shapes: a few seconds, little memory")
	f.IntVar(&o.Threads, "threads", 0, "threads; 0: one per CPU")
	f.StringSliceVar(&o.Only, "only", nil, "sections to run, of "+strings.Join(enginebench.Sections, ", "))
	return c
}

func runBench(ctx context.Context, std streams, o enginebench.Options, asJSON bool) error {
	r, err := enginebench.Run(ctx, o)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(std.out, r)
	}
	return printBench(std.out, r)
}

func printBench(out io.Writer, r *enginebench.Report) error {
	p := r.Peaks
	fmt.Fprintf(out, "%s kernels, %s; peaks of this run:\n", r.Implementation, plural(r.Threads, "thread"))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\t1 thread\t%s\t\t\n", plural(r.Threads, "thread"))
	for _, l := range []struct {
		name     string
		one, all float64
		unit     string
	}{
		{"fp32 multiply-adds", p.FP32One, p.FP32, "GFLOP/s"},
		{"bf16 multiply-adds", p.BF16One, p.BF16, "GFLOP/s"},
		{"memory, read", p.ReadOne, p.Read, "GB/s"},
		{"memory, copy", p.CopyOne, p.Copy, "GB/s, read and written"},
	} {
		if l.all == 0 {
			continue // the CPU cannot
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%s\t\n", l.name, l.one, l.all, l.unit)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	section := ""
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range r.Rows {
		if row.Section != section {
			section = row.Section
			fmt.Fprintf(w, "\n%s\tprecision\tms\trate\t\t%% of peak\twhat it is\n", section)
		}
		fmt.Fprintf(w, "  %s\t%s\t%.2f\t%.1f\t%s\t%.1f\t%s\n", row.Name, row.Precision, 1e3*row.Seconds, row.Rate, row.Unit, row.Percent, row.Hint)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%.0f s\n", r.Seconds)
	return err
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
