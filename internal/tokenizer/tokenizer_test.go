package tokenizer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"besa/internal/assets"
)

// TestClasses pins the character classes to those of libllama 0.5.0, whose
// table (src/unicode-data.cpp) has this hash when written one byte a code point
// in the bits of class.
func TestClasses(t *testing.T) {
	const want = "b943b6b965f7b0c8358a2e777f8886bd9329299e3dae9f989b175ca353f7fc53"
	h := sha256.New()
	table := classes()
	if len(table.pages) > 256 {
		t.Errorf("%d pages, a byte numbers them", len(table.pages))
	}
	for cp := range rune(unicode.MaxRune + 1) {
		h.Write([]byte{byte(table.of(cp))})
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
		t.Errorf("the classes hash to %s: Go's Unicode version no longer matches llama.cpp's", got)
	}
}

// TestSplit shows the words of each kind of pre-tokenizer.
func TestSplit(t *testing.T) {
	for _, c := range []struct{ pre, text, want string }{
		{"gpt-2", "It's  a1b22 x_y\n\n z", "It|'s| | a|1|b|22| x|_|y|\n\n| z"},
		{"gpt-2", "WE'LL   ", "WE|'|LL|   "},
		{"smollm", "a1b22 33", "a|1|b|2|2| |3|3"},
		{"llama-bpe", "WE'LL 12345 (x)\r\n\r\ny \t z", "WE|'LL| |123|45| (|x|)\r\n\r\n|y| \t| z"},
		{"qwen2", "a12 $x", "a|1|2| $|x"},
		{"qwen35", "re\u0301sume\u0301!", "re\u0301sume\u0301|!"},
		{"qwen2", "re\u0301s", "re|\u0301s"},
		{"tekken", "CamelCase HTTPServer éÉ 12", "Camel|Case| HTTPServer| éÉ| |1|2"},
		{"gpt-4o", "It's HTTP'S 1234 a/\n", "It's| HTTP'S| |123|4| a|/\n"},
		{"default", "a+b: 1234", "a|+|b|:| |123|4"},
		{"falcon", "`x` 1234", "`|x|`| |123|4"},
		{"deepseek-llm", "中文 abc, 123  ", "中文| abc|,| |123|  "},
		{"deepseek-coder", "a b. 12", "a| b|.| |1|2"},
		{"deepseek-v3", "1234中文 .abc x", "123|4|中文| .|abc| x"},
	} {
		p, err := pretokenizerOf(c.pre)
		if err != nil {
			t.Fatal(err)
		}
		cps := []rune(c.text)
		var words []string
		start := 0
		for _, end := range split(p.stages, newRunes(cps)) {
			words = append(words, string(cps[start:end]))
			start = end
		}
		if got := strings.Join(words, "|"); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.pre, c.text, got, c.want)
		}
	}
}

