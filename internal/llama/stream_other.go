//go:build !linux

package llama

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	yzma "github.com/hybridgroup/yzma/pkg/llama"
)

func loadFilePtr(string) error { return nil }

// load expands the model to a temporary file: this system's C library has no
// streams made of callbacks.
func (s *source) load(params yzma.ModelParams) (yzma.Model, error) {
	var err error
	if s.temp, err = os.MkdirTemp("", "besa-expanded-*"); err != nil {
		return 0, fmt.Errorf("make a temporary folder for the expanded model: %w", err)
	}
	dense := filepath.Join(s.temp, "expanded.gguf")
	if err := s.file.ExpandTo(context.Background(), dense, nil); err != nil {
		return 0, err
	}
	return yzma.ModelLoadFromFile(dense, params)
}
