package eval

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"besa/gguf"
	"besa/internal/assets"
	"besa/internal/tokenizer"
)

// opticks.txt is from Isaac Newton's Opticks (fourth edition, 1730), which is
// in the public domain.
const opticks = "testdata/opticks.txt"

func readText(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// smollm2 loads the model. One thread: llama.cpp's threads wait for each other
// in busy loops, which on a busy machine takes far longer than the work.
func smollm2(t testing.TB) *Llama {
	t.Helper()
	m, err := LoadLlama(assets.Path(t, assets.SmolLM2), LlamaOptions{Library: assets.Path(t, assets.Llama), Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// The case for the comparison with llama-perplexity: five windows leave its
// batch of sixteen partly empty, which shows in the figures.
var comparison = PerplexityOptions{Protocol: LlamaCpp, Ctx: 128, Limit: 5}

// childLibrary names, for TestInChild, the library to load.
const childLibrary = "BESA_TEST_CHILD_LIBRARY"

// TestAgainstLlamaPerplexity compares with llama.cpp's own tool. Where
// scripts/fetch-assets.sh --tools has built it, all printed digits must agree; a
// child process measures, with the tool's own libraries. Other builds and other
// processors round differently, which on so short a text is up to 1 %: so much
// may the fetched library differ from what the tool printed.
func TestAgainstLlamaPerplexity(t *testing.T) {
	got, err := Perplexity(t.Context(), smollm2(t), readText(t, opticks), comparison)
	if err != nil {
		t.Fatal(err)
	}
	if want := 63 * comparison.Limit; got.Tokens != want || got.Windows != comparison.Limit || got.TextTokens != 7403 {
		t.Errorf("%+v: %d tokens of %d windows should be scored", got, want, comparison.Limit)
	}
	const perplexity, stdErr = 26.1282, 3.97676
	if !(math.Abs(got.Perplexity/perplexity-1) < 2e-2) || !(math.Abs(got.StdErr/stdErr-1) < 2e-2) {
		t.Errorf("perplexity %.4f +/- %.5f, llama-perplexity printed %.4f +/- %.5f", got.Perplexity, got.StdErr, perplexity, stdErr)
	}
	tool, ok := assets.Lookup(assets.Perplexity)
	if !ok {
		return
	}
	out, err := exec.CommandContext(t.Context(), tool, "-m", assets.Path(t, assets.SmolLM2), "-f", opticks, "-t", "1",
		"-c", fmt.Sprint(comparison.Ctx), "--chunks", fmt.Sprint(comparison.Limit)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	theirs := regexp.MustCompile(`PPL = .*`).Find(out)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInChild$", "-test.v")
	child.Env = append(os.Environ(), childLibrary+"="+filepath.Dir(tool))
	if out, err = child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if ours := regexp.MustCompile(`PPL = .*`).Find(out); theirs == nil || !bytes.Equal(ours, theirs) {
		t.Errorf("%s, llama-perplexity prints %s", ours, theirs)
	}
}

// TestInChild is the child process of TestAgainstLlamaPerplexity.
func TestInChild(t *testing.T) {
	library := os.Getenv(childLibrary)
	if library == "" {
		return
	}
	m, err := LoadLlama(assets.Path(t, assets.SmolLM2), LlamaOptions{Library: library, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got, err := Perplexity(t.Context(), m, readText(t, opticks), comparison)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("PPL = %.4f +/- %.5f\n", got.Perplexity, got.StdErr)
}

// TestNLLIsOfTheLogits scores a window that takes two batches, and compares
// with the logits of the whole window, and those with a window of its own.
func TestNLLIsOfTheLogits(t *testing.T) {
	m := smollm2(t)
	ids, err := m.Tokenize(readText(t, opticks), false)
	if err != nil {
		t.Fatal(err)
	}
	window := ids[:ubatchTokens+40]
	logits, err := m.Logits(t.Context(), window)
	if err != nil || len(logits) != len(window)*m.Vocab() {
		t.Fatalf("%d logits for %d tokens, %v", len(logits), len(window), err)
	}
	for _, from := range []int{ubatchTokens - 5, len(window) - 1} {
		nll, err := m.NLL(t.Context(), window, from)
		if err != nil || len(nll) != len(window)-from {
			t.Fatalf("from %d: %d values, %v", from, len(nll), err)
		}
		for i, x := range nll {
			row := logits[(from+i-1)*m.Vocab() : (from+i)*m.Vocab()]
			if want := negLogProb(row, window[from+i]); !(math.Abs(x-want) < 1e-4) {
				t.Errorf("from %d: token %d has %v, its logits give %v", from, from+i, x, want)
			}
		}
	}
	// A window is judged alone, whatever came before, and always the same.
	short := window[:8]
	first, err := m.Logits(t.Context(), short)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.NLL(t.Context(), ids[2000:2032], 1); err != nil {
		t.Fatal(err)
	}
	second, err := m.Logits(t.Context(), short)
	if err != nil || !slices.Equal(first, second) {
		t.Errorf("the same window gives other logits the second time, %v", err)
	}
}

func TestTokenizeIsLlamaCpps(t *testing.T) {
	m := smollm2(t)
	f, err := gguf.Open(m.model.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tok, err := tokenizer.New(f)
	if err != nil {
		t.Fatal(err)
	}
	text := readText(t, opticks) + "<|im_start|> 12 é\t"
	got, err := m.Tokenize(text, true)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := tok.Encode(text, tokenizer.AddSpecial); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d and %d ids differ, %v", len(got), len(want), err)
	}
	if id, add := m.BOS(); id != 1 || add || m.Vocab() != tok.Vocab() {
		t.Errorf("beginning of sequence %d, %v; vocabulary %d", id, add, m.Vocab())
	}
	if ids, err := m.Tokenize("", true); err != nil || len(ids) != 0 {
		t.Errorf("empty text: %v, %v", ids, err)
	}
	if _, err := m.Tokenize("a\x00b", true); err == nil {
		t.Error("a zero byte is taken")
	}
}

func TestLlamaStops(t *testing.T) {
	m := smollm2(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.NLL(ctx, []int32{1, 2, 3}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := m.NLL(t.Context(), []int32{1, int32(m.Vocab())}, 1); err == nil {
		t.Error("a token outside the vocabulary is taken")
	}
	if _, err := m.Logits(t.Context(), []int32{-1}); err == nil {
		t.Error("a negative token is taken")
	}
	if logits, err := m.Logits(t.Context(), nil); err != nil || len(logits) != 0 {
		t.Errorf("empty window: %d logits, %v", len(logits), err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.NLL(t.Context(), []int32{1, 2}, 1); !errors.Is(err, errClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := m.Tokenize("a", false); !errors.Is(err, errClosed) {
		t.Errorf("closed: %v", err)
	}
}
