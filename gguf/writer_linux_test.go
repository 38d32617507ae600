package gguf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The device that is always full takes the place of the temporary file.
func TestFullDiskIsReportedWithThePath(t *testing.T) {
	for name, write := range map[string]func(w *Writer) error{
		"whole":  func(w *Writer) error { return w.WriteTensor("a", make([]byte, 12)) },
		"chunks": func(w *Writer) error { return chunks(w, "a", make([]byte, 12)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out.gguf")
			w, err := Create(path, nil, plainTensors[:1])
			if err != nil {
				t.Fatal(err)
			}
			w.file.Close()
			if w.file, err = os.OpenFile("/dev/full", os.O_RDWR, 0); err != nil {
				t.Fatal(err)
			}
			w.buf.Reset(w.file)
			if _, err := w.buf.Write([]byte("header")); err != nil {
				t.Fatal(err)
			}
			err = write(w)
			if err == nil {
				err = w.Commit()
			}
			if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			if err := w.Abort(); err != nil {
				t.Error(err)
			}
			if left := entries(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
