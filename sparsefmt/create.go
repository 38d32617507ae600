package sparsefmt

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"besa/gguf"
)

// Source is what Create reads from the model that was pruned; *gguf.File is one.
type Source interface {
	Path() string
	KVs() []gguf.KV
	Tensors() []gguf.Tensor
	Data(t gguf.Tensor) []byte
}

// CreateOptions are the choices of Create.
type CreateOptions struct {
	// Layout of the blobs; the zero value means plain. Blobs of another layout
	// are converted.
	Layout Layout
	// Provenance is added to the metadata as it is: keys under "besa." that
	// say how the file was made. They stay in the expanded file. Keys for
	// which IsReserved is true are refused.
	Provenance []gguf.KV
	// KeepProvenance keeps the source's own pairs under "besa.", in place:
	// for files that are stored in another way, not made anew.
	KeepProvenance bool
	// FileType is general.file_type of the expanded file (llama.cpp's
	// llama_ftype: 1 F16, 2 Q4_0, 3 Q4_1, 7 Q8_0, 32 BF16); 0 keeps the
	// source's. When it is not 0, general.quantization_version is added to the
	// expansion if the source has none and a tensor expands to a quantised type.
	FileType uint32
	// Progress is called with the bytes written so far and their total.
	Progress func(done, total int64)

	expand    []gguf.KV // pairs under besa.expand., of a file whose layout changes
	keepBlobs bool      // even those that do not pay, which readers must accept
}

// Create writes a sparse GGUF: the tensors of src, in order, those in pruned
// (by name) replaced by their blobs, or by what they expand to where that is
// not larger; its metadata verbatim but for keys under "besa.", which belong
// to an earlier run and are dropped. The bytes written depend on the arguments
// alone. Nothing appears at path unless all went well. Memory: a few blobs;
// those that change their layout wait in a temporary file beside path.
//
// ErrUnsupported: a name, shape or key does not fit the format, or src is
// sparse already. ErrChecksum: a blob is not the one its Info describes.
func Create(ctx context.Context, path string, src Source, pruned map[string]Blob, opts CreateOptions) error {
	_, err := CreateSplit(ctx, path, 0, src, pruned, opts)
	return err
}

