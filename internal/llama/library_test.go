package llama

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// libraryDir makes a folder that holds the named libraries, empty.
func libraryDir(t *testing.T, dir string, libs ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, lib := range libs {
		if err := os.WriteFile(filepath.Join(dir, "lib"+lib+".so"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindLibrary(t *testing.T) {
	root := t.TempDir()
	complete := libraryDir(t, filepath.Join(root, "complete"), libraries...)
	partial := libraryDir(t, filepath.Join(root, "partial"), "llama", "ggml")
	cache := filepath.Join(root, "cache")
	cached := libraryDir(t, filepath.Join(cache, "besa", "llama"), libraries...)
	fetched := filepath.Join(cache, "besa", "assets", "llama")
	system := libraryDir(t, filepath.Join(root, "system"), libraries...)
	t.Setenv("XDG_CACHE_HOME", cache)

	clear := func() {
		for _, name := range []string{"BESA_LLAMA_LIB", "YZMA_LIB", "LD_LIBRARY_PATH"} {
			t.Setenv(name, "")
		}
	}
	for _, c := range []struct {
		name, explicit string
		env            map[string]string
		want, problem  string
	}{
		{name: "flag first", explicit: complete, env: map[string]string{"BESA_LLAMA_LIB": system}, want: complete},
		{name: "flag names the file", explicit: filepath.Join(complete, "libllama.so"), want: complete},
		{name: "flag without library", explicit: partial, problem: "--llama-lib says " + partial + ", which has no libggml-base.so"},
		{name: "flag names nothing", explicit: filepath.Join(root, "absent"), problem: "which has no libllama.so"},
		{name: "besa's variable", env: map[string]string{"BESA_LLAMA_LIB": complete, "YZMA_LIB": system}, want: complete},
		{name: "besa's variable is wrong", env: map[string]string{"BESA_LLAMA_LIB": partial, "YZMA_LIB": system}, problem: "BESA_LLAMA_LIB says"},
		{name: "yzma's variable", env: map[string]string{"YZMA_LIB": system}, want: system},
		{name: "cache before system", env: map[string]string{"LD_LIBRARY_PATH": system}, want: cached},
	} {
		clear()
		for key, value := range c.env {
			t.Setenv(key, value)
		}
		dir, err := FindLibrary(c.explicit)
		if dir != c.want || (err == nil) != (c.problem == "") {
			t.Errorf("%s: %q, %v; want %q", c.name, dir, err, c.want)
		}
		if err != nil && (!errors.Is(err, ErrNoLibrary) || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.problem)
		}
	}

	clear()
	libraryDir(t, fetched, libraries...)
	if dir, err := FindLibrary(""); dir != fetched || err != nil {
		t.Errorf("fetched assets: %q, %v", dir, err)
	}
	t.Setenv("XDG_CACHE_HOME", filepath.Join(root, "empty"))
	t.Setenv("LD_LIBRARY_PATH", "relative:"+system)
	if dir, err := FindLibrary(""); dir != system || err != nil {
		t.Errorf("system folder: %q, %v", dir, err)
	}
	t.Setenv("LD_LIBRARY_PATH", "")
	if dir, err := FindLibrary(""); err != nil && (!errors.Is(err, ErrNoLibrary) || !strings.Contains(err.Error(), "scripts/fetch-assets.sh")) {
		t.Errorf("no library: %q, %v", dir, err)
	}
}
