package llama

import (
	"errors"
	"io"
	"sort"

	"besa/gguf"
	"besa/sparsefmt"
)

// expansion is the ordinary GGUF that a sparse one stands for, as bytes at
// offsets, expanded as they are asked for.
type expansion struct {
	file    *sparsefmt.File
	header  []byte // with its padding
	tensors []extent
	size    int64

	// skip says which tensors read as zeros: llama.cpp does not need their bytes.
	skip map[string]bool
}

// extent is where a tensor's data lies, padding excluded.
type extent struct {
	name       string
	start, end int64
}

func newExpansion(f *sparsefmt.File) *expansion {
	e := &expansion{file: f}
	kvs, tensors := f.ExpandedHeader()
	align := f.GGUF().Alignment()
	up := func(n uint64) uint64 { return (n + align - 1) / align * align }
	offset := uint64(0)
	for i := range tensors {
		tensors[i].Offset = offset
		offset = up(offset + tensors[i].Bytes)
	}
	e.header = gguf.AppendHeader(nil, kvs, tensors)
	e.header = append(e.header, make([]byte, up(uint64(len(e.header)))-uint64(len(e.header)))...)
	start := int64(len(e.header))
	for _, t := range tensors {
		from := start + int64(t.Offset)
		e.tensors = append(e.tensors, extent{t.Name, from, from + int64(t.Bytes)})
	}
	e.size = start + int64(offset)
	return e
}

// ReadAt implements [io.ReaderAt].
func (e *expansion) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	for n < len(p) && off < e.size {
		k, err := e.piece(p[n:], off)
		if err != nil {
			return n, err
		}
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// piece reads from the header, one tensor or one gap between two.
func (e *expansion) piece(p []byte, off int64) (int, error) {
	if off < int64(len(e.header)) {
		return copy(p, e.header[off:]), nil
	}
	i := sort.Search(len(e.tensors), func(i int) bool { return e.tensors[i].end > off })
	next := e.size
	if i < len(e.tensors) {
		if t := e.tensors[i]; off >= t.start {
			p = p[:min(int64(len(p)), t.end-off)]
			return len(p), e.tensor(p, t.name, off-t.start, off+int64(len(p)) == t.end)
		}
		next = e.tensors[i].start
	}
	p = p[:min(int64(len(p)), next-off)]
	clear(p)
	return len(p), nil
}

// tensor reads a part of a tensor's data. With last it lets go of the mapped
// memory afterwards: llama.cpp has its own copy then.
func (e *expansion) tensor(p []byte, name string, off int64, last bool) error {
	if e.skip[name] {
		clear(p)
		return nil
	}
	g := e.file.GGUF()
	rows, _, sparse := e.file.Rows(name)
	if sparse {
		name += sparsefmt.Suffix
	}
	stored, _ := g.Tensor(name)
	if last {
		defer g.Release(stored)
	}
	return gguf.GuardFault(func() error {
		if !sparse {
			copy(p, g.Data(stored)[off:])
			return nil
		}
		return expandBytes(rows, p, off)
	})
}

// expandBytes expands rows, and of the first and the last a part.
func expandBytes(rows sparsefmt.RowExpander, p []byte, off int64) error {
	size := rows.RowBytes()
	row, skip := int(off/int64(size)), int(off%int64(size))
	for len(p) > 0 {
		if n := len(p) / size; skip == 0 && n > 0 {
			if err := rows.ExpandRows(row, row+n, p[:n*size]); err != nil {
				return err
			}
			row, p = row+n, p[n*size:]
			continue
		}
		part := make([]byte, size)
		if err := rows.ExpandRows(row, row+1, part); err != nil {
			return err
		}
		p = p[copy(p, part[skip:]):]
		row, skip = row+1, 0
	}
	return nil
}
