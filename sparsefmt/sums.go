package sparsefmt

import (
	"context"
	"fmt"

	"besa/gguf"
)

// CheckSums compares every stored tensor with its checksum (rules of the blobs'
// and the dense tensors' sums): after it, a reader can trust the bytes to be
// those that were written. It reads the whole file once, and lets go of the
// memory. progress may be nil.
func (f *File) CheckSums(ctx context.Context, progress func(done, total int64)) error {
	var done, total int64
	for i := range f.entries {
		total += int64(f.entries[i].stored.Bytes)
	}
	for i := range f.entries {
		e := &f.entries[i]
		err := gguf.GuardFault(func() error {
			sum, err := hashBytes(ctx, f.g.Data(e.stored))
			switch {
			case err != nil:
				return err
			case e.blob == nil:
				return compare(RuleDenseSum, sum, e.sum)
			default:
				return compare(RuleBlobSum, sum, e.info.BlobSum)
			}
		})
		f.g.Release(e.stored)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path(), inTensor(e.name(), err))
		}
		done += int64(e.stored.Bytes)
		if progress != nil {
			progress(done, total)
		}
	}
	return nil
}
