package sparsefmt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"besa/gguf"

	"github.com/zeebo/xxh3"
)

// Blob is an encoded tensor that may still lie in a file of its own.
type Blob struct {
	Info TensorInfo
	// Open returns the blob's bytes; Create calls it once or twice, and closes
	// what it returns.
	Open func() (io.ReadCloser, error)
}

// BlobOf is a Blob in memory.
func BlobOf(info TensorInfo, blob []byte) Blob {
	return Blob{Info: info, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(blob)), nil
	}}
}

// storage says where the bytes of a tensor in the new file come from.
type storage int

const (
	storeCopy  storage = iota // the source's
	storeBlob                 // a blob's
	storeDense                // what a blob expands to, where its mask does not pay
)

// part is a tensor of the file that is being created.
type part struct {
	how    storage
	source gguf.Tensor
	stored gguf.Tensor // as it will stand in the file, but for the offset
	blob   Blob        // in the file's layout
	info   TensorInfo  // of the blob
	sum    uint64      // of a dense tensor's bytes
}

// setBlob decides how a pruned tensor is stored. A blob that has to be
// converted waits in the spool.
func (p *part) setBlob(b Blob, opts CreateOptions, s *spool) error {
	if err := checkBlob(p.source, b.Info); err != nil {
		return fmt.Errorf("%w: tensor %q: %w", ErrUnsupported, p.source.Name, err)
	}
	b.Info.Layout = max(b.Info.Layout, LayoutPlain)
	if b.Info.Layout != opts.Layout {
		data, info, err := b.convert(opts.Layout)
		if err != nil {
			return err
		}
		if b, err = s.add(info, data); err != nil {
			return err
		}
	}
	p.how, p.blob, p.info = storeBlob, b, b.Info
	i := &p.info
	if i.BlobBytes < i.ExpandedBytes() || opts.keepBlobs {
		p.stored = gguf.Tensor{Name: i.Name + Suffix, Type: gguf.I8, Shape: []uint64{i.BlobBytes}, Bytes: i.BlobBytes}
		return nil
	}
	p.how, p.sum = storeDense, i.ExpandedSum
	p.stored.Type, p.stored.Bytes = i.Type(), i.ExpandedBytes()
	return nil
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

// write writes the tensor's bytes.
func (p *part) write(out *output, src Source) error {
	switch {
	case p.how == storeCopy:
		return out.dense(p.stored.Name, src.Data(p.source), p.sum)
	case p.how == storeDense:
		blob, err := p.blob.read()
		if err != nil {
			return err
		}
		r, err := openBlob(blob, p.blob.Info)
		if err != nil {
			return inTensor(p.info.Name, err)
		}
		return out.expand(p.stored.Name, r, p.sum, nil)
	}
	return writeBlob(out, p.stored.Name, &p.blob)
}

// read returns the bytes of a blob, which are the ones described.
func (b *Blob) read() (data []byte, err error) {
	r, err := b.Open()
	if err != nil {
		return nil, fmt.Errorf("blob of tensor %q: %w", b.Info.Name, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data = make([]byte, b.Info.BlobBytes)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("blob of tensor %q: %w", b.Info.Name, err)
	}
	if sum := xxh3.Hash(data); sum != b.Info.BlobSum {
		return nil, inTensor(b.Info.Name, mismatch(RuleBlobSum, sum, b.Info.BlobSum))
	}
	return data, nil
}

// convert returns the blob in a layout that it does not have.
func (b *Blob) convert(layout Layout) ([]byte, TensorInfo, error) {
	data, err := b.read()
	if err != nil {
		return nil, TensorInfo{}, err
	}
	if layout == LayoutPacked {
		return Pack(data, b.Info)
	}
	p, err := NewPacked(data, b.Info)
	if err != nil {
		return nil, TensorInfo{}, inTensor(b.Info.Name, err)
	}
	data, info, err := p.Plain()
	return data, info, inTensor(b.Info.Name, err)
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
			if err := checkHeader(buf[:n], b.Info, b.Info.Layout); err != nil {
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
