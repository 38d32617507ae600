package gguf

import (
	"fmt"
	"math"
	"os"
)

// File is an open GGUF model. Its methods may be called from several
// goroutines, but none after Close or together with it.
//
// A model that is split over several files is presented as the one file that
// they make when joined: without the split keys, with offsets as they would be
// there. See [File.Parts] for the files themselves.
type File struct {
	path   string
	size   int64
	data   []byte // the whole file, where there is only one
	unmap  func() error
	header *header
	parts  []*File // of a model with split keys, else nil
}

// Open maps a GGUF file of version 2 or 3 and validates its whole header, and
// that the tensor data it describes is there, before anything else sees the
// file; then gguf-parser-go reads it too and must see the same tensors.
// Values of weights are not looked at.
//
// Of a split model path names the first part, NAME-00001-of-0000N.gguf; the
// others are found beside it. ErrSplit: they do not belong together, one is
// missing, or path names another part than the first.
//
// The file must not be changed while it is open. If another process cuts it
// short, touching the lost part raises SIGBUS, which ends the program, except
// in [File.ReadFloats], which turns it into an error.
func Open(path string) (*File, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	joined, err := joinParts(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return joined, nil
}

// openFile opens one file, be it a part or not.
func openFile(path string) (*File, error) {
	// Before opening: opening a named pipe would block.
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is a %s", ErrNotGGUF, kind(info))
	}
	osFile, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer osFile.Close() // the mapping outlives it
	if info, err = osFile.Stat(); err != nil {
		return nil, withoutPath(err)
	}
	f := &File{path: path, size: info.Size(), unmap: func() error { return nil }}
	if f.size > math.MaxInt {
		return nil, fmt.Errorf("%d bytes are too many for this machine", f.size)
	}
	if f.size > 0 {
		if f.data, f.unmap, err = mapFile(osFile, int(f.size)); err != nil {
			return nil, withoutPath(err)
		}
	}
	if f.header, err = parse(f.data); err == nil {
		err = secondOpinion(osFile, path, f.size, f.header)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// kind names a file that is no regular one.
func kind(info os.FileInfo) string {
	switch mode := info.Mode(); {
	case mode.IsDir():
		return "directory"
	case mode&os.ModeNamedPipe != 0:
		return "pipe"
	case mode&os.ModeSocket != 0:
		return "socket"
	}
	return "device"
}

// Close unmaps the file: slices that Data, KVs and Lookup returned are gone.
// Further calls do nothing.
func (f *File) Close() error {
	if f.parts != nil {
		parts := f.parts
		f.parts, f.header = nil, &header{}
		return closeAll(parts)
	}
	unmap := f.unmap
	if unmap == nil {
		return nil
	}
	f.data, f.unmap, f.header = nil, nil, &header{}
	if err := unmap(); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// Path is the name the file was opened by: that of the first part.
func (f *File) Path() string { return f.path }

// Size is the size of the file in bytes, of all parts together.
func (f *File) Size() int64 { return f.size }

// Version is the version of GGUF that the file, or the first part, has: 2 or 3.
func (f *File) Version() uint32 { return f.header.version }

// Alignment is what data offsets are multiples of: general.alignment, or 32.
func (f *File) Alignment() uint64 { return f.header.alignment }

// DataOffset is where the data section starts in the file, or would start if
// the parts were joined.
func (f *File) DataOffset() uint64 { return f.header.dataOffset }

// Tensors returns the tensors in file order, which is the order of their data.
// The caller must not change the slice.
func (f *File) Tensors() []Tensor { return f.header.tensors }

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.header.names[name]
	if !ok {
		return Tensor{}, false
	}
	return f.header.tensors[i], true
}

// Data returns a tensor's bytes: a slice of the mapping, not to be changed, and
// nil for a tensor that is not one of this file.
func (f *File) Data(t Tensor) []byte {
	i, ok := f.header.names[t.Name]
	if !ok || f.header.tensors[i].Offset != t.Offset || f.header.tensors[i].Bytes != t.Bytes {
		return nil
	}
	part, own := f.part(i)
	start := part.header.dataOffset + own.Offset
	return part.data[start : start+own.Bytes : start+own.Bytes]
}

// ReadFloats dequantises a whole tensor, row-major: len(dst) must be
// [Tensor.Elements].
func (f *File) ReadFloats(t Tensor, dst []float32) (err error) {
	data := f.Data(t)
	if data == nil {
		return fmt.Errorf("%s: no tensor %q", f.path, t.Name)
	}
	if err := GuardFault(func() error { return Dequantize(t.Type, dst, data) }); err != nil {
		return fmt.Errorf("%s: tensor %q: %w", f.path, t.Name, err)
	}
	return nil
}

// Release lets go of the memory that a tensor's data takes up in the process,
// for the time being: it counts as resident once it has been touched. The data
// stays valid and is read from the file again when needed.
func (f *File) Release(t Tensor) { release(f.Data(t)) }

// ReleaseHeader does the same for what comes before the tensor data.
func (f *File) ReleaseHeader() {
	for _, part := range f.Parts() {
		release(part.data[:part.header.dataOffset])
	}
}

// KVs returns the metadata in file order. The caller must not change the slice.
func (f *File) KVs() []KV { return f.header.kvs }

// Lookup returns the pair of that key.
func (f *File) Lookup(key string) (KV, bool) {
	i, ok := f.header.keys[key]
	if !ok {
		return KV{}, false
	}
	return f.header.kvs[i], true
}
