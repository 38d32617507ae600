package tokenizer

import (
	"fmt"
	"math"
	"slices"
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

// vocab is what both kinds of vocabulary share.
type vocab struct {
	texts  []string
	ids    map[string]int32
	attrs  []attr
	maxLen int // bytes of the longest text

	special []int32 // ids of special tokens, longest text first

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
	if len(texts) == 0 || len(texts) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d tokens", ErrMalformed, len(texts))
	}
	v := &vocab{texts: slices.Clone(texts), ids: make(map[string]int32, len(texts))}
	for i, text := range v.texts {
		if text == "" {
			text = fmt.Sprintf("[EMPTY_%d]", i) // as llama.cpp names them
			v.texts[i] = text
		}
		if first, dup := v.ids[text]; dup {
			return nil, fmt.Errorf("%w: tokens %d and %d are both %q", ErrMalformed, first, i, text)
		}
		v.ids[text] = int32(i)
		v.maxLen = max(v.maxLen, len(text))
	}
	if err := v.loadAttrs(m); err != nil {
		return nil, err
	}
	if err := v.loadFlags(m, d); err != nil {
		return nil, err
	}
	v.adjustByName(m)
	for id, a := range v.attrs {
		if a&attrSpecial != 0 {
			v.special = append(v.special, int32(id))
		}
	}
	slices.SortStableFunc(v.special, func(a, b int32) int { return len(v.texts[b]) - len(v.texts[a]) })
	return v, nil
}

func (v *vocab) loadAttrs(m Metadata) error {
	v.attrs = make([]attr, len(v.texts))
	types, ok := m.Ints("tokenizer.ggml.token_type")
	if !ok {
		for i := range v.attrs {
			v.attrs[i] = attrNormal
		}
		return nil
	}
	if len(types) < len(v.texts) {
		return fmt.Errorf("%w: %d tokens but %d token types", ErrMalformed, len(v.texts), len(types))
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
	case ok && n >= uint64(len(v.texts)):
		return 0, fmt.Errorf("%w: %s is %d, outside the vocabulary of %d", ErrMalformed, key, n, len(v.texts))
	case ok:
		return int32(n), nil
	case int(id) >= len(v.texts):
		return -1, nil
	}
	return id, nil
}
