package housetest

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport lists, for every package, the packages of this module that it may
// import. Data flows one way, so this is the whole architecture.
var mayImport = map[string][]string{
	"cmd/besa": {"besa", "convert", "eval", "gguf", "native", "sparsefmt", "internal/ablate", "internal/corpus", "internal/demomodel", "internal/enginebench",
		"internal/generate", "internal/kernel", "internal/llama", "internal/mount", "internal/serve"},
	"convert": {"besa", "gguf", "sparsefmt", "internal/corpus", "internal/decoder", "internal/disk", "internal/kernel", "internal/model",
		"internal/selftext", "internal/tokenizer"},
	"internal/ablate":         {"besa", "convert", "eval", "internal/corpus", "internal/decoder", "internal/disk", "internal/kernel"},
	"internal/enginebench":    {"besa", "internal/decoder", "internal/kernel"},
	"eval":                    {"gguf", "sparsefmt", "internal/corpus", "internal/kernel", "internal/llama", "internal/model", "internal/tokenizer"},
	"internal/serve":          {"internal/generate", "internal/llama"},
	"internal/generate":       {"internal/llama"},
	"internal/llama":          {"gguf", "native", "sparsefmt", "internal/libffi", "internal/tokenizer"},
	"besa":                    {"internal/decoder", "internal/kernel", "internal/linalg"},
	"internal/model":          {"gguf", "sparsefmt", "internal/decoder", "internal/kernel", "internal/tokenizer"}, // a vocabulary that fits its tensors
	"internal/tokenizer":      {"gguf"},
	"internal/selftext":       {"internal/decoder", "internal/kernel", "internal/model", "internal/tokenizer"}, // the last in tests
	"internal/decoder":        {"internal/kernel"},
	"sparsefmt":               {"gguf", "internal/kernel"},
	"gguf":                    {},
	"internal/kernel":         {},
	"internal/linalg":         {"internal/kernel"},
	"internal/corpus":         {},
	"internal/mount":          {},
	"scripts/bench-model":     {"gguf", "sparsefmt"},
	"scripts/cut-model":       {"gguf"},
	"native":                  {"gguf", "sparsefmt", "internal/llama"}, // its tests: the format, models in llama.cpp
	"internal/libffi":         {},
	"internal/demomodel":      {"gguf"}, // its test reads the model
	"internal/housetest":      {},
	"internal/golden":         {},
	"internal/assets":         {},
	"scripts/synthetic-model": {"gguf", "internal/demomodel"},
	"internal/disk":           {},
}

// testOnly may be imported by tests anywhere, and by nothing else.
var testOnly = []string{"internal/golden", "internal/assets", "internal/demomodel"}

const (
	module   = "besa"
	maxLines = 400
)

type source struct {
	path, pkg string
	test      bool
	file      *ast.File
}

// sources parses all Go files of the module (generators and test data apart).
func sources(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var all []source
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "build") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		all = append(all, source{rel, filepath.ToSlash(filepath.Dir(rel)), strings.HasSuffix(name, "_test.go"), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 30 {
		t.Fatalf("found only %d Go files below %s", len(all), root)
	}
	return all
}

func TestImportDirections(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := mayImport[s.pkg]
		if !known {
			t.Errorf("%s: package %s has no place in the house; add it to mayImport", s.path, s.pkg)
			continue
		}
		for _, spec := range s.file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			imported, ours := strings.CutPrefix(path, module+"/")
			if !ours || slices.Contains(allowed, imported) || imported == s.pkg {
				continue
			}
			if s.test && slices.Contains(testOnly, imported) {
				continue
			}
			t.Errorf("%s imports %s, which %s may not", s.path, path, s.pkg)
		}
	}
}

func TestNoPackageWithoutMeaning(t *testing.T) {
	for _, s := range sources(t) {
		for _, part := range strings.Split(s.pkg, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helpers", "misc"}, part) {
				t.Errorf("%s: a package called %s says nothing", s.path, part)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	documented := map[string]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if doc := s.file.Doc.Text(); len(doc) > len(documented[s.pkg]) {
			documented[s.pkg] = doc
		} else if _, ok := documented[s.pkg]; !ok {
			documented[s.pkg] = ""
		}
	}
	for pkg, doc := range documented {
		if len(doc) < 80 {
			t.Errorf("package %s has a doc comment of %d bytes; say what it is for, what comes in and what goes out", pkg, len(doc))
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || ast.IsGenerated(s.file) {
			continue
		}
		f, err := os.Open(filepath.Join("../..", s.path))
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for sc := bufio.NewScanner(f); sc.Scan(); {
			lines++
		}
		f.Close()
		if lines > maxLines {
			t.Errorf("%s has %d lines, more than %d: is it still one idea?", s.path, lines, maxLines)
		}
	}
}
