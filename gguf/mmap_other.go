//go:build !unix

package gguf

import (
	"io"
	"os"
)

// canMap: gguf-parser-go reads through a plain file here.
const canMap = false

// mapFile reads the first size bytes of f into memory: the fallback for
// systems without mmap.
func mapFile(f *os.File, size int) (data []byte, unmap func() error, err error) {
	data = make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, nil, err
	}
	return data, func() error { return nil }, nil
}

// release: what is not mapped stays.
func release([]byte) {}
