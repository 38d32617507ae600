package demomodel_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/demomodel"
)

const (
	vocab   = 1024
	hidden  = 256
	ffn     = 768
	heads   = 8
	kvHeads = 2
	layers  = 4
)

func open(t *testing.T) *gguf.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "demo.gguf")
	if err := os.WriteFile(path, demomodel.Model(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestModelFitsTheBinary(t *testing.T) {
	if n := len(demomodel.Model()); n > 4_000_000 {
		t.Errorf("model has %d bytes, want at most 4,000,000", n)
	}
}

func TestModelMetadata(t *testing.T) {
	f := open(t)
	for key, want := range map[string]string{
		"general.architecture": "llama",
		"general.license":      "mit",
		"tokenizer.ggml.model": "gpt2",
		"tokenizer.ggml.pre":   "gpt-2",
	} {
		if got, _ := f.String(key); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	for key, want := range map[string]uint64{
		"llama.vocab_size":              vocab,
		"llama.context_length":          512,
		"llama.embedding_length":        hidden,
		"llama.feed_forward_length":     ffn,
		"llama.block_count":             layers,
		"llama.attention.head_count":    heads,
		"llama.attention.head_count_kv": kvHeads,
		"llama.rope.dimension_count":    hidden / heads,
		"tokenizer.ggml.bos_token_id":   0,
		"tokenizer.ggml.eos_token_id":   0,
	} {
		if got, ok := f.Uint(key); !ok || got != want {
			t.Errorf("%s = %d (present: %t), want %d", key, got, ok, want)
		}
	}
	if tokens, _ := f.Strings("tokenizer.ggml.tokens"); len(tokens) != vocab {
		t.Errorf("%d tokens, want %d", len(tokens), vocab)
	}
	if add, ok := f.Bool("tokenizer.ggml.add_bos_token"); !ok || !add {
		t.Errorf("add_bos_token = %t (present: %t), want true", add, ok)
	}
}

func TestModelTensors(t *testing.T) {
	f := open(t)
	want := map[string][]uint64{
		"token_embd.weight":  {hidden, vocab},
		"output_norm.weight": {hidden},
	}
	for i := range layers {
		for name, shape := range map[string][]uint64{
			"attn_norm":   {hidden},
			"attn_q":      {hidden, hidden},
			"attn_k":      {hidden, hidden / heads * kvHeads},
			"attn_v":      {hidden, hidden / heads * kvHeads},
			"attn_output": {hidden, hidden},
			"ffn_norm":    {hidden},
			"ffn_gate":    {hidden, ffn},
			"ffn_up":      {hidden, ffn},
			"ffn_down":    {ffn, hidden},
		} {
			want[fmt.Sprintf("blk.%d.%s.weight", i, name)] = shape
		}
	}
	for _, tensor := range f.Tensors() {
		shape, ok := want[tensor.Name]
		if !ok {
			t.Errorf("unexpected tensor %s", tensor.Name)
			continue
		}
		delete(want, tensor.Name)
		if !slices.Equal(tensor.Shape, shape) {
			t.Errorf("%s has shape %v, want %v", tensor.Name, tensor.Shape, shape)
		}
		kind := gguf.Q8_0
		if len(shape) == 1 {
			kind = gguf.F32
		}
		if tensor.Type != kind {
			t.Errorf("%s is %s, want %s", tensor.Name, tensor.Type, kind)
		}
	}
	for name := range want {
		t.Errorf("tensor %s is missing", name)
	}
}

// chapters cuts a text into its chapters, by title.
func chapters(t *testing.T, text string) map[string]string {
	t.Helper()
	result := map[string]string{}
	for chapter := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n\n") {
		title, verses, ok := strings.Cut(chapter, "\n")
		if !ok || len(title) > 30 {
			t.Fatalf("chapter without a title line: %.60q", chapter)
		}
		if _, twice := result[title]; twice {
			t.Errorf("chapter %q stands there twice", title)
		}
		result[title] = verses
	}
	return result
}

func TestTexts(t *testing.T) {
	for name, c := range map[string]struct {
		text     string
		min, max int
	}{
		"calibration": {demomodel.Calibration(), 150_000, 200_000},
		"evaluation":  {demomodel.Evaluation(), 60_000, 100_000},
	} {
		if n := len(c.text); n < c.min || n > c.max {
			t.Errorf("%s text has %d bytes, want %d to %d", name, n, c.min, c.max)
		}
		if i := strings.IndexFunc(c.text, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }); i >= 0 {
			t.Errorf("%s text: no plain ASCII at byte %d: %q", name, i, c.text[i])
		}
	}
}

func TestEvaluationIsHeldOut(t *testing.T) {
	known := chapters(t, demomodel.Calibration())
	for title, verses := range chapters(t, demomodel.Evaluation()) {
		if _, ok := known[title]; ok {
			t.Errorf("%s is in both texts", title)
		}
		if strings.Contains(demomodel.Calibration(), verses) {
			t.Errorf("the verses of %s stand in the calibration text", title)
		}
	}
}
