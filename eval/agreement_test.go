package eval

import (
	"math"
	"slices"
	"testing"

	"besa/gguf"
	"besa/internal/assets"
	"besa/internal/demomodel"
)

// TestLogitsAgreeWithLlamaCpp holds the Go engine against llama.cpp on float32
// weights, with attention in float32 too: the two differ only in the order of
// sums.
func TestLogitsAgreeWithLlamaCpp(t *testing.T) {
	tiny := demomodel.File(t)
	library := assets.Path(t, assets.Llama)
	for name, path := range map[string]string{"tiny": tiny, "SmolLM2": assets.Path(t, assets.SmolLM2)} {
		t.Run(name, func(t *testing.T) {
			f32 := writeF32(t, path, nil, func(kvs []gguf.KV) []gguf.KV {
				for i, kv := range kvs {
					if kv.Key == "general.file_type" {
						kvs[i] = gguf.MustKV(kv.Key, uint32(0))
					}
				}
				return kvs
			})
			ours, err := LoadGo(f32, 2)
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			theirs, err := LoadLlama(f32, LlamaOptions{Library: library, Threads: 2, Precise: true})
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			compareLogits(t, ours, theirs, 256)
		})
	}
}

func compareLogits(t *testing.T, ours, theirs Model, tokens int) {
	t.Helper()
	ids, err := ours.Tokenize(demomodel.Evaluation(), true)
	if err != nil {
		t.Fatal(err)
	}
	same, err := theirs.Tokenize(demomodel.Evaluation(), true)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ids, same) {
		t.Fatal("the tokenizers disagree")
	}
	window := ids[:tokens]
	a, err := ours.Logits(t.Context(), window)
	if err != nil {
		t.Fatal(err)
	}
	b, err := theirs.Logits(t.Context(), window)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != len(b) || len(a) != tokens*ours.Vocab() {
		t.Fatalf("%d and %d logits for %d tokens of %d", len(a), len(b), tokens, ours.Vocab())
	}
	var top float64
	for i := range a {
		if d := math.Abs(float64(a[i]) - float64(b[i])); !(d <= top) {
			top = d
		}
	}
	t.Logf("largest difference of %d logits: %g", len(a), top)
	if !(top <= 1e-2) {
		t.Errorf("logits differ by %g, more than 1e-2", top)
	}
}
