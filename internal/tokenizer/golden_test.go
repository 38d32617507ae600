package tokenizer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hybridgroup/yzma/pkg/llama"

	"besa/internal/assets"
)

// The goldens are the ids that llama.cpp itself gives. TestGolden needs only
// them; TestAgainstLlamaCpp asks libllama again and, with -update, rewrites them.
var update = flag.Bool("update", false, "rewrite testdata/golden.json with libllama's ids")

const goldenFile = "testdata/golden.json"

// golden is the outcome of encoding all texts with one vocabulary.
type golden struct {
	Tokens int    `json:"tokens"`
	SHA256 string `json:"sha256"` // of the ids as little-endian int32
}

func digest(ids []int32) golden {
	var b []byte
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return golden{len(ids), fmt.Sprintf("%x", sha256.Sum256(b))}
}

// texts are what every vocabulary is tried on: the corpus, and what a text
// editor would not leave alone.
func texts(t testing.TB) []string {
	list := []string{
		corpus(t), "", " ", "  ", "\n", "a", " a", "a ", "\r\n", "one\r\ntwo\r\n\r\n three\r", "\ufeffBOM", "x\ufeffy",
		"tab\t\ttab \t mixed\t \n\t", "trailing   ", "   leading", "\n\n\n", " \n \n ", "\v\f\x1c\x1d\x1e\x1f\u0085\u00a0\u2028",
		"\x01\x02\x03\x07\x08\x0e\x1b[0m\x7f", "\u0378\u0379 unassigned \ue000 private \U000f0000 \U0010fffd \ufffe",
		"<|im_start|>user\nHello<|im_end|>\n<|endoftext|><|endoftext|>  <|im_start|>x<repo_name> a<repo_name> façade façade&fac\u0327ade",
		"<unk><s></s> </s>[INST] [INST]  x<s> <s>", "  <|im_end|>  ",
		"a\xffb", "\xc3", "\xe2\x82", "x\xed\xa0\x80y", "\xc0\x80", "\xf0\x9f\x98", "\x80\x80 \xbf", "\xe4\xb8 \xad", "\xf4\x90\x80",
		strings.Repeat("a", 300), strings.Repeat(" ", 300) + "x", strings.Repeat("ab", 100) + strings.Repeat("é", 100),
		strings.Repeat("\n ", 50), strings.Repeat("1", 100), strings.Repeat("=", 200), strings.Repeat("AbC", 40),
	}
	list = append(list, strings.Split(corpus(t), "\n")...)
	// Random texts over characters of every class, with a fixed seed.
	pool := []rune("aZéßµªʰΩдЖ中ひｱ가אب\u0301\u093f\u200d0٣½²Ⅷ.,!'’\"#$%-_/～。、$+<=>^`|~€😀🏽 \u00a0\u3000\t\n\r\u2028sStTmMlLdDvVeErR")
	r := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		text := make([]rune, 1+r.IntN(24))
		for i := range text {
			text[i] = pool[r.IntN(len(pool))]
			if i > 0 && r.IntN(3) == 0 {
				text[i] = text[i-1]
			}
		}
		list = append(list, string(text))
	}
	return list
}

// modes are the option sets tried on every text.
var modes = [][]Option{{}, {ParseSpecial}, {AddSpecial}, {AddSpecial, ParseSpecial}}

// vocabularies lists every vocabulary to try, by name; aliases adds those that
// differ only in the pre-tokenizer's name.
func vocabularies(t testing.TB, aliases bool) map[string]metadata {
	base, sentence := bpeVocab(t), spmVocab(t)
	all := map[string]metadata{
		"llama":                      sentence,
		"llama/no-prefix":            sentence.with("tokenizer.ggml.add_space_prefix", false, "tokenizer.ggml.add_eos_token", true),
		"llama/no-types-or-scores":   sentence.with("tokenizer.ggml.token_type", nil, "tokenizer.ggml.scores", nil),
		"llama/phi-3":                sentence.with("general.name", "Phi-3 mini"),
		"gpt2/no-types":              base.with("tokenizer.ggml.token_type", nil),
		"gpt2/add-bos-and-eos":       base.with("tokenizer.ggml.add_bos_token", true, "tokenizer.ggml.add_eos_token", true),
		"gpt2/without-pre-tokenizer": base.with("tokenizer.ggml.pre", nil),
		"gpt2/without-ids":           base.with("tokenizer.ggml.bos_token_id", nil, "tokenizer.ggml.eos_token_id", nil),
		"gpt2/glm4/without-ids":      base.with("tokenizer.ggml.pre", "glm4", "tokenizer.ggml.bos_token_id", nil),
	}
	for _, p := range pretokenizers {
		for i, name := range p.names {
			if i == 0 || aliases {
				all["gpt2/"+name] = base.with("tokenizer.ggml.pre", name)
			}
		}
	}
	return all
}

