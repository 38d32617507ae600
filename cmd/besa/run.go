package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"besa/internal/generate"
	"besa/internal/llama"
)

type runOptions struct {
	modelFlags
	prompt       string
	system       string
	stop         []string
	conversation bool
	json         bool
}

// runResult is what --json prints.
type runResult struct {
	Model              string  `json:"model"`
	Text               string  `json:"text"`
	FinishReason       string  `json:"finish_reason"`
	Seed               uint32  `json:"seed"`
	PromptTokens       int     `json:"prompt_tokens"`
	GeneratedTokens    int     `json:"generated_tokens"`
	PromptPerSecond    float64 `json:"prompt_tokens_per_second"`
	GeneratedPerSecond float64 `json:"generated_tokens_per_second"`
	LoadSeconds        float64 `json:"load_seconds"`
	PrunedTensors      int     `json:"pruned_tensors"`
	NativeTensors      int     `json:"native_tensors"`
	ResidentBytes      int64   `json:"resident_bytes"`
	PeakRSS            int64   `json:"peak_rss_bytes"`
}

// maxPrompt bounds a prompt from standard input, in bytes.
const maxPrompt = 16 << 20

func newRun(std streams) *cobra.Command {
	o := &runOptions{}
	c := &cobra.Command{
		Use:   "run MODEL.gguf",
		Short: "generate text with a model, sparse or ordinary, through llama.cpp",
		Long: `Run continues the prompt. Without --prompt it reads the prompt from standard input,
or, at a terminal, holds a conversation through the model's chat template (also with
--conversation): one line is one message, Ctrl-C ends an answer, Ctrl-D the talk.

A sparse GGUF needs no dense file: llama.cpp reads it expanded on the fly, and with the
native plugin (besa native install) the pruned tensors are executed where they lie in
the mapped file. Generation ends where the model ends it, after --predict tokens, or
when the context is full; the context never shifts. A seed gives the same text each time.`,
		Example: `  besa run model.sparse.gguf -p "Once upon a time" -n 100
  besa run model.gguf --temp 0 --json < prompt.txt
  besa run model.sparse.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			return o.run(c.Context(), std, args[0], c.Flags().Changed("prompt"))
		},
	}
	o.add(c)
	f := c.Flags()
	f.IntVarP(&o.context, "ctx-size", "c", 0, fmt.Sprintf("tokens of context (default: the model's, at most %d)", defaultContext))
	f.StringVarP(&o.prompt, "prompt", "p", "", "text to continue, or with --conversation the one message to answer")
	f.BoolVar(&o.conversation, "conversation", false, "use the chat template (llama.cpp's -cnv)")
	f.StringVar(&o.system, "system-prompt", "", "the conversation's system message (llama.cpp's -sys)")
	f.StringArrayVarP(&o.stop, "reverse-prompt", "r", nil, "end before this text; may be given several times")
	f.BoolVar(&o.json, "json", false, "print the text and what it took as JSON")
	return c
}

func (o *runOptions) run(ctx context.Context, std streams, path string, prompted bool) error {
	talk := !prompted && (o.conversation || isTerminal(std.in))
	if talk && o.json {
		return errors.New("--json is for one answer: give a --prompt")
	}
	if o.system != "" && !o.conversation && !talk {
		return errors.New("--system-prompt belongs to a conversation: add --conversation")
	}
	if !prompted && !talk {
		text, err := io.ReadAll(io.LimitReader(std.in, maxPrompt+1))
		if err != nil {
			return err
		}
		if len(text) > maxPrompt {
			return fmt.Errorf("the prompt on standard input has more than %d bytes", maxPrompt)
		}
		o.prompt = string(text)
	}
	started := time.Now()
	m, err := o.load(ctx, std, path)
	if err != nil {
		return err
	}
	defer m.Close()
	length := o.context
	if length == 0 {
		length = min(m.TrainedContext(), defaultContext)
	}
	e, err := generate.New(m, generate.Options{Context: length, Parallel: 1, UBatch: o.ubatch, Threads: o.threads})
	if err != nil {
		return err
	}
	defer e.Close()
	r := runner{o: o, std: std, model: m, engine: e, loaded: time.Since(started)}
	if talk {
		return r.converse(ctx)
	}
	return r.once(ctx)
}

// isTerminal tells whether a person is at the other end.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// runner generates with a loaded model.
type runner struct {
	o      *runOptions
	std    streams
	model  *llama.Model
	engine *generate.Engine
	loaded time.Duration
}

// once answers one prompt.
func (r *runner) once(ctx context.Context) error {
	text, control := r.o.prompt, false
	if r.o.conversation {
		var err error
		if text, err = r.model.ChatPrompt(r.o.template, r.messages(r.o.prompt)); err != nil {
			return err
		}
		control = true
	}
	answer, result, err := r.generate(ctx, text, control)
	if err != nil && result.Finish != generate.FinishCancel {
		return err
	}
	if r.o.json {
		if jsonErr := printJSON(r.std.out, r.report(answer, result)); jsonErr != nil {
			return jsonErr
		}
		return err
	}
	fmt.Fprintln(r.std.out)
	r.timing(result)
	return err
}

// messages begins a conversation.
func (r *runner) messages(user string) []llama.Message {
	var messages []llama.Message
	if r.o.system != "" {
		messages = append(messages, llama.Message{Role: "system", Content: r.o.system})
	}
	return append(messages, llama.Message{Role: "user", Content: user})
}

// generate continues a text and shows it as it comes, unless it goes into JSON.
func (r *runner) generate(ctx context.Context, text string, control bool) (string, generate.Result, error) {
	ids, err := r.model.Tokenize(text, true, control)
	if err != nil {
		return "", generate.Result{}, err
	}
	req := generate.Request{Prompt: ids, MaxTokens: r.o.maxTokens(), Sampling: r.o.Sampling, Stop: r.o.stop, Logprobs: -1}
	var answer strings.Builder
	result, err := r.engine.Generate(ctx, req, func(c generate.Chunk) error {
		answer.WriteString(c.Text)
		if r.o.json {
			return nil
		}
		_, err := io.WriteString(r.std.out, c.Text)
		return err
	})
	if result.ContextFull && !r.o.quiet {
		fmt.Fprintf(r.std.err, "\nthe context of %d tokens is full; --ctx-size makes a larger one\n", r.engine.Context())
	}
	return answer.String(), result, err
}

// timing writes the line for people.
func (r *runner) timing(result generate.Result) {
	if r.o.quiet {
		return
	}
	j := r.report("", result)
	fmt.Fprintf(r.std.err, "prompt %d tokens, %.1f tokens/s; generated %d tokens, %.1f tokens/s; loaded in %.2f s; %s resident; seed %d\n",
		j.PromptTokens, j.PromptPerSecond, j.GeneratedTokens, j.GeneratedPerSecond, j.LoadSeconds, size(j.ResidentBytes), j.Seed)
}

func (r *runner) report(text string, result generate.Result) runResult {
	_, pruned, native := r.model.Sparse()
	now, peak := residentMemory()
	return runResult{
		Model: r.model.Path(), Text: text, FinishReason: string(result.Finish), Seed: r.o.Seed,
		PromptTokens: result.PromptTokens, GeneratedTokens: result.Tokens,
		PromptPerSecond: rate(result.PromptTokens-result.CachedTokens, result.Prompt),
		// The first token comes with the prompt.
		GeneratedPerSecond: rate(result.Tokens-1, result.Generation),
		LoadSeconds:        r.loaded.Seconds(), PrunedTensors: pruned, NativeTensors: native, ResidentBytes: now, PeakRSS: peak,
	}
}

// rate is a number per second, 0 where there is nothing to divide.
func rate(n int, d time.Duration) float64 {
	if n <= 0 || d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}
