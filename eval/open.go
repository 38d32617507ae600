package eval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"besa/gguf"
	"besa/sparsefmt"
)

// Engine says what runs a model.
type Engine string

// The engines.
const (
	EngineLlama Engine = "llama" // llama.cpp
	EngineGo    Engine = "go"    // besa's own
)

// OpenOptions configures [Open].
type OpenOptions struct {
	Engine  Engine    // default EngineLlama
	Library string    // see [FindLibrary]
	Threads int       // 0: one per processor
	Log     io.Writer // receives llama.cpp's log; nil silences it

	// OnExpand, if set, is called while a sparse GGUF is expanded for llama.cpp.
	OnExpand func(done, total int64)
}

// Open opens a GGUF, ordinary or sparse. For llama.cpp a sparse one is
// expanded to a temporary file, which Close removes.
func Open(ctx context.Context, path string, o OpenOptions) (Model, error) {
	switch o.Engine {
	case EngineGo:
		return LoadGo(path, o.Threads)
	case EngineLlama, "":
	default:
		return nil, fmt.Errorf("engine %q; have %s, %s", o.Engine, EngineLlama, EngineGo)
	}
	llama := LlamaOptions{Library: o.Library, Threads: o.Threads, Log: o.Log}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	sparse := sparsefmt.IsSparse(f)
	if err := f.Close(); err != nil {
		return nil, err
	}
	if !sparse {
		return LoadLlama(path, llama)
	}
	// Fail before the work of expanding where there is no llama.cpp.
	if _, err := FindLibrary(o.Library); err != nil {
		return nil, err
	}
	return openExpanded(ctx, path, llama, o.OnExpand)
}

// expanded is a model in a temporary file. It embeds no mere Model, so that it
// stays a [Batcher].
type expanded struct {
	*Llama
	dir string
}

func openExpanded(ctx context.Context, path string, o LlamaOptions, progress func(done, total int64)) (_ Model, err error) {
	s, err := sparsefmt.Open(path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	dir, err := os.MkdirTemp("", "besa-expanded-*")
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder for the expanded model: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	dense := filepath.Join(dir, "expanded.gguf")
	if err := s.ExpandTo(ctx, dense, progress); err != nil {
		return nil, err
	}
	m, err := LoadLlama(dense, o)
	if err != nil {
		return nil, err
	}
	return &expanded{m, dir}, nil
}

// Close frees the model and removes its file.
func (e *expanded) Close() error {
	return errors.Join(e.Llama.Close(), os.RemoveAll(e.dir))
}
