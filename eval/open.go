package eval

import (
	"context"
	"fmt"
	"io"
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

	// OnExpand, if set, is called while a sparse GGUF is read for llama.cpp.
	OnExpand func(done, total int64)
}

// Open opens a GGUF, ordinary or sparse.
func Open(ctx context.Context, path string, o OpenOptions) (Model, error) {
	switch o.Engine {
	case EngineGo:
		return LoadGo(path, o.Threads)
	case EngineLlama, "":
		return loadLlama(ctx, path, LlamaOptions{Library: o.Library, Threads: o.Threads, Log: o.Log, OnExpand: o.OnExpand})
	}
	return nil, fmt.Errorf("engine %q; have %s, %s", o.Engine, EngineLlama, EngineGo)
}
