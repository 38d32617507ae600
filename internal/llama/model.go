package llama

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"unsafe"

	yzma "github.com/hybridgroup/yzma/pkg/llama"

	"besa/gguf"
	"besa/internal/tokenizer"
	"besa/sparsefmt"
)

// Options configures [Load].
type Options struct {
	Library string    // where libllama is; see [FindLibrary]
	Log     io.Writer // receives llama.cpp's log; nil silences it
	Native  Native    // which plugin executes pruned tensors

	// OwnTokenizer has besa's tokenizer take llama.cpp's place, where it knows the
	// kind of vocabulary. It gives the same ids and needs a fifth of the memory,
	// which is 15 MB for 49152 tokens; llama.cpp's stays the reference.
	OwnTokenizer bool

	// OnProgress, if set, is called while a sparse GGUF is checked and read, with
	// bytes of the expanded file.
	OnProgress func(done, total int64)
}

// Model is a model in llama.cpp. Its methods may be called from several
// goroutines, but none after Close or together with it.
type Model struct {
	path      string
	handle    yzma.Model
	vocab     vocabulary
	tokens    int        // size of the vocabulary
	overrides []override // of metadata, while it loads
	source    *source    // of a sparse model, else nil
	native    int        // tensors that the native plugin executes
}

// ErrClosed means that a model was used after Close.
var ErrClosed = errors.New("model is closed")

// Load opens a GGUF in llama.cpp, ordinary (also split) or sparse. The file is
// validated first: llama.cpp's own parser ends the process on some malformed
// files. Of a sparse file every checksum is compared, and no dense copy is
// made, neither in a file nor in memory, of what the native plugin executes.
// Errors: those of gguf.Open and sparsefmt.Open, [ErrNoLibrary].
func Load(ctx context.Context, path string, o Options) (*Model, error) {
	m := &Model{path: path}
	sparse, err := m.validate(o.OwnTokenizer)
	if err != nil {
		return nil, err
	}
	dir, err := FindLibrary(o.Library)
	if err != nil {
		return nil, err
	}
	if err := openLibrary(dir, o.Native); err != nil {
		return nil, err
	}
	library.log.forget()
	library.log.copyTo(o.Log)
	if err := m.read(ctx, sparse, o.OnProgress); err != nil {
		return nil, err
	}
	own := m.vocab
	m.overrides = nil
	theirs := yzma.ModelGetVocab(m.handle)
	m.tokens = int(yzma.VocabNTokens(theirs))
	switch {
	case own != nil && m.tokens != own.Vocab():
		err = fmt.Errorf("load %s in llama.cpp: it has %d tokens there, not %d", path, m.tokens, own.Vocab())
	case own == nil:
		m.vocab = llamaVocabulary{theirs}
		// Without a vocabulary llama.cpp ends the process where it is asked for text.
		if m.tokens <= 0 || yzma.GetVocabType(theirs) == yzma.VocabTypeNone {
			err = fmt.Errorf("load %s in llama.cpp: it has no vocabulary", path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// loading lets one model load at a time: offers to the native plugin go by
// tensor names, which two models may share, and its counts are of the process.
var loading sync.Mutex

// read loads the file and counts what of it is executed natively.
func (m *Model) read(ctx context.Context, sparse bool, progress func(done, total int64)) error {
	loading.Lock()
	defer loading.Unlock()
	before := library.plugin.sparse()
	load := m.loadFile
	if sparse {
		load = func() error { return m.loadSparse(ctx, progress) }
	}
	if err := load(); err != nil {
		return err
	}
	m.native = library.plugin.sparse() - before
	settle()
	return nil
}

// settle gives back the memory that starting and loading took and running does
// not need.
func settle() {
	debug.FreeOSMemory()
	trimC()
	dropPrograms()
}

// params are those of every load.
func (m *Model) params() yzma.ModelParams {
	params := yzma.ModelDefaultParams()
	params.SetCPUOnly()
	if len(m.overrides) > 0 {
		params.KvOverrides = uintptr(unsafe.Pointer(&m.overrides[0]))
	}
	return params
}

func (m *Model) loadFile() (err error) {
	params := m.params()
	if m.handle, err = yzma.ModelLoadFromFile(m.path, params); err != nil {
		return library.log.explain(fmt.Errorf("load %s in llama.cpp: %w", m.path, err))
	}
	return nil
}

// validate checks what llama.cpp would trust: the structure of every part of
// the file, and a vocabulary without contradictions. It tells whether the file
// is a sparse one, and with own makes its vocabulary besa's if that can be.
func (m *Model) validate(own bool) (sparse bool, err error) {
	f, err := gguf.Open(m.path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := tokenizer.CheckFile(f); err != nil {
		return false, fmt.Errorf("%s: %w", m.path, err)
	}
	t, err := tokenizer.New(f)
	switch {
	case err == nil && own:
		architecture, _ := f.String("general.architecture")
		if m.overrides = withoutVocabulary(architecture, t.Vocab()); m.overrides != nil {
			m.vocab = t
		}
	case err != nil && !errors.Is(err, tokenizer.ErrUnsupported):
		return false, fmt.Errorf("%s: %w", m.path, err)
	}
	return sparsefmt.IsSparse(f), nil
}

// Path is the name the model was opened by.
func (m *Model) Path() string { return m.path }

// Vocab returns the number of tokens: logits come in rows of that length.
func (m *Model) Vocab() int { return m.tokens }

// TrainedContext returns the context length the model was trained for.
func (m *Model) TrainedContext() int { return int(yzma.ModelNCtxTrain(m.handle)) }

// BOS returns the beginning-of-sequence token, or -1, and whether the model
// wants its input to start with it.
func (m *Model) BOS() (id int32, add bool) {
	id, _ = m.vocab.BOS()
	return id, m.vocab.AddBOS()
}

// EndsGeneration tells whether a token ends a text or a turn.
func (m *Model) EndsGeneration(id int32) bool { return m.vocab.EndsGeneration(id) }

// Tokenize returns the ids of text. With special the model's
// beginning-of-sequence token comes first if the model wants one; with control,
// text that looks like a control token becomes that token, as chat templates
// need it.
func (m *Model) Tokenize(text string, special, control bool) ([]int32, error) {
	if m.handle == 0 {
		return nil, ErrClosed
	}
	var opts []tokenizer.Option
	if special {
		opts = append(opts, tokenizer.AddSpecial)
	}
	if control {
		opts = append(opts, tokenizer.ParseSpecial)
	}
	return m.vocab.Encode(text, opts...)
}

// Piece returns the bytes of a token, which need not be whole characters.
// Control tokens have none.
func (m *Model) Piece(id int32) []byte { return m.vocab.Piece(id) }

// Close frees the model, after its contexts and samplers. Using it afterwards
// is an error, closing it again is none.
func (m *Model) Close() error {
	if m.handle == 0 {
		return nil
	}
	err := yzma.ModelFree(m.handle)
	m.handle, m.vocab = 0, nil
	return errors.Join(err, m.source.close())
}