// CreateSplit is Create in parts of at most maxBytes of tensor data (see
// [gguf.CreateSplit]); it returns the names of the files.
func CreateSplit(ctx context.Context, path string, maxBytes uint64, src Source, pruned map[string]Blob, opts CreateOptions) ([]string, error) {
	if err := gguf.CheckOutput(path, maxBytes != 0, true, src.Path()); err != nil {
		return nil, err
	}
	s := &spool{dir: filepath.Dir(path)}
	defer s.close()
	p, err := planFile(ctx, src, pruned, opts, s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	kvs, err := p.metadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	tensors := make([]gguf.Tensor, len(p.parts))
	for i := range p.parts {
		tensors[i] = p.parts[i].stored
	}
	out, err := newOutput(ctx, path, maxBytes, kvs, tensors, opts.Progress)
	if err != nil {
		return nil, err
	}
	defer out.abort()
	for i := range p.parts {
		if err := gguf.GuardFault(func() error { return p.parts[i].write(out, src) }); err != nil {
			return nil, err
		}
	}
	return out.w.Paths(), out.commit()
}

// plan is everything that is decided before a byte is written.
type plan struct {
	src   Source
	opts  CreateOptions
	parts []part // in file order
	table []TensorInfo
}

func planFile(ctx context.Context, src Source, pruned map[string]Blob, opts CreateOptions, s *spool) (*plan, error) {
	if opts.Layout == 0 {
		opts.Layout = LayoutPlain
	}
	p := &plan{src: src, opts: opts}
	for _, kv := range src.KVs() {
		if kv.Key == keyVersion {
			return nil, fmt.Errorf("%w: %s is a sparse GGUF already", ErrUnsupported, src.Path())
		}
	}
	found := 0
	for _, t := range src.Tensors() {
		if strings.HasSuffix(t.Name, Suffix) {
			return nil, fmt.Errorf("%w: tensor %q: names that end in %s are the format's own", ErrUnsupported, t.Name, Suffix)
		}
		part := part{source: t, stored: t}
		if b, ok := pruned[t.Name]; ok {
			found++
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := part.setBlob(b, opts, s); err != nil {
				return nil, err
			}
			if part.how != storeDense {
				p.table = append(p.table, part.info)
			}
		}
		p.parts = append(p.parts, part)
	}
	if found != len(pruned) {
		return nil, fmt.Errorf("%w: %d tensors are pruned, only %d of them are in %s", ErrUnsupported, len(pruned), found, src.Path())
	}
	return p, nil
}

// metadata computes the checksums and returns all pairs of the new file.
func (p *plan) metadata(ctx context.Context) ([]gguf.KV, error) {
	kvs := []gguf.KV{}
	has := map[string]bool{}
	for _, kv := range p.src.KVs() {
		if !strings.HasPrefix(kv.Key, ownPrefix) || p.opts.KeepProvenance && !IsReserved(kv.Key) {
			kvs = append(kvs, kv)
			has[kv.Key] = true
		}
	}
	at := slices.IndexFunc(kvs, func(kv gguf.KV) bool { return strings.HasPrefix(kv.Key, ownPrefix) })
	if at < 0 {
		at = len(kvs)
	}
	kvs = slices.Insert(kvs, at, gguf.MustKV(keyVersion, leastVersion(p.table)), gguf.MustKV(keyLayout, p.opts.Layout.String()))
	for _, kv := range p.opts.Provenance {
		if !strings.HasPrefix(kv.Key, ownPrefix) || IsReserved(kv.Key) || has[kv.Key] {
			return nil, fmt.Errorf("%w: %q cannot be a provenance key", ErrUnsupported, kv.Key)
		}
		kvs = append(kvs, kv)
		has[kv.Key] = true
	}
	if p.opts.FileType != 0 {
		kvs = append(kvs, gguf.MustKV(keyFileType, p.opts.FileType))
		quantised := slices.ContainsFunc(p.table, func(t TensorInfo) bool { return t.Coding.Quantised() })
		if quantised && !has["general.quantization_version"] {
			kvs = append(kvs, gguf.MustKV(keyQuantVer, uint32(quantVersion)))
		}
	}
	kvs = append(kvs, p.opts.expand...)
	kvs = append(kvs, tableKVs(p.table)...)
	sums, err := p.denseSums(ctx)
	if err != nil {
		return nil, err
	}
	kvs = append(kvs, gguf.MustKV(keyDenseSum, sums), gguf.MustKV(keyHeaderSum, uint64(0)))
	align, offset := alignment(kvs), uint64(0)
	tensors := make([]gguf.Tensor, len(p.parts))
	for i := range p.parts {
		tensors[i] = p.parts[i].stored
		tensors[i].Offset = offset
		offset += tensors[i].Bytes + padding(tensors[i].Bytes, align)
	}
	kvs[len(kvs)-1] = gguf.MustKV(keyHeaderSum, newHeaderSum(kvs, tensors, align))
	return kvs, nil
}

// leastVersion is the oldest format version that has all of these codings.
func leastVersion(table []TensorInfo) uint32 {
	v := uint32(1)
	for _, t := range table {
		v = max(v, t.Coding.spec().since)
	}
	return v
}

// denseSums hashes the tensors that are copied, and lists the checksums of all
// dense tensors.
func (p *plan) denseSums(ctx context.Context) ([]uint64, error) {
	sums := []uint64{}
	for i := range p.parts {
		part := &p.parts[i]
		if part.how == storeCopy {
			err := gguf.GuardFault(func() (err error) {
				data := p.src.Data(part.source) // which may have to make it
				if uint64(len(data)) != part.source.Bytes {
					return fmt.Errorf("tensor %q: %d bytes of data, want %d", part.source.Name, len(data), part.source.Bytes)
				}
				part.sum, err = hashBytes(ctx, data)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.src.Path(), err)
			}
		}
		if part.how != storeBlob {
			sums = append(sums, part.sum)
		}
	}
	return sums, nil
}
