package eval

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/hybridgroup/yzma/pkg/llama"

	"besa/gguf"
	"besa/internal/tokenizer"
)

// LlamaOptions configures [LoadLlama].
type LlamaOptions struct {
	Library string    // where libllama is; see [FindLibrary]
	Threads int       // 0: one per processor
	Log     io.Writer // receives llama.cpp's log; nil silences it

	// Precise keeps llama.cpp's attention in float32: a float32 cache of keys and
	// values, no flash attention. It is for comparisons with another engine;
	// llama-perplexity's figures come from the default, half precision.
	Precise bool
}

// Llama is a model in llama.cpp, on the CPU. It is not safe for concurrent use.
type Llama struct {
	path    string
	model   llama.Model
	vocab   llama.Vocab
	threads int32
	precise bool
	tokens  int // size of the vocabulary
	run     run
}

var _ Batcher = (*Llama)(nil)

var errClosed = errors.New("model is closed")

// LoadLlama opens a GGUF model in llama.cpp. The file, and for a split model
// every part, is validated first: llama.cpp's own parser ends the process on
// some malformed files.
func LoadLlama(path string, opts LlamaOptions) (*Llama, error) {
	if err := validate(path); err != nil {
		return nil, err
	}
	dir, err := FindLibrary(opts.Library)
	if err != nil {
		return nil, err
	}
	if err := openLibrary(dir); err != nil {
		return nil, err
	}
	m := &Llama{path: path, precise: opts.Precise, threads: int32(min(opts.Threads, math.MaxInt16))}
	if m.threads <= 0 {
		m.threads = int32(runtime.NumCPU())
	}
	library.log.forget()
	library.log.copyTo(opts.Log)
	params := llama.ModelDefaultParams()
	params.SetCPUOnly()
	if m.model, err = llama.ModelLoadFromFile(path, params); err != nil {
		return nil, library.log.explain(fmt.Errorf("load %s in llama.cpp: %w", path, err))
	}
	m.vocab = llama.ModelGetVocab(m.model)
	m.tokens = int(llama.VocabNTokens(m.vocab))
	if m.tokens <= 0 {
		err := fmt.Errorf("load %s in llama.cpp: it has no vocabulary", path)
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// validate checks what llama.cpp would trust: the structure of every part of
// the file, and a vocabulary without contradictions.
func validate(path string) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = tokenizer.New(f)
	if err != nil && !errors.Is(err, tokenizer.ErrUnsupported) {
		return fmt.Errorf("%s: %w", path, err)
	}
	parts, _ := f.Uint("split.count")
	if parts < 2 {
		return nil
	}
	prefix, ok := strings.CutSuffix(path, fmt.Sprintf("-00001-of-%05d.gguf", parts))
	if !ok {
		return fmt.Errorf("%s: it is part of a model split in %d files; name the first, …-00001-of-%05d.gguf", path, parts, parts)
	}
	for i := uint64(2); i <= parts; i++ {
		part, err := gguf.Open(fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, i, parts))
		if err != nil {
			return fmt.Errorf("part %d of %d of %s: %w", i, parts, filepath.Base(path), err)
		}
		if err := part.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Tokenize implements [Model] with llama.cpp's own tokenizer.
func (m *Llama) Tokenize(text string, special bool) ([]int32, error) {
	if m.model == 0 {
		return nil, errClosed
	}
	if i := strings.IndexByte(text, 0); i >= 0 {
		return nil, fmt.Errorf("byte %d of the text is zero; llama.cpp takes none", i)
	}
	if len(text) >= math.MaxInt32 {
		return nil, fmt.Errorf("text of %d bytes is too long for llama.cpp", len(text))
	}
	tokens := llama.Tokenize(m.vocab, text, special, false)
	ids := make([]int32, len(tokens))
	for i, t := range tokens {
		ids[i] = int32(t)
	}
	return ids, nil
}

// BOS implements [Model].
func (m *Llama) BOS() (int32, bool) {
	return int32(llama.VocabBOS(m.vocab)), llama.VocabGetAddBOS(m.vocab)
}

// Vocab implements [Model].
func (m *Llama) Vocab() int { return m.tokens }

// Close implements [Model].
func (m *Llama) Close() error {
	if m.model == 0 {
		return nil
	}
	m.run.free()
	err := llama.ModelFree(m.model)
	m.model, m.vocab = 0, 0
	return err
}