// everything encodes all texts in all modes.
func everything(t testing.TB, encode func(text string, opts []Option) []int32) (ids []int32) {
	for _, text := range texts(t) {
		for _, mode := range modes {
			ids = append(ids, encode(text, mode)...)
		}
	}
	return ids
}

func mustEncode(t testing.TB, tok *Tokenizer) func(string, []Option) []int32 {
	return func(text string, opts []Option) []int32 {
		t.Helper()
		ids, err := tok.Encode(text, opts...)
		if err != nil {
			t.Fatalf("%.60q: %v", text, err)
		}
		return ids
	}
}

func readGolden(t testing.TB) map[string]golden {
	data, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]golden
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	return want
}

func TestGolden(t *testing.T) {
	want := readGolden(t)
	for name, m := range vocabularies(t, true) {
		tok := m.tokenizer(t)
		if got := digest(everything(t, mustEncode(t, tok))); got != want[name] {
			t.Errorf("%s: %+v, llama.cpp has %+v", name, got, want[name])
		}
		delete(want, name)
	}
	delete(want, assets.SmolLM2)
	if len(want) > 0 {
		t.Errorf("goldens without a test: %v", want)
	}
}

func TestGoldenSmolLM2(t *testing.T) {
	tok, err := open(t, assets.Path(t, assets.SmolLM2))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := digest(everything(t, mustEncode(t, tok))), readGolden(t)[assets.SmolLM2]; got != want {
		t.Errorf("%+v, llama.cpp has %+v", got, want)
	}
}

