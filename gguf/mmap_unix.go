//go:build unix

package gguf

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canMap: gguf-parser-go can map files here too.
const canMap = true

// mapFile maps the first size bytes of f read-only.
func mapFile(f *os.File, size int) (data []byte, unmap func() error, err error) {
	data, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map: %w", err)
	}
	return data, func() error { return unix.Munmap(data) }, nil
}

// release tells the system that the pages within b are not needed for now.
func release(b []byte) {
	page := os.Getpagesize()
	start := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (page - 1)
	if n := (len(b) - start) &^ (page - 1); n > 0 {
		// Advice: nothing depends on its being taken.
		_ = unix.Madvise(b[start:start+n], unix.MADV_DONTNEED)
	}
}
