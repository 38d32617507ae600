package eval

import (
	"context"
	"fmt"
	"runtime"

	"besa/internal/kernel"
	"besa/internal/model"
	"besa/internal/tokenizer"
)

// Go is a model in besa's own engine: the oracle for [Llama], and the way to
// evaluate without llama.cpp. All weights are in memory as float32. It is not
// safe for concurrent use.
type Go struct {
	model  *model.Model
	tok    *tokenizer.Tokenizer
	pool   *kernel.Pool
	runner *model.Runner
	tokens int // longest window that runner takes
}

var _ Model = (*Go)(nil)

// LoadGo opens a GGUF model, ordinary or sparse, in the Go engine; threads 0
// means one per processor.
func LoadGo(path string, threads int) (*Go, error) {
	m, err := model.Open(path)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.New(m.File())
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	return &Go{model: m, tok: tok, pool: kernel.NewPool(threads)}, nil
}

// Tokenize implements [Model].
func (g *Go) Tokenize(text string, special bool) ([]int32, error) {
	if special {
		return g.tok.Encode(text, tokenizer.AddSpecial)
	}
	return g.tok.Encode(text)
}

// BOS implements [Model].
func (g *Go) BOS() (int32, bool) {
	id, ok := g.tok.BOS()
	if !ok {
		return -1, false
	}
	return id, g.tok.AddBOS()
}

// Vocab implements [Model].
func (g *Go) Vocab() int { return g.model.Vocab }

// prepare loads the weights, for windows of n tokens.
func (g *Go) prepare(n int) error {
	if g.model == nil {
		return errClosed
	}
	if g.runner != nil && n <= g.tokens {
		return nil
	}
	r, err := model.NewRunner(g.model, n, g.pool)
	if err != nil {
		return err
	}
	g.runner, g.tokens = r, n
	return nil
}

// NLL implements [Model].
func (g *Go) NLL(ctx context.Context, window []int32, from int) ([]float64, error) {
	if err := g.prepare(len(window)); err != nil {
		return nil, err
	}
	if err := checkWindow(window, from, g.Vocab()); err != nil {
		return nil, err
	}
	out := make([]float64, len(window)-from)
	err := g.runner.Logits(ctx, window[:len(window)-1], from-1, func(first int, logits []float32) {
		rows := len(logits) / g.Vocab()
		scoreRows(out[first+1-from:][:rows], logits, window[first+1:][:rows])
	})
	return out, err
}

// Logits implements [Model].
func (g *Go) Logits(ctx context.Context, window []int32) ([]float32, error) {
	if err := g.prepare(len(window)); err != nil {
		return nil, err
	}
	out := make([]float32, 0, len(window)*g.Vocab())
	err := g.runner.Logits(ctx, window, 0, func(_ int, logits []float32) { out = append(out, logits...) })
	return out, err
}

// Close implements [Model].
func (g *Go) Close() error {
	if g.model == nil {
		return nil
	}
	g.pool.Close()
	err := g.model.Close()
	g.model, g.runner = nil, nil
	return err
}
