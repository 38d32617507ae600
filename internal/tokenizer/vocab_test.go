package tokenizer

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
)

// metadata is a GGUF file's metadata before it is written.
type metadata map[string]any

// with returns a copy with some values replaced; nil removes the key.
func (m metadata) with(pairs ...any) metadata {
	out := metadata{}
	for k, v := range m {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		key := pairs[i].(string)
		out[key] = pairs[i+1]
		if pairs[i+1] == nil {
			delete(out, key)
		}
	}
	return out
}

// write puts the metadata into a GGUF file without tensors, which llama.cpp
// opens as a vocabulary.
func (m metadata) write(t testing.TB) string {
	t.Helper()
	kvs := []gguf.KV{gguf.MustKV("general.architecture", "llama")}
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}) {
		kv, err := gguf.NewKV(key, m[key])
		if err != nil {
			t.Fatal(err)
		}
		kvs = append(kvs, kv)
	}
	path := filepath.Join(t.TempDir(), "vocab.gguf")
	w, err := gguf.Create(path, kvs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

// open reads a vocabulary the way besa does: through package gguf.
func open(t testing.TB, path string) (*Tokenizer, error) {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return New(f)
}

func (m metadata) tokenizer(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := open(t, m.write(t))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func corpus(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// learn finds merges by byte pair encoding: the pair that is most frequent, and
// of equals the smallest, joins next. It knows no word borders, so a tokenizer
// that splits in another place than llama.cpp gives other ids.
func learn(symbols []string, merges int) (pairs [][2]string) {
	for range merges {
		count := map[[2]string]int{}
		for i := range len(symbols) - 1 {
			count[[2]string{symbols[i], symbols[i+1]}]++
		}
		best := [2]string{}
		for p, n := range count {
			if n > count[best] || n == count[best] && cmp.Or(cmp.Compare(p[0], best[0]), cmp.Compare(p[1], best[1])) < 0 {
				best = p
			}
		}
		if count[best] < 2 {
			break
		}
		pairs = append(pairs, best)
		var next []string
		for i := 0; i < len(symbols); i++ {
			if i+1 < len(symbols) && symbols[i] == best[0] && symbols[i+1] == best[1] {
				next = append(next, best[0]+best[1])
				i++
			} else {
				next = append(next, symbols[i])
			}
		}
		symbols = next
	}
	return pairs
}

// bpeVocab is a small byte-level vocabulary learnt on the corpus. It has every
// oddity that llama.cpp treats specially: types to be corrected by name, a
// special token that contains another, user-defined tokens, an empty one, and
// merges whose result is no token.
func bpeVocab(t testing.TB) metadata {
	var symbols, tokens, merges []string
	for _, b := range []byte(corpus(t)) {
		symbols = append(symbols, string(alphabet[b]))
	}
	for _, cp := range alphabet {
		tokens = append(tokens, string(cp))
	}
	seen := map[string]bool{}
	for i, pair := range learn(symbols, 900) {
		merges = append(merges, pair[0]+" "+pair[1])
		if joined := pair[0] + pair[1]; i%7 != 3 && !seen[joined] {
			seen[joined] = true
			tokens = append(tokens, joined)
		}
	}
	types := slices.Repeat([]int32{1}, len(tokens))
	special := func(text string, kind int32) {
		tokens, types = append(tokens, text), append(types, kind)
	}
	special("<|endoftext|>", 1) // corrected to a control token
	special("<|im_start|>", 3)
	special("<|im_end|>", 4) // corrected: control too
	special("<|im_start|>user", 3)
	special("<repo_name>", 4)
	special("<unk>", 2)
	special("", 5)
	special("façade", 4)
	return metadata{
		"tokenizer.ggml.model":        "gpt2",
		"tokenizer.ggml.pre":          "smollm",
		"tokenizer.ggml.tokens":       tokens,
		"tokenizer.ggml.merges":       merges,
		"tokenizer.ggml.token_type":   types,
		"tokenizer.ggml.bos_token_id": uint32(len(tokens) - 7),
		"tokenizer.ggml.eos_token_id": uint32(len(tokens) - 6),
	}
}

// spmVocab is a small SentencePiece vocabulary learnt on the corpus.
func spmVocab(t testing.TB) metadata {
	tokens := []string{"<unk>", "<s>", "</s>"}
	types := []int32{2, 3, 3}
	for b := range 256 {
		tokens, types = append(tokens, fmt.Sprintf("<0x%02X>", b)), append(types, 6)
	}
	scores := make([]float32, len(tokens))
	seen := map[string]bool{}
	add := func(text string, score float32) {
		if !seen[text] {
			seen[text] = true
			tokens, types, scores = append(tokens, text), append(types, 1), append(scores, score)
		}
	}
	symbols := strings.Split(strings.ReplaceAll(corpus(t), " ", blank), "")
	for i, pair := range learn(symbols, 900) {
		add(pair[0]+pair[1], -float32(i/3)) // some scores are equal
	}
	for i, s := range symbols {
		if i%11 != 5 { // some characters must be spelled in bytes
			add(s, -1e6)
		}
	}
	tokens, types, scores = append(tokens, "[INST]", "<|im_end|>", "<|endoftext|>"), append(types, 4, 1, 3), append(scores, 0, 0, 0)
	return metadata{
		"tokenizer.ggml.model":      "llama",
		"tokenizer.ggml.tokens":     tokens,
		"tokenizer.ggml.token_type": types,
		"tokenizer.ggml.scores":     scores,
	}
}
