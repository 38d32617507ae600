package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"besa/gguf"
	"besa/sparsefmt"
)

// inspection is what is in a model file.
type inspection struct {
	Path          string         `json:"path"`
	FileBytes     int64          `json:"file_bytes"` // of all parts
	Parts         int            `json:"parts"`
	Architecture  string         `json:"architecture"`
	Sparse        bool           `json:"sparse"`
	Layout        string         `json:"layout,omitempty"` // of a sparse GGUF
	Weights       uint64         `json:"weights"`          // of all tensors
	PrunedWeights uint64         `json:"pruned_weights"`   // masked out
	Sparsity      float64        `json:"sparsity"`         // of the sparse tensors
	BitsPerWeight float64        `json:"bits_per_weight"`  // of the sparse tensors; of all tensors when none is sparse
	Provenance    map[string]any `json:"provenance,omitempty"`
	Tensors       []tensorLine   `json:"tensors"`
}

type tensorLine struct {
	Name          string   `json:"name"`
	Type          string   `json:"type"`
	Shape         []uint64 `json:"shape"`
	Sparse        bool     `json:"sparse"`
	Coding        string   `json:"coding,omitempty"`
	Group         int      `json:"group,omitempty"`
	Survivors     uint64   `json:"survivors"`
	Sparsity      float64  `json:"sparsity"`
	BitsPerWeight float64  `json:"bits_per_weight"`
	StoredBytes   uint64   `json:"stored_bytes"`
	Checksum      string   `json:"blob_xxh3,omitempty"`
}

func newInspect(std streams) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect MODEL.gguf",
		Short: "show what is in a sparse or ordinary GGUF",
		Example: `  besa inspect model.sparse.gguf
  besa inspect --json model.sparse.gguf | jq .bits_per_weight`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			in, err := inspect(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(std.out, in)
			}
			return in.print(std)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return c
}

func inspect(path string) (*inspection, error) {
	g, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	if !sparsefmt.IsSparse(g) {
		defer g.Close()
		return inspectDense(g), nil
	}
	if err := g.Close(); err != nil {
		return nil, err
	}
	f, err := sparsefmt.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return inspectSparse(f), nil
}

func newInspection(g *gguf.File) *inspection {
	in := &inspection{Path: g.Path(), FileBytes: g.Size(), Parts: len(g.Parts())}
	in.Architecture, _ = g.String("general.architecture")
	return in
}

func inspectDense(g *gguf.File) *inspection {
	in := newInspection(g)
	var stored uint64
	for _, t := range g.Tensors() {
		in.Weights += t.Elements()
		stored += t.Bytes
		in.Tensors = append(in.Tensors, tensorLine{
			Name: t.Name, Type: t.Type.String(), Shape: t.Shape, Survivors: t.Elements(),
			BitsPerWeight: 8 * float64(t.Bytes) / float64(t.Elements()), StoredBytes: t.Bytes,
		})
	}
	in.BitsPerWeight = 8 * float64(stored) / float64(max(in.Weights, 1))
	return in
}

func inspectSparse(f *sparsefmt.File) *inspection {
	in := newInspection(f.GGUF())
	in.Sparse, in.Layout = true, f.Layout().String()
	in.Provenance = provenance(f.GGUF())
	var stored, weights uint64
	for _, t := range f.Tensors() {
		line := tensorLine{
			Name: t.Name, Type: t.Type.String(), Shape: t.Shape, Sparse: t.Sparse, Group: t.Group, Survivors: t.Survivors,
			Sparsity: t.Sparsity(), BitsPerWeight: t.BitsPerWeight(), StoredBytes: t.StoredBytes,
		}
		in.Weights += t.Elements()
		if t.Sparse {
			line.Coding = t.Coding.String()
			if _, info, ok := f.Rows(t.Name); ok {
				line.Checksum = fmt.Sprintf("%016x", info.BlobSum)
			}
			in.PrunedWeights += t.Elements() - t.Survivors
			weights += t.Elements()
			stored += t.StoredBytes
		}
		in.Tensors = append(in.Tensors, line)
	}
	if weights > 0 {
		in.Sparsity = float64(in.PrunedWeights) / float64(weights)
		in.BitsPerWeight = 8 * float64(stored) / float64(weights)
	}
	return in
}

// provenance collects the metadata that says how a file was made.
func provenance(g *gguf.File) map[string]any {
	values := map[string]any{}
	for _, kv := range g.KVs() {
		if !strings.HasPrefix(kv.Key, "besa.") || sparsefmt.IsReserved(kv.Key) {
			continue
		}
		if s, ok := kv.Text(); ok {
			values[kv.Key] = s
		} else if u, ok := kv.Uint(); ok {
			values[kv.Key] = u
		} else if v, ok := kv.Float(); ok {
			values[kv.Key] = v
		} else if b, ok := kv.Bool(); ok {
			values[kv.Key] = b
		}
	}
	return values
}

func (in *inspection) print(std streams) error {
	kind := "ordinary GGUF"
	if in.Sparse {
		kind = "sparse GGUF, " + in.Layout + " layout"
	}
	fmt.Fprintf(std.out, "%s: %s, %s, architecture %s, %d weights%s\n", in.Path, kind, size(in.FileBytes), in.Architecture, in.Weights, inParts(in.Parts))
	if in.Sparse {
		fmt.Fprintf(std.out, "sparse tensors: %.2f %% pruned, %.3f bits per weight\n", 100*in.Sparsity, in.BitsPerWeight)
	}
	for _, key := range sortedKeys(in.Provenance) {
		fmt.Fprintf(std.out, "  %s = %v\n", key, in.Provenance[key])
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TENSOR\tTYPE\tSHAPE\tPRUNED\tBITS/WEIGHT\tBYTES\tXXH3")
	for _, t := range in.Tensors {
		pruned := "-"
		if t.Sparse {
			pruned = fmt.Sprintf("%.2f %%", 100*t.Sparsity)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.3f\t%d\t%s\n", t.Name, t.Type, shape(t.Shape), pruned, t.BitsPerWeight, t.StoredBytes, t.Checksum)
	}
	return w.Flush()
}

func shape(dims []uint64) string {
	parts := make([]string, len(dims))
	for i, d := range dims {
		parts[i] = fmt.Sprint(d)
	}
	return strings.Join(parts, "×")
}
