package gguf

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var plainTensors = []Tensor{
	{Name: "a", Type: F32, Shape: []uint64{3}},
	{Name: "b", Type: Q8_0, Shape: []uint64{64, 2}},
}

func plainKVs() []KV {
	return []KV{MustKV("general.architecture", "llama"), MustKV("x", uint32(7))}
}

// entries lists a directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestWriterWritesWhatOpenReads(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.gguf")
	w, err := Create(path, append(plainKVs(), MustKV(alignmentKey, uint32(64))), plainTensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if planned := w.Tensors(); planned[1].Offset != 64 || planned[1].Bytes != 136 {
		t.Errorf("planned %+v", planned)
	}
	a, b := bytes.Repeat([]byte{1}, 12), bytes.Repeat([]byte{2}, 136)
	if err := w.WriteTensor("a", a); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteTensor("b", b); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, dir); len(got) != 1 || got[0] == "out.gguf" {
		t.Errorf("before Commit the directory has %v", got)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	if got := entries(t, dir); len(got) != 1 || got[0] != "out.gguf" {
		t.Errorf("after Commit the directory has %v", got)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Size() != w.Size() || f.Alignment() != 64 || f.DataOffset()%64 != 0 {
		t.Errorf("size %d, planned %d; alignment %d; data at %d", f.Size(), w.Size(), f.Alignment(), f.DataOffset())
	}
	for i, want := range [][]byte{a, b} {
		if got := f.Data(f.Tensors()[i]); !bytes.Equal(got, want) {
			t.Errorf("tensor %d: %x", i, got)
		}
	}
	if x, ok := f.Uint("x"); !ok || x != 7 {
		t.Errorf("x is %d", x)
	}
}

func TestWriterWithoutTensors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.gguf")
	w, err := Create(path, []KV{MustKV("k", true)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if k, ok := f.Bool("k"); !ok || !k || len(f.Tensors()) != 0 {
		t.Errorf("k is %v %v, %d tensors", k, ok, len(f.Tensors()))
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		kvs     []KV
		tensors []Tensor
		message string
	}{
		{"key twice", []KV{MustKV("x", "1"), MustKV("x", "2")}, nil, `same key "x"`},
		{"key empty", []KV{{Key: "", Type: Bool, Raw: []byte{1}}}, nil, "empty name"},
		{"raw too short", []KV{{Key: "x", Type: Uint32, Raw: []byte{1}}}, nil, `key "x": its bytes are no value of type uint32`},
		{"raw too long", []KV{{Key: "x", Type: Bool, Raw: []byte{1, 0}}}, nil, `key "x": its bytes are no value of type bool`},
		{"raw array lies", []KV{{Key: "x", Type: Array, Raw: join(u32(0), u64(5), []byte("1234"))}}, nil, `key "x": its bytes are no value of type array`},
		{"value type", []KV{{Key: "x", Type: 99, Raw: nil}}, nil, "value type 99"},
		{"alignment", []KV{MustKV(alignmentKey, uint32(5))}, nil, "general.alignment is 5"},
		{"name twice", nil, []Tensor{plainTensors[0], plainTensors[0]}, `same name "a"`},
		{"name too long", nil, []Tensor{{Name: strings.Repeat("n", 64), Type: F32, Shape: []uint64{1}}}, "count 64"},
		{"type", nil, []Tensor{{Name: "a", Type: 31, Shape: []uint64{32}}}, "type 31 was removed"},
		{"no shape", nil, []Tensor{{Name: "a", Type: F32}}, "0 dimensions"},
		{"shape", nil, []Tensor{{Name: "a", Type: Q4_0, Shape: []uint64{33}}}, "no multiple of the Q4_0 block"},
		{"bytes", nil, []Tensor{{Name: "a", Type: F32, Shape: []uint64{3}, Bytes: 13}}, `tensor "a": 13 bytes, but F32 of shape [3] has 12`},
		{"sum of sizes", nil, []Tensor{{Name: "a", Type: I8, Shape: []uint64{1<<63 - 64}}, {Name: "b", Type: I8, Shape: []uint64{1<<63 - 64}}}, "the file's size overflows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out.gguf")
			_, err := Create(path, c.kvs, c.tensors)
			if err == nil || !strings.Contains(err.Error(), c.message) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q with the path", err, c.message)
			}
			if left := entries(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Whatever goes wrong on the way, Commit fails, and nothing is left.
func TestWriterMisuseLeavesNothing(t *testing.T) {
	a, b := make([]byte, 12), make([]byte, 136)
	for _, c := range []struct {
		name    string
		use     func(w *Writer) error
		message string
	}{
		{"nothing written", func(w *Writer) error { return w.Commit() }, `2 of 2 tensors are missing, first "a"`},
		{"one missing", func(w *Writer) error { return errors.Join(w.WriteTensor("a", a), w.Commit()) }, "1 of 2 tensors are missing"},
		{"out of order", func(w *Writer) error { return w.WriteTensor("b", b) }, `tensor "b": out of order, "a" is next`},
		{"unknown name", func(w *Writer) error { return w.WriteTensor("c", a) }, `tensor "c": out of order`},
		{"twice", func(w *Writer) error { return errors.Join(w.WriteTensor("a", a), w.WriteTensor("a", a)) }, `tensor "a": out of order, "b" is next`},
		{"one too many", func(w *Writer) error {
			return errors.Join(w.WriteTensor("a", a), w.WriteTensor("b", b), w.WriteTensor("c", a))
		}, `tensor "c": all 2 tensors are written`},
		{"too short", func(w *Writer) error { return w.WriteTensor("a", a[1:]) }, `tensor "a": 11 bytes of data, not 12`},
		{"too long", func(w *Writer) error { return w.WriteTensor("a", b) }, `tensor "a": 136 bytes of data, not 12`},
		{"chunks too short", func(w *Writer) error { return chunks(w, "a", a[:5], a[:6]) }, `tensor "a": 1 bytes of data are missing`},
		{"chunks too long", func(w *Writer) error { return chunks(w, "a", a, a[:1]) }, `tensor "a": 1 bytes more data than its 12`},
		{"two at once", func(w *Writer) error {
			if _, err := w.TensorWriter("a"); err != nil {
				return err
			}
			return w.WriteTensor("b", b)
		}, `tensor "b": "a" is still open`},
		{"committed with a tensor open", func(w *Writer) error {
			if _, err := w.TensorWriter("a"); err != nil {
				return err
			}
			return w.Commit()
		}, "2 of 2 tensors are missing"},
		{"after Abort", func(w *Writer) error { return errors.Join(w.Abort(), w.WriteTensor("a", a)) }, "writer is closed"},
		{"Commit after Abort", func(w *Writer) error { return errors.Join(w.Abort(), w.Commit()) }, "writer is closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out.gguf")
			w, err := Create(path, plainKVs(), plainTensors)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.use(w); err == nil || !strings.Contains(err.Error(), c.message) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q with the path", err, c.message)
			}
			if err := w.Abort(); err != nil {
				t.Error(err)
			}
			if err := w.Abort(); err != nil {
				t.Errorf("second Abort: %v", err)
			}
			if left := entries(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func chunks(w *Writer, name string, parts ...[]byte) error {
	tw, err := w.TensorWriter(name)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := tw.Write(p); err != nil {
			return err
		}
	}
	return tw.Close()
}

// A chunk writer that is closed is closed, whatever has been opened since.
func TestTensorWriterAfterClose(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "out.gguf"), nil, plainTensors)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	first, err := w.TensorWriter("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Write(make([]byte, 12)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.TensorWriter("b"); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Write([]byte{1}); err == nil {
		t.Error("write after Close went through")
	}
}

func TestExistingTargets(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old.gguf")
	write := func(path string) error {
		w, err := Create(path, nil, nil)
		if err != nil {
			return err
		}
		return w.Commit()
	}
	reset := func() {
		t.Helper()
		if err := os.WriteFile(old, []byte("old"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	isNew := func() bool { b, err := os.ReadFile(old); return err == nil && bytes.HasPrefix(b, []byte(magic)) }

	reset()
	w, err := Create(old, nil, plainTensors)
	if err != nil {
		t.Fatal(err)
	}
	if isNew() {
		t.Error("the old file is gone before Commit")
	}
	if err := w.Commit(); err == nil || isNew() {
		t.Errorf("a failed Commit (%v) replaced the old file", err)
	}
	if err := write(old); err != nil || !isNew() {
		t.Errorf("file not replaced: %v", err)
	}

	reset()
	link := filepath.Join(dir, "link.gguf")
	if err := os.Symlink("old.gguf", link); err != nil {
		t.Fatal(err)
	}
	if err := write(link); err != nil || !isNew() {
		t.Errorf("file behind a link not replaced: %v", err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link itself was replaced")
	}

	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, message string }{
		{sub, "is a directory"},
		{filepath.Join(dir, "no", "such.gguf"), "no such file or directory"},
		{filepath.Join(old, "x.gguf"), "not a directory"},
	} {
		if err := write(c.path); err == nil || !strings.Contains(err.Error(), c.message) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: got %v, want %q", c.path, err, c.message)
		}
	}
	if got := fmt.Sprint(entries(t, dir)); got != "[link.gguf old.gguf sub]" {
		t.Errorf("left behind: %v", got)
	}
}

func TestSameFile(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(at(name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("a", at("soft")), os.Link(at("a"), at("hard")), os.Symlink(dir, at("dir"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{at("a"), at("a"), true}, {at("a"), at("b"), false},
		{at("a"), at("soft"), true}, {at("hard"), at("a"), true}, {at("dir/a"), at("a"), true},
		{at("a"), dir + "/./../" + filepath.Base(dir) + "/a", true},
		{at("a"), at("new"), false}, {at("new"), at("new"), true}, {at("new"), at("dir/new"), true},
		{at("new"), at("newer"), false}, {at("no/such"), at("no/such"), true},
	} {
		if got := SameFile(c.a, c.b); got != c.want {
			t.Errorf("SameFile(%q, %q) = %v", c.a, c.b, got)
		}
	}
}
