package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Protocol is a way to cut text into windows and to choose the tokens that are
// scored. Figures of different protocols must not be compared.
type Protocol string

const (
	// Paper is the protocol of the pruning literature (SparseGPT, Wanda, BESA):
	// the text is tokenised once and cut into windows without overlap, the tail
	// dropped; every token of a window but the first is scored. A model that
	// wants a beginning-of-sequence token gets one at the start of the text, as
	// from its usual tokenizer, and none at the start of the other windows.
	Paper Protocol = "paper"

	// LlamaCpp is the protocol of llama.cpp's llama-perplexity: windows without
	// overlap whose first token is replaced by the beginning-of-sequence token,
	// if the model wants one, and whose second half is scored. As there, one
	// line feed at the end of the text is no part of it.
	LlamaCpp Protocol = "llama.cpp"
)

// DefaultCtx is the window length that goes with the protocol, in tokens; 0 for
// an unknown protocol.
func (p Protocol) DefaultCtx() int {
	switch p {
	case Paper:
		return 2048
	case LlamaCpp:
		return 512
	}
	return 0
}

// ErrShortText means that the text does not fill the windows a protocol needs.
var ErrShortText = errors.New("text too short")

// PerplexityOptions configures [Perplexity].
type PerplexityOptions struct {
	Protocol Protocol // default Paper
	Ctx      int      // tokens per window; 0: the protocol's default
	Limit    int      // most windows to score; 0: all

	// OnProgress, if set, is called after every window with the perplexity of
	// the windows done so far.
	OnProgress func(done, total int, perplexity float64)
}

// PerplexityResult is a perplexity and how it came about.
type PerplexityResult struct {
	// Perplexity is exp(NLL).
	Perplexity float64 `json:"perplexity"`
	// StdErr is the standard error of Perplexity, from that of the mean NLL with
	// tokens taken as independent: Perplexity·√((mean(x²)-mean(x)²)/(n-1)).
	StdErr float64 `json:"std_err"`
	// NLL is the mean negative log-likelihood of the scored tokens, in nats.
	NLL float64 `json:"nll"`

	Protocol   Protocol `json:"protocol"`
	Ctx        int      `json:"ctx"`         // tokens per window
	Windows    int      `json:"windows"`     // windows scored
	Tokens     int      `json:"tokens"`      // tokens scored
	TextTokens int      `json:"text_tokens"` // tokens of the whole text
	Seconds    float64  `json:"seconds"`
}

// Perplexity measures a model on a text. The context is looked at between
// windows, and by the model as often as it can. Text that is too short gives an
// error that wraps [ErrShortText].
func Perplexity(ctx context.Context, m Model, text string, opts PerplexityOptions) (PerplexityResult, error) {
	start := time.Now()
	if opts.Protocol == "" {
		opts.Protocol = Paper
	}
	plan, err := newPlan(m, text, opts)
	if err != nil {
		return PerplexityResult{}, err
	}
	var sum, squares float64
	result := PerplexityResult{Protocol: opts.Protocol, Ctx: plan.ctx, TextTokens: len(plan.ids)}
	for result.Windows < plan.windows {
		if err := ctx.Err(); err != nil {
			return PerplexityResult{}, err
		}
		scores, err := plan.score(ctx, m, result.Windows)
		if err != nil {
			return PerplexityResult{}, fmt.Errorf("window %d of %d: %w", result.Windows+1, plan.windows, err)
		}
		for _, nll := range scores {
			result.Windows++
			result.Tokens += len(nll)
			for i, x := range nll {
				if math.IsNaN(x) || math.IsInf(x, 0) {
					return PerplexityResult{}, fmt.Errorf("window %d of %d: the model gives token %d no finite probability: its weights or activations overflow", result.Windows, plan.windows, plan.from+i)
				}
				sum += x
				squares += x * x
			}
			if opts.OnProgress != nil {
				opts.OnProgress(result.Windows, plan.windows, math.Exp(sum/float64(result.Tokens)))
			}
		}
	}
	n := float64(result.Tokens)
	result.NLL = sum / n
	result.Perplexity = math.Exp(result.NLL)
	if variance := squares/n - result.NLL*result.NLL; variance > 0 && n > 1 {
		result.StdErr = result.Perplexity * math.Sqrt(variance/(n-1))
	}
	result.Seconds = time.Since(start).Seconds()
	return result, nil
}

// plan says which tokens make up each window and from where they are scored.
type plan struct {
	ids     []int32
	ctx     int
	windows int
	from    int
	first   int32 // replaces the first token of each window; -1: none does
	group   int   // windows to evaluate at once
}

func newPlan(m Model, text string, opts PerplexityOptions) (plan, error) {
	p := plan{ctx: opts.Ctx, from: 1, first: -1, group: 1}
	if opts.Protocol.DefaultCtx() == 0 {
		return p, fmt.Errorf("unknown perplexity protocol %q (known: %s, %s)", opts.Protocol, Paper, LlamaCpp)
	}
	if p.ctx == 0 {
		p.ctx = opts.Protocol.DefaultCtx()
	}
	if opts.Limit < 0 || p.ctx < 4 {
		return p, fmt.Errorf("perplexity over %d windows of %d tokens: windows have at least 4 tokens, and their number is not negative", opts.Limit, p.ctx)
	}
	need := p.ctx
	if opts.Protocol == LlamaCpp {
		text = strings.TrimSuffix(text, "\n")
		p.from = p.ctx/2 + 1
		need = 2 * p.ctx // llama-perplexity refuses less
		if bos, add := m.BOS(); add {
			p.first = bos
		}
		if b, ok := m.(Batcher); ok {
			p.group = b.BatchWindows(p.ctx)
		}
	}
	var err error
	if p.ids, err = m.Tokenize(text, true); err != nil {
		return p, fmt.Errorf("tokenise the text: %w", err)
	}
	if len(p.ids) < need {
		return p, fmt.Errorf("%w: it has %d tokens, and protocol %s with windows of %d tokens needs %d", ErrShortText, len(p.ids), opts.Protocol, p.ctx, need)
	}
	p.windows = len(p.ids) / p.ctx
	if opts.Limit > 0 {
		p.windows = min(p.windows, opts.Limit)
	}
	return p, nil
}

// score evaluates the next group of windows, from window w on.
func (p *plan) score(ctx context.Context, m Model, w int) ([][]float64, error) {
	if p.group == 1 {
		nll, err := m.NLL(ctx, p.window(w), p.from)
		return [][]float64{nll}, err
	}
	var windows [][]int32
	for ; len(windows) < p.group && w < p.windows; w++ {
		windows = append(windows, p.window(w))
	}
	return m.(Batcher).NLLBatch(ctx, windows, p.from)
}

// window returns a copy of the tokens of window w.
func (p *plan) window(w int) []int32 {
	ids := append([]int32(nil), p.ids[w*p.ctx:(w+1)*p.ctx]...)
	if p.first >= 0 {
		ids[0] = p.first
	}
	return ids
}
