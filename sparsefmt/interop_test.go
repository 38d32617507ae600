package sparsefmt

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	gguf_parser "github.com/gpustack/gguf-parser-go"

	"besa/internal/assets"
)

// python runs Python with numpy and the package gguf.
func python(t *testing.T, args ...string) string {
	t.Helper()
	packages := assets.Path(t, assets.Python)
	name := os.Getenv("PYTHON")
	if name == "" {
		name = "python3"
	}
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), "PYTHONPATH="+packages, "PYTHONDONTWRITEBYTECODE=1")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestIndependentReader: a reader written from SPEC.md alone expands the test
// vectors to the bytes that SPEC.md states.
func TestIndependentReader(t *testing.T) {
	for _, row := range specTable(t, "file", "bytes") {
		out := filepath.Join(t.TempDir(), "expanded.gguf")
		python(t, "testdata/reader.py", row[0], out)
		if got := sha(t, out); got != row[4] {
			t.Errorf("reader.py expands %s to %s, SPEC.md says %s", row[0], got, row[4])
		}
	}
}

// TestOtherGGUFReaders: gguf-parser-go and the PyPI package gguf see a valid
// GGUF with all its pairs and tensors.
func TestOtherGGUFReaders(t *testing.T) {
	for _, path := range vectorFiles {
		f := mustOpen(t, path).GGUF()
		parsed, err := gguf_parser.ParseGGUFFile(path)
		if err != nil {
			t.Errorf("gguf-parser-go: %s: %v", path, err)
			continue
		}
		if len(parsed.TensorInfos) != len(f.Tensors()) || len(parsed.Header.MetadataKV) != len(f.KVs()) {
			t.Errorf("gguf-parser-go: %s: %d tensors, %d pairs", path, len(parsed.TensorInfos), len(parsed.Header.MetadataKV))
		}
	}
	for _, path := range vectorFiles {
		f := mustOpen(t, path).GGUF()
		dump := python(t, "-m", "gguf.scripts.gguf_dump", path)
		// gguf-dump counts three pairs of its own: version and the two counts.
		for _, want := range []string{
			"Dumping " + strconv.Itoa(len(f.KVs())+3) + " key/value pair(s)",
			"Dumping " + strconv.Itoa(len(f.Tensors())) + " tensor(s)",
			"besa.format.layout = '" + mustOpen(t, path).Layout().String() + "'",
		} {
			if !strings.Contains(dump, want) {
				t.Errorf("gguf-dump of %s lacks %q:\n%s", path, want, dump)
			}
		}
		for _, x := range f.Tensors() {
			if !strings.Contains(dump, "| "+x.Name+"\n") {
				t.Errorf("gguf-dump of %s lacks tensor %s:\n%s", path, x.Name, dump)
			}
		}
	}
}
