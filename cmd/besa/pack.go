package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"besa/gguf"
	"besa/sparsefmt"
)

type packOptions struct {
	input, output string
	layout        string
	minSparsity   float64
	split         partSize
	force         bool
	json, quiet   bool
}

type packResult struct {
	Input      string                 `json:"input"`
	Output     string                 `json:"output"` // the first part of a split model
	Parts      int                    `json:"parts"`
	Layout     string                 `json:"layout"`
	InputBytes int64                  `json:"input_bytes"`
	FileBytes  int64                  `json:"file_bytes"`
	Seconds    float64                `json:"seconds"`
	Sparse     int                    `json:"sparse_tensors"`
	Tensors    []sparsefmt.Sparsified `json:"tensors,omitempty"` // of an ordinary GGUF: all that could be sparse
}

func newPack(std streams) *cobra.Command {
	o := &packOptions{layout: sparsefmt.LayoutPacked.String()}
	c := &cobra.Command{
		Use:   "pack MODEL.gguf [-o SPARSE.gguf]",
		Short: "make any GGUF with zeros a sparse GGUF, or change a sparse GGUF's layout",
		Long: `Pack makes a sparse GGUF of an ordinary one whose weights contain zeros, however
they came about (Wanda, SparseGPT, 2:4, an expanded file). It is lossless: besa expand
gives every tensor back, byte for byte. F16, BF16, Q8_0, Q4_0 and Q4_1 tensors become
sparse where that is smaller; others, and those with fewer zeros than --min-sparsity,
stay as they are.

Of a sparse GGUF it changes the layout: packed is small, for keeping and publishing;
plain is executed in place. What the file expands to stays the same.`,
		Example: `  besa pack pruned-F16.gguf -o pruned.sparse.gguf
  besa pack --layout plain model.sparse.gguf -o model.plain.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.input = args[0]
			return o.run(c.Context(), std)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "", "sparse GGUF to write (default: beside the input, named after it and the layout)")
	addLayoutFlag(f, &o.layout)
	f.Float64Var(&o.minSparsity, "min-sparsity", sparsefmt.DefaultMinSparsity, "least share of zeros that makes a tensor sparse, 0 to 1")
	addSplitFlag(f, &o.split)
	f.BoolVar(&o.force, "force", false, "replace an existing output")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	f.BoolVar(&o.quiet, "quiet", false, "no progress")
	return c
}

// addLayoutFlag defines --layout.
func addLayoutFlag(f *pflag.FlagSet, layout *string) {
	choice(f, layout, "layout", "small for keeping (packed), or executed in place (plain)",
		[]string{sparsefmt.LayoutPacked.String(), sparsefmt.LayoutPlain.String()})
}

// layoutNamed returns the layout that --layout names; the flag has checked it.
func layoutNamed(name string) sparsefmt.Layout {
	layout, err := sparsefmt.ParseLayout(name)
	if err != nil {
		panic(err)
	}
	return layout
}

func (o *packOptions) run(ctx context.Context, std streams) error {
	started := time.Now()
	if o.minSparsity < 0 || o.minSparsity > 1 || o.minSparsity != o.minSparsity {
		return fmt.Errorf("--min-sparsity %v: must be 0 to 1", o.minSparsity)
	}
	if o.output == "" {
		o.output = o.defaultOutput()
	}
	if err := gguf.CheckOutput(o.output, o.split != 0, o.force, o.input); err != nil {
		return err
	}
	g, err := gguf.Open(o.input)
	if err != nil {
		return err
	}
	defer g.Close()
	p := newProgress(std.err, "pack", o.quiet)
	opts := sparsefmt.StoreOptions{Layout: layoutNamed(o.layout), SplitBytes: uint64(o.split)}
	opts.Progress = func(done float64) { p.update(done, o.layout) }
	paths, tensors, err := o.write(ctx, g, opts)
	p.finish()
	if err != nil {
		return err
	}
	r := packResult{Input: o.input, Output: paths[0], Parts: len(paths), Layout: o.layout, InputBytes: g.Size(), Tensors: tensors}
	if r.FileBytes, err = filesSize(paths); err != nil {
		return err
	}
	out, err := sparsefmt.Open(paths[0])
	if err != nil {
		return err
	}
	defer out.Close()
	for _, t := range out.Tensors() {
		if t.Sparse {
			r.Sparse++
		}
	}
	r.Seconds = time.Since(started).Seconds()
	if o.json {
		return printJSON(std.out, r)
	}
	return r.print(std)
}

// write writes the output from a GGUF of either kind.
func (o *packOptions) write(ctx context.Context, g *gguf.File, opts sparsefmt.StoreOptions) ([]string, []sparsefmt.Sparsified, error) {
	if !sparsefmt.IsSparse(g) {
		return sparsefmt.Sparsify(ctx, o.output, g, o.minSparsity, opts)
	}
	f, err := sparsefmt.Open(o.input)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	paths, err := f.Repack(ctx, o.output, opts)
	return paths, nil, err
}

// defaultOutput names the output after the input; "sparse" keeps tools from
// reading the end of the name as the file's quantisation.
func (o *packOptions) defaultOutput() string {
	base := partSuffix.ReplaceAllString(strings.TrimSuffix(o.input, ".gguf"), "")
	for _, end := range []string{".sparse", ".plain", ".packed"} {
		base = strings.TrimSuffix(base, end)
	}
	if o.layout == sparsefmt.LayoutPlain.String() {
		return base + ".plain.sparse.gguf"
	}
	return base + ".sparse.gguf"
}

func (r *packResult) print(std streams) error {
	dense := slices.DeleteFunc(slices.Clone(r.Tensors), func(t sparsefmt.Sparsified) bool { return t.Dense == "" })
	fmt.Fprintf(std.out, "%s: %s from %s in %.1f s, %s layout, %d sparse tensors%s\n", filepath.Clean(r.Output),
		size(r.FileBytes), size(r.InputBytes), r.Seconds, r.Layout, r.Sparse, inParts(r.Parts))
	if len(dense) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "stored as it was\ttype\tzeros\twhy")
	for _, t := range dense {
		fmt.Fprintf(w, "%s\t%v\t%.1f %%\t%s\n", t.Name, t.Type, 100*t.Sparsity, t.Dense)
	}
	return w.Flush()
}
