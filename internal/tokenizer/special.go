package tokenizer

import (
	"slices"
	"strings"
)

// llama.cpp corrects token types that converters got wrong, going by the text.
// These tokens end a generation and are control tokens whatever the file says.
var endNames = []string{
	"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
	"<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
	"<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
	"<｜end▁of▁sentence｜>", "[e~[",
}

// So are these fill-in-the-middle tokens, unless a key names the id. Some of them
// end a generation too.
var fimNames = []struct {
	keys  []string
	names []string
	ends  bool
}{
	{[]string{"fim_pre", "prefix"}, []string{"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>"}, false},
	{[]string{"fim_suf", "suffix"}, []string{"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>"}, false},
	{[]string{"fim_mid", "middle"}, []string{"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>"}, false},
	{[]string{"fim_pad"}, []string{"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}, true},
	{[]string{"fim_rep"}, []string{"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}, true},
	{[]string{"fim_sep"}, []string{"<|file_sep|>"}, true},
}

// adjustByName applies llama.cpp's corrections.
func (v *vocab) adjustByName(m Metadata) {
	for _, fim := range fimNames {
		if len(v.named(m, fim.keys...)) == 0 {
			v.add(attrControl, fim.names...)
		}
	}
	v.add(attrControl, endNames...)
	for _, name := range []string{"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"} {
		v.set(name, attrUserDefined)
	}
	if v.endIsNoEnding() {
		v.set("<|end|>", attrUserDefined)
	}
	if v.has("<|tool_response>") {
		v.set("</s>", attrNormal)
	}
	name, _ := m.String("general.name")
	if name = strings.ToLower(name); strings.Contains(name, "phi-3") || strings.Contains(name, "phi3") {
		v.stripRight()
	}
}

// endIsNoEnding tells whether "<|end|>" ends a message only, as it does where
// other tokens end the text.
func (v *vocab) endIsNoEnding() bool {
	return v.has("<|end|>") && (v.has("<|call|>") || v.has("<|calls|>")) && (v.has("<|return|>") || v.has("<|flush|>"))
}

// findEndings lists the tokens that end a generation, by llama.cpp's rules. Where
// it takes one of several fill-in-the-middle tokens, whichever its hash table has
// first, all end one here.
func (v *vocab) findEndings(m Metadata) {
	var ids []int32
	byName := func(names ...string) {
		for _, name := range names {
			if id, ok := v.id(name); ok {
				ids = append(ids, id)
			}
		}
	}
	for _, fim := range fimNames {
		if !fim.ends {
			continue
		}
		named := v.named(m, fim.keys...)
		if ids = append(ids, named...); len(named) == 0 {
			byName(fim.names...)
		}
	}
	byName(endNames...)
	if v.eos >= 0 {
		ids = append(ids, v.eos)
	}
	ids = append(ids, v.named(m, "eot", "eom")...)
	slices.Sort(ids)
	v.endings = slices.DeleteFunc(slices.Compact(ids), func(id int32) bool {
		return v.text(id) == "<|end|>" && v.endIsNoEnding() || v.text(id) == "</s>" && v.has("<|tool_response>")
	})
}

// named returns the tokens that keys of the metadata name.
func (v *vocab) named(m Metadata, keys ...string) (ids []int32) {
	for _, key := range keys {
		if id, ok := m.Uint("tokenizer.ggml." + key + "_token_id"); ok && id < uint64(v.len()) {
			ids = append(ids, int32(id))
		}
	}
	return ids
}

// stripRight makes the control tokens of Phi-3 swallow the space behind them.
func (v *vocab) stripRight() {
	for i, a := range v.attrs {
		if a&attrSpecial != 0 {
			v.attrs[i] |= attrStripRight
		}
	}
	v.add(attrStripRight, "</s>")
	for _, name := range []string{"<unk>", "<s>", "<|endoftext|>"} {
		if id, ok := v.id(name); ok {
			v.attrs[id] &^= attrStripRight
		}
	}
}

func (v *vocab) has(name string) bool {
	_, ok := v.id(name)
	return ok
}

func (v *vocab) set(name string, a attr) {
	if id, ok := v.id(name); ok {
		v.attrs[id] = a
	}
}

func (v *vocab) add(a attr, names ...string) {
	for _, name := range names {
		if id, ok := v.id(name); ok {
			v.attrs[id] |= a
		}
	}
}

// fragment is a piece of the input: a special token, or (id -1) text.
type fragment struct {
	text string
	id   int32
}

// partition cuts the special tokens out of text, longer ones first. Without
// parse only user-defined tokens are found: those belong to the text proper.
func (v *vocab) partition(text string, parse bool) []fragment {
	if text == "" {
		return nil
	}
	fragments := []fragment{{text, -1}}
	for _, id := range v.special {
		if !parse && v.attrs[id]&(attrControl|attrUnknown) != 0 {
			continue
		}
		if !strings.Contains(text, v.text(id)) {
			continue
		}
		var next []fragment
		for _, f := range fragments {
			if f.id >= 0 {
				next = append(next, f)
			} else {
				next = v.cut(next, f.text, id)
			}
		}
		fragments = next
	}
	return fragments
}

// cut appends the fragments of text around every occurrence of a token.
func (v *vocab) cut(dst []fragment, text string, id int32) []fragment {
	for text != "" {
		left, right, found := strings.Cut(text, v.text(id))
		if left != "" {
			dst = append(dst, fragment{left, -1})
		}
		if !found {
			break
		}
		dst = append(dst, fragment{"", id})
		if v.attrs[id]&attrStripRight != 0 {
			right = strings.TrimLeft(right, " \t\n\v\f\r")
		}
		text = right
	}
	return dst
}
