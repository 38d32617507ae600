package gguf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

// Writer writes a GGUF model tensor by tensor, into one file or several parts.
// It works on temporary files in the target's directory; nothing appears under
// the target's name before [Writer.Commit], and a file that was there stays
// until then. After a write that failed, or that brought too few or too many
// bytes, everything but [Writer.Abort] fails with the same error.
//
// A Writer must not be used by several goroutines at once.
type Writer struct {
	path    string
	disk    disk
	files   []*outFile // one, or the parts in order
	tensors []Tensor
	align   uint64
	next    int    // index of the next tensor
	part    int    // index of the file it goes to
	open    uint64 // bytes still to come through the open TensorWriter
	busy    bool   // a TensorWriter is open
	err     error  // first error, or errDone
}

var errDone = errors.New("writer is closed")

// Create plans the whole file and writes its header. Pairs are written as they
// are, in that order; the alignment is their general.alignment, or 32. Offset
// is computed for each tensor, Bytes may be 0 or must be what type and shape
// give. On Linux the file's full size is reserved at once where the file
// system can do it, so that a full disk shows before any work is done.
//
// If path is a symbolic link, the file it leads to is the one replaced. A path
// that names something other than a regular file is refused. Temporary files
// of writers that died in that folder are removed.
func Create(path string, kvs []KV, tensors []Tensor) (*Writer, error) {
	return CreateSplit(path, 0, kvs, tensors)
}

// CreateSplit is Create for a model in parts of at most maxBytes of tensor data
// each, divided as llama.cpp's gguf-split does it; a tensor that is larger has
// a part of its own. Parts are named after path, NAME-00001-of-0000N.gguf for
// NAME.gguf. When one part is enough, or maxBytes is 0, it is path itself and
// no part.
//
// Split keys among kvs are dropped when parts are written.
func CreateSplit(path string, maxBytes uint64, kvs []KV, tensors []Tensor) (*Writer, error) {
	return create(osDisk{}, path, maxBytes, kvs, tensors)
}

func create(d disk, path string, maxBytes uint64, kvs []KV, tensors []Tensor) (*Writer, error) {
	w := &Writer{path: path, disk: d}
	headers, err := w.plan(maxBytes, kvs, tensors)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i, f := range w.files {
		if err := f.create(d, headers[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, errors.Join(err, w.Abort()))
		}
	}
	d.sweep(filepath.Dir(w.files[0].path))
	return w, nil
}

// outFile is a file in the making.
type outFile struct {
	path    string // where it will be
	temp    string // where it is until then
	file    tempFile
	buf     *bufio.Writer
	end     int   // index of the first tensor that is not in it
	size    int64 // when it is finished
	written int64
}

// create makes the temporary file and writes the header.
func (f *outFile) create(d disk, header []byte) error {
	resolved, err := target(f.path)
	if err != nil {
		return err
	}
	f.path = resolved
	if f.file, err = d.create(filepath.Dir(f.path), f.size); err != nil {
		return withoutPath(err)
	}
	f.temp = f.file.Name()
	f.buf = bufio.NewWriterSize(f, 1<<18)
	_, err = f.buf.Write(header)
	return withoutPath(err)
}

// Write writes past the buffer.
func (f *outFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.written += int64(n)
	return n, withoutPath(err)
}

// Tensors returns the tensors as planned, with their sizes, and with their
// offsets in the one file or, of a split model, those that [File] gives.
func (w *Writer) Tensors() []Tensor { return slices.Clone(w.tensors) }

// Size is the size the finished file will have, all parts together.
func (w *Writer) Size() int64 {
	var size int64
	for _, f := range w.files {
		size += f.size
	}
	return size
}

// Paths are the names of the finished files, the first part first.
func (w *Writer) Paths() []string {
	var paths []string
	for _, f := range w.files {
		paths = append(paths, f.path)
	}
	return paths
}

// WriteTensor writes the data of the next tensor, which must have that name.
func (w *Writer) WriteTensor(name string, data []byte) error {
	if err := w.begin(name); err != nil {
		return err
	}
	if uint64(len(data)) != w.open {
		return w.fail(fmt.Errorf("%d bytes of data, not %d", len(data), w.open))
	}
	// Past the buffer: data may be a mapping that another process cut short,
	// which the system call reports but a copy would die of.
	f := w.files[w.part]
	if err := f.buf.Flush(); err != nil {
		return w.fail(err)
	}
	if _, err := f.Write(data); err != nil {
		return w.fail(err)
	}
	w.open = 0
	return w.finish()
}

// TensorWriter returns a writer for the data of the next tensor, which must
// have that name. Exactly Bytes bytes must go through it before its Close;
// until then no other tensor can be written.
func (w *Writer) TensorWriter(name string) (io.WriteCloser, error) {
	if err := w.begin(name); err != nil {
		return nil, err
	}
	return &tensorWriter{w: w, index: w.next}, nil
}

// begin opens the next tensor.
func (w *Writer) begin(name string) error {
	switch {
	case w.err != nil:
		return fmt.Errorf("%s: tensor %q: %w", w.path, name, w.err)
	case w.busy:
		return fmt.Errorf("%s: tensor %q: %q is still open", w.path, name, w.tensors[w.next].Name)
	case w.next == len(w.tensors):
		return fmt.Errorf("%s: tensor %q: all %d tensors are written", w.path, name, len(w.tensors))
	case w.tensors[w.next].Name != name:
		return fmt.Errorf("%s: tensor %q: out of order, %q is next", w.path, name, w.tensors[w.next].Name)
	}
	w.busy, w.open = true, w.tensors[w.next].Bytes
	for w.next == w.files[w.part].end {
		w.part++
	}
	return nil
}

// finish pads the open tensor and moves on.
func (w *Writer) finish() error {
	if w.open != 0 {
		return w.fail(fmt.Errorf("%d bytes of data are missing", w.open))
	}
	n := w.tensors[w.next].Bytes
	if _, err := w.files[w.part].buf.Write(make([]byte, alignUp(n, w.align)-n)); err != nil {
		return w.fail(err)
	}
	w.busy = false
	w.next++
	return nil
}

// fail remembers an error of the open tensor.
func (w *Writer) fail(err error) error {
	w.err = err
	return fmt.Errorf("%s: tensor %q: %w", w.path, w.tensors[w.next].Name, err)
}

type tensorWriter struct {
	w     *Writer
	index int
}

func (t *tensorWriter) Write(p []byte) (int, error) {
	w := t.w
	switch {
	case w.err != nil:
		return 0, w.err
	case !w.busy || w.next != t.index:
		return 0, fmt.Errorf("%s: tensor %q: %w", w.path, w.tensors[t.index].Name, errDone)
	case uint64(len(p)) > w.open:
		return 0, w.fail(fmt.Errorf("%d bytes more data than its %d", uint64(len(p))-w.open, w.tensors[t.index].Bytes))
	}
	n, err := w.files[w.part].buf.Write(p)
	w.open -= uint64(n)
	if err != nil {
		return n, w.fail(err)
	}
	return n, nil
}

// Close ends the tensor; a second Close does nothing.
func (t *tensorWriter) Close() error {
	switch w := t.w; {
	case w.err != nil:
		return w.err
	case !w.busy || w.next != t.index:
		return nil
	default:
		return w.finish()
	}
}
