package sparsefmt

import (
	"context"
	"fmt"
	"io"
	"strings"

	"besa/gguf"

	"github.com/zeebo/xxh3"
)

// chunkBytes is how much is hashed or written between two looks at the context.
const chunkBytes = 1 << 20

// output is a GGUF file being written, with cancellation and progress.
type output struct {
	ctx         context.Context
	w           *gguf.Writer
	progress    func(done, total int64)
	done, total int64
}

func newOutput(ctx context.Context, path string, maxBytes uint64, kvs []gguf.KV, tensors []gguf.Tensor, progress func(done, total int64)) (*output, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, err := gguf.CreateSplit(path, maxBytes, kvs, tensors)
	if err != nil {
		return nil, err
	}
	o := &output{ctx: ctx, w: w, progress: progress}
	for _, t := range w.Tensors() {
		o.total += int64(t.Bytes)
	}
	return o, nil
}

// begin starts the next tensor.
func (o *output) begin(name string) (io.WriteCloser, error) { return o.w.TensorWriter(name) }

// write writes a chunk of the current tensor.
func (o *output) write(w io.Writer, chunk []byte) error {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	if _, err := w.Write(chunk); err != nil {
		return err
	}
	o.done += int64(len(chunk))
	if o.progress != nil {
		o.progress(o.done, o.total)
	}
	return nil
}

// dense copies a tensor that must have the given checksum.
func (o *output) dense(name string, data []byte, want uint64) error {
	w, err := o.begin(name)
	if err != nil {
		return err
	}
	h := xxh3.New()
	for len(data) > 0 {
		n := min(len(data), chunkBytes)
		_, _ = h.Write(data[:n]) // a hash never fails
		if err := o.write(w, data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	if sum := h.Sum64(); sum != want {
		return inTensor(name, mismatch(RuleDenseSum, sum, want))
	}
	return w.Close()
}

// expand writes what a blob expands to, which must have the given checksum.
func (o *output) expand(name string, r RowExpander, want uint64) error {
	w, err := o.begin(name)
	if err != nil {
		return err
	}
	h := xxh3.New()
	err = eachStep(o.ctx, r, func(expanded []byte) error {
		_, _ = h.Write(expanded) // a hash never fails
		return o.write(w, expanded)
	})
	if err != nil {
		return inTensor(name, err)
	}
	if sum := h.Sum64(); sum != want {
		return inTensor(name, mismatch(RuleExpandedSum, sum, want))
	}
	return w.Close()
}

func (o *output) commit() error {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	return o.w.Commit()
}

// abort removes what is unfinished; after commit it does nothing.
func (o *output) abort() { _ = o.w.Abort() }

// hashBytes is the XXH3-64 of a mapped tensor.
func hashBytes(ctx context.Context, data []byte) (uint64, error) {
	h := xxh3.New()
	for len(data) > 0 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n := min(len(data), 16*chunkBytes)
		_, _ = h.Write(data[:n]) // a hash never fails
		data = data[n:]
	}
	return h.Sum64(), nil
}

// alignment is the data alignment that a file with these pairs has.
func alignment(kvs []gguf.KV) uint64 {
	for _, kv := range kvs {
		if v, ok := kv.Uint(); ok && kv.Key == "general.alignment" && v != 0 {
			return v
		}
	}
	return 32
}

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

// ExpandTo writes the expanded file: an ordinary GGUF whose pruned weights
// are zeros of the type the codes mean. Every checksum is compared on the
// way, so a damaged file expands to an error, never to wrong weights. Memory
// is bounded by a few tiles or chunks per processor; nothing appears at path unless
// all went well. progress may be nil.
func (f *File) ExpandTo(ctx context.Context, path string, progress func(done, total int64)) error {
	_, err := f.ExpandSplit(ctx, path, 0, progress)
	return err
}

// ExpandSplit is ExpandTo in parts of at most maxBytes of tensor data (see
// [gguf.CreateSplit]); it returns the names of the files.
func (f *File) ExpandSplit(ctx context.Context, path string, maxBytes uint64, progress func(done, total int64)) ([]string, error) {
	if err := gguf.CheckOutput(path, maxBytes != 0, true, f.Path()); err != nil {
		return nil, err
	}
	kvs, tensors := f.ExpandedHeader()
	out, err := newOutput(ctx, path, maxBytes, kvs, tensors, progress)
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
			return out.expand(e.name(), e.blob, e.info.ExpandedSum)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path(), err)
		}
	}
	return out.w.Paths(), out.commit()
}
