package llama

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// blobs are unpacked weights, outside Go's heap: there the collector would let
// as much garbage gather as there are weights. They lie on large pages, since all
// of them are read for every token.
type blobs struct {
	regions [][]byte
	free    []byte // of the last region
}

const (
	regionBytes = 64 << 20
	blobAlign   = 64 // a cache line
)

// hold returns a copy of a blob that stays until close.
func (b *blobs) hold(blob []byte) ([]byte, error) {
	size := (len(blob) + blobAlign - 1) &^ (blobAlign - 1)
	if size > len(b.free) {
		b.trim()
		bytes := max(size, regionBytes)
		region, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return nil, fmt.Errorf("allocate %d bytes for unpacked weights: %w", bytes, err)
		}
		_ = unix.Madvise(region, unix.MADV_HUGEPAGE) // a wish
		b.regions = append(b.regions, region)
		b.free = region
	}
	held := b.free[:len(blob):len(blob)]
	copy(held, blob)
	b.free = b.free[size:]
	return held, nil
}

// trim gives back what is left of a large page.
func (b *blobs) trim() {
	page := os.Getpagesize()
	whole := len(b.free) / page * page // regions end at the end of a page
	if whole > 0 {
		_ = unix.Madvise(b.free[len(b.free)-whole:], unix.MADV_DONTNEED) // holds nothing
	}
	b.free = nil
}

// close frees the blobs: nothing may use them any more.
func (b *blobs) close() (err error) {
	for _, region := range b.regions {
		err = errors.Join(err, unix.Munmap(region))
	}
	*b = blobs{}
	return err
}
