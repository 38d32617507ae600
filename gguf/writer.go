package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Writer writes a GGUF file tensor by tensor. It works on a temporary file in
// the target's directory; nothing appears under the target's name before
// [Writer.Commit], and a file that was there stays until then. After a write
// that failed, or that brought too few or too many bytes, everything but
// [Writer.Abort] fails with the same error.
//
// A Writer must not be used by several goroutines at once.
type Writer struct {
	path    string // where the file will be
	temp    string // where it is until then
	file    *os.File
	buf     *bufio.Writer
	tensors []Tensor
	align   uint64
	next    int    // index of the next tensor
	open    uint64 // bytes still to come through the open TensorWriter
	busy    bool   // a TensorWriter is open
	size    int64  // of the finished file
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
// that names something other than a regular file is refused.
func Create(path string, kvs []KV, tensors []Tensor) (*Writer, error) {
	w := &Writer{path: path}
	header, err := w.plan(kvs, tensors)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if w.path, err = target(path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// A name of its own length, since the target's may be as long as allowed.
	// The permissions are those of any new file, less the umask.
	if w.file, err = createTemp(filepath.Dir(w.path)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	w.temp = w.file.Name()
	w.buf = bufio.NewWriterSize(w.file, 1<<18)
	if err := reserve(w.file, w.size); err != nil {
		w.Abort()
		return nil, fmt.Errorf("%s: reserve %d bytes: %w", path, w.size, err)
	}
	if _, err := w.buf.Write(header); err != nil {
		w.Abort()
		return nil, fmt.Errorf("%s: %w", path, withoutPath(err))
	}
	return w, nil
}

// plan checks the pairs and tensors, computes the layout and returns the
// header with its padding. It reads the header back with the scan that Open
// uses: what this package would not open, it does not write.
func (w *Writer) plan(kvs []KV, tensors []Tensor) ([]byte, error) {
	var err error
	for _, kv := range kvs {
		c := cursor{data: kv.Raw}
		if err := c.value(kv.Type); err != nil || c.left() != 0 {
			return nil, fmt.Errorf("metadata key %q: its bytes are no value of type %s", kv.Key, kv.Type)
		}
	}
	if w.align, err = alignmentOf(kvs); err != nil {
		return nil, err
	}
	w.tensors = slices.Clone(tensors)
	var offset uint64
	for i := range w.tensors {
		t := &w.tensors[i]
		n, err := tensorBytes(t.Type, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if t.Bytes != 0 && t.Bytes != n {
			return nil, fmt.Errorf("tensor %q: %d bytes, but %s of shape %v has %d", t.Name, t.Bytes, t.Type, t.Shape, n)
		}
		t.Bytes, t.Offset = n, offset
		if offset = alignUp(offset+n, w.align); offset > math.MaxInt64/2 {
			return nil, fmt.Errorf("tensor %q: the file's size overflows", t.Name)
		}
	}
	header := AppendHeader(nil, kvs, w.tensors)
	end := len(header)
	header = append(header, make([]byte, alignUp(uint64(end), w.align)-uint64(end))...)
	w.size = int64(uint64(len(header)) + offset)
	return header, checkWritten(header, end, uint64(w.size))
}

// checkWritten scans a header of end bytes that is about to be written.
func checkWritten(header []byte, end int, size uint64) error {
	h, c, err := scanHeader(header)
	if err != nil {
		return err
	}
	if c.pos != end {
		return fmt.Errorf("internal error: header of %d bytes reads as %d", end, c.pos)
	}
	return h.checkData(uint64(end), size)
}

// AppendHeader appends a file's bytes up to the padding before the data, as
// Create writes them. Offsets are taken from the tensors as they are.
func AppendHeader(b []byte, kvs []KV, tensors []Tensor) []byte {
	le := binary.LittleEndian
	text := func(s string) {
		b = le.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, magic...)
	b = le.AppendUint32(b, version)
	b = le.AppendUint64(b, uint64(len(tensors)))
	b = le.AppendUint64(b, uint64(len(kvs)))
	for _, kv := range kvs {
		text(kv.Key)
		b = le.AppendUint32(b, uint32(kv.Type))
		b = append(b, kv.Raw...)
	}
	for _, t := range tensors {
		text(t.Name)
		b = le.AppendUint32(b, uint32(len(t.Shape)))
		for _, n := range t.Shape {
			b = le.AppendUint64(b, n)
		}
		b = le.AppendUint32(b, uint32(t.Type))
		b = le.AppendUint64(b, t.Offset)
	}
	return b
}

// Tensors returns the tensors as planned, with their offsets and sizes.
func (w *Writer) Tensors() []Tensor { return slices.Clone(w.tensors) }

// Size is the size the finished file will have.
func (w *Writer) Size() int64 { return w.size }

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
	if err := w.buf.Flush(); err != nil {
		return w.fail(withoutPath(err))
	}
	if _, err := w.file.Write(data); err != nil {
		return w.fail(withoutPath(err))
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
	return nil
}

// finish pads the open tensor and moves on.
func (w *Writer) finish() error {
	if w.open != 0 {
		return w.fail(fmt.Errorf("%d bytes of data are missing", w.open))
	}
	n := w.tensors[w.next].Bytes
	if _, err := w.buf.Write(make([]byte, alignUp(n, w.align)-n)); err != nil {
		return w.fail(withoutPath(err))
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
	n, err := w.buf.Write(p)
	w.open -= uint64(n)
	if err != nil {
		return n, w.fail(withoutPath(err))
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
