package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"github.com/spf13/cobra"

	"besa/internal/llama"
)

// modelFlags are the options of the commands that generate text, under their
// llama.cpp names.
type modelFlags struct {
	llama.Sampling
	seed     int64
	predict  int
	context  int
	threads  int
	ubatch   int
	template string
	library  string
	native   llama.Native
	quiet    bool
	verbose  bool
}

// defaultContext bounds the context where --ctx-size does not say.
const defaultContext = 4096

// defaultUBatch is half of llama.cpp's, and with it the memory that a long prompt
// takes beside weights and cache; prompts take up to 5 % longer (docs/results.md).
const defaultUBatch = 256

func (o *modelFlags) add(c *cobra.Command) {
	o.Sampling = llama.DefaultSampling()
	f := c.Flags()
	f.IntVarP(&o.predict, "predict", "n", -1, "most tokens to generate (-1: until the context is full)")
	f.IntVarP(&o.threads, "threads", "t", 0, "threads (default: all)")
	f.IntVar(&o.ubatch, "ubatch-size", defaultUBatch, "tokens of a prompt to evaluate at once: more are faster and take more memory")
	f.Int64VarP(&o.seed, "seed", "s", -1, "seed of the sampling (-1: random)")
	f.Float64Var(&o.Temperature, "temp", o.Temperature, "temperature (0: always the likeliest token)")
	f.IntVar(&o.TopK, "top-k", o.TopK, "choose among the k likeliest tokens (0: off)")
	f.Float64Var(&o.TopP, "top-p", o.TopP, "choose among the likeliest tokens that make up this probability (1: off)")
	f.Float64Var(&o.MinP, "min-p", o.MinP, "drop tokens less likely than this share of the likeliest (0: off)")
	f.IntVar(&o.RepeatLastN, "repeat-last-n", o.RepeatLastN, "tokens the penalties look back (0: off)")
	f.Float64Var(&o.RepeatPenalty, "repeat-penalty", o.RepeatPenalty, "penalty for tokens that came already (1: off)")
	f.Float64Var(&o.FrequencyPenalty, "frequency-penalty", 0, "penalty for every time a token came (0: off)")
	f.Float64Var(&o.PresencePenalty, "presence-penalty", 0, "penalty for tokens that came at all (0: off)")
	f.BoolVar(&o.IgnoreEOS, "ignore-eos", false, "go on where the model would end")
	f.StringVar(&o.template, "chat-template", "", "chat template: a name such as chatml, or the template (default: the model's)")
	f.StringVar(&o.library, "llama-lib", "", "folder or file of libllama (default: $BESA_LLAMA_LIB, the cache, system paths)")
	o.native = llama.NativeAuto
	f.Var(&o.native, "native", "run pruned tensors sparse: auto (if the plugin is installed), on or off")
	f.BoolVar(&o.quiet, "quiet", false, "no messages on stderr")
	f.BoolVar(&o.verbose, "verbose", false, "show llama.cpp's log")
}

// complete checks the flags and chooses the seed.
func (o *modelFlags) complete() error {
	switch {
	case o.seed < -1 || o.seed > math.MaxUint32:
		return fmt.Errorf("--seed %d: must be -1 to %d", o.seed, uint32(math.MaxUint32))
	case o.seed == -1:
		o.Seed = rand.Uint32()
	default:
		o.Seed = uint32(o.seed)
	}
	if o.predict < -1 || o.predict == 0 {
		return fmt.Errorf("--predict %d: must be -1 or at least 1", o.predict)
	}
	if o.context < 0 || o.threads < 0 {
		return fmt.Errorf("--ctx-size %d, --threads %d: must not be negative", o.context, o.threads)
	}
	if o.ubatch < 1 {
		return fmt.Errorf("--ubatch-size %d: must be at least 1", o.ubatch)
	}
	return o.Validate()
}

// maxTokens is --predict in the engine's terms.
func (o *modelFlags) maxTokens() int { return max(o.predict, 0) }

// load opens the model and says how its weights are executed.
func (o *modelFlags) load(ctx context.Context, std streams, path string) (*llama.Model, error) {
	options := llama.Options{Library: o.library, Native: o.native, OwnTokenizer: true}
	if o.verbose {
		options.Log = std.err
	}
	p := newProgress(std.err, "check", o.quiet)
	options.OnProgress = func(done, total int64) { p.update(float64(done)/float64(max(total, 1)), size(done)) }
	m, err := llama.Load(ctx, path, options)
	p.finish()
	if err != nil {
		return nil, err
	}
	if !o.quiet {
		describe(std.err, m)
	}
	return m, nil
}

// describe says in one line whether a sparse model runs sparse.
func describe(w io.Writer, m *llama.Model) {
	switch sparse, pruned, native := m.Sparse(); {
	case sparse && native > 0:
		fmt.Fprintf(w, "%d of %d pruned tensors run sparse\n", native, pruned)
	case sparse:
		fmt.Fprintf(w, "%d pruned tensors are expanded in memory; native execution is %s\n", pruned, llama.NativeKernel())
	case native > 0:
		fmt.Fprintf(w, "%d tensors run sparse\n", native)
	}
}
