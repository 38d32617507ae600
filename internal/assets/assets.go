// Package assets finds the files that tests need and git does not carry:
// libllama, a small real model, llama.cpp's own tools. scripts/fetch-assets.sh
// puts them in place. Only tests import it.
package assets

import (
	"os"
	"path/filepath"
	"testing"
)

// Names of the assets, for [Path].
const (
	// Llama is the folder that holds libllama and the ggml libraries.
	Llama = "llama"
	// SmolLM2 is a LLaMA-architecture model of 135 million parameters, Q4_1.
	SmolLM2 = "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
	// Python is a folder of Python packages, numpy and gguf, for PYTHONPATH.
	Python = "python"
	// Perplexity is llama.cpp's llama-perplexity; only fetch-assets.sh --tools
	// provides it, so ask with [Lookup].
	Perplexity = "tools/llama-perplexity"
	// GGUFSplit is llama.cpp's llama-gguf-split; ask with [Lookup], too.
	GGUFSplit = "tools/llama-gguf-split"
	// Imatrix is llama.cpp's llama-imatrix; ask with [Lookup], too.
	Imatrix = "tools/llama-imatrix"
)

// Dir returns the folder of the assets: $BESA_TEST_ASSETS, else besa/assets in
// $XDG_CACHE_HOME or ~/.cache. It is empty when none of these is known.
func Dir() string {
	if dir := os.Getenv("BESA_TEST_ASSETS"); dir != "" {
		return dir
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		cache = filepath.Join(home, ".cache")
	}
	return filepath.Join(cache, "besa", "assets")
}

// Lookup returns the absolute path of an asset and whether it is there.
func Lookup(rel string) (string, bool) {
	path, err := filepath.Abs(filepath.Join(Dir(), filepath.FromSlash(rel)))
	if err != nil {
		return "", false
	}
	_, err = os.Stat(path)
	return path, err == nil
}

// Path returns the absolute path of an asset. When it is missing the test is
// skipped with the command that fetches it; with BESA_TEST_REQUIRE_ASSETS=1, as
// in CI, the test fails instead, so that nothing goes untested by accident.
func Path(t testing.TB, rel string) string {
	t.Helper()
	path, ok := Lookup(rel)
	if ok {
		return path
	}
	const advice = "test asset %s is missing; fetch it with scripts/fetch-assets.sh"
	if os.Getenv("BESA_TEST_REQUIRE_ASSETS") == "1" {
		t.Fatalf(advice, path)
	}
	t.Skipf(advice, path)
	return ""
}
