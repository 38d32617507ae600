package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// The cases that llama.cpp tests its own reader with (tests/test-gguf.cpp, four
// groups: header, pairs, tensors, data), rebuilt: random files of about a
// hundred pairs and tensors of all types, each with one thing wrong, and those
// with nothing wrong. Where this reader is stricter than llama.cpp's, strict
// says why.
var handcrafted = []struct {
	name    string
	stage   int // what the file has: 0 only a header, 1 pairs, 2 tensors, 3 data
	change  func(s *spec)
	want    error
	message string
	strict  string
}{
	{name: "header bad magic", change: func(s *spec) { s.magic = "FUGG" }, want: ErrNotGGUF, message: "byte-swapped"},
	{name: "header version 0", change: func(s *spec) { s.version = 0 }, want: ErrVersion, message: "version 0"},
	{name: "header version 1", change: func(s *spec) { s.version = 1 }, want: ErrVersion, message: "version 1"},
	{name: "header future version", change: func(s *spec) { s.version = 4 }, want: ErrVersion, message: "version 4"},
	{name: "header bad number of pairs", change: func(s *spec) { s.nKVs = p64(math.MaxUint64) }, want: ErrMalformed, message: "number of metadata pairs"},
	{name: "header bad number of tensors", change: func(s *spec) { s.nTensors = p64(math.MaxUint64) }, want: ErrMalformed, message: "number of tensors"},
	{name: "header empty"},

	{name: "pairs bad key size", stage: 1, change: func(s *spec) { s.kvs[0].keyLen = p64(math.MaxUint64) }, want: ErrMalformed, message: "key 0"},
	{name: "pairs empty key", stage: 1, change: func(s *spec) { s.kvs[0].key = "" }, want: ErrMalformed, message: "key 0: malformed GGUF file: at offset 24: empty name"},
	{name: "pairs bad type", stage: 1, change: func(s *spec) { s.kvs[7].typ = uint32(len(valueTypes)) }, want: ErrMalformed, message: `value of key "my_key_7": malformed GGUF file: value type 13 does not exist`},
	{name: "pairs duplicate key", stage: 1, change: func(s *spec) { s.kvs[9].key = s.kvs[8].key }, want: ErrMalformed, message: `pairs 8 and 9 have the same key "my_key_8"`},
	{name: "pairs bad alignment", stage: 1, change: func(s *spec) { s.addAlignment(Uint32, 13) }, want: ErrMalformed, message: "general.alignment is 13"},
	{name: "pairs alignment of wrong type", stage: 1, change: func(s *spec) { s.addAlignment(Int32, 32) }, want: ErrMalformed, message: "general.alignment has type int32, not uint32"},
	{name: "pairs fine", stage: 1},

	{name: "tensors bad name size", stage: 2, change: func(s *spec) { s.tensors[3].name += strings.Repeat("_long", 12) }, want: ErrMalformed, message: "name of tensor 3"},
	{name: "tensors bad number of dimensions", stage: 2, change: func(s *spec) { n := uint32(5); s.tensors[3].nDims = &n }, want: ErrMalformed, message: `tensor "my_tensor_3": malformed GGUF file: 5 dimensions`},
	{name: "tensors bad shape", stage: 2, change: func(s *spec) { s.tensors[3].shape[0] = math.MaxUint64 }, want: ErrMalformed, message: "overflows"},
	{name: "tensors zero dimension", stage: 2, change: func(s *spec) { s.tensors[3].shape = []uint64{256, 0} }, want: ErrMalformed, message: "zero dimension",
		strict: "llama.cpp takes tensors without elements; no model has them, and they divided by zero elsewhere (ggml#1517)"},
	{name: "tensors too many elements", stage: 2, change: func(s *spec) { s.tensors[3].shape = []uint64{4 * math.MaxInt32, 4 * math.MaxInt32} }, want: ErrMalformed, message: "overflows"},
	{name: "tensors too many bytes", stage: 2, change: func(s *spec) {
		s.tensors[3].typ, s.tensors[3].shape = uint32(I64), []uint64{1 << 31, 1 << 30}
	}, want: ErrMalformed, message: "size overflows"},
	{name: "tensors bad type", stage: 2, change: func(s *spec) { s.tensors[3].typ = uint32(len(types)) }, want: ErrUnsupportedType, message: "type 43 is not known"},
	{name: "tensors bad offset", stage: 3, change: func(s *spec) { s.tensors[3].offset = math.MaxUint64 }, want: ErrMalformed, message: "data offset 18446744073709551615 is no multiple"},
	{name: "tensors duplicate name", stage: 2, change: func(s *spec) { s.tensors[3].name = s.tensors[2].name }, want: ErrMalformed, message: `tensors 2 and 3 have the same name "my_tensor_2"`},
	{name: "tensors bad alignment", stage: 2, change: func(s *spec) { s.addAlignment(Uint32, 13) }, want: ErrMalformed, message: "general.alignment is 13"},
	{name: "tensors inconsistent alignment", stage: 2, change: func(s *spec) { s.place(1) }, want: ErrMalformed, message: "is no multiple of the alignment 32"},
	{name: "tensors without data", stage: 2, want: ErrTruncated, message: "my_tensor_0",
		strict: "llama.cpp can open a header alone; here a file is a model with its weights"},
	{name: "tensors alignment 1", stage: 2, change: func(s *spec) { s.addAlignment(Uint32, 1); s.place(1) }, want: ErrMalformed, message: "general.alignment is 1, not",
		strict: "the specification wants a multiple of 8"},

	{name: "data not enough", stage: 3, change: func(s *spec) { s.data = s.lastByte() - 1 }, want: ErrTruncated, message: "truncated GGUF file: its"},
	{name: "data bad alignment", stage: 3, change: func(s *spec) { s.addAlignment(Uint32, 13) }, want: ErrMalformed, message: "general.alignment is 13"},
	{name: "data inconsistent alignment", stage: 3, change: func(s *spec) { s.place(1) }, want: ErrMalformed, message: "is no multiple of the alignment 32"},
	{name: "data sum of sizes overflows", stage: 3, change: func(s *spec) {
		for i := range 2 {
			s.tensors[i].typ, s.tensors[i].shape = uint32(I8), []uint64{math.MaxInt64 - 63}
		}
		s.tensors[1].offset = math.MaxInt64 - 63
		s.tensors, s.data = s.tensors[:2], 32
	}, want: ErrTruncated, message: `tensor "my_tensor_0": truncated GGUF file: its 9223372036854775744 bytes`},
	{name: "data fine", stage: 3},
	{name: "data custom alignment", stage: 3, change: func(s *spec) { s.addAlignment(Uint32, 8); s.place(8) }},
}

