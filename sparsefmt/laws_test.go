package sparsefmt

import (
	"bytes"
	"context"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"besa/gguf"
)

// TestParsedAndWrittenAgain: a sparse file is an ordinary container; what is
// parsed and written again is byte for byte the same.
func TestParsedAndWrittenAgain(t *testing.T) {
	for _, vector := range []string{vectorFile, packedVectorFile} {
		g, err := gguf.Open(vector)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		path := filepath.Join(t.TempDir(), "again.gguf")
		w, err := gguf.Create(path, g.KVs(), g.Tensors())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		for _, x := range g.Tensors() {
			if err := w.WriteTensor(x.Name, g.Data(x)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(mustRead(t, path), mustRead(t, vector)) {
			t.Errorf("%s: written again, it differs", vector)
		}
	}
}

// TestMemoryIsBoundedByTheFile: whatever a malformed file of ten kilobytes
// claims, finding out costs little.
func TestMemoryIsBoundedByTheFile(t *testing.T) {
	const allowed = 8 << 20
	for _, c := range slices.Concat(fileCases, chunkTableCases, contentCases, chunkCases) {
		path := c.write(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if f, err := Open(path); err == nil {
			f.Close()
		}
		_, _ = Verify(context.Background(), path) // what it finds is tested elsewhere
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > allowed {
			t.Errorf("%v %s: %d bytes allocated", c.rule, c.name, n)
		}
	}
}
