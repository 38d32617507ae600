package sparsefmt

import (
	"errors"
	"fmt"
	"io"
	"sort"

	"besa/gguf"
)

// DenseReader gives the bytes of the expanded file, those that ExpandTo
// writes, at any offset, without the file: it expands what is asked for and
// keeps what was expanded last. It is an io.ReaderAt for many goroutines at
// once; none may use it after the File is closed.
//
// What is read is checked as far as that is needed to be safe. Checksums are
// not compared: [Verify] does that for a whole file.
type DenseReader struct {
	file    *File
	header  []byte // with its padding
	extents []extent
	size    int64
	chunks  *chunkCache
}

// extent is where a tensor lies in the expanded file.
type extent struct {
	entry      *entry
	start, end int64 // of its data, without padding
	// Of a pruned tensor:
	rows  RowExpander
	chunk int64 // expanded bytes that are kept together: whole steps of rows
}

const (
	// DefaultDenseCache is the memory that DenseReader uses, in bytes.
	DefaultDenseCache = 64 << 20
	// chunkTarget is about how much is expanded for a short read.
	chunkTarget = 256 << 10
)

// DenseReader returns a reader of the expanded file that keeps up to
// DefaultDenseCache bytes of expanded tensors.
func (f *File) DenseReader() *DenseReader { return f.DenseReaderSize(DefaultDenseCache) }

// DenseReaderSize is DenseReader with another size of the cache. A chunk that
// is larger than the cache is expanded anew for every read of it.
func (f *File) DenseReaderSize(cacheBytes int64) *DenseReader {
	kvs, tensors := f.ExpandedHeader()
	align := alignment(kvs)
	offset := uint64(0)
	for i := range tensors {
		tensors[i].Offset = offset
		offset += tensors[i].Bytes + padding(tensors[i].Bytes, align)
	}
	d := &DenseReader{file: f, chunks: newChunkCache(cacheBytes)}
	d.header = gguf.AppendHeader(nil, kvs, tensors)
	d.header = append(d.header, make([]byte, padding(uint64(len(d.header)), align))...)
	start := int64(len(d.header))
	d.size = start + int64(offset)
	for i, t := range tensors {
		s := extent{entry: &f.entries[i], start: start + int64(t.Offset)}
		s.end = s.start + int64(t.Bytes)
		if rows, _, ok := f.Rows(t.Name); ok {
			step := int64(rows.RowStep()) * int64(rows.RowBytes())
			s.rows, s.chunk = rows, max(1, chunkTarget/step)*step
		}
		d.extents = append(d.extents, s)
	}
	return d
}

// Size is the size of the expanded file in bytes.
func (d *DenseReader) Size() int64 { return d.size }

// ReadAt implements [io.ReaderAt].
func (d *DenseReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	for n < len(p) && off < d.size {
		k, err := d.piece(p[n:], off)
		n, off = n+k, off+int64(k)
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// piece reads from one part of the file only: the header, a tensor, padding.
func (d *DenseReader) piece(p []byte, off int64) (int, error) {
	if off < int64(len(d.header)) {
		return copy(p, d.header[off:]), nil
	}
	i := sort.Search(len(d.extents), func(i int) bool { return d.extents[i].end > off })
	next := d.size
	if i < len(d.extents) {
		s := &d.extents[i]
		if off >= s.start {
			n, err := d.tensor(i, p[:min(int64(len(p)), s.end-off)], off-s.start)
			if err != nil {
				err = fmt.Errorf("%s: %w", d.file.Path(), inTensor(s.entry.name(), err))
			}
			return n, err
		}
		next = s.start
	}
	n := min(int64(len(p)), next-off)
	clear(p[:n])
	return int(n), nil
}

// tensor reads from tensor i at off: dense data as far as p goes, of a pruned
// tensor one chunk at most.
func (d *DenseReader) tensor(i int, p []byte, off int64) (int, error) {
	s := &d.extents[i]
	if s.rows == nil {
		err := gguf.GuardFault(func() error {
			copy(p, d.file.g.Data(s.entry.stored)[off:])
			return nil
		})
		return len(p), err
	}
	start := off / s.chunk * s.chunk
	size := min(s.chunk, s.end-s.start-start)
	if start == off && int64(len(p)) >= size { // all of it is wanted: no need to keep it
		return int(size), s.expand(p[:size], start)
	}
	data, err := d.chunks.get(chunkKey{i, start}, size, func(dst []byte) error { return s.expand(dst, start) })
	if err != nil {
		return 0, err
	}
	return copy(p, data[off-start:]), nil
}

// expand writes whole rows, those that lie at off in the expanded tensor.
func (s *extent) expand(dst []byte, off int64) error {
	size := int64(s.rows.RowBytes())
	from, n := int(off/size), int(int64(len(dst))/size)
	return gguf.GuardFault(func() error { return s.rows.ExpandRows(from, from+n, dst) })
}
