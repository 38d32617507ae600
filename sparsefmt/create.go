package sparsefmt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"besa/gguf"

	"github.com/zeebo/xxh3"
)

// Source is what Create reads from the model that was pruned; *gguf.File is one.
type Source interface {
	Path() string
	KVs() []gguf.KV
	Tensors() []gguf.Tensor
	Data(t gguf.Tensor) []byte
}

// Blob is an encoded tensor that may still lie in a file of its own.
type Blob struct {
	Info TensorInfo
	// Open returns the blob's bytes; Create calls it once, and closes it.
	Open func() (io.ReadCloser, error)
}

// BlobOf is a Blob in memory.
func BlobOf(info TensorInfo, blob []byte) Blob {
	return Blob{Info: info, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(blob)), nil
	}}
}

// CreateOptions are the choices of Create.
type CreateOptions struct {
	// Provenance is added to the metadata as it is: keys under "besa." that
	// say how the file was made. They stay in the expanded file. Keys for
	// which IsReserved is true are refused.
	Provenance []gguf.KV
	// FileType is general.file_type of the expanded file (llama.cpp's
	// llama_ftype: 1 F16, 2 Q4_0, 3 Q4_1, 32 BF16); 0 keeps the source's.
	// When it is not 0, general.quantization_version is added to the
	// expansion if the source has none and a tensor expands to a 4-bit type.
	FileType uint32
	// Progress is called with the bytes written so far and their total.
	Progress func(done, total int64)
}

// Create writes a sparse GGUF: the tensors of src, in order, those in pruned
// (by name) replaced by their blobs; its metadata verbatim but for keys under
// "besa.", which belong to an earlier run and are dropped. The bytes written
// depend on the arguments alone. Nothing appears at path unless all went well.
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
	p, err := planFile(src, pruned, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	kvs, err := p.metadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out, err := newOutput(ctx, path, maxBytes, kvs, p.tensors, opts.Progress)
	if err != nil {
		return nil, err
	}
	defer out.abort()
	for i, t := range p.tensors {
		err := gguf.GuardFault(func() error {
			if p.blobs[i] == nil {
				return out.dense(t.Name, src.Data(p.source[i]), p.sums[i])
			}
			return writeBlob(out, t.Name, p.blobs[i])
		})
		if err != nil {
			return nil, err
		}
	}
	return out.w.Paths(), out.commit()
}

// plan is everything that is decided before a byte is written. Its slices
// are parallel, in file order.
type plan struct {
	src     Source
	opts    CreateOptions
	source  []gguf.Tensor
	tensors []gguf.Tensor
	blobs   []*Blob  // nil for dense tensors
	sums    []uint64 // of dense tensors
	table   []TensorInfo
}

func planFile(src Source, pruned map[string]Blob, opts CreateOptions) (*plan, error) {
	p := &plan{src: src, opts: opts, source: src.Tensors()}
	for _, kv := range src.KVs() {
		if kv.Key == keyVersion {
			return nil, fmt.Errorf("%w: %s is a sparse GGUF already", ErrUnsupported, src.Path())
		}
	}
	for _, t := range p.source {
		if strings.HasSuffix(t.Name, Suffix) {
			return nil, fmt.Errorf("%w: tensor %q: names that end in %s are the format's own", ErrUnsupported, t.Name, Suffix)
		}
		b, ok := pruned[t.Name]
		if !ok {
			p.tensors, p.blobs = append(p.tensors, t), append(p.blobs, nil)
			continue
		}
		if err := checkBlob(t, b.Info); err != nil {
			return nil, fmt.Errorf("%w: tensor %q: %w", ErrUnsupported, t.Name, err)
		}
		p.table = append(p.table, b.Info)
		p.blobs = append(p.blobs, &b)
		p.tensors = append(p.tensors, gguf.Tensor{
			Name: t.Name + Suffix, Type: gguf.I8, Shape: []uint64{b.Info.BlobBytes}, Bytes: b.Info.BlobBytes,
		})
	}
	if len(p.table) != len(pruned) {
		return nil, fmt.Errorf("%w: %d tensors are pruned, only %d of them are in %s", ErrUnsupported, len(pruned), len(p.table), src.Path())
	}
	return p, nil
}

