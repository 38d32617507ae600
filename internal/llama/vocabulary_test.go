package llama

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/assets"
	"besa/internal/demomodel"
	"besa/internal/tokenizer"
)

// TestOwnTokenizer: with besa's tokenizer, and no vocabulary in llama.cpp, a
// model is the same: ordinary or sparse, its tokens and its logits.
func TestOwnTokenizer(t *testing.T) {
	library := assets.Path(t, assets.Llama)
	sparse, dense := sparseDemo(t)
	for _, path := range []string{sparse, dense} {
		load := func(own bool) *Model {
			m, err := Load(t.Context(), path, Options{Library: library, OwnTokenizer: own})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = m.Close() })
			if _, ok := m.vocab.(*tokenizer.Tokenizer); ok != own {
				t.Fatalf("%s: own tokenizer %v, want %v", path, ok, own)
			}
			return m
		}
		own, theirs := load(true), load(false)
		compareVocabularies(t, own, theirs)
		if !slices.Equal(promptLogits(t, own), promptLogits(t, theirs)) {
			t.Errorf("%s: logits differ", path)
		}
	}
}

func compareVocabularies(t *testing.T, own, theirs *Model) {
	t.Helper()
	if own.Vocab() != theirs.Vocab() {
		t.Fatalf("%d tokens, want %d", own.Vocab(), theirs.Vocab())
	}
	for id := range int32(own.Vocab()) {
		if got, want := string(own.Piece(id)), string(theirs.Piece(id)); got != want {
			t.Errorf("token %d is %q, want %q", id, got, want)
		}
		if got, want := own.EndsGeneration(id), theirs.EndsGeneration(id); got != want {
			t.Errorf("token %d ends a text: %v, want %v", id, got, want)
		}
	}
	if !slices.Equal(own.vocab.Endings(), theirs.vocab.Endings()) || !slices.Equal(own.vocab.Suppressed(), theirs.vocab.Suppressed()) {
		t.Errorf("endings %v, suppressed %v; want %v, %v", own.vocab.Endings(), own.vocab.Suppressed(), theirs.vocab.Endings(), theirs.vocab.Suppressed())
	}
	ownBOS, ownAdd := own.BOS()
	if bos, add := theirs.BOS(); bos != ownBOS || add != ownAdd {
		t.Errorf("begins with %d, %v; want %d, %v", ownBOS, ownAdd, bos, add)
	}
	if own.ChatTemplate() != theirs.ChatTemplate() {
		t.Error("chat templates differ")
	}
	for _, text := range append(strings.SplitAfter(demomodel.Evaluation()[:20000], "\n"), "", "<|endoftext|>x<s>", "\xff é 中") {
		for _, special := range []bool{false, true} {
			for _, control := range []bool{false, true} {
				got, err := own.Tokenize(text, special, control)
				if err != nil {
					t.Fatal(err)
				}
				if want, err := theirs.Tokenize(text, special, control); err != nil || !slices.Equal(got, want) {
					t.Errorf("%q: %v, want %v, %v", text, got, want, err)
				}
			}
		}
	}
}

// TestUnknownTokenizer: of a kind that besa does not know, the vocabulary is
// llama.cpp's.
func TestUnknownTokenizer(t *testing.T) {
	f, err := gguf.Open(demo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var pairs []gguf.KV
	for _, kv := range f.KVs() {
		if kv.Key == "tokenizer.ggml.pre" {
			kv = gguf.MustKV(kv.Key, "kimi-k2")
		}
		pairs = append(pairs, kv)
	}
	path := filepath.Join(t.TempDir(), "kimi.gguf")
	w, err := gguf.Create(path, pairs, f.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range f.Tensors() {
		if err := w.WriteTensor(x.Name, f.Data(x)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	m, err := Load(t.Context(), path, Options{Library: assets.Path(t, assets.Llama), OwnTokenizer: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, ok := m.vocab.(llamaVocabulary); !ok {
		t.Errorf("the vocabulary is a %T", m.vocab)
	}
	promptLogits(t, m)
}

// TestWithoutVocabulary: an architecture's name too long for llama.cpp's table of
// overrides keeps the vocabulary there.
func TestWithoutVocabulary(t *testing.T) {
	if o := withoutVocabulary(strings.Repeat("a", 120), 5); o != nil {
		t.Errorf("%d overrides", len(o))
	}
	o := withoutVocabulary("llama", 70000)
	if len(o) != 3 || string(o[1].key[:17]) != "llama.vocab_size\x00" || o[1].value[2] != 1 || o[2].key[0] != 0 {
		t.Errorf("%v", o)
	}
}
