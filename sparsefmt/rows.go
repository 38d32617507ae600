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
	// checked as far as that is needed to be safe. Of checksums it compares
	// those of the chunks that it reads; the plain layout has none inside.
	ExpandRows(r0, r1 int, dst []byte) error
}

// RowStep is the height of a tile: see RowExpander.
func (r *Reader) RowStep() int { return TileRows }

// blobReader is a blob of either layout.
type blobReader interface {
	RowExpander
	// Check verifies every rule about the inside of the blob.
	Check() error
}

// openBlob opens a blob of the layout that its table row names.
func openBlob(blob []byte, info TensorInfo) (blobReader, error) {
	if info.Layout == LayoutPacked {
		return NewPacked(blob, info)
	}
	return NewReader(blob, info)
}

// Rows returns the rows of a pruned tensor in the type it expands to; ok is
// false for tensors that are dense or not there. Reads of the mapped file can
// fault: callers wrap ExpandRows in gguf.GuardFault.
func (f *File) Rows(name string) (rows RowExpander, info TensorInfo, ok bool) {
	i, ok := f.byName[name]
	if !ok || f.entries[i].blob == nil {
		return nil, TensorInfo{}, false
	}
	return f.entries[i].blob, f.entries[i].info, true
}

// Plain returns a pruned tensor's blob in the plain layout, with its table
// row: the mapped bytes themselves, or a packed blob unpacked in memory. ok is
// false for tensors that are dense or not there.
func (f *File) Plain(name string) (blob []byte, info TensorInfo, ok bool, err error) {
	i, ok := f.byName[name]
	if !ok || f.entries[i].blob == nil {
		return nil, TensorInfo{}, false, nil
	}
	e := &f.entries[i]
	p, packed := e.blob.(*Packed)
	if !packed {
		return f.g.Data(e.stored), e.info, true, nil
	}
	blob, info, err = p.Plain()
	return blob, info, true, inTensor(name, err)
}
