package demomodel

import (
	"os"
	"path/filepath"
)

// TB is what File needs of a testing.TB; the program, which embeds the model
// too, shall not link package testing.
type TB interface {
	Helper()
	TempDir() string
	Fatal(args ...any)
}

// File writes the model to a file in a folder of the test's own, which ends
// with the test, and returns its path.
func File(t TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "demo.gguf")
	if err := os.WriteFile(path, Model(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
