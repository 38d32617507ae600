package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"besa/sparsefmt"
)

func newVerify(std streams) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify SPARSE.gguf",
		Short: "check every checksum and invariant of a sparse GGUF",
		Long: `Verify reads the whole file and applies every rule of the format
(sparsefmt/SPEC.md). Exit code 1 means that the file is damaged.`,
		Example: `  besa verify model.sparse.gguf`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runVerify(c.Context(), std, args[0], asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return c
}

func runVerify(ctx context.Context, std streams, path string, asJSON bool) error {
	report, err := sparsefmt.Verify(ctx, path)
	damaged := errors.Is(err, sparsefmt.ErrMalformed) || errors.Is(err, sparsefmt.ErrChecksum)
	if err != nil && !damaged {
		return err
	}
	if asJSON {
		if e := printJSON(std.out, report); e != nil {
			return e
		}
	} else {
		if e := report.WriteText(std.out); e != nil {
			return e
		}
	}
	if damaged {
		fmt.Fprintf(std.err, "besa: %s is damaged: %v\n", path, err)
		return errCheckFailed
	}
	if !asJSON {
		fmt.Fprintf(std.out, "%s: fine (%s, %d tensors, %d of them sparse)\n", path, size(report.Bytes), report.Tensors, report.SparseTensors)
	}
	return nil
}
