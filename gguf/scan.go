package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits. A count above its limit is malformed; one within it that the file
// cannot hold means that the file is truncated.
const (
	magic            = "GGUF"
	version          = 3       // what is written; 2 has the same layout and is read
	maxItems         = 1 << 30 // pairs, tensors, elements of an array, bytes of a string (the last two as in llama.cpp)
	maxKeyBytes      = 65535   // the specification's
	maxNameBytes     = 63      // llama.cpp: 64 with the terminating zero
	maxDims          = 4       // llama.cpp
	minAlignment     = 8       // the specification wants a multiple of 8, llama.cpp a power of two
	maxAlignment     = 1 << 20
	defaultAlignment = 32
	alignmentKey     = "general.alignment"
	headerBytes      = 24 // magic, version, two counts

	minPairBytes   = 8 + 1 + 4 + 1         // a key of one byte, a value of one
	minTensorBytes = 8 + 1 + 4 + 8 + 4 + 8 // a name of one byte, one dimension
)

// header is everything before the tensor data, validated. Raw values are
// slices of the scanned bytes; keys and names are copies.
type header struct {
	version    uint32
	kvs        []KV
	keys       map[string]int // index into kvs
	tensors    []Tensor
	names      map[string]int // index into tensors
	alignment  uint64
	dataOffset uint64
}

// parse validates a whole GGUF file: every field of its header, and that the
// data it promises is there. Memory stays proportional to len(data), whatever
// the counts in it say.
func parse(data []byte) (*header, error) {
	h, c, err := scanHeader(data)
	if err != nil {
		return nil, err
	}
	if err := h.checkData(uint64(c.pos), uint64(len(data))); err != nil {
		return nil, err
	}
	return h, nil
}

// scanHeader reads everything before the tensor data; the cursor it returns
// stands at the end of that, before the padding.
func scanHeader(data []byte) (*header, *cursor, error) {
	if err := checkMagic(data); err != nil {
		return nil, nil, err
	}
	c := &cursor{data: data, pos: len(magic)}
	if err := checkVersion(c); err != nil {
		return nil, nil, err
	}
	nTensors, err := c.count(maxItems, minTensorBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("number of tensors: %w", err)
	}
	nKVs, err := c.count(maxItems, minPairBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("number of metadata pairs: %w", err)
	}
	h := &header{version: binary.LittleEndian.Uint32(data[len(magic):]), keys: map[string]int{}, names: map[string]int{}}
	for i := range nKVs {
		if err := h.scanKV(c, i); err != nil {
			return nil, nil, err
		}
	}
	if h.alignment, err = alignmentOf(h.kvs); err != nil {
		return nil, nil, err
	}
	for i := range nTensors {
		if err := h.scanTensor(c, i); err != nil {
			return nil, nil, err
		}
	}
	return h, c, nil
}

// checkMagic says as precisely as it can what the file is instead.
func checkMagic(data []byte) error {
	if bytes.HasPrefix(data, []byte(magic)) {
		return nil
	}
	head := bytes.ToLower(bytes.TrimLeft(data[:min(len(data), 256)], " \t\r\n\ufeff"))
	switch {
	case len(data) == 0:
		return fmt.Errorf("%w: it is empty", ErrNotGGUF)
	case len(data) < len(magic):
		return fmt.Errorf("%w: it has %d bytes", ErrNotGGUF, len(data))
	case bytes.HasPrefix(head, []byte("<!doctype html")), bytes.HasPrefix(head, []byte("<html")):
		return fmt.Errorf("%w: it is an HTML page, probably a failed download", ErrNotGGUF)
	case bytes.HasPrefix(head, []byte("version https://git-lfs")):
		return fmt.Errorf("%w: it is a Git LFS pointer, the file itself was not fetched", ErrNotGGUF)
	}
	switch string(data[:4]) {
	case "FUGG":
		return fmt.Errorf("%w: its magic is byte-swapped", ErrNotGGUF)
	case "lmgg", "fmgg", "tjgg", "algg":
		return fmt.Errorf("%w: it has a format older than GGUF (magic %q)", ErrNotGGUF, data[:4])
	}
	return fmt.Errorf("%w: it starts with %q", ErrNotGGUF, data[:4])
}

func checkVersion(c *cursor) error {
	v, err := c.u32()
	switch {
	case err != nil:
		return fmt.Errorf("version: %w", err)
	case v == 2 || v == version:
		return nil
	case v&0xffff == 0 && v != 0:
		return fmt.Errorf("%w: it is big-endian (version field %#08x), only little-endian files are read", ErrVersion, v)
	}
	return fmt.Errorf("%w %d: versions 2 and 3 are read", ErrVersion, v)
}

// alignmentOf returns general.alignment, or the default.
func alignmentOf(kvs []KV) (uint64, error) {
	for _, kv := range kvs {
		if kv.Key != alignmentKey {
			continue
		}
		if kv.Type != Uint32 {
			return 0, fmt.Errorf("%w: %s has type %s, not uint32", ErrMalformed, alignmentKey, kv.Type)
		}
		a := uint64(binary.LittleEndian.Uint32(kv.Raw))
		if a < minAlignment || a > maxAlignment || a&(a-1) != 0 {
			return 0, fmt.Errorf("%w: %s is %d, not a power of two from %d to %d",
				ErrMalformed, alignmentKey, a, minAlignment, maxAlignment)
		}
		return a, nil
	}
	return defaultAlignment, nil
}

