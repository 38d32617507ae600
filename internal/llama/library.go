// Package llama is besa's view of llama.cpp: models, contexts, sampling and
// chat templates, on the CPU, through its shared library, which is found and
// loaded at run time without cgo. In: GGUF files, ordinary or sparse, which are
// validated before llama.cpp sees them. Out: logits, sampled tokens, text.
//
// A sparse GGUF is never expanded as a whole: llama.cpp reads a stream that
// expands on the fly, and where besa's native plugin is loaded the pruned
// tensors are executed where they lie in the mapped file.
package llama

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/hybridgroup/yzma/pkg/loader"
)

// ErrNoLibrary means that llama.cpp's shared library was not found.
var ErrNoLibrary = errors.New("no llama.cpp library")

// libraries are the files a folder must hold to be of use.
var libraries = []string{"llama", "ggml", "ggml-base"}

// FindLibrary returns the folder of llama.cpp's shared libraries. The first of
// these that is given or exists decides:
//
//  1. explicit, a folder or the library itself (from --llama-lib);
//  2. $BESA_LLAMA_LIB, then $YZMA_LIB, likewise;
//  3. besa/assets/llama and besa/llama in $XDG_CACHE_HOME or ~/.cache;
//  4. the system's library folders.
//
// A place that was named but lacks the library is an error, not a reason to
// look elsewhere. Errors wrap [ErrNoLibrary].
func FindLibrary(explicit string) (string, error) {
	for _, named := range []struct{ source, path string }{
		{"--llama-lib", explicit},
		{"BESA_LLAMA_LIB", os.Getenv("BESA_LLAMA_LIB")},
		{"YZMA_LIB", os.Getenv("YZMA_LIB")},
	} {
		if named.path == "" {
			continue
		}
		dir := named.path
		if info, err := os.Stat(dir); err == nil && !info.IsDir() {
			dir = filepath.Dir(dir)
		}
		if missing := missingLibrary(dir); missing != "" {
			return "", fmt.Errorf("%w: %s says %s, which has no %s", ErrNoLibrary, named.source, named.path, missing)
		}
		return filepath.Abs(dir)
	}
	for _, dir := range append(cacheDirs(), systemDirs()...) {
		if missingLibrary(dir) == "" {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w: fetch one with besa's scripts/fetch-assets.sh, or install llama.cpp and name its folder of shared libraries with --llama-lib or BESA_LLAMA_LIB", ErrNoLibrary)
}

// missingLibrary returns the name of the first library a folder lacks.
func missingLibrary(dir string) string {
	for _, lib := range libraries {
		path := loader.GetLibraryFilename(dir, lib)
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			return filepath.Base(path)
		}
	}
	return ""
}

func cacheDirs() []string {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		cache = filepath.Join(home, ".cache")
	}
	return []string{filepath.Join(cache, "besa", "assets", "llama"), filepath.Join(cache, "besa", "llama")}
}

func systemDirs() []string {
	var dirs []string
	for _, dir := range strings.Split(os.Getenv("LD_LIBRARY_PATH"), ":") {
		if filepath.IsAbs(dir) { // never the working folder
			dirs = append(dirs, dir)
		}
	}
	if runtime.GOOS == "darwin" {
		return append(dirs, "/opt/homebrew/lib", "/usr/local/lib")
	}
	multiarch := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	return append(dirs, "/usr/local/lib", "/usr/lib/"+multiarch, "/usr/lib64", "/usr/lib")
}
