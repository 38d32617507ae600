//go:build linux || freebsd

package libffi

import (
	"go/build"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	if err := check(name); err != nil {
		t.Fatal(err)
	}
	err := check("libno-such-library.so.0")
	if err == nil || !strings.Contains(err.Error(), "apt-get install") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a missing library gives %v", err)
	}
}

// TestComesFirst checks what the order of initialisation rests on: this
// package's path sorts before the binding's, and it needs no more than purego,
// which the binding needs too.
func TestComesFirst(t *testing.T) {
	const binding = "github.com/jupiterrider/ffi"
	p, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	if path := "besa/internal/libffi"; path >= binding {
		t.Errorf("%s does not sort before %s", path, binding)
	}
	for _, imported := range p.Imports {
		if strings.Contains(imported, ".") && imported != "github.com/ebitengine/purego" {
			t.Errorf("imports %s, which may be initialised after the binding", imported)
		}
	}
}
