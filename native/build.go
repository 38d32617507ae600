// Package native builds, installs and describes libggml-besa.so, the ggml
// backend plugin that executes sparse weights in unmodified llama.cpp
// (docs/native.md). Its C sources lie in src and travel inside the besa binary.
//
// In: a C compiler, or a library built before. Out: the plugin in the user's
// cache, ready to be named in GGML_BACKEND_PATH. Programs that hold sparse
// weights themselves talk to the loaded plugin through src/besa_native.h.
package native

import (
	"bytes"
	"context"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"crypto/sha256"
)

//go:embed src/*.c src/*.h
var sources embed.FS

// Library is the plugin's file name.
const Library = "libggml-besa.so"

// ErrNoCompiler says that no C compiler was found.
var ErrNoCompiler = errors.New("no C compiler found")

// ErrBuild says that the compiler failed.
var ErrBuild = errors.New("the C compiler cannot build the plugin")

// ErrPlatform says that the plugin has no kernels for this system.
var ErrPlatform = errors.New("native execution is for Linux on x86-64")

// testOnly are sources that are not part of the plugin.
var testOnly = []string{"test_driver.c", "test_exports.c", "test_ggml.c"}

// Flags returns the compiler's arguments for a shared library out of the
// sources in dir. Tests add their own.
func Flags(out string, files []string, extra ...string) []string {
	args := []string{"-std=c11", "-D_GNU_SOURCE", "-O3", "-fPIC", "-shared", "-fvisibility=hidden",
		"-Wl,-z,nodelete", "-Wl,--no-undefined", "-o", out}
	args = append(args, extra...)
	return append(append(args, files...), "-ldl", "-lpthread")
}

// Compiler returns the C compiler's command: $CC, or the first of cc, gcc and
// clang that is there.
func Compiler() (string, error) {
	names := []string{"cc", "gcc", "clang"}
	if cc := os.Getenv("CC"); cc != "" {
		names = []string{cc}
	}
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%w (looked for %s): install gcc or clang, set CC, or give a prebuilt plugin with --from", ErrNoCompiler,
		strings.Join(names, ", "))
}

// Unpack writes the sources into dir and returns the paths of the plugin's C files.
func Unpack(dir string) ([]string, error) {
	var files []string
	entries, err := fs.ReadDir(sources, "src")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		data, err := sources.ReadFile(path.Join("src", e.Name()))
		if err != nil {
			return nil, err
		}
		to := filepath.Join(dir, e.Name())
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return nil, err
		}
		if strings.HasSuffix(to, ".c") && !slices.Contains(testOnly, e.Name()) {
			files = append(files, to)
		}
	}
	return files, nil
}

// Version identifies the sources: the first 12 hexadecimal digits of their SHA-256.
func Version() string {
	h := sha256.New()
	entries, _ := fs.ReadDir(sources, "src") // embedded: cannot fail
	for _, e := range entries {
		data, _ := sources.ReadFile(path.Join("src", e.Name()))
		fmt.Fprintf(h, "%s %d\n", e.Name(), len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Build compiles the embedded sources into the file out. It never leaves a
// half-written library.
func Build(ctx context.Context, out string) error {
	if err := platform(); err != nil {
		return err
	}
	cc, err := Compiler()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "besa-native-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files, err := Unpack(dir)
	if err != nil {
		return err
	}
	version := filepath.Join(dir, "version.c")
	text := fmt.Sprintf("__attribute__((visibility(\"default\"))) const char %s[] = \"%s\";\n", versionSymbol, Version())
	if err := os.WriteFile(version, []byte(text), 0o644); err != nil {
		return err
	}
	files = append(files, version)
	built := filepath.Join(dir, Library)
	cmd := exec.CommandContext(ctx, cc, Flags(built, files)...)
	cmd.Dir = dir
	var messages bytes.Buffer
	cmd.Stderr = &messages
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		first, _, _ := strings.Cut(strings.TrimSpace(messages.String()), "\n")
		if first != "" {
			first = ": " + first
		}
		return fmt.Errorf("%w: %s: %w%s", ErrBuild, cc, err, first)
	}
	if err := check(built); err != nil {
		return err
	}
	return place(built, out)
}

// platform refuses systems that the plugin has no kernels for.
func platform() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("%w, not %s on %s", ErrPlatform, runtime.GOOS, runtime.GOARCH)
	}
	return nil
}

// place copies a finished library to out, by way of a temporary name beside it.
func place(from, out string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(out), "."+Library+"-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(0o755)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), out)
}
