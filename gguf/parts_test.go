package gguf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// splitModel is a model in three parts, to be made wrong by tests: parts[i]
// are the bytes of part i, joined those of the model in one file.
type splitModel struct {
	parts []*spec
	names []string
}

func u16(v uint16) []byte { return []byte{byte(v), byte(v >> 8)} }

func splitKVs(no, count uint16, tensors uint32) []rawKV {
	return []rawKV{
		{key: splitNoKey, typ: uint32(Uint16), value: u16(no)},
		{key: splitCountKey, typ: uint32(Uint16), value: u16(count)},
		{key: splitTensorsKey, typ: uint32(Int32), value: u32(tensors)},
	}
}

func validSplit() *splitModel {
	m := &splitModel{}
	for i := range 3 {
		s := &spec{magic: "GGUF", version: 3, align: 32}
		if i == 0 {
			s.kvs = valid().kvs
		}
		s.kvs = append(s.kvs, splitKVs(uint16(i), 3, 4)...)
		for k := range min(2, i+1) { // 1, 2 and 2 tensors, less the last
			if i == 2 && k == 1 {
				break
			}
			s.tensors = append(s.tensors, rawTensor{name: fmt.Sprintf("t%d.%d", i, k), shape: []uint64{9}, typ: uint32(F32), offset: uint64(64 * k)})
			s.data += 64
		}
		m.parts = append(m.parts, s)
		m.names = append(m.names, partName("m", i, 3))
	}
	return m
}

// write puts the parts into a folder and returns the first one's path.
func (m *splitModel) write(t testing.TB, dir string) string {
	t.Helper()
	for i, s := range m.parts {
		if s == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, m.names[i]), s.bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, m.names[0])
}

