package gguf

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"besa/internal/golden"
)

var update = flag.Bool("update", false, "rewrite the texts of errors in testdata")

// corruptions has one malformed file for every rule the reader enforces.
var corruptions = []struct {
	name    string
	change  func(*spec)
	want    error
	message string // part of the error's text
}{
	// header
	{"magic wrong", func(s *spec) { s.magic = "GGML" }, ErrNotGGUF, `it starts with "GGML"`},
	{"magic in lower case", func(s *spec) { s.magic = "gguf" }, ErrNotGGUF, `it starts with "gguf"`},
	{"magic byte-swapped", func(s *spec) { s.magic = "FUGG" }, ErrNotGGUF, "byte-swapped"},
	{"magic of an older format", func(s *spec) { s.magic = "tjgg" }, ErrNotGGUF, "older than GGUF"},
	{"page of HTML", func(s *spec) { s.magic = "\n<!DOCTYPE html><html>" }, ErrNotGGUF, "HTML page"},
	{"git LFS pointer", func(s *spec) { s.magic = "version https://git-lfs.github.com/spec/v1\n" }, ErrNotGGUF, "Git LFS pointer"},
	{"version 0", func(s *spec) { s.version = 0 }, ErrVersion, "version 0: versions 2 and 3 are read"},
	{"version 1", func(s *spec) { s.version = 1 }, ErrVersion, "version 1:"},
	{"version 4", func(s *spec) { s.version = 4 }, ErrVersion, "version 4:"},
	{"big-endian", func(s *spec) { s.version = 3 << 24 }, ErrVersion, "big-endian (version field 0x03000000)"},
	{"tensor count 2^63", func(s *spec) { s.nTensors = p64(1 << 63) }, ErrMalformed, "number of tensors: malformed GGUF file: count 9223372036854775808"},
	{"tensor count −1", func(s *spec) { s.nTensors = p64(math.MaxUint64) }, ErrMalformed, "number of tensors"},
	{"tensor count 2^40", func(s *spec) { s.nTensors = p64(1 << 40) }, ErrMalformed, "number of tensors"},
	{"tensor count above file", func(s *spec) { s.nTensors = p64(1000) }, ErrTruncated, "number of tensors: truncated GGUF file: 1000 items of 33 bytes"},
	{"tensor count one more", func(s *spec) { s.nTensors = p64(3) }, ErrMalformed, "name of tensor 2"},
	{"pair count 2^63", func(s *spec) { s.nKVs = p64(1 << 63) }, ErrMalformed, "number of metadata pairs"},
	{"pair count −1", func(s *spec) { s.nKVs = p64(math.MaxUint64) }, ErrMalformed, "number of metadata pairs"},
	{"pair count above file", func(s *spec) { s.nKVs = p64(1000) }, ErrTruncated, "number of metadata pairs"},
	{"pair count one less", func(s *spec) { s.nKVs = p64(1) }, ErrMalformed, `tensor "a.list": malformed GGUF file: 9 dimensions`},

	// metadata
	{"key empty", func(s *spec) { s.kvs[1].key = "" }, ErrMalformed, "key 1: malformed GGUF file: at offset 69: empty name"},
	{"key of 65536 bytes", func(s *spec) { s.kvs[1].key = strings.Repeat("k", 65536) }, ErrMalformed, "key 1: malformed GGUF file: count 65536"},
	{"key of 1 GiB", func(s *spec) { s.kvs[1].keyLen = p64(1 << 30) }, ErrMalformed, "key 1"},
	{"key beyond the file", func(s *spec) { s.kvs[1].keyLen = p64(60000) }, ErrTruncated, "key 1"},
	{"key not UTF-8", func(s *spec) { s.kvs[1].key = "a\xff" }, ErrMalformed, `name "a\xff" is not UTF-8`},
	{"key with a control character", func(s *spec) { s.kvs[1].key = "a\nb" }, ErrMalformed, `name "a\nb" contains a control character`},
	{"key twice", func(s *spec) { s.kvs[1].key = s.kvs[0].key }, ErrMalformed, `pairs 0 and 1 have the same key "general.architecture"`},
	{"value type 13", func(s *spec) { s.kvs[1].typ = 13 }, ErrMalformed, `value of key "a.list": malformed GGUF file: value type 13 does not exist`},
	{"value type −1", func(s *spec) { s.kvs[1].typ = math.MaxUint32 }, ErrMalformed, "value type 4294967295"},
	{"string of 2^63 bytes", func(s *spec) { s.kvs[0].value = u64(1 << 63) }, ErrMalformed, `value of key "general.architecture"`},
	{"string of −1 bytes", func(s *spec) { s.kvs[0].value = u64(math.MaxUint64) }, ErrMalformed, `value of key "general.architecture"`},
	{"string beyond the file", func(s *spec) { s.kvs[0].value = u64(100000) }, ErrTruncated, `value of key "general.architecture"`},
	{"bool of 2", func(s *spec) { s.kvs[1] = rawKV{key: "b", typ: uint32(Bool), value: []byte{2}} }, ErrMalformed, `key "b": malformed GGUF file: bool of value 2`},
	{"array of bools with a 2", func(s *spec) { s.setArray(Bool, 2, []byte{1, 2}) }, ErrMalformed, "bool of value 2"},
	{"array of arrays", func(s *spec) { s.setArray(Array, 1, append(u32(0), u64(0)...)) }, ErrMalformed, `value of key "a.list": malformed GGUF file: nested array`},
	{"arrays nested 10000 deep", func(s *spec) { s.setArray(Array, 1, bytes.Repeat(append(u32(uint32(Array)), u64(1)...), 10000)) }, ErrMalformed, "nested array"},
	{"element type 13", func(s *spec) { s.setArray(13, 1, u64(0)) }, ErrMalformed, "element type 13 does not exist"},
	{"array of 2^61 uint64", func(s *spec) { s.setArray(Uint64, 1<<61, nil) }, ErrMalformed, "count 2305843009213693952"},
	{"array of −1 strings", func(s *spec) { s.setArray(String, math.MaxUint64, nil) }, ErrMalformed, "count 18446744073709551615"},
	{"array of 2^30 uint64 beyond the file", func(s *spec) { s.setArray(Uint64, 1<<30, nil) }, ErrTruncated, "1073741824 items of 8 bytes"},
	{"array of strings beyond the file", func(s *spec) { s.setArray(String, 1000, text("a")) }, ErrTruncated, "1000 items of 8 bytes"},
	{"string in an array beyond the file", func(s *spec) { s.setArray(String, 2, join(text("a"), u64(5000))) }, ErrTruncated, "element 1"},
	{"string in an array of 2^40 bytes", func(s *spec) { s.setArray(String, 2, join(text("a"), u64(1<<40))) }, ErrMalformed, "element 1"},
	{"split.tensors.count 2^40", func(s *spec) { s.kvs[1] = rawKV{key: splitTensorsKey, typ: uint32(Uint64), value: u64(1 << 40)} }, ErrMalformed, splitTensorsKey},
	{"split.tensors.count −1", func(s *spec) { s.kvs[1] = rawKV{key: splitTensorsKey, typ: uint32(Int32), value: u32(math.MaxUint32)} }, ErrMalformed, splitTensorsKey},
	{"layer array of 70000", func(s *spec) {
		s.kvs[1].key = "llama.attention.head_count"
		s.setArray(Uint8, 70000, make([]byte, 70000))
	}, ErrMalformed, "70000 values, one per layer"},
	{"file type no number", func(s *spec) { s.kvs[1] = rawKV{key: "general.file_type", typ: uint32(String), value: text("q4_0")} }, ErrMalformed, "must hold a number"},

	// alignment
	{"alignment 0", func(s *spec) { s.setAlignment(0) }, ErrMalformed, "general.alignment is 0, not a power of two from 8 to 1048576"},
	{"alignment 3", func(s *spec) { s.setAlignment(3) }, ErrMalformed, "general.alignment is 3"},
	{"alignment 4", func(s *spec) { s.setAlignment(4) }, ErrMalformed, "general.alignment is 4"},
	{"alignment 24", func(s *spec) { s.setAlignment(24) }, ErrMalformed, "general.alignment is 24"},
	{"alignment 2^31", func(s *spec) { s.setAlignment(1 << 31) }, ErrMalformed, "general.alignment is 2147483648"},
	{"alignment of another type", func(s *spec) { s.kvs[1] = rawKV{key: alignmentKey, typ: uint32(Uint64), value: u64(32)} }, ErrMalformed, "general.alignment has type uint64, not uint32"},
	{"alignment not that of the offsets", func(s *spec) { s.setAlignment(256); s.align = 256 }, ErrMalformed, `tensor "second": malformed GGUF file: data offset 128 is no multiple of the alignment 256`},

	// tensors
	{"name empty", func(s *spec) { s.tensors[1].name = "" }, ErrMalformed, "name of tensor 1: malformed GGUF file: at offset 150: empty name"},
	{"name of 64 bytes", func(s *spec) { s.tensors[1].name = strings.Repeat("n", 64) }, ErrMalformed, "name of tensor 1: malformed GGUF file: count 64"},
	{"name of 63 bytes", func(s *spec) { s.tensors[1].name = strings.Repeat("n", 63) }, nil, ""},
	{"name of 2^63 bytes", func(s *spec) { s.tensors[1].nameLen = p64(1 << 63) }, ErrMalformed, "name of tensor 1"},
	{"name with a path", func(s *spec) { s.tensors[1].name = "../x" }, nil, ""}, // a name, never used as a path
	{"name twice", func(s *spec) { s.tensors[1].name = "first" }, ErrMalformed, `tensors 0 and 1 have the same name "first"`},
	{"name with a zero byte", func(s *spec) { s.tensors[1].name = "a\x00b" }, ErrMalformed, `name "a\x00b" contains a control character`},
	{"name not UTF-8", func(s *spec) { s.tensors[1].name = "\xc3(" }, ErrMalformed, "is not UTF-8"},
	{"0 dimensions", func(s *spec) { s.tensors[1].shape = nil }, ErrMalformed, `tensor "second": malformed GGUF file: 0 dimensions, not 1 to 4`},
	{"5 dimensions", func(s *spec) { s.tensors[1].shape = []uint64{32, 3, 1, 1, 1} }, ErrMalformed, "5 dimensions"},
	{"2^32−1 dimensions", func(s *spec) { n := uint32(math.MaxUint32); s.tensors[1].nDims = &n }, ErrMalformed, "4294967295 dimensions"},
	{"dimension 0", func(s *spec) { s.tensors[1].shape[1] = 0 }, ErrMalformed, "shape [32 0] has a zero dimension"},
	{"dimension −32", func(s *spec) { s.tensors[1].shape[1] = 1<<64 - 32 }, ErrMalformed, "number of elements overflows"},
	{"product 2^64", func(s *spec) { s.tensors[1].shape = []uint64{32, 1 << 30, 1 << 29} }, ErrMalformed, "number of elements overflows"},
	{"product 2^63", func(s *spec) { s.tensors[1].shape = []uint64{32, 1 << 29, 1 << 29} }, ErrMalformed, "number of elements overflows"},
	{"bytes 2^64", func(s *spec) { s.tensors[0].shape = []uint64{1 << 62} }, ErrMalformed, "size overflows"},
	{"row no multiple of the block", func(s *spec) { s.tensors[1].shape = []uint64{33, 3} }, ErrMalformed, "rows of 33 weights are no multiple of the Q4_0 block of 32"},
	{"type removed: Q4_2", func(s *spec) { s.tensors[1].typ = 4 }, ErrUnsupportedType, "type 4 was removed from ggml"},
	{"type removed: Q4_0_4_4", func(s *spec) { s.tensors[1].typ = 31 }, ErrUnsupportedType, "type 31 was removed"},
	{"type removed: IQ4_NL_8_8", func(s *spec) { s.tensors[1].typ = 38 }, ErrUnsupportedType, "type 38 was removed"},
	{"type removed: Q4_3", func(s *spec) { s.tensors[1].typ = 5 }, ErrUnsupportedType, "type 5 was removed"},
	{"type removed: Q4_0_4_8", func(s *spec) { s.tensors[1].typ = 32 }, ErrUnsupportedType, "type 32 was removed"},
	{"type removed: Q4_0_8_8", func(s *spec) { s.tensors[1].typ = 33 }, ErrUnsupportedType, "type 33 was removed"},
	{"type removed: IQ4_NL_4_4", func(s *spec) { s.tensors[1].typ = 36 }, ErrUnsupportedType, "type 36 was removed"},
	{"type removed: IQ4_NL_4_8", func(s *spec) { s.tensors[1].typ = 37 }, ErrUnsupportedType, "type 37 was removed"},
	{"type 43", func(s *spec) { s.tensors[1].typ = 43 }, ErrUnsupportedType, "type 43 is not known"},
	{"type −1", func(s *spec) { s.tensors[1].typ = math.MaxUint32 }, ErrUnsupportedType, "type 4294967295 is not known"},

	// data
	{"offset unaligned", func(s *spec) { s.tensors[1].offset = 127 }, ErrMalformed, "data offset 127 is no multiple of the alignment 32"},
	{"offset overlapping", func(s *spec) { s.tensors[1].offset = 96 }, ErrMalformed, "data offset is 96, but the tensors before it end at 128"},
	{"offset with a gap", func(s *spec) { s.tensors[1].offset = 160; s.data += 32 }, ErrMalformed, "data offset is 160"},
	{"offsets out of order", func(s *spec) { s.tensors[0].offset, s.tensors[1].offset = 64, 0 }, ErrMalformed, `tensor "first"`},
	{"offset past the end", func(s *spec) { s.tensors[1].offset = 1 << 40 }, ErrMalformed, "data offset is 1099511627776"},
	{"offset wraps around", func(s *spec) { s.tensors[1].offset = 1<<64 - 32 }, ErrMalformed, "data offset is 18446744073709551584"},
	{"data missing", func(s *spec) { s.data = 0 }, ErrTruncated, `tensor "first": truncated GGUF file: its 112 bytes start at 224, the file has 224`},
	{"data one byte short", func(s *spec) { s.data = 128 + 53 }, ErrTruncated, `tensor "second": truncated GGUF file: its 54 bytes start at 352, the file has 405`},
	{"data padding missing at the end", func(s *spec) { s.data = 128 + 54 }, nil, ""},
	{"padding before the data missing", func(s *spec) { s.align, s.data = 0, 0 }, ErrTruncated, "tensor data starts at 224, the file has 196 bytes"},
	{"trailing bytes", func(s *spec) { s.tail = "anything" }, nil, ""},
}

