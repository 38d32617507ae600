package tokenizer

import (
	"fmt"
	"slices"
	"strings"
)

// pretokenizer is what tokenizer.ggml.pre names: how text is split, and the
// settings it implies.
type pretokenizer struct {
	stages       []stage
	ignoreMerges bool // a word that is a token needs no merges
	addBOS       bool
	noBOS        bool // no default beginning-of-sequence token
}

// pretokenizerOf finds a pre-tokenizer by its name in the metadata.
func pretokenizerOf(name string) (pretokenizer, error) {
	if name == "" {
		name = "default" // as llama.cpp does, with a warning
	}
	var known []string
	for _, p := range pretokenizers {
		if slices.Contains(p.names, name) {
			return p.build(), nil
		}
		known = append(known, p.names...)
	}
	slices.Sort(known)
	return pretokenizer{}, fmt.Errorf("%w: pre-tokenizer %q (supported: %s)", ErrUnsupported, name, strings.Join(known, ", "))
}

// pretokenizers lists the pre-tokenizers by the regular expressions of
// llama.cpp that they share. All of them are compared with libllama in a test.
var pretokenizers = []struct {
	names []string
	build func() pretokenizer
}{
	{[]string{"default"}, func() pretokenizer {
		return pretokenizer{stages: []stage{
			// [\p{P}\$\+<=>\^~\|]+
			pattern{{plus(oneOf(isPunct, chars("$+<=>^~|")))}},
			gpt2(),
			pattern{{plus(isNumber)}},
			threeDigits(),
		}}
	}},
	{[]string{"falcon"}, func() pretokenizer {
		return pretokenizer{stages: []stage{
			// [\p{P}\$\+<=>\^~\|`]+
			pattern{{plus(oneOf(isPunct, chars("$+<=>^~|`")))}},
			gpt2(),
			threeDigits(),
		}}
	}},
	{[]string{"gpt-2", "phi-2", "mpt", "olmo", "exaone4", "trillion", "gigachat", "a.x-4.0", "mellum", "granite-docling"}, func() pretokenizer {
		return pretokenizer{stages: []stage{gpt2()}}
	}},
	{[]string{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"}, func() pretokenizer {
		// \p{N}, then GPT-2's
		return pretokenizer{stages: []stage{pattern{{one(isNumber)}}, gpt2()}}
	}},
	{[]string{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"}, func() pretokenizer {
		return pretokenizer{stages: []stage{gpt4(isLetter, 3)}, ignoreMerges: true, addBOS: true}
	}},
	{[]string{"dbrx", "smaug-bpe"}, func() pretokenizer {
		return pretokenizer{stages: []stage{gpt4(isLetter, 3)}}
	}},
	{[]string{"glm4", "chatglm-bpe"}, func() pretokenizer {
		return pretokenizer{stages: []stage{gpt4(isLetter, 3)}, noBOS: true}
	}},
	{[]string{"qwen2", "deepseek-r1-qwen", "megrez", "kormo", "stablelm2", "hunyuan", "solar-open", "grok-2"}, func() pretokenizer {
		return pretokenizer{stages: []stage{gpt4(isLetter, 1)}}
	}},
	{[]string{"qwen35"}, func() pretokenizer {
		return pretokenizer{stages: []stage{gpt4(oneOf(isLetter, isMark), 1)}}
	}},
	{[]string{"tekken"}, func() pretokenizer {
		return pretokenizer{stages: []stage{cased(1, false)}, ignoreMerges: true, addBOS: true}
	}},
	{[]string{"gpt-4o", "llama4", "kanana2", "minimax-m2"}, func() pretokenizer {
		return pretokenizer{stages: []stage{cased(3, true)}}
	}},
	{[]string{"deepseek-llm"}, func() pretokenizer {
		return pretokenizer{stages: []stage{
			pattern{{one(isNewline)}},
			pattern{{optional(isSpace), plus(chars(deepseekLetters))}},
			pattern{{optional(isSpace), plus(chars(deepseekPunct))}},
			trailingSpace{},
			pattern{{plus(chars(deepseekCJK))}},
			pattern{{plus(isNumber)}},
		}}
	}},
	{[]string{"deepseek-coder"}, func() pretokenizer {
		return pretokenizer{stages: []stage{
			pattern{{one(isNewline)}},
			pattern{{optional(isSpace), plus(isLetter)}},
			pattern{{optional(isSpace), plus(isPunct)}},
			pattern{{plus(chars(deepseekCJK))}},
			pattern{{one(isNumber)}},
		}}
	}},
	{[]string{"deepseek-v3", "hunyuan-dense", "joyai-llm"}, func() pretokenizer {
		return pretokenizer{stages: []stage{
			pattern{{upTo(isNumber, 3)}},
			pattern{{plus(chars(deepseekCJK3))}},
			deepseekV3(),
		}}
	}},
}

