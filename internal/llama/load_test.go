package llama

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"besa/gguf"
	"besa/internal/assets"
	"besa/internal/demomodel"
	"besa/internal/tokenizer"
)

// demo writes the tiny model to a file.
func demo(t testing.TB) string {
	t.Helper()
	return demomodel.File(t)
}

// vocabFile writes a GGUF file that has a vocabulary and nothing else.
func vocabFile(t *testing.T, name string, pairs ...gguf.KV) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	w, err := gguf.Create(path, pairs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadRefuses(t *testing.T) {
	library := assets.Path(t, assets.Llama)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	model := demomodel.Model()
	arch := gguf.MustKV("general.architecture", "llama")
	kind := gguf.MustKV("tokenizer.ggml.model", "llama")
	for name, c := range map[string]struct {
		path string
		is   error
		text string
	}{
		"absent":           {filepath.Join(dir, "absent.gguf"), os.ErrNotExist, ""},
		"HTML":             {write("page.gguf", []byte("<html></html>")), gguf.ErrNotGGUF, ""},
		"truncated":        {write("cut.gguf", model[:len(model)/2]), gguf.ErrTruncated, ""},
		"twin tokens":      {vocabFile(t, "twins.gguf", arch, kind, gguf.MustKV("tokenizer.ggml.tokens", []string{"a", "a"})), tokenizer.ErrMalformed, "tokens 0 and 1"},
		"no model in it":   {vocabFile(t, "vocab.gguf", arch, kind, gguf.MustKV("tokenizer.ggml.tokens", []string{"a", "b", "c"})), nil, "llama.cpp says \"llama_model_load: error loading model: error loading model hyperparameters"},
		"unknown arch":     {vocabFile(t, "arch.gguf", gguf.MustKV("general.architecture", "novel"), kind, gguf.MustKV("tokenizer.ggml.tokens", []string{"a", "b", "c"})), nil, "novel"},
		"a middle part":    {vocabFile(t, "m-00002-of-00003.gguf", arch, kind, gguf.MustKV("tokenizer.ggml.tokens", []string{"a", "b", "c"}), gguf.MustKV("split.count", uint16(3))), nil, "name the first"},
		"the rest missing": {vocabFile(t, "m-00001-of-00003.gguf", arch, kind, gguf.MustKV("tokenizer.ggml.tokens", []string{"a", "b", "c"}), gguf.MustKV("split.count", uint16(3))), os.ErrNotExist, "part 2 of 3"},
	} {
		m, err := Load(t.Context(), c.path, Options{Library: library})
		if err == nil {
			t.Errorf("%s: loads", name)
			_ = m.Close()
			continue
		}
		if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(t.Context(), demo(t), Options{Library: dir}); !errors.Is(err, ErrNoLibrary) {
		t.Errorf("no library: %v", err)
	}
}

// TestOneLibrary: a second library in the same process is refused. And what
// llama.cpp logs goes where the options say.
func TestOneLibrary(t *testing.T) {
	var log bytes.Buffer
	model := demo(t)
	m, err := Load(t.Context(), model, Options{Library: assets.Path(t, assets.Llama), Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	library.log.copyTo(nil)
	if !strings.Contains(log.String(), "general.architecture") {
		t.Errorf("llama.cpp's log is missing: %.200q", log.String())
	}
	other := libraryDir(t, t.TempDir(), libraries...)
	if _, err := Load(t.Context(), model, Options{Library: other}); err == nil || !strings.Contains(err.Error(), "already loaded") {
		t.Errorf("second library: %v", err)
	}
}

func TestLogExplains(t *testing.T) {
	for name, c := range map[string]struct {
		errors []string
		want   string
	}{
		"nothing logged": {nil, "load m"},
		"the cause":      {[]string{"x: bad magic\n", "y: failed to load model\n"}, `load m: llama.cpp says "x: bad magic"`},
		"only the end":   {[]string{"y: failed to load model\n"}, `load m: llama.cpp says "y: failed to load model"`},
		"the last cause": {[]string{"first\n", "second\n", "\n"}, `load m: llama.cpp says "second"`},
	} {
		l := logbook{errors: c.errors}
		if got := l.explain(errors.New("load m")).Error(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
