package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// plan checks the pairs and tensors, computes the layout and returns the
// header of every file, with its padding. It reads the headers back with the
// scan that Open uses: what this package would not open, it does not write.
func (w *Writer) plan(maxBytes uint64, kvs []KV, tensors []Tensor) ([][]byte, error) {
	var err error
	for _, kv := range kvs {
		c := cursor{data: kv.Raw}
		if err := c.value(kv.Type); err != nil || c.left() != 0 {
			return nil, fmt.Errorf("metadata key %q: its bytes are no value of type %s", kv.Key, kv.Type)
		}
	}
	if w.align, err = alignmentOf(kvs); err != nil {
		return nil, err
	}
	w.tensors = slices.Clone(tensors)
	if err := placeTensors(w.tensors, w.align); err != nil {
		return nil, err
	}
	ends := divide(w.tensors, w.align, maxBytes)
	if len(ends) > maxParts {
		return nil, fmt.Errorf("%d parts, more than %d: allow larger ones", len(ends), maxParts)
	}
	var headers [][]byte
	start := 0
	for i, end := range ends {
		f := &outFile{path: w.path, end: end}
		own := kvs
		if len(ends) > 1 {
			f.path = partName(splitStem(w.path), i, len(ends))
			own = partKVs(kvs, i, len(ends), len(w.tensors), splitKeys)
		}
		header, size, err := planFile(own, w.tensors[start:end], w.align)
		if err != nil {
			return nil, err
		}
		f.size, start = size, end
		w.files, headers = append(w.files, f), append(headers, header)
	}
	return headers, nil
}

// placeTensors fills in sizes, and offsets as in one file.
func placeTensors(tensors []Tensor, align uint64) error {
	var offset uint64
	for i := range tensors {
		t := &tensors[i]
		n, err := tensorBytes(t.Type, t.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if t.Bytes != 0 && t.Bytes != n {
			return fmt.Errorf("tensor %q: %d bytes, but %s of shape %v has %d", t.Name, t.Bytes, t.Type, t.Shape, n)
		}
		t.Bytes, t.Offset = n, offset
		if offset = alignUp(offset+n, align); offset > math.MaxInt64/2 {
			return fmt.Errorf("tensor %q: the file's size overflows", t.Name)
		}
	}
	return nil
}

// divide returns where each part ends: a part takes tensors as long as their
// padded data is within maxBytes, and at least one.
func divide(tensors []Tensor, align, maxBytes uint64) []int {
	var ends []int
	var size uint64
	for i, t := range tensors {
		n := alignUp(t.Bytes, align)
		if maxBytes != 0 && size != 0 && size+n > maxBytes {
			ends, size = append(ends, i), 0
		}
		size += n
	}
	return append(ends, len(tensors))
}

// planFile returns one file's header and size. The tensors' offsets are those
// of the model, of which these may be a part.
func planFile(kvs []KV, tensors []Tensor, align uint64) ([]byte, int64, error) {
	own := slices.Clone(tensors)
	var data uint64
	for i := range own {
		own[i].Offset -= tensors[0].Offset
		data = own[i].Offset + alignUp(own[i].Bytes, align)
	}
	header := AppendHeader(nil, kvs, own)
	end := len(header)
	header = append(header, make([]byte, alignUp(uint64(end), align)-uint64(end))...)
	size := uint64(len(header)) + data
	return header, int64(size), checkWritten(header, end, size)
}

// checkWritten scans a header of end bytes that is about to be written.
func checkWritten(header []byte, end int, size uint64) error {
	h, c, err := scanHeader(header)
	if err != nil {
		return err
	}
	if c.pos != end {
		return fmt.Errorf("internal error: header of %d bytes reads as %d", end, c.pos)
	}
	return h.checkData(uint64(end), size)
}

// AppendHeader appends a file's bytes up to the padding before the data, as
// Create writes them. Offsets are taken from the tensors as they are.
func AppendHeader(b []byte, kvs []KV, tensors []Tensor) []byte {
	le := binary.LittleEndian
	text := func(s string) {
		b = le.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, magic...)
	b = le.AppendUint32(b, version)
	b = le.AppendUint64(b, uint64(len(tensors)))
	b = le.AppendUint64(b, uint64(len(kvs)))
	for _, kv := range kvs {
		text(kv.Key)
		b = le.AppendUint32(b, uint32(kv.Type))
		b = append(b, kv.Raw...)
	}
	for _, t := range tensors {
		text(t.Name)
		b = le.AppendUint32(b, uint32(len(t.Shape)))
		for _, n := range t.Shape {
			b = le.AppendUint64(b, n)
		}
		b = le.AppendUint32(b, uint32(t.Type))
		b = le.AppendUint64(b, t.Offset)
	}
	return b
}