func TestPartsAreJoined(t *testing.T) {
	f, err := Open(validSplit().write(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := len(f.KVs()); n != 2 {
		t.Errorf("%d pairs", n)
	}
	if _, ok := f.Lookup(splitCountKey); ok {
		t.Error("the joined model has split keys")
	}
	if _, ok := f.Parts()[1].Lookup(splitCountKey); !ok || len(f.Parts()) != 3 {
		t.Error("its parts have none")
	}
	var names []string
	for i, x := range f.Tensors() {
		names = append(names, x.Name)
		if want := uint64(64 * i); x.Offset != want {
			t.Errorf("%s: offset %d, want %d", x.Name, x.Offset, want)
		}
		if got, ok := f.Tensor(x.Name); !ok || got.Offset != x.Offset {
			t.Errorf("%s: %+v", x.Name, got)
		}
		local := x.Name[len(x.Name)-1] - '0'
		if d := f.Data(x); len(d) != 36 || d[0] != 64*local || d[35] != 64*local+35 {
			t.Errorf("%s: data %v", x.Name, d)
		}
		f.Release(x)
	}
	if !slices.Equal(names, []string{"t0.0", "t1.0", "t1.1", "t2.0"}) {
		t.Errorf("tensors %q", names)
	}
	if err := f.Close(); err != nil || len(f.Tensors()) != 0 || f.Close() != nil {
		t.Errorf("after Close: %v, %d tensors", err, len(f.Tensors()))
	}
}

// A single file may have the keys of a model that was merged again.
func TestOnePartIsAModel(t *testing.T) {
	for count := range uint16(2) {
		s := valid()
		s.kvs = append(s.kvs, splitKVs(0, count, 2)...)
		f, err := Open(writeFile(t, s.bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if len(f.KVs()) != 2 || len(f.Tensors()) != 2 || f.Data(f.Tensors()[1])[0] != 128 {
			t.Errorf("count %d: %d pairs, tensors %+v", count, len(f.KVs()), f.Tensors())
		}
		f.Close()
	}
}

// corruptSplits has one set for every rule about parts.
var corruptSplits = []struct {
	name    string
	change  func(*splitModel)
	want    error
	message string
}{
	{"part missing", func(m *splitModel) { m.parts[1] = nil }, fs.ErrNotExist, "part 2 of 3 is missing: m-00002-of-00003.gguf"},
	{"last part missing", func(m *splitModel) { m.parts[2] = nil }, ErrSplit, "part 3 of 3 is missing: m-00003-of-00003.gguf"},
	{"part truncated", func(m *splitModel) { m.parts[1].data = 64 }, ErrTruncated, `part 2 of 3: m-00002-of-00003.gguf: tensor "t1.1": truncated`},
	{"part no GGUF", func(m *splitModel) { m.parts[2].magic = "<html>" }, ErrNotGGUF, "part 3 of 3: m-00003-of-00003.gguf: not a GGUF file"},
	{"part of an ordinary model", func(m *splitModel) { m.parts[1].kvs = nil }, ErrSplit, "part 2 of 3: m-00002-of-00003.gguf: split GGUF cannot be joined: it has no split.no"},
	{"tensor in two parts", func(m *splitModel) { m.parts[2].tensors[0].name = "t0.0" }, ErrSplit, `tensor "t0.0" of part 3 is in another part, too`},
	{"parts exchanged", func(m *splitModel) { m.parts[1], m.parts[2] = m.parts[2], m.parts[1] }, ErrSplit, "it says it is part 3 of 3 with 4 tensors in all; it is part 2 of 3 with 4"},
	{"part numbered wrong", func(m *splitModel) { m.parts[2].kvs = splitKVs(1, 3, 4) }, ErrSplit, "it says it is part 2 of 3"},
	{"part of another split", func(m *splitModel) { m.parts[2].kvs = splitKVs(2, 4, 4) }, ErrSplit, "it says it is part 3 of 4"},
	{"part of another model", func(m *splitModel) { m.parts[2].kvs = splitKVs(2, 3, 7) }, ErrSplit, "with 7 tensors in all; it is part 3 of 3 with 4"},
	{"too few tensors", func(m *splitModel) {
		for i := range m.parts {
			m.parts[i].kvs[len(m.parts[i].kvs)-1].value = u32(5)
		}
	}, ErrSplit, "part 1 of 3: m-00001-of-00003.gguf: split GGUF cannot be joined: it says it is part 1 of 3 with 5 tensors in all; it is part 1 of 3 with 4"},
	{"tensor gone", func(m *splitModel) { m.parts[2].tensors = nil }, ErrSplit, "with 4 tensors in all; it is part 1 of 3 with 3"},
	{"count lies", func(m *splitModel) { m.parts[0].kvs = splitKVs(0, 4, 4) }, ErrSplit, "it is part 1 of 4 and must be called …-00001-of-00004.gguf"},
	{"first says it is the second", func(m *splitModel) { m.parts[0].kvs = splitKVs(1, 3, 4) }, ErrSplit, "it is part 2 of 3; name the first, m-00001-of-00003.gguf"},
	{"no split.no", func(m *splitModel) { m.parts[0].kvs = m.parts[0].kvs[3:] }, ErrSplit, "part 1 of 3: m-00001-of-00003.gguf: split GGUF cannot be joined: it has no split.no"},
	{"no split.tensors.count", func(m *splitModel) { m.parts[0].kvs = m.parts[0].kvs[:4] }, ErrSplit, "it has no split.tensors.count"},
	{"split.count of another type", func(m *splitModel) {
		m.parts[0].kvs[3] = rawKV{key: splitCountKey, typ: uint32(Uint32), value: u32(3)}
	}, ErrSplit, "split.count has type uint32, not uint16"},
	{"split.no of another type", func(m *splitModel) {
		m.parts[1].kvs[0] = rawKV{key: splitNoKey, typ: uint32(String), value: text("1")}
	}, ErrSplit, "split.no has type string, not uint16"},
	{"split.tensors.count of another type", func(m *splitModel) {
		m.parts[0].kvs[4] = rawKV{key: splitTensorsKey, typ: uint32(Uint64), value: u64(4)}
	}, ErrSplit, "split.tensors.count has type uint64, not int32"},
	{"name without number", func(m *splitModel) { m.names[0] = "m.gguf" }, ErrSplit, "must be called …-00001-of-00003.gguf"},
	{"65535 parts", func(m *splitModel) { m.parts[0].kvs = splitKVs(0, 65535, 4); m.names[0] = partName("m", 0, 65535) }, ErrSplit, "part 2 of 65535 is missing"},
}

func TestCorruptSplitsAreRefused(t *testing.T) {
	for _, c := range corruptSplits {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			m := validSplit()
			c.change(m)
			f, err := Open(m.write(t, ""))
			if f != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got %v, want %q", err, c.message)
			}
		})
	}
}

func TestAnotherPartThanTheFirst(t *testing.T) {
	dir := t.TempDir()
	first := validSplit().write(t, dir)
	_, err := Open(filepath.Join(dir, partName("m", 1, 3)))
	if !errors.Is(err, ErrSplit) || !strings.HasSuffix(err.Error(), "it is part 2 of 3; name the first, "+first) {
		t.Error(err)
	}
}

func TestWriterSplits(t *testing.T) {
	tensors := []Tensor{
		{Name: "a", Type: F32, Shape: []uint64{3}},    // 12, padded 32
		{Name: "b", Type: F32, Shape: []uint64{8}},    // 32
		{Name: "c", Type: F32, Shape: []uint64{1}},    // 4, padded 32
		{Name: "big", Type: F32, Shape: []uint64{99}}, // more than a part may have
		{Name: "d", Type: F32, Shape: []uint64{8, 2}}, // 64
	}
	for _, c := range []struct {
		max   uint64
		align uint32
		want  string // tensors by part
	}{
		{0, 32, "a b c big d"}, {1 << 20, 32, "a b c big d"}, {64, 32, "a b|c|big|d"}, {63, 32, "a|b|c|big|d"}, {96, 32, "a b c|big|d"}, {1, 64, "a|b|c|big|d"},
	} {
		dir := t.TempDir()
		kvs := append(plainKVs(), MustKV(alignmentKey, c.align), MustKV(splitNoKey, uint16(7)), MustKV(splitCountKey, uint16(0)))
		w, err := CreateSplit(filepath.Join(dir, "m.gguf"), c.max, kvs, tensors)
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range w.Tensors() {
			if err := w.WriteTensor(x.Name, bytes.Repeat([]byte{byte(i + 1)}, int(x.Bytes))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		f, err := Open(w.Paths()[0])
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, part := range f.Parts() {
			var names []string
			for _, x := range part.Tensors() {
				names = append(names, x.Name)
			}
			got = append(got, strings.Join(names, " "))
			if part.Alignment() != uint64(c.align) {
				t.Errorf("alignment %d", part.Alignment())
			}
		}
		if s := strings.Join(got, "|"); s != c.want {
			t.Errorf("at most %d: %s, want %s", c.max, s, c.want)
		}
		if f.Size() != w.Size() || len(f.KVs()) != 3 || len(entries(t, dir)) != len(got) {
			t.Errorf("at most %d: size %d, planned %d; %d pairs; files %q", c.max, f.Size(), w.Size(), len(f.KVs()), entries(t, dir))
		}
		for i, x := range w.Tensors() {
			if y, _ := f.Tensor(x.Name); y.Offset != x.Offset || !bytes.Equal(f.Data(x), bytes.Repeat([]byte{byte(i + 1)}, int(x.Bytes))) {
				t.Errorf("at most %d: %s differs", c.max, x.Name)
			}
		}
		f.Close()
	}
}

func TestCheckOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	validSplit().write(t, "")
	if err := errors.Join(os.WriteFile("old.gguf", nil, 0o666), os.Mkdir("dir", 0o777), os.Mkdir("mm-00001-of-00002.gguf", 0o777),
		os.Symlink(partName("m", 1, 3), "soft"), os.Link(partName("m", 2, 3), "hard")); err != nil {
		t.Fatal(err)
	}
	input := partName("m", 0, 3)
	for _, c := range []struct {
		path         string
		split, force bool
		want         string
	}{
		{"new.gguf", false, false, ""}, {"new.gguf", true, false, ""},
		{"old.gguf", false, false, "old.gguf exists; replace it with --force"}, {"old.gguf", false, true, ""},
		{"m.gguf", false, false, ""}, {"m.gguf", true, true, "m-00001-of-00003.gguf is the input itself"}, {"m", true, true, "input itself"},
		{"soft", false, true, "soft is the input itself"}, {"hard", false, true, "hard is the input itself"},
		{"dir", false, true, "dir is a directory"}, {"no/such.gguf", false, false, "output folder: "}, {"old.gguf/x", false, false, "not a directory"},
		{"mm.gguf", true, true, "mm-00001-of-00002.gguf is a directory"},
	} {
		err := CheckOutput(c.path, c.split, c.force, input, "elsewhere.gguf")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, split %v, force %v: %v, want %q", c.path, c.split, c.force, err, c.want)
		}
	}
}
