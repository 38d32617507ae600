package llama

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unsafe"

	yzma "github.com/hybridgroup/yzma/pkg/llama"

	"besa/internal/tokenizer"
)

// vocabulary is what the tokens of a model mean: [tokenizer.Tokenizer], whose ids
// are llama.cpp's and which takes a fifth of the memory, or llama.cpp's own tables.
type vocabulary interface {
	Vocab() int
	BOS() (id int32, ok bool)
	AddBOS() bool
	EndsGeneration(id int32) bool
	Endings() []int32
	Suppressed() []int32
	Encode(text string, opts ...tokenizer.Option) ([]int32, error)
	Piece(id int32) []byte
}

// llamaVocabulary is llama.cpp's.
type llamaVocabulary struct{ handle yzma.Vocab }

func (v llamaVocabulary) Vocab() int { return int(yzma.VocabNTokens(v.handle)) }

func (v llamaVocabulary) BOS() (int32, bool) {
	id := int32(yzma.VocabBOS(v.handle))
	return id, id >= 0
}

func (v llamaVocabulary) AddBOS() bool { return yzma.VocabGetAddBOS(v.handle) }

func (v llamaVocabulary) EndsGeneration(id int32) bool {
	return yzma.VocabIsEOG(v.handle, yzma.Token(id))
}

func (v llamaVocabulary) Endings() (ids []int32) {
	for id := range int32(v.Vocab()) {
		if v.EndsGeneration(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (v llamaVocabulary) Suppressed() (ids []int32) {
	for _, id := range yzma.VocabGetSuppressTokens(v.handle) {
		ids = append(ids, int32(id))
	}
	return ids
}

func (v llamaVocabulary) Encode(text string, opts ...tokenizer.Option) ([]int32, error) {
	if i := strings.IndexByte(text, 0); i >= 0 {
		return nil, fmt.Errorf("byte %d of the text is zero; llama.cpp takes none", i)
	}
	if len(text) >= math.MaxInt32 {
		return nil, fmt.Errorf("text of %d bytes is too long for llama.cpp", len(text))
	}
	tokens := yzma.Tokenize(v.handle, text, slices.Contains(opts, tokenizer.AddSpecial), slices.Contains(opts, tokenizer.ParseSpecial))
	ids := make([]int32, len(tokens))
	for i, t := range tokens {
		ids[i] = int32(t)
	}
	return ids, nil
}

func (v llamaVocabulary) Piece(id int32) []byte {
	buf := make([]byte, 64)
	n := yzma.TokenToPiece(v.handle, yzma.Token(id), buf, 0, false)
	if n < 0 { // that many bytes are needed
		buf = make([]byte, -n)
		n = yzma.TokenToPiece(v.handle, yzma.Token(id), buf, 0, false)
	}
	return buf[:max(n, 0)]
}

// override is struct llama_model_kv_override: llama.cpp takes the value for a
// key's, whatever the file says.
type override struct {
	kind  int32
	key   [128]byte
	_     [4]byte
	value [128]byte // a string; or the first eight bytes are an integer
}

// Kinds of override.
const (
	overrideInt    = 0
	overrideString = 3
)

// withoutVocabulary are the overrides that have llama.cpp load a model without
// its vocabulary, with so many nameless tokens instead; nil where the names do
// not fit.
func withoutVocabulary(architecture string, tokens int) []override {
	kind := override{kind: overrideString}
	copy(kind.key[:], "tokenizer.ggml.model")
	copy(kind.value[:], "none")
	count := override{kind: overrideInt}
	if n := copy(count.key[:], architecture+".vocab_size"); n == len(count.key) {
		return nil
	}
	*(*int64)(unsafe.Pointer(&count.value)) = int64(tokens)
	return []override{kind, count, {}} // ends with an empty key
}
