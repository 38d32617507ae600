//go:build !linux && !darwin && !freebsd

package mount

import (
	"fmt"
	"runtime"
)

// Mount is a directory with one file in it: nowhere on this system.
type Mount struct{}

// New fails: there is no FUSE here.
func New(string, File, Options) (*Mount, error) {
	return nil, fmt.Errorf("%w on %s; write the file with besa expand instead", ErrUnavailable, runtime.GOOS)
}

// Path is the file's name.
func (*Mount) Path() string { return "" }

// Wait returns at once.
func (*Mount) Wait() {}

// Unmount does nothing.
func (*Mount) Unmount() error { return nil }
