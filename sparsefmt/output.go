package sparsefmt

import (
	"context"

	"io"

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

// expand writes what a blob expands to, which must have the given checksum, in
// another type if re is not nil.
func (o *output) expand(name string, r RowExpander, want uint64, re *retyper) error {
	w, err := o.begin(name)
	if err != nil {
		return err
	}
	h := xxh3.New()
	var retyped []byte
	err = eachStep(o.ctx, r, func(expanded []byte) error {
		_, _ = h.Write(expanded) // a hash never fails
		if re != nil {
			if err := re.rows(&retyped, expanded); err != nil {
				return err
			}
			expanded = retyped
		}
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
