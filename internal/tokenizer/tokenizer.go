// Package tokenizer turns text into token ids, and back, from the vocabulary
// that a GGUF file carries in its metadata: byte-level BPE ("gpt2") and
// SentencePiece ("llama"). In: metadata and UTF-8 text. Out: exactly the ids
// that llama.cpp gives for the same file and text.
//
// It is written from llama.cpp's behaviour (src/llama-vocab.cpp and
// src/unicode.cpp, libllama 0.5.0) instead of on a library, because none
// measured gives llama.cpp's ids. github.com/ollama/ollama v0.17.4, package
// tokenizer, with SmolLM2's vocabulary: "a1b2" came out as a, 1, a, 1, b, 2 (text
// before a gap is emitted again, which also makes 1.1 MB of WikiText exhaust
// 20 GB); "aaaaaaa" merged in another order (equal ranks are popped in no
// fixed order); special tokens are always parsed; \s knows no Unicode space;
// and its SentencePiece adds no leading space.
package tokenizer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrUnsupported means that the vocabulary is of a kind, or wants a
// pre-tokenizer, that this package does not implement; the file may be fine.
var ErrUnsupported = errors.New("unsupported tokenizer")

// ErrMalformed means that the metadata contradicts itself.
var ErrMalformed = errors.New("malformed vocabulary")

// Metadata gives access to a GGUF file's key-value pairs; *gguf.File does. The
// second result is false when the key is absent or holds another type.
type Metadata interface {
	String(key string) (string, bool)
	Uint(key string) (uint64, bool)
	Bool(key string) (bool, bool)
	Strings(key string) ([]string, bool)
	Ints(key string) ([]int64, bool)
	Floats(key string) ([]float32, bool)
}

// Option changes how [Tokenizer.Encode] treats special tokens.
type Option uint8

const (
	// AddSpecial puts the beginning-of-sequence token in front and the
	// end-of-sequence token behind, where the metadata asks for them.
	AddSpecial Option = 1 << iota
	// ParseSpecial makes the text of a control token, such as "<|im_start|>",
	// that token. Without it such text is ordinary text.
	ParseSpecial
)

// Tokenizer encodes and decodes text. It is safe for concurrent use.
type Tokenizer struct {
	vocab *vocab
	model encoder
}

// maxText keeps positions within int32, also where each space becomes three bytes.
const maxText = 1 << 29

// encoder is the part that differs between vocabulary kinds.
type encoder interface {
	// encode appends the ids of text, which holds no special token. afterSpecial
	// tells that the text starts the input or follows a special token.
	encode(dst []int32, text string, afterSpecial bool) ([]int32, error)
	// decode appends the bytes of a token that is not special.
	decode(dst []byte, id int32) []byte
}

// New reads the vocabulary. Errors wrap [ErrUnsupported] or [ErrMalformed].
func New(m Metadata) (*Tokenizer, error) {
	kind, ok := m.String("tokenizer.ggml.model")
	if !ok {
		return nil, fmt.Errorf("%w: tokenizer.ggml.model is missing", ErrMalformed)
	}
	switch kind {
	case "llama":
		return newSPM(m)
	case "gpt2":
		return newBPE(m)
	}
	return nil, fmt.Errorf("%w: tokenizer.ggml.model %q (supported: gpt2, llama)", ErrUnsupported, kind)
}

// Vocab returns the number of tokens.
func (t *Tokenizer) Vocab() int { return t.vocab.len() }

// BOS returns the beginning-of-sequence token; false when there is none.
func (t *Tokenizer) BOS() (int32, bool) { return t.vocab.bos, t.vocab.bos >= 0 }

// EOS returns the end-of-sequence token; false when there is none.
func (t *Tokenizer) EOS() (int32, bool) { return t.vocab.eos, t.vocab.eos >= 0 }

// Special returns the tokens that stand for no text of their own: control
// tokens, unknown and unused ones.
func (t *Tokenizer) Special() []int32 {
	var ids []int32
	for id, a := range t.vocab.attrs {
		if a == 0 || a&(attrUnknown|attrControl|attrUnused) != 0 {
			ids = append(ids, int32(id))
		}
	}
	return ids
}

// AddBOS tells whether the model wants its input to start with [Tokenizer.BOS].
func (t *Tokenizer) AddBOS() bool { return t.vocab.addBOS }

// EndsGeneration tells whether a token ends a text or a turn.
func (t *Tokenizer) EndsGeneration(id int32) bool { return slices.Contains(t.vocab.endings, id) }

// Endings returns the tokens that end a generation, in ascending order.
func (t *Tokenizer) Endings() []int32 { return slices.Clone(t.vocab.endings) }

// Suppressed returns the tokens that the metadata wants never to be generated.
func (t *Tokenizer) Suppressed() []int32 { return slices.Clone(t.vocab.suppressed) }

// Piece returns the bytes that a token stands for in generated text, which need
// not be whole characters: none for control and unknown tokens, and outside the
// vocabulary.
func (t *Tokenizer) Piece(id int32) []byte {
	if id < 0 || int(id) >= t.vocab.len() {
		return nil
	}
	switch a := t.vocab.attrs[id]; {
	case a&(attrUnknown|attrControl) != 0:
		return nil
	case a&attrUserDefined != 0:
		return []byte(t.vocab.text(id))
	case a&(attrNormal|attrByte) != 0:
		return t.model.decode(nil, id)
	}
	return nil
}

// Encode returns the ids of text. Bytes that are not UTF-8 become U+FFFD in a
// BPE vocabulary and byte tokens in a SentencePiece one, as in llama.cpp. It
// fails on a SentencePiece vocabulary that lacks the token of a byte, and on more
// than half a gigabyte of text.
func (t *Tokenizer) Encode(text string, opts ...Option) ([]int32, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("text of %d bytes is too long to tokenise at once (at most %d)", len(text), maxText)
	}
	var opt Option
	for _, o := range opts {
		opt |= o
	}
	ids := make([]int32, 0, len(text)/3+2)
	if opt&AddSpecial != 0 && t.vocab.addBOS {
		ids = append(ids, t.vocab.bos)
	}
	afterSpecial := true
	for _, f := range t.vocab.partition(text, opt&ParseSpecial != 0) {
		if f.id >= 0 {
			ids = append(ids, f.id)
			afterSpecial = true
			continue
		}
		var err error
		if ids, err = t.model.encode(ids, f.text, afterSpecial); err != nil {
			return nil, err
		}
		afterSpecial = false
	}
	if opt&AddSpecial != 0 && t.vocab.addEOS {
		ids = append(ids, t.vocab.eos)
	}
	return ids, nil
}

// Decode returns the text of ids, special tokens included. For a BPE vocabulary
// it undoes [Tokenizer.Encode] on valid UTF-8; SentencePiece text loses the one
// leading space that encoding adds.
func (t *Tokenizer) Decode(ids []int32) (string, error) {
	var out []byte
	for i, id := range ids {
		if id < 0 || int(id) >= t.vocab.len() {
			return "", fmt.Errorf("token %d is outside the vocabulary of %d", id, t.vocab.len())
		}
		if t.vocab.attrs[id]&attrSpecial != 0 {
			out = append(out, t.vocab.text(id)...)
			continue
		}
		out = t.model.decode(out, id)
		if i == 0 && t.vocab.addSpacePrefix {
			out = []byte(strings.TrimPrefix(string(out), " "))
		}
	}
	return string(out), nil
}
