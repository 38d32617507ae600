package convert

import (
	"fmt"
	"io"
	"unsafe"

	"besa/besa"
	"besa/gguf"
	"besa/internal/kernel"
)

// Activations is the number format in which hidden states wait between two
// blocks.
type Activations string

// The formats.
const (
	ActivationsFP32 Activations = "fp32"
	ActivationsBF16 Activations = "bf16" // half the room; every block's output is rounded
)

// bytes is the size of one number.
func (a Activations) bytes() int64 {
	if a == ActivationsBF16 {
		return 2
	}
	return 4
}

func (a Activations) validate() error {
	if a != ActivationsFP32 && a != ActivationsBF16 {
		return fmt.Errorf("%w: activations %q; have %q and %q", besa.ErrOptions, a, ActivationsFP32, ActivationsBF16)
	}
	return nil
}

// memoryWindows holds hidden states in memory as they are: windows are lent, not copied.
type memoryWindows struct {
	count, tokens, hidden int
	data                  []float32
}

// Len returns the number of windows.
func (w *memoryWindows) Len() int { return w.count }

// Load returns a view of window i.
func (w *memoryWindows) Load(i int) (kernel.Mat[float32], error) {
	size := w.tokens * w.hidden
	return kernel.MatOf(w.tokens, w.hidden, w.data[i*size:(i+1)*size]), nil
}

// Store replaces window i.
func (w *memoryWindows) Store(i int, m kernel.Mat[float32]) error {
	dst, _ := w.Load(i)
	kernel.Copy(nil, dst, m)
	return nil
}

// storage is a run of bytes in memory or in a file.
type storage interface {
	io.ReaderAt
	io.WriterAt
}

// storedWindows keeps hidden states as bytes; one window at a time is in
// memory as float32. The bytes have the machine's order: they never leave it.
type storedWindows struct {
	count int
	at    storage
	base  int64 // where window 0 starts

	buf  kernel.Mat[float32] // the window lent last
	half []uint16            // its bfloat16 form; nil for float32
}

func newStoredWindows(at storage, base int64, count, tokens, hidden int, format Activations) *storedWindows {
	w := &storedWindows{count: count, at: at, base: base, buf: kernel.NewMat[float32](tokens, hidden)}
	if format == ActivationsBF16 {
		w.half = make([]uint16, tokens*hidden)
	}
	return w
}

// Len returns the number of windows.
func (w *storedWindows) Len() int { return w.count }

// raw is the buffer that goes to and comes from storage.
func (w *storedWindows) raw() []byte {
	if w.half != nil {
		return bytesOf(w.half)
	}
	return bytesOf(w.buf.Data)
}

// Load reads window i into the one buffer.
func (w *storedWindows) Load(i int) (kernel.Mat[float32], error) {
	raw := w.raw()
	if _, err := w.at.ReadAt(raw, w.base+int64(i)*int64(len(raw))); err != nil {
		return kernel.Mat[float32]{}, fmt.Errorf("read calibration window %d back: %w", i, err)
	}
	for j, h := range w.half {
		w.buf.Data[j] = gguf.BF16ToF32(h)
	}
	return w.buf, nil
}

// Store writes window i; what Load lent before is overwritten.
func (w *storedWindows) Store(i int, m kernel.Mat[float32]) error {
	kernel.Copy(nil, w.buf, m)
	for j := range w.half {
		w.half[j] = gguf.F32ToBF16(w.buf.Data[j])
	}
	raw := w.raw()
	if _, err := w.at.WriteAt(raw, w.base+int64(i)*int64(len(raw))); err != nil {
		return fmt.Errorf("store calibration window %d: %w", i, err)
	}
	return nil
}

// bytesOf views numbers as bytes.
func bytesOf[T float32 | uint16](s []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(*new(T))))
}

// memory is storage in memory.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
