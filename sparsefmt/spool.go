package sparsefmt

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// spool keeps encoded blobs in a temporary file: a GGUF's header has the sizes
// of all tensors, so they must be known before the first is written. The file
// has no name where the system allows that, so that nothing of it can stay.
type spool struct {
	dir  string
	file *os.File // nil until something is added
	size int64
}

// add writes a blob to the spool.
func (s *spool) add(info TensorInfo, blob []byte) (Blob, error) {
	if s.file == nil {
		file, err := os.CreateTemp(s.dir, ".besa-spool-*")
		if err != nil {
			return Blob{}, fmt.Errorf("temporary file: %w", err)
		}
		_ = os.Remove(file.Name()) // where open files cannot be removed, close does it
		s.file = file
	}
	if _, err := s.file.Write(blob); err != nil {
		return Blob{}, fmt.Errorf("temporary file: %w", err)
	}
	start := s.size
	s.size += int64(len(blob))
	return Blob{Info: info, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(s.file, start, int64(info.BlobBytes))), nil
	}}, nil
}

// close removes the file; the blobs in it are gone.
func (s *spool) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if e := os.Remove(s.file.Name()); e != nil && !errors.Is(e, os.ErrNotExist) {
		err = errors.Join(err, e)
	}
	s.file = nil
	return err
}
