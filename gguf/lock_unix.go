//go:build unix && !solaris && !aix

package gguf

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock takes the lock on an open file, or fails at once if somebody has it. It
// is given up when the file is closed, by the death of the process as well.
func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
