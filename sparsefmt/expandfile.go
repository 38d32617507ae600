package sparsefmt

import (
	"context"
	"fmt"
	"strings"

	"besa/gguf"
)

// ExpandedHeader returns metadata and tensors of the expanded file: all pairs
// in order without the reserved ones, then the changes that besa.expand.*
// asks for; all tensors in order with the types they expand to. Offsets are
// left to the writer.
func (f *File) ExpandedHeader() ([]gguf.KV, []gguf.Tensor) {
	replace := map[string]gguf.KV{}
	var order []string
	for _, kv := range f.g.KVs() {
		if name, ok := strings.CutPrefix(kv.Key, expandPrefix); ok {
			kv.Key = "general." + name
			replace[kv.Key] = kv
			order = append(order, kv.Key)
		}
	}
	kvs := []gguf.KV{}
	for _, kv := range f.g.KVs() {
		if IsReserved(kv.Key) {
			continue
		}
		if r, ok := replace[kv.Key]; ok {
			kv = r
			delete(replace, kv.Key)
		}
		kvs = append(kvs, kv)
	}
	for _, key := range order {
		if r, ok := replace[key]; ok {
			kvs = append(kvs, r)
		}
	}
	tensors := make([]gguf.Tensor, len(f.entries))
	for i, v := range f.Tensors() {
		tensors[i] = gguf.Tensor{Name: v.Name, Type: v.Type, Shape: v.Shape, Bytes: v.ExpandedBytes}
	}
	return kvs, tensors
}

// ExpandOptions are the choices of Expand.
type ExpandOptions struct {
	// Type is what pruned tensors become, one of ExpandTypes; nil for what
	// their codes mean. The values are the same in every type: where one does
	// not hold them exactly, Expand fails with ErrInexact.
	Type *gguf.Type
	// SplitBytes, if not 0, is the tensor data that a part holds at most (see
	// gguf.CreateSplit).
	SplitBytes uint64
	// Progress is called with the bytes written so far and their total.
	Progress func(done, total int64)
}

// ExpandTo is Expand to what the codes mean, in one file. progress may be nil.
func (f *File) ExpandTo(ctx context.Context, path string, progress func(done, total int64)) error {
	_, err := f.Expand(ctx, path, ExpandOptions{Progress: progress})
	return err
}

// Expand writes the expanded file: an ordinary GGUF whose pruned weights are
// zeros. It returns the names of the files. Every checksum is compared on the
// way, so a damaged file expands to an error, never to wrong weights. Memory
// is bounded by a few tiles or chunks per processor; nothing appears at path
// unless all went well.
func (f *File) Expand(ctx context.Context, path string, opts ExpandOptions) ([]string, error) {
	if err := gguf.CheckOutput(path, opts.SplitBytes != 0, true, f.Path()); err != nil {
		return nil, err
	}
	kvs, tensors := f.ExpandedHeader()
	retypers := make([]*retyper, len(tensors))
	if opts.Type != nil {
		kvs = setFileType(kvs, *opts.Type)
		for i := range f.entries {
			if f.entries[i].blob == nil {
				continue
			}
			t, err := &tensors[i], error(nil)
			if retypers[i], err = newRetyper(t.Type, *opts.Type); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Path(), inTensor(t.Name, err))
			}
			t.Type, t.Bytes = *opts.Type, 0
		}
	}
	out, err := newOutput(ctx, path, opts.SplitBytes, kvs, tensors, opts.Progress)
	if err != nil {
		return nil, err
	}
	defer out.abort()
	for i := range f.entries {
		e := &f.entries[i]
		err = gguf.GuardFault(func() error {
			if e.blob == nil {
				return out.dense(e.name(), f.g.Data(e.stored), e.sum)
			}
			return out.expand(e.name(), e.blob, e.info.ExpandedSum, retypers[i])
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path(), err)
		}
		f.g.Release(e.stored)
	}
	return out.w.Paths(), out.commit()
}

// fileTypes are llama.cpp's numbers (general.file_type) for files whose linear
// layers have these types.
var fileTypes = map[gguf.Type]uint32{gguf.F32: 0, gguf.F16: 1, gguf.Q4_0: 2, gguf.Q4_1: 3, gguf.Q8_0: 7}

// setFileType says in the metadata what the pruned tensors have become.
func setFileType(kvs []gguf.KV, t gguf.Type) []gguf.KV {
	kv := gguf.MustKV("general.file_type", fileTypes[t])
	for i := range kvs {
		if kvs[i].Key == kv.Key {
			kvs[i] = kv
			return kvs
		}
	}
	return append(kvs, kv)
}
