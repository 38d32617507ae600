//go:build linux || freebsd

// Package libffi checks, before anything else is initialised, that the system
// has libffi. In: the system's libraries. Out: nothing, or one clear sentence
// and exit code 3.
//
// The llama.cpp binding (yzma) loads libffi in a package initialiser that
// panics where it is missing, even when llama.cpp is never used. Go initialises
// packages in the order of their import paths as far as dependencies allow, so
// this one comes first; TestComesFirst holds it to that.
package libffi

import (
	"fmt"
	"os"

	"github.com/ebitengine/purego"
)

// name is the library that the binding loads.
const name = "libffi.so.8"

func init() {
	if err := check(name); err != nil {
		fmt.Fprintln(os.Stderr, "besa:", err)
		os.Exit(3)
	}
}

// check tries to load a library. It stays loaded: the binding wants it next.
func check(library string) error {
	if _, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_GLOBAL); err != nil {
		return fmt.Errorf("%s is missing, which the llama.cpp binding needs; install libffi (Debian, Ubuntu: apt-get install libffi8)", library)
	}
	return nil
}
