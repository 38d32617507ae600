package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"besa/convert"
)

// printPlan shows a plan, also one that this machine cannot follow, and
// returns err, which says why.
func (o *convertOptions) printPlan(std streams, p *convert.Plan, err error) error {
	if p == nil {
		return err
	}
	if o.json {
		return errors.Join(err, printJSON(std.out, p))
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	grid := ""
	if p.Grid != "" {
		grid = ", 4-bit " + p.Grid
	}
	fmt.Fprintf(w, "input\t%s, %s, %s, %d blocks of %.1f M weights\n", p.Input, size(p.InputBytes), p.Architecture, p.Blocks,
		float64(p.Weights)/float64(p.Blocks)/1e6)
	fmt.Fprintf(w, "method\t%s, %.4g %% pruned%s\n", p.Method, 100*p.Target, grid)
	calibration := fmt.Sprintf("%d windows of %d tokens, of a text of %d", p.Samples, p.Tokens, p.CalibTokens)
	if p.Sampling == convert.SamplingNone {
		calibration = "none is needed"
	}
	fmt.Fprintf(w, "calibration\t%s\n", calibration)
	if p.Resumed > 0 {
		fmt.Fprintf(w, "continues\t%d blocks are finished\n", p.Resumed)
	}
	fmt.Fprintf(w, "arithmetic\t%.3g floating-point operations at %.0f GFLOP/s (measured: %s, products in %s, %s)\n",
		p.FLOPs, p.GFLOPS, p.Kernel, p.Precision, plural(p.Threads, "thread"))
	fmt.Fprintf(w, "time\tabout %s\n", (time.Duration(p.Seconds * float64(time.Second))).Round(time.Second))
	spill := ""
	if p.Memory.Spill > 0 {
		spill = fmt.Sprintf("; activations, %s, in a spill file", size(p.Memory.Spill))
	}
	fmt.Fprintf(w, "memory\t%s of the %s that may be used%s\n", size(p.Memory.Peak), size(p.Memory.Limit), spill)
	fmt.Fprintf(w, "output\t%s, about %s\n", p.Output, size(p.FileBytes))
	fmt.Fprintf(w, "disk\t%s needed, %s free\n", size(p.DiskBytes), size(p.DiskFree))
	return errors.Join(err, w.Flush())
}