func TestMalformed(t *testing.T) {
	bpe, spm := bpeVocab(t), spmVocab(t)
	n := len(bpe["tokenizer.ggml.tokens"].([]string))
	scores := slices.Clone(spm["tokenizer.ggml.scores"].([]float32))
	scores[5] = float32(math.NaN())
	for name, c := range map[string]struct {
		m    metadata
		want error
		text string
	}{
		"no model":          {bpe.with("tokenizer.ggml.model", nil), ErrMalformed, "tokenizer.ggml.model is missing"},
		"model a number":    {bpe.with("tokenizer.ggml.model", uint32(3)), ErrMalformed, "tokenizer.ggml.model is missing"},
		"another model":     {bpe.with("tokenizer.ggml.model", "rwkv"), ErrUnsupported, `"rwkv" (supported: gpt2, llama)`},
		"another pre":       {bpe.with("tokenizer.ggml.pre", "kimi-k2"), ErrUnsupported, `pre-tokenizer "kimi-k2" (supported: a.x-4.0,`},
		"no tokens":         {bpe.with("tokenizer.ggml.tokens", nil), ErrMalformed, "tokens is missing"},
		"tokens as numbers": {bpe.with("tokenizer.ggml.tokens", []uint32{1, 2}), ErrMalformed, "tokens is missing"},
		"zero tokens":       {bpe.with("tokenizer.ggml.tokens", []string{}), ErrMalformed, "0 tokens"},
		"twins":             {bpe.with("tokenizer.ggml.tokens", []string{"a", "b", "a"}, "tokenizer.ggml.token_type", nil), ErrMalformed, `tokens 0 and 2 are both "a"`},
		"short types":       {bpe.with("tokenizer.ggml.token_type", []int32{1, 1}), ErrMalformed, "2 token types"},
		"no merges":         {bpe.with("tokenizer.ggml.merges", nil), ErrMalformed, "merges is missing"},
		"one-sided merge":   {bpe.with("tokenizer.ggml.merges", []string{"a b", "ab"}), ErrMalformed, `merge 1 is "ab"`},
		"empty merge":       {bpe.with("tokenizer.ggml.merges", []string{""}), ErrMalformed, `merge 0 is ""`},
		"bos out of range":  {bpe.with("tokenizer.ggml.bos_token_id", uint32(n)), ErrMalformed, "bos_token_id"},
		"eos out of range":  {bpe.with("tokenizer.ggml.eos_token_id", uint64(1)<<63), ErrMalformed, "eos_token_id"},
		"no bos to add":     {bpe.with("tokenizer.ggml.tokens", []string{"a"}, "tokenizer.ggml.token_type", nil, "tokenizer.ggml.bos_token_id", nil, "tokenizer.ggml.eos_token_id", nil, "tokenizer.ggml.add_bos_token", true), ErrMalformed, "beginning-of-sequence"},
		"no eos to add":     {bpe.with("tokenizer.ggml.tokens", []string{"a"}, "tokenizer.ggml.token_type", nil, "tokenizer.ggml.bos_token_id", nil, "tokenizer.ggml.eos_token_id", nil, "tokenizer.ggml.add_eos_token", true), ErrMalformed, "end-of-sequence"},
		"short scores":      {spm.with("tokenizer.ggml.scores", []float32{1}), ErrMalformed, "1 scores"},
		"score NaN":         {spm.with("tokenizer.ggml.scores", scores), ErrMalformed, "score of token 5"},
	} {
		_, err := open(t, c.m.write(t))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %q", name, err, c.want, c.text)
		}
	}
}

// TestMissingByte: a SentencePiece vocabulary need not spell every byte.
func TestMissingByte(t *testing.T) {
	tok := metadata{"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": []string{"<unk>", "<s>", "</s>", "▁", "a", "<0x62>"}}.tokenizer(t)
	if ids, err := tok.Encode("ab", AddSpecial); err != nil || !slices.Equal(ids, []int32{1, 3, 4, 5}) {
		t.Errorf("ab: %v, %v", ids, err)
	}
	if _, err := tok.Encode("abc"); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "0x63") {
		t.Errorf("abc: %v", err)
	}
}

// TestIntegerScores: some files store scores as integers.
func TestIntegerScores(t *testing.T) {
	tok := metadata{
		"tokenizer.ggml.model":            "llama",
		"tokenizer.ggml.tokens":           []string{"<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc"},
		"tokenizer.ggml.scores":           []int32{0, 0, 0, -9, -9, -9, -2, -1},
		"tokenizer.ggml.add_space_prefix": false,
	}.tokenizer(t)
	if ids, err := tok.Encode("abc"); err != nil || !slices.Equal(ids, []int32{3, 7}) {
		t.Errorf("%v, %v", ids, err)
	}
}

// TestLongLines gives every algorithm lines without a border, where anything
// quadratic in the length takes minutes.
func TestLongLines(t *testing.T) {
	const size, limit = 1 << 17, 45 * time.Second
	base := bpeVocab(t)
	toks := map[string]*Tokenizer{"llama": spmVocab(t).tokenizer(t)}
	for _, name := range []string{"default", "smollm", "llama-bpe", "tekken", "gpt-4o", "deepseek-llm"} {
		toks[name] = base.with("tokenizer.ggml.pre", name).tokenizer(t)
	}
	start := time.Now()
	for _, unit := range []string{"a", "A", "aB", "1", "=", " ", "\n ", "中", "é1", "<|im_start|>"} {
		line := strings.Repeat(unit, size/len(unit)) + "中x"
		for name, tok := range toks {
			if _, err := tok.Encode(line, ParseSpecial); err != nil {
				t.Fatalf("%s, %q: %v", name, unit, err)
			}
			if spent := time.Since(start); spent > limit {
				t.Fatalf("%s, %q: %v so far", name, unit, spent)
			}
		}
	}
}

