package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"besa/gguf"
	"besa/sparsefmt"
)

type expandOptions struct {
	input, output      string
	typ                string
	split              partSize
	force, json, quiet bool
}

type expandResult struct {
	Input     string  `json:"input"`
	Output    string  `json:"output"` // the first part of a split model
	Parts     int     `json:"parts"`
	FileBytes int64   `json:"file_bytes"`
	Seconds   float64 `json:"seconds"`
}

func newExpand(std streams) *cobra.Command {
	o := &expandOptions{typ: nativeType}
	c := &cobra.Command{
		Use:   "expand SPARSE.gguf -o DENSE.gguf",
		Short: "write the ordinary GGUF that a sparse GGUF stands for",
		Long: `Expand writes an ordinary GGUF that any llama.cpp-based application loads. The
result is exact: it holds the pruned and quantised weights bit for bit. Do not
quantise it again with K-quants or Q4_1: they turn the zeros into other values.

--type stores the pruned tensors as another type with the very same values; other
tensors stay as they are. Nothing is ever rounded: where a type does not hold a
value exactly, nothing is written. What always works:
  4-bit symmetric   q4_0 (native), q4_1, q8_0, f32
  4-bit asymmetric  q4_1 (native), q8_0, f32
  8-bit             q8_0 (native), f32
  f16, bf16         themselves (native), f32
What works where the codes allow it: f16 for all, q4_0 and q4_1 for 8-bit codes
from -8 to 7, q4_0 for asymmetric groups whose zero code is 8.`,
		Example: `  besa expand model.sparse.gguf -o model-S50-Q4_0.gguf
  besa expand --type q8_0 model.sparse.gguf -o model-S50-Q8_0.gguf
  besa expand --split-max-size 2G model.sparse.gguf -o model-S50-Q4_0.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.input = args[0]
			return o.run(c.Context(), std)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "", "GGUF to write")
	choice(f, &o.typ, "type", "type of the pruned tensors, the same values", expandTypes())
	addSplitFlag(f, &o.split)
	f.BoolVar(&o.force, "force", false, "replace an existing output")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	f.BoolVar(&o.quiet, "quiet", false, "no progress")
	if err := c.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is defined three lines up
	}
	return c
}

func (o *expandOptions) run(ctx context.Context, std streams) error {
	started := time.Now()
	if err := gguf.CheckOutput(o.output, o.split != 0, o.force, o.input); err != nil {
		return err
	}
	f, err := sparsefmt.Open(o.input)
	if err != nil {
		return err
	}
	defer f.Close()
	p := newProgress(std.err, "expand", o.quiet)
	opts := sparsefmt.ExpandOptions{SplitBytes: uint64(o.split)}
	for _, t := range sparsefmt.ExpandTypes() {
		if strings.EqualFold(t.String(), o.typ) {
			opts.Type = &t
		}
	}
	opts.Progress = func(done, total int64) {
		p.update(float64(done)/float64(max(total, 1)), size(done))
	}
	paths, err := f.Expand(ctx, o.output, opts)
	p.finish()
	if err != nil {
		return err
	}
	bytes, err := filesSize(paths)
	if err != nil {
		return err
	}
	r := expandResult{o.input, paths[0], len(paths), bytes, time.Since(started).Seconds()}
	if o.json {
		return printJSON(std.out, r)
	}
	fmt.Fprintf(std.out, "%s: %s from %s in %.1f s%s\n", r.Output, size(r.FileBytes), size(f.GGUF().Size()), r.Seconds, inParts(r.Parts))
	return nil
}

// nativeType is what the codes mean.
const nativeType = "native"

// expandTypes are the values of --type.
func expandTypes() []string {
	names := []string{nativeType}
	for _, t := range sparsefmt.ExpandTypes() {
		names = append(names, strings.ToLower(t.String()))
	}
	return names
}