func p64(v uint64) *uint64 { return &v }

func (s *spec) setArray(elem ValueType, n uint64, elements []byte) {
	s.kvs[1].value = join(u32(uint32(elem)), u64(n), elements)
}

func (s *spec) setAlignment(a uint32) {
	s.kvs[1] = rawKV{key: alignmentKey, typ: uint32(Uint32), value: u32(a)}
}

func TestCorruptFilesAreRefused(t *testing.T) {
	texts := map[string]string{}
	for _, c := range corruptions {
		t.Run(c.name, func(t *testing.T) {
			s := valid()
			c.change(s)
			path := writeFile(t, s.bytes())
			f, err := Open(path)
			if err == nil {
				f.Close()
			}
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if f != nil || !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if !strings.Contains(err.Error(), c.message) || strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 400 {
				t.Errorf("message %q, should be a line that contains %q", err, c.message)
			}
			texts[c.name] = strings.ReplaceAll(err.Error(), path, "FILE")
		})
	}
	golden.Lines(t, "testdata/open.errors.txt", *update, texts)
}

func TestValidFileIsRead(t *testing.T) {
	for _, v := range []uint32{2, 3} {
		s := valid()
		s.version = v
		f, err := Open(writeFile(t, s.bytes()))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if list, ok := f.Ints("a.list"); !ok || len(list) != 3 || list[2] != 3 {
			t.Errorf("version %d: a.list is %v", v, list)
		}
		x, _ := f.Tensor("second")
		if x.Cols() != 32 || x.Rows() != 3 || x.Elements() != 96 || x.Bytes != 54 || f.Data(x)[0] != 128 {
			t.Errorf("version %d: second is %+v", v, x)
		}
	}
}

