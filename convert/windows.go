package convert

import "besa/internal/kernel"

// windows holds the hidden states of all calibration windows in one array.
type windows struct {
	count, tokens, hidden int
	data                  []float32
}

func newWindows(count, tokens, hidden int) *windows {
	return &windows{count, tokens, hidden, make([]float32, count*tokens*hidden)}
}

// Len returns the number of windows.
func (w *windows) Len() int { return w.count }

// window views window i, tokens × hidden.
func (w *windows) window(i int) kernel.Mat[float32] {
	size := w.tokens * w.hidden
	return kernel.MatOf(w.tokens, w.hidden, w.data[i*size:(i+1)*size])
}

// Load returns a view of window i.
func (w *windows) Load(i int) (kernel.Mat[float32], error) { return w.window(i), nil }

// Store replaces window i.
func (w *windows) Store(i int, m kernel.Mat[float32]) error {
	kernel.Copy(nil, w.window(i), m)
	return nil
}