// TestAgainstLlamaCpp compares every text and mode with libllama, for one name
// of each pre-tokenizer, or with -update for all.
func TestAgainstLlamaCpp(t *testing.T) {
	startLlama(t)
	found := map[string]golden{}
	compare := func(name, path string) {
		tok, vocab := openBoth(t, name, path)
		ours := mustEncode(t, tok)
		found[name] = digest(everything(t, func(text string, opts []Option) []int32 {
			var want []int32
			for _, id := range llama.Tokenize(vocab, text, slices.Contains(opts, AddSpecial), slices.Contains(opts, ParseSpecial)) {
				want = append(want, int32(id))
			}
			if got := ours(text, opts); !slices.Equal(got, want) {
				t.Errorf("%s: %.80q %v\n     got %s\n    want %s", name, text, opts, spell(tok, got), spell(tok, want))
			}
			return want
		}))
		if bos, ok := tok.BOS(); ok != (llama.VocabBOS(vocab) >= 0) || ok && bos != int32(llama.VocabBOS(vocab)) {
			t.Errorf("%s: beginning of sequence %d, %v; want %d", name, bos, ok, llama.VocabBOS(vocab))
		}
		if got, want := tok.AddBOS(), llama.VocabGetAddBOS(vocab); got != want {
			t.Errorf("%s: adds it: %v, want %v", name, got, want)
		}
		compareTokens(t, name, tok, vocab)
	}
	for name, m := range vocabularies(t, *update) {
		compare(name, m.write(t))
	}
	compare(assets.SmolLM2, assets.Path(t, assets.SmolLM2))
	if *update {
		data, err := json.MarshalIndent(found, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEndingsAgainstLlamaCpp compares what every token stands for in generated
// text and whether it ends it, in vocabularies whose metadata or names say so in
// every way.
func TestEndingsAgainstLlamaCpp(t *testing.T) {
	startLlama(t)
	base := bpeVocab(t)
	with := func(names []string, pairs ...any) metadata {
		tokens := append(slices.Clone(base["tokenizer.ggml.tokens"].([]string)), names...)
		types := append(slices.Clone(base["tokenizer.ggml.token_type"].([]int32)), slices.Repeat([]int32{1}, len(names))...)
		return base.with("tokenizer.ggml.tokens", tokens, "tokenizer.ggml.token_type", types).with(pairs...)
	}
	first := uint32(len(base["tokenizer.ggml.tokens"].([]string)))
	all := map[string]metadata{
		"keys":       with([]string{"x0", "x1", "x2", "x3", "x4"}, "tokenizer.ggml.eot_token_id", first, "tokenizer.ggml.eom_token_id", first+1, "tokenizer.ggml.fim_pad_token_id", first+2, "tokenizer.ggml.fim_rep_token_id", first+3, "tokenizer.ggml.fim_sep_token_id", first+4),
		"bad keys":   with([]string{"<|fim_pad|>"}, "tokenizer.ggml.eot_token_id", first+9, "tokenizer.ggml.fim_pad_token_id", first+9),
		"qwen":       with([]string{"<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"}),
		"granite":    with([]string{"<fim_pad>", "<reponame>", "<|end_of_text|>", "<fim_prefix>"}),
		"harmony":    with([]string{"<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|message|>", "<|channel|>", "<|constrain|>"}),
		"solar":      with([]string{"<|end|>", "<|flush|>", "<|calls|>"}),
		"phi":        with([]string{"<s>", "</s>", "<|end|>", "<|return|>"}, "general.name", "Phi-3"),
		"end as eos": with([]string{"<|end|>", "<|return|>", "<|call|>"}, "tokenizer.ggml.eos_token_id", first),
		"gemma":      with([]string{"</s>", "<|tool_response>", "<turn|>", "<eos>", "<end_of_turn>"}),
		"kimi":       with([]string{"[EOT]", "[EOS]", "[PAD]", "</s>"}),
		"suppressed": with([]string{"<|unused1|>"}, "tokenizer.ggml.suppress_tokens", []int32{3, 1, -1, 1 << 30}),
		"no eos":     with(nil, "tokenizer.ggml.eos_token_id", nil),
	}
	for _, text := range endNames {
		if !slices.Contains(base["tokenizer.ggml.tokens"].([]string), text) {
			all["name "+text] = with([]string{text})
		}
	}
	for name, m := range all {
		tok, vocab := openBoth(t, name, m.write(t))
		compareTokens(t, name, tok, vocab)
	}
}

// startLlama loads libllama.
func startLlama(t *testing.T) {
	t.Helper()
	if err := llama.Load(assets.Path(t, assets.Llama)); err != nil {
		t.Fatal(err)
	}
	llama.LogSet(llama.LogSilent())
	llama.Init()
}

// openBoth opens a vocabulary here and in libllama.
func openBoth(t *testing.T, name, path string) (*Tokenizer, llama.Vocab) {
	t.Helper()
	tok, err := open(t, path)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	params := llama.ModelDefaultParams()
	params.VocabOnly = 1
	model, err := llama.ModelLoadFromFile(path, params)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() { _ = llama.ModelFree(model) })
	return tok, llama.ModelGetVocab(model)
}

// compareTokens compares what generation wants to know of each token.
func compareTokens(t *testing.T, name string, tok *Tokenizer, vocab llama.Vocab) {
	t.Helper()
	if n := int(llama.VocabNTokens(vocab)); tok.Vocab() != n {
		t.Fatalf("%s: %d tokens, want %d", name, tok.Vocab(), n)
	}
	buf := make([]byte, 1024)
	for id := range int32(tok.Vocab()) {
		if got, want := tok.EndsGeneration(id), llama.VocabIsEOG(vocab, llama.Token(id)); got != want {
			t.Errorf("%s: %s ends generation: %v, want %v", name, spell(tok, []int32{id}), got, want)
		}
		n := llama.TokenToPiece(vocab, llama.Token(id), buf, 0, false)
		if got, want := string(tok.Piece(id)), string(buf[:max(n, 0)]); got != want && !strings.Contains(want, "[UNK_BYTE_") {
			t.Errorf("%s: %s stands for %q, want %q", name, spell(tok, []int32{id}), got, want)
		}
	}
	var want []int32
	for _, id := range llama.VocabGetSuppressTokens(vocab) {
		want = append(want, int32(id))
	}
	if got := tok.Suppressed(); !slices.Equal(got, want) {
		t.Errorf("%s: suppresses %v, want %v", name, got, want)
	}
}

// spell shows tokens so that a difference can be read.
func spell(tok *Tokenizer, ids []int32) string {
	var parts []string
	for _, id := range ids {
		parts = append(parts, fmt.Sprintf("%d:%q", id, tok.vocab.text(id)))
	}
	return strings.Join(parts, " ")
}