func TestNoFileAtAll(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotGGUF) || !strings.Contains(err.Error(), "it is a directory") {
		t.Errorf("directory: %v", err)
	}
	if _, err := Open("does-not-exist.gguf"); !errors.Is(err, os.ErrNotExist) || strings.Count(err.Error(), "does-not-exist") != 1 {
		t.Errorf("missing: %v", err)
	}
	for _, b := range []string{"", "G", "GGU"} {
		if _, err := Open(writeFile(t, []byte(b))); !errors.Is(err, ErrNotGGUF) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

// However much is cut off a file, it is called truncated.
func TestTruncationAnywhere(t *testing.T) {
	golden, err := os.ReadFile("testdata/container/pypi.gguf")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"built": valid().bytes(), "pypi": golden} {
		h, err := parse(b)
		if err != nil {
			t.Fatal(err)
		}
		last := h.tensors[len(h.tensors)-1]
		end := int(h.dataOffset + last.Offset + last.Bytes) // the rest is padding
		for i := range 65 {
			n := min(end*i/64, end-1)
			_, err := Open(writeFile(t, b[:n]))
			want := ErrTruncated
			if n < len(magic) {
				want = ErrNotGGUF
			}
			if !errors.Is(err, want) {
				t.Errorf("%s cut to %d of %d bytes: %v, want %v", name, n, len(b), err, want)
			}
		}
	}
}

// A small file that claims much must cost little.
func TestMemoryIsBoundedByTheFile(t *testing.T) {
	const allowed = 8 << 20 // parser's buffers included; far less than any claim
	for _, c := range corruptions {
		s := valid()
		c.change(s)
		b := s.bytes()
		if len(b) > 4096 {
			continue
		}
		path := writeFile(t, b)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if f, err := Open(path); err == nil {
			f.Close()
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > allowed {
			t.Errorf("%s: %d bytes allocated for a file of %d", c.name, n, len(b))
		}
	}
}