func TestDecode(t *testing.T) {
	for name, m := range map[string]metadata{"gpt2": bpeVocab(t).with("tokenizer.ggml.merges", []string{}), "llama": spmVocab(t)} {
		tok := m.tokenizer(t)
		for _, text := range texts(t) {
			if !utf8.ValidString(text) {
				continue
			}
			if name == "llama" && (strings.Contains(text, "▁") || strings.Contains(text, "[INST]")) {
				continue // the first looks like a space, behind the second one is added
			}
			ids, err := tok.Encode(text)
			if err != nil {
				t.Fatal(err)
			}
			back, err := tok.Decode(ids)
			if err != nil || back != text {
				t.Errorf("%s: %q came back as %q, %v", name, text, back, err)
			}
		}
		for _, id := range []int32{-1, int32(tok.Vocab()), math.MaxInt32} {
			if _, err := tok.Decode([]int32{id}); err == nil {
				t.Errorf("%s: token %d decodes", name, id)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := bpeVocab(t).tokenizer(t)
	text := corpus(t)
	want := mustEncode(t, tok)(text, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got, err := tok.Encode(text); err != nil || !slices.Equal(got, want) {
				t.Errorf("concurrent encoding differs: %v", err)
			}
		})
	}
	wg.Wait()
}

func FuzzEncode(f *testing.F) {
	bpe, spm := bpeVocab(f).tokenizer(f), spmVocab(f).tokenizer(f)
	for _, text := range texts(f) {
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, parse bool) {
		var opts []Option
		if parse {
			opts = append(opts, ParseSpecial)
		}
		for _, tok := range []*Tokenizer{bpe, spm} {
			ids, err := tok.Encode(text, opts...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tok.Decode(ids); err != nil {
				t.Fatal(err)
			}
			if len(ids) > len(text)*3+3 {
				t.Fatalf("%d ids for %d bytes", len(ids), len(text))
			}
		}
	})
}

// fields is metadata made of fuzzed bytes.
type fields struct {
	model, pre            string
	tokens, merges        []string
	types                 []int64
	scores                []float32
	bos                   uint64
	addBOS, addEOS, noIDs bool
}

func (f fields) String(key string) (string, bool) {
	return map[string]string{"tokenizer.ggml.model": f.model, "tokenizer.ggml.pre": f.pre}[key], true
}
func (f fields) Uint(string) (uint64, bool) { return f.bos, !f.noIDs }
func (f fields) Bool(key string) (bool, bool) {
	v, ok := map[string]bool{"tokenizer.ggml.add_bos_token": f.addBOS, "tokenizer.ggml.add_eos_token": f.addEOS}[key]
	return v, ok
}
func (f fields) Strings(key string) ([]string, bool) {
	v, ok := map[string][]string{"tokenizer.ggml.tokens": f.tokens, "tokenizer.ggml.merges": f.merges}[key]
	return v, ok
}
func (f fields) Ints(string) ([]int64, bool)     { return f.types, f.types != nil }
func (f fields) Floats(string) ([]float32, bool) { return f.scores, f.scores != nil }

// FuzzNew: no vocabulary, however odd, makes anything panic.
func FuzzNew(f *testing.F) {
	f.Add(true, "smollm", "a|b|ab|<|im_end|>|é", "a b|ab c", []byte{1, 1, 1, 3, 4}, uint64(1), byte(3), "ab<|im_end|> é")
	f.Add(false, "", "<unk>|<s>|</s>|a|ab|▁|<0x62>", "", []byte{2, 3, 3, 1, 1, 1, 6}, uint64(1), byte(0), "abab ▁")
	f.Add(true, "tekken", "a", " |  | a| b c", []byte{}, uint64(0), byte(4), "\xff\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, bpe bool, pre, tokens, merges string, types []byte, bos uint64, flags byte, text string) {
		m := fields{model: "llama", pre: pre, tokens: strings.Split(tokens, "|"), merges: strings.Split(merges, "|"), bos: bos,
			addBOS: flags&1 != 0, addEOS: flags&2 != 0, noIDs: flags&4 != 0}
		if bpe {
			m.model = "gpt2"
		}
		for _, b := range types {
			m.types, m.scores = append(m.types, int64(b)), append(m.scores, float32(b))
		}
		tok, err := New(m)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		ids, err := tok.Encode(text, AddSpecial, ParseSpecial)
		if err != nil {
			return
		}
		if _, err := tok.Decode(ids); err != nil {
			t.Fatalf("%v does not decode: %v", ids, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	tok, err := open(b, assets.Path(b, assets.SmolLM2))
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat(corpus(b), 100)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := tok.Encode(text); err != nil {
			b.Fatal(err)
		}
	}
}
