package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"besa/eval"
	"besa/internal/corpus"
)

func newEval(std streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "eval",
		Short: "measure a model",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPerplexity(std))
	return c
}

type perplexityOptions struct {
	eval.PerplexityOptions
	open        eval.OpenOptions
	protocol    string
	engine      string
	data        string
	json, quiet bool
	verbose     bool
}

// perplexityOutput is what --json prints.
type perplexityOutput struct {
	eval.PerplexityResult
	Model     string `json:"model"`
	Engine    string `json:"engine"`
	Data      string `json:"data"`
	DataHash  string `json:"data_sha256"`
	FileBytes int64  `json:"file_bytes"`
}

func newPerplexity(std streams) *cobra.Command {
	o := &perplexityOptions{}
	c := &cobra.Command{
		Use:   "ppl --data TEXT MODEL.gguf",
		Short: "perplexity on a text, through llama.cpp",
		Long: `Ppl measures perplexity. Protocol "paper" is that of the pruning literature:
windows of --ctx tokens (2048) without overlap, the tail dropped, every token but a
window's first scored. Protocol "llama.cpp" is that of llama-perplexity: windows of
512, BOS first where the model wants it, the second half scored. Figures of the two
must not be compared. A sparse GGUF is expanded to a temporary file for llama.cpp.`,
		Example: `  besa eval ppl --data wiki.test.raw model.sparse.gguf
  besa eval ppl --protocol llama.cpp --data wiki.test.raw model.gguf
  besa eval ppl --engine go --ctx 512 --limit 16 --data text.txt --json model.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), std, args[0]) },
	}
	f := c.Flags()
	f.StringVar(&o.data, "data", "", "text to score: plain text, or JSONL (also .gz) with a field \"text\"")
	f.StringVar(&o.protocol, "protocol", string(eval.Paper), "paper or llama.cpp")
	f.IntVar(&o.Ctx, "ctx", 0, "tokens per window (default: the protocol's)")
	f.IntVar(&o.Limit, "limit", 0, "score only the first windows (default: all)")
	f.StringVar(&o.engine, "engine", string(eval.EngineLlama), "llama (llama.cpp) or go (besa's own engine)")
	f.StringVar(&o.open.Library, "llama-lib", "", "folder or file of libllama (default: $BESA_LLAMA_LIB, the cache, system paths)")
	f.IntVar(&o.open.Threads, "threads", 0, "threads (default: all)")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	f.BoolVar(&o.quiet, "quiet", false, "no progress")
	f.BoolVar(&o.verbose, "verbose", false, "show llama.cpp's log")
	if err := c.MarkFlagRequired("data"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

func (o *perplexityOptions) run(ctx context.Context, std streams, path string) error {
	o.Protocol, o.open.Engine = eval.Protocol(o.protocol), eval.Engine(o.engine)
	if o.Protocol.DefaultCtx() == 0 {
		return fmt.Errorf("protocol %q; have %s, %s", o.protocol, eval.Paper, eval.LlamaCpp)
	}
	text, err := corpus.Load(o.data)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if o.verbose {
		o.open.Log = std.err
	}
	p := newProgress(std.err, "perplexity", o.quiet)
	defer p.finish()
	o.open.OnExpand = func(done, total int64) { p.update(0, "expanding "+size(done)) }
	m, err := eval.Open(ctx, path, o.open)
	if err != nil {
		return err
	}
	defer m.Close()
	o.OnProgress = func(done, total int, ppl float64) {
		p.update(float64(done)/float64(total), fmt.Sprintf("window %d of %d, perplexity %.4f", done, total, ppl))
	}
	r, err := eval.Perplexity(ctx, m, text.Text, o.PerplexityOptions)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", path, o.data, err)
	}
	p.finish()
	if o.json {
		return printJSON(std.out, perplexityOutput{r, path, o.engine, o.data, text.Hash, info.Size()})
	}
	fmt.Fprintf(std.out, "perplexity %.4f ± %.4f (protocol %s, %d windows of %d tokens, engine %s, %.1f s)\n",
		r.Perplexity, r.StdErr, r.Protocol, r.Windows, r.Ctx, o.engine, r.Seconds)
	return nil
}