// scanKV reads pair i.
func (h *header) scanKV(c *cursor, i int) error {
	key, err := scanName(c, maxKeyBytes)
	if err != nil {
		return fmt.Errorf("key %d: %w", i, err)
	}
	if first, ok := h.keys[key]; ok {
		return fmt.Errorf("%w: pairs %d and %d have the same key %q", ErrMalformed, first, i, clip(key))
	}
	t, err := c.u32()
	if err != nil {
		return fmt.Errorf("type of key %q: %w", clip(key), err)
	}
	start := c.pos
	if err := c.value(ValueType(t)); err != nil {
		return fmt.Errorf("value of key %q: %w", clip(key), err)
	}
	h.keys[key] = i
	h.kvs = append(h.kvs, KV{Key: key, Type: ValueType(t), Raw: c.data[start:c.pos:c.pos]})
	return nil
}

// scanTensor reads the description of tensor i.
func (h *header) scanTensor(c *cursor, i int) error {
	name, err := scanName(c, maxNameBytes)
	if err != nil {
		return fmt.Errorf("name of tensor %d: %w", i, err)
	}
	if first, ok := h.names[name]; ok {
		return fmt.Errorf("%w: tensors %d and %d have the same name %q", ErrMalformed, first, i, name)
	}
	t, err := scanDescription(c)
	if err != nil {
		return fmt.Errorf("tensor %q: %w", name, err)
	}
	t.Name = name
	h.names[name] = i
	h.tensors = append(h.tensors, t)
	return nil
}

// scanDescription reads what follows a tensor's name: number of dimensions,
// dimensions, type, data offset.
func scanDescription(c *cursor) (t Tensor, err error) {
	nDims, err := c.u32()
	if err != nil {
		return t, err
	}
	if nDims < 1 || nDims > maxDims {
		return t, fmt.Errorf("%w: %d dimensions, not 1 to %d", ErrMalformed, nDims, maxDims)
	}
	t.Shape = make([]uint64, nDims)
	for j := range t.Shape {
		if t.Shape[j], err = c.u64(); err != nil {
			return t, err
		}
	}
	typ, err := c.u32()
	if err != nil {
		return t, err
	}
	t.Type = Type(typ)
	if t.Offset, err = c.u64(); err != nil {
		return t, err
	}
	t.Bytes, err = tensorBytes(t.Type, t.Shape)
	return t, err
}

// checkData places the data section and checks that tensors lie in it one
// after the other, each padded to the alignment, as llama.cpp demands. The
// padding of the last may be missing, and other bytes may follow.
func (h *header) checkData(end, size uint64) error {
	h.dataOffset = alignUp(end, h.alignment)
	if len(h.tensors) == 0 {
		return nil
	}
	if h.dataOffset > size {
		return fmt.Errorf("%w: tensor data starts at %d, the file has %d bytes", ErrTruncated, h.dataOffset, size)
	}
	// No sum wraps: offset exceeds room by less than the alignment.
	var offset, room uint64 = 0, size - h.dataOffset
	for _, t := range h.tensors {
		switch {
		case t.Offset%h.alignment != 0:
			return fmt.Errorf("tensor %q: %w: data offset %d is no multiple of the alignment %d",
				t.Name, ErrMalformed, t.Offset, h.alignment)
		case t.Offset != offset:
			return fmt.Errorf("tensor %q: %w: data offset is %d, but the tensors before it end at %d",
				t.Name, ErrMalformed, t.Offset, offset)
		case offset > room || t.Bytes > room-offset:
			return fmt.Errorf("tensor %q: %w: its %d bytes start at %d, the file has %d",
				t.Name, ErrTruncated, t.Bytes, h.dataOffset+offset, size)
		}
		offset = alignUp(offset+t.Bytes, h.alignment)
	}
	return nil
}

func alignUp(n, alignment uint64) uint64 { return (n + alignment - 1) &^ (alignment - 1) }

// scanName reads a key or a tensor name.
func scanName(c *cursor, limit int) (string, error) {
	start := c.pos
	b, err := c.text(uint64(limit))
	if err != nil {
		return "", err
	}
	s := string(b)
	if err := checkName(s, limit); err != nil {
		return "", fmt.Errorf("%w: at offset %d: %w", ErrMalformed, start, err)
	}
	return s, nil
}

// checkName is the rule for keys and tensor names.
func checkName(s string, limit int) error {
	switch {
	case s == "":
		return errors.New("empty name")
	case len(s) > limit:
		return fmt.Errorf("name of %d bytes, more than %d", len(s), limit)
	case !utf8.ValidString(s):
		return fmt.Errorf("name %q is not UTF-8", clip(s))
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("name %q contains a control character", clip(s))
	}
	return nil
}

// clip keeps an error message to a line.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
