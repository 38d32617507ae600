package gguf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The keys by which llama.cpp knows the parts of a split model. Every part has
// all three, with these very types: llama.cpp's getters insist on them.
const (
	splitNoKey      = "split.no"            // uint16: number of the part, from 0
	splitCountKey   = "split.count"         // uint16: number of parts
	splitTensorsKey = "split.tensors.count" // int32: tensors of all parts
	maxParts        = 1<<16 - 1
)

// partName is the name of part no (from 0) of count, as llama.cpp makes it.
func partName(prefix string, no, count int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", prefix, no+1, count)
}

var partPattern = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})\.gguf$`)

// parsePartName takes a name of the form of partName apart.
func parsePartName(path string) (prefix string, no, count int, ok bool) {
	dir, base := filepath.Split(path)
	m := partPattern.FindStringSubmatch(base)
	if m == nil {
		return "", 0, 0, false
	}
	// Five digits are a number.
	no, _ = strconv.Atoi(m[2])
	count, _ = strconv.Atoi(m[3])
	return dir + m[1], no - 1, count, no >= 1 && no <= count
}

// splitCount is the number of parts that a file says there are; ok is false
// when it says nothing: then it is no part, whatever else it has.
func (h *header) splitCount() (n int, ok bool, err error) {
	if _, ok := h.keys[splitCountKey]; !ok {
		return 0, false, nil
	}
	count, err := h.splitKey(splitCountKey, Uint16)
	return int(count), true, err
}

// splitKey reads one of the split keys.
func (h *header) splitKey(key string, typ ValueType) (uint64, error) {
	i, ok := h.keys[key]
	if !ok {
		return 0, fmt.Errorf("%w: it has no %s", ErrSplit, key)
	}
	if t := h.kvs[i].Type; t != typ {
		return 0, fmt.Errorf("%w: %s has type %s, not %s", ErrSplit, key, t, typ)
	}
	v, ok := h.kvs[i].Uint()
	if !ok {
		return 0, fmt.Errorf("%w: %s is negative", ErrSplit, key)
	}
	return v, nil
}

// joinParts turns the file that was opened, the first part of a model, into
// that model. A file that is no part is returned as it is. On error first is
// still open.
func joinParts(first *File) (*File, error) {
	count, ok, err := first.header.splitCount()
	if err != nil || !ok {
		return first, err
	}
	j := &File{path: first.path, size: first.size, parts: []*File{first}}
	if count > 1 {
		if err = j.openRest(count); err == nil {
			err = j.checkParts()
		}
	}
	if err == nil {
		j.header, err = joinHeaders(j.parts)
	}
	if err != nil {
		return nil, errors.Join(err, closeAll(j.parts[1:]))
	}
	return j, nil
}

// openRest opens the parts after the first, which is found to be that.
func (f *File) openRest(count int) error {
	prefix, no, named, ok := parsePartName(f.path)
	if own, err := f.parts[0].header.splitKey(splitNoKey, Uint16); err == nil {
		no = int(own)
	}
	switch {
	case no != 0 && ok:
		return fmt.Errorf("%w: it is part %d of %d; name the first, %s", ErrSplit, no+1, count, partName(prefix, 0, named))
	case no != 0:
		return fmt.Errorf("%w: it is part %d of %d; name the first", ErrSplit, no+1, count)
	case !ok || named != count:
		return fmt.Errorf("%w: it is part 1 of %d and must be called …-00001-of-%05d.gguf for the others to be found", ErrSplit, count, count)
	}
	for i := 1; i < count; i++ {
		path := partName(prefix, i, count)
		part, err := openFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: part %d of %d is missing: %s: %w", ErrSplit, i+1, count, path, err)
		}
		if err != nil {
			return fmt.Errorf("part %d of %d: %s: %w", i+1, count, path, err)
		}
		f.parts = append(f.parts, part)
		f.size += part.size
	}
	return nil
}

// checkParts checks that every part has all split keys and that they are those
// of its place.
func (f *File) checkParts() error {
	type keys struct{ no, count, tensors uint64 }
	n := 0
	for _, part := range f.parts {
		n += len(part.header.tensors)
	}
	for i, part := range f.parts {
		h := part.header
		no, err1 := h.splitKey(splitNoKey, Uint16)
		count, err2 := h.splitKey(splitCountKey, Uint16)
		tensors, err3 := h.splitKey(splitTensorsKey, Int32)
		err := cmp.Or(err1, err2, err3)
		got, want := keys{no, count, tensors}, keys{uint64(i), uint64(len(f.parts)), uint64(n)}
		if err == nil && got != want {
			err = fmt.Errorf("%w: it says it is part %d of %d with %d tensors in all; it is part %d of %d with %d",
				ErrSplit, got.no+1, got.count, got.tensors, want.no+1, want.count, want.tensors)
		}
		if err != nil {
			return fmt.Errorf("part %d of %d: %s: %w", i+1, len(f.parts), part.path, err)
		}
	}
	return nil
}

// joinHeaders makes the header of the one file that the parts stand for: the
// pairs of the first without the split keys, the tensors of all, one after the
// other.
func joinHeaders(parts []*File) (*header, error) {
	first := parts[0].header
	h := &header{version: first.version, keys: map[string]int{}, names: map[string]int{}, alignment: first.alignment}
	for _, kv := range withoutSplitKeys(first.kvs) {
		h.keys[kv.Key] = len(h.kvs)
		h.kvs = append(h.kvs, kv)
	}
	var offset uint64
	for k, part := range parts {
		for _, t := range part.header.tensors {
			if _, ok := h.names[t.Name]; ok {
				return nil, fmt.Errorf("%w: tensor %q of part %d is in another part, too", ErrSplit, t.Name, k+1)
			}
			t.Offset = offset
			offset = alignUp(offset+t.Bytes, h.alignment)
			h.names[t.Name] = len(h.tensors)
			h.tensors = append(h.tensors, t)
		}
	}
	h.dataOffset = alignUp(uint64(len(AppendHeader(nil, h.kvs, h.tensors))), h.alignment)
	return h, nil
}

func withoutSplitKeys(kvs []KV) []KV {
	var kept []KV
	for _, kv := range kvs {
		if !slices.Contains(splitKeys, kv.Key) {
			kept = append(kept, kv)
		}
	}
	return kept
}

// splitKeys are in the order in which llama.cpp's gguf-split writes them.
var splitKeys = []string{splitNoKey, splitTensorsKey, splitCountKey}

// partKVs are the pairs of part no of count: the model's in the first part,
// then, in all, the split keys in the given order. The alignment is said in every part.
func partKVs(kvs []KV, no, count, tensors int, order []string) []KV {
	var own []KV
	for _, kv := range withoutSplitKeys(kvs) {
		if no == 0 || kv.Key == alignmentKey {
			own = append(own, kv)
		}
	}
	u16 := func(key string, v int) KV {
		return KV{Key: key, Type: Uint16, Raw: binary.LittleEndian.AppendUint16(nil, uint16(v))}
	}
	for _, key := range order {
		switch key {
		case splitNoKey:
			own = append(own, u16(key, no))
		case splitCountKey:
			own = append(own, u16(key, count))
		case splitTensorsKey:
			own = append(own, KV{Key: key, Type: Int32, Raw: binary.LittleEndian.AppendUint32(nil, uint32(tensors))})
		}
	}
	return own
}

// Parts returns the files that the model is stored in, the first part first,
// with all their pairs, split keys included, and with offsets in that file.
// The File itself is the only part of a model that is not split. Parts are
// closed with the File.
func (f *File) Parts() []*File {
	if f.parts == nil {
		return []*File{f}
	}
	return f.parts
}

// PartHeader returns the bytes that part i of a split model begins with, up to
// its tensor data, when it was divided by this package or by llama.cpp's
// gguf-split; the split keys come last, in the order in which the part has them.
func (f *File) PartHeader(i int) []byte {
	part := f.Parts()[i]
	var order []string
	for _, kv := range part.KVs() {
		if slices.Contains(splitKeys, kv.Key) {
			order = append(order, kv.Key)
		}
	}
	b := AppendHeader(nil, partKVs(f.KVs(), i, len(f.Parts()), len(f.Tensors()), order), part.Tensors())
	return append(b, make([]byte, alignUp(uint64(len(b)), f.Alignment())-uint64(len(b)))...)
}

// part returns the part that holds tensor i, and that tensor's description there.
func (f *File) part(i int) (*File, Tensor) {
	for _, part := range f.parts {
		if n := len(part.header.tensors); i >= n {
			i -= n
			continue
		}
		return part, part.header.tensors[i]
	}
	return f, f.header.tensors[i]
}

func closeAll(files []*File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// partPaths are the names of all parts of the model whose first part has that
// name; path alone when it has no such name.
func partPaths(path string) []string {
	prefix, no, count, ok := parsePartName(path)
	if !ok || no != 0 {
		return []string{path}
	}
	paths := make([]string, count)
	for i := range paths {
		paths[i] = partName(prefix, i, count)
	}
	return paths
}

// CheckOutput refuses to let a model be written to path: when it is one of the
// inputs, by whatever name, one of their parts included; when it exists, unless
// force is set; when it is no regular file or its folder is missing. With split
// that goes for all parts that might be written under that name.
//
// Errors wrap ErrOutput, or are those of package os.
func CheckOutput(path string, split, force bool, inputs ...string) error {
	outputs := []string{path}
	if split {
		others, err := existingParts(splitStem(path))
		if err != nil {
			return err
		}
		outputs = append(outputs, others...)
	}
	for _, out := range outputs {
		for _, in := range inputs {
			for _, part := range partPaths(in) {
				if SameFile(out, part) {
					return fmt.Errorf("%w: %s is the input itself; choose another name", ErrOutput, out)
				}
			}
		}
		info, err := os.Stat(out)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%w: %s is a %s", ErrOutput, out, kind(info))
		case !force:
			return fmt.Errorf("%w: %s exists; replace it with --force", ErrOutput, out)
		}
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil {
		return fmt.Errorf("output folder: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("%w: %s is no directory", ErrOutput, dir)
	}
	return nil
}

// splitStem is what the names of the parts begin with when a split model is
// written to path.
func splitStem(path string) string { return strings.TrimSuffix(path, ".gguf") }

// existingParts lists the files that are named as parts of stem.
func existingParts(stem string) ([]string, error) {
	dir, base := filepath.Split(stem)
	entries, err := os.ReadDir(filepath.Clean(dir + "."))
	if err != nil {
		return nil, fmt.Errorf("output folder: %w", err)
	}
	var found []string
	for _, e := range entries {
		if prefix, _, _, ok := parsePartName(e.Name()); ok && prefix == base {
			found = append(found, dir+e.Name())
		}
	}
	return found, nil
}