// randomSpec is a file of all value types and tensor types, up to a stage.
func randomSpec(seed uint64, stage int) *spec {
	r := rand.New(rand.NewPCG(seed, 0))
	s := &spec{magic: "GGUF", version: 3, align: 32}
	if stage >= 1 {
		for i := range 60 {
			t := ValueType(r.IntN(len(valueTypes)))
			s.kvs = append(s.kvs, rawKV{key: fmt.Sprintf("my_key_%d", i), typ: uint32(t), value: randomValue(r, t)})
		}
	}
	if stage >= 2 {
		for i := range 60 {
			t := Type(r.IntN(len(types)))
			for t.BlockSize() == 0 {
				t = Type(r.IntN(len(types)))
			}
			shape := []uint64{uint64(1+r.IntN(4)) * uint64(t.BlockSize())}
			for range r.IntN(4) {
				shape = append(shape, uint64(1+r.IntN(5)))
			}
			s.tensors = append(s.tensors, rawTensor{name: fmt.Sprintf("my_tensor_%d", i), shape: shape, typ: uint32(t)})
		}
		s.place(32)
		s.align = 32
	}
	if stage < 3 {
		s.data = 0
	}
	return s
}

func randomValue(r *rand.Rand, t ValueType) []byte {
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	switch t {
	case String:
		return text(strings.ToValidUTF8(string(random(r.IntN(64))), "?"))
	case Bool:
		return []byte{byte(r.IntN(2))}
	case Array:
		elem := ValueType(r.IntN(len(valueTypes)))
		for elem == Array {
			elem = ValueType(r.IntN(len(valueTypes)))
		}
		n := r.IntN(17)
		value := join(u32(uint32(elem)), u64(uint64(n)))
		for range n {
			value = append(value, randomValue(r, elem)...)
		}
		return value
	}
	return random(t.size())
}

// place gives the tensors their offsets and the file its data.
func (s *spec) place(align uint64) {
	offset := uint64(0)
	for i := range s.tensors {
		t := &s.tensors[i]
		t.offset = offset
		n, err := tensorBytes(Type(t.typ), t.shape)
		if err != nil {
			panic(err)
		}
		offset += (n + align - 1) / align * align
	}
	s.align, s.data = int(align), int(offset)
}

// lastByte is where the data of the last tensor ends.
func (s *spec) lastByte() int {
	t := s.tensors[len(s.tensors)-1]
	n, err := tensorBytes(Type(t.typ), t.shape)
	if err != nil {
		panic(err)
	}
	return int(t.offset + n)
}

func (s *spec) addAlignment(t ValueType, v uint32) {
	s.kvs = append(s.kvs, rawKV{key: alignmentKey, typ: uint32(t), value: binary.LittleEndian.AppendUint32(nil, v)})
}

func TestHandcraftedFilesOfLlamaCpp(t *testing.T) {
	for _, c := range handcrafted {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(3) {
				s := randomSpec(seed, c.stage)
				if c.change != nil {
					c.change(s)
				}
				path := writeFile(t, s.bytes())
				f, err := Open(path)
				if c.want != nil {
					if f != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.message) {
						t.Errorf("seed %d: got %v, want %v with %q", seed, err, c.want, c.message)
					}
					continue
				}
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				s.compare(t, f)
				f.Close()
			}
		})
	}
}

// compare checks that a file that was read says what s says, and that it would
// be written with the same bytes.
func (s *spec) compare(t *testing.T, f *File) {
	t.Helper()
	if len(f.KVs()) != len(s.kvs) || len(f.Tensors()) != len(s.tensors) {
		t.Fatalf("%d pairs and %d tensors, want %d and %d", len(f.KVs()), len(f.Tensors()), len(s.kvs), len(s.tensors))
	}
	for i, kv := range f.KVs() {
		if want := s.kvs[i]; kv.Key != want.key || uint32(kv.Type) != want.typ || !bytes.Equal(kv.Raw, want.value) {
			t.Errorf("pair %d is %q of %v, want %q of %d", i, kv.Key, kv.Type, want.key, want.typ)
		}
	}
	for i, x := range f.Tensors() {
		if want := s.tensors[i]; x.Name != want.name || uint32(x.Type) != want.typ || fmt.Sprint(x.Shape) != fmt.Sprint(want.shape) || x.Offset != want.offset {
			t.Errorf("tensor %d is %+v, want %+v", i, x, want)
		}
		if d := f.Data(x); uint64(len(d)) != x.Bytes || d[0] != byte(x.Offset) || d[len(d)-1] != byte(x.Offset+x.Bytes-1) {
			t.Errorf("tensor %d: other data", i)
		}
	}
	if b := s.bytes(); !bytes.HasPrefix(b, AppendHeader(nil, f.KVs(), f.Tensors())) {
		t.Error("written anew, the header differs")
	}
}