// spaces ends most patterns: \s+(?!\S)|\s+, a run of white space without its
// last character when a word follows.
func spaces() pattern {
	return pattern{{plus(isSpace), beforeSpace()}, {plus(isSpace)}}
}

// contractions is 's|'t|'re|'ve|'m|'ll|'d, in either case when fold is set.
func contractions(fold bool) (p pattern) {
	for _, suffix := range []string{"s", "t", "re", "ve", "m", "ll", "d"} {
		r := literal("'")
		for _, cp := range suffix {
			list := string(cp)
			if fold {
				list += strings.ToUpper(list)
			}
			r = append(r, one(chars(list)))
		}
		p = append(p, r)
	}
	return p
}

// gpt2 is 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func gpt2() stage {
	return slices.Concat(contractions(false), pattern{
		{optional(isBlank), plus(isLetter)},
		{optional(isBlank), plus(isNumber)},
		{optional(isBlank), plus(not(oneOf(isSpace, isLetter, isNumber)))},
	}, spaces())
}

// gpt4 is (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?W+|\p{N}{1,digits}|
// ?[^\s\p{N}W]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ with W the letters of a word.
func gpt4(word set, digits int) stage {
	return slices.Concat(contractions(true), pattern{
		{optional(not(oneOf(isNewline, isLetter, isNumber))), plus(word)},
		{upTo(isNumber, digits)},
		{optional(isBlank), plus(not(oneOf(isSpace, word, isNumber))), star(isNewline)},
		{star(isSpace), plus(isNewline)},
	}, spaces())
}

// cased splits words before a capital, as llama.cpp approximates it: "upper"
// and "lower" are the letters but a-z and the letters but A-Z.
// [^\r\n\p{L}\p{N}]?U*L+C?|[^\r\n\p{L}\p{N}]?U+L*C?|\p{N}{1,digits}|
// ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+, C the contractions.
func cased(digits int, withContractions bool) stage {
	upper := func(cp rune, c class) bool { return c&letter != 0 && (cp < 'a' || cp > 'z') }
	lower := func(cp rune, c class) bool { return c&letter != 0 && (cp < 'A' || cp > 'Z') }
	lead := optional(not(oneOf(isNewline, isLetter, isNumber)))
	var suffix pattern
	if withContractions {
		suffix = contractions(true)
	}
	return slices.Concat(pattern{
		{lead, star(upper), plus(lower), maybe(suffix)},
		{lead, plus(upper), star(lower), maybe(suffix)},
		{upTo(isNumber, digits)},
		{optional(isBlank), plus(not(oneOf(isSpace, isLetter, isNumber))), star(chars("\r\n/"))},
		{star(isSpace), plus(isNewline)},
	}, spaces())
}

// deepseekV3 is [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|
// [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func deepseekV3() stage {
	return slices.Concat(pattern{
		{one(chars("!-/:-@[-`{-~")), plus(chars("A-Za-z"))},
		{optional(not(oneOf(isNewline, isLetter, isPunct, isSymbol))), plus(oneOf(isLetter, isMark))},
		{optional(isBlank), plus(oneOf(isPunct, isSymbol)), star(isNewline)},
		{star(isSpace), plus(isNewline)},
	}, spaces())
}

// threeDigits is [0-9][0-9][0-9].
func threeDigits() stage {
	digit := chars("0-9")
	return pattern{{one(digit), one(digit), one(digit)}}
}

// Characters that DeepSeek's tokenizers list one by one.
const (
	deepseekPunct = "!-/:-~！-／：-～‘-‟、-。" // and U+3000, which is a white space: see set
	deepseekCJK   = "一-龥ࠀ-一가-\ud7ff"
	deepseekCJK3  = "一-龥\u3040-ゟ゠-ヿ"

	deepseekLetters = "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7d" +
		"ᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯ" +
		"ꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
