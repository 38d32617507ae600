package sparsefmt

// RowExpander produces rows of a pruned tensor as the expanded file has them,
// from a blob of any layout. It is safe for many goroutines.
//
// A random read of the expanded tensor is a call of ExpandRows for the rows it
// touches; aligned to multiples of RowStep, no work is done twice.
type RowExpander interface {
	// Rows is the number of rows, RowBytes the size of an expanded one.
	Rows() int
	RowBytes() int
	// RowStep is the number of consecutive rows, counted from row 0, that
	// are decoded together.
	RowStep() int
	// ExpandRows writes rows r0 to r1-1. dst must have (r1-r0) × RowBytes
	// bytes; its contents after an error are undefined. What it reads is
	// checked as far as that is needed to be safe; checksums are not compared.
	ExpandRows(r0, r1 int, dst []byte) error
}

// RowStep is the height of a tile: see RowExpander.
func (r *Reader) RowStep() int { return TileRows }

// Rows returns the rows of a pruned tensor in the type it expands to; ok is
// false for tensors that are dense or not there. Reads of the mapped file can
// fault: callers wrap ExpandRows in gguf.GuardFault.
func (f *File) Rows(name string) (rows RowExpander, info TensorInfo, ok bool) {
	return f.Blob(name)
}
