package ablate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"besa/besa"
	"besa/convert"
	"besa/eval"
	"besa/internal/disk"
	"besa/internal/kernel"
)

// cellFolder holds the finished cells within the output folder.
const cellFolder = "cells"

// Cell is a finished trial: everything its figures depend on, and the figures.
type Cell struct {
	Conditions Conditions `json:"conditions"`
	Figures
}

// Conditions are what a cell's figures depend on. Two trials with the same
// conditions are the same cell.
type Conditions struct {
	Model     string            `json:"model"` // its hash
	Version   string            `json:"version"`
	Kernel    string            `json:"kernel"`
	Dense     bool              `json:"dense,omitempty"` // the model as it is; no method, no calibration
	Method    *besa.Options     `json:"method,omitempty"`
	Precision convert.Precision `json:"precision,omitempty"`
	CalibHash string            `json:"calibration_sha256,omitempty"`
	Samples   int               `json:"calibration_windows,omitempty"`
	Len       int               `json:"calibration_window_tokens,omitempty"`
	Stride    int               `json:"calibration_stride,omitempty"`
	Seed      uint64            `json:"seed"`
	Engine    eval.Engine       `json:"engine"`
	Protocol  eval.Protocol     `json:"protocol"`
	Ctx       int               `json:"ctx"`
	Limit     int               `json:"limit"`
	Data      []string          `json:"data_sha256"`
}

// Figures are what a cell measured.
type Figures struct {
	Perplexity    []Perplexity         `json:"perplexities"` // one per text
	Sparsity      float64              `json:"sparsity"`
	BitsPerWeight float64              `json:"bits_per_weight,omitempty"`      // of the block weights
	Error         []float64            `json:"reconstruction_error,omitempty"` // by block
	Layers        []map[string]float64 `json:"layer_sparsity,omitempty"`       // by block
	Seconds       float64              `json:"seconds"`                        // of the conversion
}

// Perplexity is that on one text.
type Perplexity struct {
	Data       string  `json:"data"`
	Perplexity float64 `json:"perplexity"`
	StdErr     float64 `json:"std_err"`
}

// conditions are those of a trial.
func (r *runner) conditions(t trial) Conditions {
	c := Conditions{
		Model: r.modelHash, Version: r.Version, Kernel: kernel.Implementation(), Dense: t.dense,
		Engine: r.Open.Engine, Protocol: r.Perplexity.Protocol, Ctx: r.Perplexity.Ctx, Limit: r.Perplexity.Limit,
	}
	for _, d := range r.texts {
		c.Data = append(c.Data, d.Hash)
	}
	if !t.dense {
		c.Method, c.Precision, c.CalibHash, c.Seed = &t.method, r.Precision, r.calibHash, r.Calibration.Seed
		c.Samples, c.Len, c.Stride = t.samples, r.Calibration.Len, r.Calibration.Stride
	}
	return c
}

// key names a cell in the file system.
func (c Conditions) key() (string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	name := "dense"
	if !c.Dense {
		name = string(c.Method.Method)
	}
	return fmt.Sprintf("%s-%s", name, hex.EncodeToString(sum[:8])), nil
}

func (r *runner) cellPath(key string) string { return filepath.Join(r.Out, cellFolder, key+".json") }

// load returns the finished cell of some conditions, or nil. A file that is
// damaged, or that is another cell's, counts as none.
func (r *runner) load(c Conditions) (*Cell, error) {
	key, err := c.key()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(r.cellPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var cell Cell
	if json.Unmarshal(data, &cell) != nil || !reflect.DeepEqual(cell.Conditions, c) || len(cell.Perplexity) != len(c.Data) {
		return nil, nil //nolint:nilerr // of another run, or torn: it is done again
	}
	return &cell, nil
}

// save stores a finished cell.
func (r *runner) save(cell *Cell) error {
	key, err := cell.Conditions.key()
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(cell, "", "  ")
	if err != nil {
		return fmt.Errorf("cell %s: %w", key, err)
	}
	return replace(r.cellPath(key), append(data, '\n'))
}

// replace writes a file under a temporary name and gives it its own.
func replace(path string, data []byte) error {
	temp := path + ".tmp"
	if err := disk.WriteFile(temp, data); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}
