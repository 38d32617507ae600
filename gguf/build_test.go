package gguf

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// spec describes a GGUF file field by field, so that a test can make any one
// of them wrong. Its bytes are put together without the package's own writer.
type spec struct {
	magic    string
	version  uint32
	nTensors *uint64 // instead of the true number
	nKVs     *uint64
	kvs      []rawKV
	tensors  []rawTensor
	align    int // of the data section
	data     int // bytes of data section
	tail     string
}

type rawKV struct {
	key    string
	keyLen *uint64 // instead of the true length
	typ    uint32
	value  []byte
}

type rawTensor struct {
	name    string
	nameLen *uint64
	nDims   *uint32
	shape   []uint64
	typ     uint32
	offset  uint64
}

// valid is a file with two pairs and two tensors.
func valid() *spec {
	return &spec{
		magic: "GGUF", version: 3, align: 32, data: 128 + 64,
		kvs: []rawKV{
			{key: "general.architecture", typ: uint32(String), value: text("llama")},
			{key: "a.list", typ: uint32(Array), value: join(u32(uint32(Int16)), u64(3), []byte("\x01\x00\x02\x00\x03\x00"))},
		},
		tensors: []rawTensor{
			{name: "first", shape: []uint64{4, 7}, typ: uint32(F32), offset: 0},
			{name: "second", shape: []uint64{32, 3}, typ: uint32(Q4_0), offset: 128},
		},
	}
}

func (s *spec) bytes() []byte {
	b := append([]byte(s.magic), u32(s.version)...)
	b = append(b, u64(or(s.nTensors, uint64(len(s.tensors))))...)
	b = append(b, u64(or(s.nKVs, uint64(len(s.kvs))))...)
	for _, kv := range s.kvs {
		b = append(b, u64(or(kv.keyLen, uint64(len(kv.key))))...)
		b = append(b, kv.key...)
		b = append(b, u32(kv.typ)...)
		b = append(b, kv.value...)
	}
	for _, t := range s.tensors {
		b = append(b, u64(or(t.nameLen, uint64(len(t.name))))...)
		b = append(b, t.name...)
		b = append(b, u32(or(t.nDims, uint32(len(t.shape))))...)
		for _, n := range t.shape {
			b = append(b, u64(n)...)
		}
		b = append(b, u32(t.typ)...)
		b = append(b, u64(t.offset)...)
	}
	for s.align > 0 && len(b)%s.align != 0 {
		b = append(b, 0)
	}
	for i := range s.data {
		b = append(b, byte(i))
	}
	return append(b, s.tail...)
}

func or[T any](p *T, v T) T {
	if p != nil {
		return *p
	}
	return v
}

func u32(v uint32) []byte     { return binary.LittleEndian.AppendUint32(nil, v) }
func u64(v uint64) []byte     { return binary.LittleEndian.AppendUint64(nil, v) }
func text(s string) []byte    { return append(u64(uint64(len(s))), s...) }
func join(p ...[]byte) []byte { return bytes.Join(p, nil) }

// writeFile puts bytes into a file of the test's own.
func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}
