package sparsefmt

import (
	"bytes"
	"context"
	"io"
	"strings"

	"besa/gguf"
)

// StoreOptions are the choices of Repack and Sparsify.
type StoreOptions struct {
	Layout Layout
	// SplitBytes, if not 0, is the tensor data that a part holds at most: see
	// gguf.CreateSplit.
	SplitBytes uint64
	// Progress is called with the share of the work that is done, 0 to 1.
	Progress func(done float64)
}

func (o *StoreOptions) progress(done float64) {
	if o.Progress != nil {
		o.Progress(done)
	}
}

// create is CreateSplit whose progress covers what is left of the work.
func (o *StoreOptions) create(ctx context.Context, path string, src Source, blobs map[string]Blob, opts CreateOptions, from float64) ([]string, error) {
	opts.Layout, opts.KeepProvenance = o.Layout, true
	opts.Progress = func(done, total int64) {
		o.progress(from + (1-from)*float64(done)/float64(max(total, 1)))
	}
	return CreateSplit(ctx, path, o.SplitBytes, src, blobs, opts)
}

// Repack writes the file again with its blobs in a layout. The new file
// expands to the same bytes: metadata and dense tensors are kept, and a blob
// that is larger than what it expands to becomes a dense tensor. It returns
// the names of the files. Memory: a few blobs; nothing appears at path unless
// all went well.
func (f *File) Repack(ctx context.Context, path string, opts StoreOptions) ([]string, error) {
	blobs := map[string]Blob{}
	for i := range f.entries {
		e := &f.entries[i]
		if e.blob == nil {
			continue
		}
		blobs[e.info.Name] = Blob{Info: e.info, Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(f.g.Data(e.stored))), nil
		}}
	}
	create := CreateOptions{}
	for _, kv := range f.g.KVs() {
		if strings.HasPrefix(kv.Key, expandPrefix) {
			create.expand = append(create.expand, kv)
		}
	}
	return opts.create(ctx, path, storedFile{f}, blobs, create, 0)
}

// storedFile is a sparse file as the source of another: its tensors as they
// expand, and the data of the dense ones.
type storedFile struct{ f *File }

func (s storedFile) Path() string { return s.f.Path() }

// KVs returns the pairs that are not the format's.
func (s storedFile) KVs() []gguf.KV {
	var kvs []gguf.KV
	for _, kv := range s.f.g.KVs() {
		if !IsReserved(kv.Key) {
			kvs = append(kvs, kv)
		}
	}
	return kvs
}

func (s storedFile) Tensors() []gguf.Tensor {
	_, tensors := s.f.ExpandedHeader()
	return tensors
}

func (s storedFile) Data(t gguf.Tensor) []byte {
	return s.f.g.Data(s.f.entries[s.f.byName[t.Name]].stored)
}
