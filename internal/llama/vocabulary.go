package llama

import (
	"fmt"
	"math"
	"strings"
	"unsafe"

	yzma "github.com/hybridgroup/yzma/pkg/llama"

	"besa/internal/tokenizer"
)

// vocabulary is what the tokens of a model mean: llama.cpp's tables, or
// besa's, which take a fifth of their memory.
type vocabulary interface {
	size() int
	bos() (id int32, add bool)
	endsGeneration(id int32) bool
	endings() []int32
	suppressed() []int32
	tokenize(text string, special, control bool) ([]int32, error)
	piece(id int32) []byte
}

// ownVocabulary is besa's tokenizer, whose ids are llama.cpp's.
type ownVocabulary struct{ *tokenizer.Tokenizer }

func (v ownVocabulary) size() int                    { return v.Vocab() }
func (v ownVocabulary) endsGeneration(id int32) bool { return v.EndsGeneration(id) }
func (v ownVocabulary) endings() []int32             { return v.Endings() }
func (v ownVocabulary) suppressed() []int32          { return v.Suppressed() }
func (v ownVocabulary) piece(id int32) []byte        { return v.Piece(id) }

func (v ownVocabulary) bos() (int32, bool) {
	id, _ := v.BOS()
	return id, v.AddBOS()
}

func (v ownVocabulary) tokenize(text string, special, control bool) ([]int32, error) {
	var opt tokenizer.Option
	if special {
		opt |= tokenizer.AddSpecial
	}
	if control {
		opt |= tokenizer.ParseSpecial
	}
	return v.Encode(text, opt)
}

// llamaVocabulary is llama.cpp's.
type llamaVocabulary struct{ handle yzma.Vocab }

func (v llamaVocabulary) size() int { return int(yzma.VocabNTokens(v.handle)) }

func (v llamaVocabulary) bos() (int32, bool) {
	return int32(yzma.VocabBOS(v.handle)), yzma.VocabGetAddBOS(v.handle)
}

func (v llamaVocabulary) endsGeneration(id int32) bool {
	return yzma.VocabIsEOG(v.handle, yzma.Token(id))
}

func (v llamaVocabulary) endings() (ids []int32) {
	for id := range int32(v.size()) {
		if v.endsGeneration(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (v llamaVocabulary) suppressed() (ids []int32) {
	for _, id := range yzma.VocabGetSuppressTokens(v.handle) {
		ids = append(ids, int32(id))
	}
	return ids
}

func (v llamaVocabulary) tokenize(text string, special, control bool) ([]int32, error) {
	if i := strings.IndexByte(text, 0); i >= 0 {
		return nil, fmt.Errorf("byte %d of the text is zero; llama.cpp takes none", i)
	}
	if len(text) >= math.MaxInt32 {
		return nil, fmt.Errorf("text of %d bytes is too long for llama.cpp", len(text))
	}
	tokens := yzma.Tokenize(v.handle, text, special, control)
	ids := make([]int32, len(tokens))
	for i, t := range tokens {
		ids[i] = int32(t)
	}
	return ids, nil
}

func (v llamaVocabulary) piece(id int32) []byte {
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