// checkBlob checks that a table row describes tensor t of the source.
func checkBlob(t gguf.Tensor, info TensorInfo) error {
	if info.Name != t.Name {
		return fmt.Errorf("its blob is that of %q", info.Name)
	}
	if !slices.Equal(info.Shape, t.Shape) {
		return fmt.Errorf("its blob has shape %v, the source %v", info.Shape, t.Shape)
	}
	return info.Validate()
}

// metadata computes the checksums and returns all pairs of the new file.
func (p *plan) metadata(ctx context.Context) ([]gguf.KV, error) {
	kvs := []gguf.KV{}
	has := map[string]bool{}
	for _, kv := range p.src.KVs() {
		if !strings.HasPrefix(kv.Key, ownPrefix) {
			kvs = append(kvs, kv)
			has[kv.Key] = true
		}
	}
	kvs = append(kvs, gguf.MustKV(keyVersion, uint32(FormatVersion)), gguf.MustKV(keyLayout, LayoutPlain))
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
	kvs = append(kvs, tableKVs(p.table)...)
	sums, err := p.denseSums(ctx)
	if err != nil {
		return nil, err
	}
	kvs = append(kvs, gguf.MustKV(keyDenseSum, sums), gguf.MustKV(keyHeaderSum, uint64(0)))
	align, offset := alignment(kvs), uint64(0)
	for i := range p.tensors {
		p.tensors[i].Offset = offset
		offset += p.tensors[i].Bytes + padding(p.tensors[i].Bytes, align)
	}
	kvs[len(kvs)-1] = gguf.MustKV(keyHeaderSum, newHeaderSum(kvs, p.tensors, align))
	return kvs, nil
}

// denseSums hashes the tensors that are copied.
func (p *plan) denseSums(ctx context.Context) ([]uint64, error) {
	p.sums = make([]uint64, len(p.tensors))
	sums := []uint64{}
	for i := range p.tensors {
		if p.blobs[i] != nil {
			continue
		}
		data := p.src.Data(p.source[i])
		if uint64(len(data)) != p.source[i].Bytes {
			return nil, fmt.Errorf("%s: tensor %q: %d bytes of data, want %d", p.src.Path(), p.source[i].Name, len(data), p.source[i].Bytes)
		}
		err := gguf.GuardFault(func() (err error) {
			p.sums[i], err = hashBytes(ctx, data)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.src.Path(), err)
		}
		sums = append(sums, p.sums[i])
	}
	return sums, nil
}

// writeBlob streams a blob and checks that it is the one described.
func writeBlob(out *output, name string, b *Blob) (err error) {
	r, err := b.Open()
	if err != nil {
		return fmt.Errorf("blob of tensor %q: %w", b.Info.Name, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := out.begin(name)
	if err != nil {
		return err
	}
	h := xxh3.New()
	buf := make([]byte, chunkBytes)
	for left := b.Info.BlobBytes; left > 0; {
		n, err := io.ReadFull(r, buf[:min(left, chunkBytes)])
		if err != nil {
			return fmt.Errorf("blob of tensor %q: %w", b.Info.Name, err)
		}
		if left == b.Info.BlobBytes {
			if err := checkHeader(buf[:n], b.Info); err != nil {
				return inTensor(b.Info.Name, err)
			}
		}
		left -= uint64(n)
		_, _ = h.Write(buf[:n]) // a hash never fails
		if err := out.write(w, buf[:n]); err != nil {
			return err
		}
	}
	if sum := h.Sum64(); sum != b.Info.BlobSum {
		return inTensor(b.Info.Name, mismatch(RuleBlobSum, sum, b.Info.BlobSum))
	}
	return w.Close()
}
