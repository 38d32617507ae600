package native

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ABI is BESA_NATIVE_ABI of src/besa_native.h: the interface this besa speaks.
const ABI = 1

// ErrNotPlugin says that a file is not libggml-besa.so, or one that this besa or
// this system cannot use.
var ErrNotPlugin = errors.New("not a usable besa plugin")

// Path returns where [Install] puts the plugin: besa/native in the user's cache
// ($XDG_CACHE_HOME or ~/.cache).
func Path() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(cache, "besa", "native", Library), nil
}

// Install puts the plugin where besa finds it, from the file from, or, with "",
// built with the C compiler. It returns the path. The library is loaded before
// it is put in place; what was there before stays if anything fails.
func Install(ctx context.Context, from string) (string, error) {
	to, err := Path()
	if err != nil {
		return "", err
	}
	if from == "" {
		return to, Build(ctx, to)
	}
	if err := platform(); err != nil {
		return "", err
	}
	if err := check(from); err != nil {
		return "", err
	}
	return to, place(from, to)
}

// check reads a plugin file, then loads it.
func check(path string) error {
	if _, err := BuiltFrom(path); err != nil {
		return err
	}
	if err := tryLoad(path); err != nil {
		return fmt.Errorf("%s: %w: %w", path, ErrNotPlugin, err)
	}
	return nil
}

// needed are functions that tell the plugin from other libraries.
var needed = []string{"ggml_backend_init", "ggml_backend_score", "besa_native_abi", "besa_native_offer"}

// versionSymbol names the string constant that [Build] adds to the library.
const versionSymbol = "besa_native_version"

// maxVersion bounds that string.
const maxVersion = 64

// BuiltFrom reads a plugin file, without loading it, and returns the [Version]
// of the sources it was built from, "" if it does not say. Errors wrap
// [ErrNotPlugin] when the file is something else.
func BuiltFrom(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	e, err := elf.NewFile(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", path, ErrNotPlugin, err)
	}
	if e.Type != elf.ET_DYN || e.Machine != elf.EM_X86_64 {
		return "", fmt.Errorf("%s: %w: it is no shared library for x86-64", path, ErrNotPlugin)
	}
	symbols, err := e.DynamicSymbols()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", path, ErrNotPlugin, err)
	}
	for _, name := range needed {
		if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == name && s.Section != elf.SHN_UNDEF }) {
			return "", fmt.Errorf("%s: %w: it has no function %s", path, ErrNotPlugin, name)
		}
	}
	for _, s := range symbols {
		if s.Name == versionSymbol {
			return readString(e, s), nil
		}
	}
	return "", nil
}

// readString reads a string constant, "" where there is none.
func readString(e *elf.File, s elf.Symbol) string {
	if s.Size == 0 || s.Size > maxVersion || int(s.Section) >= len(e.Sections) {
		return ""
	}
	section := e.Sections[s.Section]
	text := make([]byte, s.Size)
	if s.Value < section.Addr {
		return ""
	}
	if _, err := section.ReadAt(text, int64(s.Value-section.Addr)); err != nil {
		return ""
	}
	version, _, _ := strings.Cut(string(text), "\x00")
	return version
}
