package tokenizer

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
)

// attr is what llama.cpp knows of a token beside its text: its type, and the
// corrections that llama.cpp applies by name.
type attr uint8

const (
	attrUnknown attr = 1 << iota
	attrUnused
	attrNormal
	attrControl
	attrUserDefined
	attrByte
	attrStripRight // swallows white space behind it

	// attrSpecial marks the tokens that are found in the text before the
	// vocabulary's own algorithm sees it.
	attrSpecial = attrUnknown | attrControl | attrUserDefined
)

// attrOfType maps tokenizer.ggml.token_type; unknown values get no attribute.
var attrOfType = map[int64]attr{
	1: attrNormal, 2: attrUnknown, 3: attrControl, 4: attrUserDefined, 5: attrUnused, 6: attrByte,
}

// vocab is what both kinds of vocabulary share. Programs that run a model keep
// it, so it is compact: about 25 bytes a token.
type vocab struct {
	texts  string   // of all tokens, one after the other
	ends   []uint32 // where each ends
	byText table
	attrs  []attr
	maxLen int // bytes of the longest text

	special    []int32 // ids of special tokens, longest text first
	endings    []int32 // ids that end a generation
	suppressed []int32 // ids that are never to be generated

	bos, eos       int32 // -1: none
	addBOS, addEOS bool
	addSpacePrefix bool
}

// defaults are the settings that a vocabulary kind or pre-tokenizer implies
// where the metadata is silent.
type defaults struct {
	bos, eos               int32
	addBOS, addSpacePrefix bool
}

func loadVocab(m Metadata, d defaults) (*vocab, error) {
	texts, ok := m.Strings("tokenizer.ggml.tokens")
	if !ok {
		return nil, fmt.Errorf("%w: tokenizer.ggml.tokens is missing or no list of strings", ErrMalformed)
	}
	if len(texts) == 0 || len(texts) > math.MaxInt32/8 {
		return nil, fmt.Errorf("%w: %d tokens", ErrMalformed, len(texts))
	}
	v := &vocab{}
	if err := v.loadTexts(texts); err != nil {
		return nil, err
	}
	if err := v.loadAttrs(m); err != nil {
		return nil, err
	}
	if err := v.loadFlags(m, d); err != nil {
		return nil, err
	}
	v.findEndings(m)
	v.adjustByName(m)
	v.loadSuppressed(m)
	for id, a := range v.attrs {
		if a&attrSpecial != 0 {
			v.special = append(v.special, int32(id))
		}
	}
	slices.SortStableFunc(v.special, func(a, b int32) int { return len(v.text(b)) - len(v.text(a)) })
	return v, nil
}

func (v *vocab) loadTexts(texts []string) error {
	texts = slices.Clone(texts)
	size := 0
	for i, text := range texts {
		if text == "" {
			texts[i] = fmt.Sprintf("[EMPTY_%d]", i) // as llama.cpp names them
		}
		size += len(texts[i])
		v.maxLen = max(v.maxLen, len(texts[i]))
	}
	if uint64(size) > math.MaxUint32 {
		return fmt.Errorf("%w: %d bytes of text in %d tokens", ErrMalformed, size, len(texts))
	}
	var all strings.Builder
	all.Grow(size)
	v.ends = make([]uint32, len(texts))
	for i, text := range texts {
		all.WriteString(text)
		v.ends[i] = uint32(all.Len())
	}
	v.texts = all.String()
	v.byText = newTable(len(texts))
	for i := range int32(len(texts)) {
		text := v.text(i)
		if first, dup := v.id(text); dup {
			return fmt.Errorf("%w: tokens %d and %d are both %q", ErrMalformed, first, i, text)
		}
		v.byText.insert(hashText(text), i)
	}
	return nil
}

// len returns the number of tokens.
func (v *vocab) len() int { return len(v.ends) }

// text returns the text of a token, as the file stores it.
func (v *vocab) text(id int32) string {
	start := uint32(0)
	if id > 0 {
		start = v.ends[id-1]
	}
	return v.texts[start:v.ends[id]]
}

// byteOf returns the byte that a byte token, "<0x0A>", stands for.
func (v *vocab) byteOf(id int32) (c byte, ok bool) {
	if v.attrs[id]&attrByte == 0 {
		return 0, false
	}
	_, err := fmt.Sscanf(v.text(id), "<0x%02X>", &c)
	return c, err == nil
}

// id returns the token with this text.
func (v *vocab) id(text string) (int32, bool) {
	for id := range v.byText.find(hashText(text)) {
		if v.text(id) == text {
			return id, true
		}
	}
	return 0, false
}

var seed = maphash.MakeSeed()

// hashText differs from one process to the next; nothing depends on it.
func hashText(text string) uint64 { return maphash.String(seed, text) }

func (v *vocab) loadSuppressed(m Metadata) {
	ids, _ := m.Ints("tokenizer.ggml.suppress_tokens")
	for _, id := range ids {
		if id >= 0 && id < int64(v.len()) {
			v.suppressed = append(v.suppressed, int32(id))
		}
	}
}

func (v *vocab) loadAttrs(m Metadata) error {
	v.attrs = make([]attr, v.len())
	types, ok := m.Ints("tokenizer.ggml.token_type")
	if !ok {
		for i := range v.attrs {
			v.attrs[i] = attrNormal
		}
		return nil
	}
	if len(types) < v.len() {
		return fmt.Errorf("%w: %d tokens but %d token types", ErrMalformed, v.len(), len(types))
	}
	for i := range v.attrs {
		v.attrs[i] = attrOfType[types[i]]
	}
	return nil
}

func (v *vocab) loadFlags(m Metadata, d defaults) error {
	var err error
	if v.bos, err = v.specialID(m, "tokenizer.ggml.bos_token_id", d.bos); err != nil {
		return err
	}
	if v.eos, err = v.specialID(m, "tokenizer.ggml.eos_token_id", d.eos); err != nil {
		return err
	}
	flag := func(key string, value bool) bool {
		if b, ok := m.Bool(key); ok {
			return b
		}
		return value
	}
	v.addBOS = flag("tokenizer.ggml.add_bos_token", d.addBOS)
	v.addEOS = flag("tokenizer.ggml.add_eos_token", false)
	v.addSpacePrefix = d.addSpacePrefix && flag("tokenizer.ggml.add_space_prefix", true)
	if v.addBOS && v.bos < 0 {
		return fmt.Errorf("%w: a beginning-of-sequence token is to be added, but there is none", ErrMalformed)
	}
	if v.addEOS && v.eos < 0 {
		return fmt.Errorf("%w: an end-of-sequence token is to be added, but there is none", ErrMalformed)
	}
	return nil
}

// specialID reads a token id. The default of a vocabulary kind may lie outside
// a small vocabulary: then there is no such token.
func (v *vocab) specialID(m Metadata, key string, id int32) (int32, error) {
	n, ok := m.Uint(key)
	switch {
	case ok && n >= uint64(v.len()):
		return 0, fmt.Errorf("%w: %s is %d, outside the vocabulary of %d", ErrMalformed, key, n, v.len())
	case ok:
		return int32(n), nil
	case int(id) >= v.len():
		return -1, nil
	}
	return id, nil
}
