package gguf

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve allocates the file's space. That the file system cannot do it is no
// error: the writes will tell.
func reserve(f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
			return err
		}
		return nil
	}
}
