package eval

import (
	"context"
	"io"

	"besa/internal/llama"
)

// ErrNoLibrary means that llama.cpp's shared library was not found or cannot
// be used.
var ErrNoLibrary = llama.ErrNoLibrary

// FindLibrary returns the folder of llama.cpp's shared libraries: explicit (a
// folder or the library itself), $BESA_LLAMA_LIB, $YZMA_LIB, besa's cache or the
// system's folders, whichever comes first. Errors wrap [ErrNoLibrary].
func FindLibrary(explicit string) (string, error) { return llama.FindLibrary(explicit) }

// LlamaOptions configures [LoadLlama].
type LlamaOptions struct {
	Library string    // where libllama is; see [FindLibrary]
	Threads int       // 0: one per processor
	Log     io.Writer // receives llama.cpp's log; nil silences it

	// Precise keeps llama.cpp's attention in float32: a float32 cache of keys and
	// values, no flash attention. It is for comparisons with another engine;
	// llama-perplexity's figures come from the default, half precision.
	Precise bool

	// OnExpand, if set, is called while a sparse GGUF is read.
	OnExpand func(done, total int64)
}

// Llama is a model in llama.cpp, on the CPU. It is not safe for concurrent use.
type Llama struct {
	model   *llama.Model
	threads int
	precise bool
	run     run
}

var _ Batcher = (*Llama)(nil)

var errClosed = llama.ErrClosed

// LoadLlama opens a GGUF model, ordinary or sparse, in llama.cpp. The file is
// validated first.
func LoadLlama(path string, o LlamaOptions) (*Llama, error) {
	return loadLlama(context.Background(), path, o)
}

func loadLlama(ctx context.Context, path string, o LlamaOptions) (*Llama, error) {
	m, err := llama.Load(ctx, path, llama.Options{Library: o.Library, Log: o.Log, OnProgress: o.OnExpand})
	if err != nil {
		return nil, err
	}
	return &Llama{model: m, threads: o.Threads, precise: o.Precise}, nil
}

// Tokenize implements [Model] with llama.cpp's own tokenizer.
func (m *Llama) Tokenize(text string, special bool) ([]int32, error) {
	return m.model.Tokenize(text, special, false)
}

// BOS implements [Model].
func (m *Llama) BOS() (int32, bool) { return m.model.BOS() }

// Vocab implements [Model].
func (m *Llama) Vocab() int { return m.model.Vocab() }

// Close implements [Model].
func (m *Llama) Close() error {
	m.run.context.Close()
	m.run = run{}
	return m.model.Close()
}
