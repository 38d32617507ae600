// Package convert prunes a whole model: it opens the model, runs package besa
// over its blocks in order, and writes a sparse GGUF.
//
// In: Options (paths, calibration, the method's options). Out: the sparse GGUF
// and a Report. Finished blocks wait as files in a work folder beside the
// output until all sizes are known; the output appears under its name only
// when it is complete, and the work folder is gone after success, failure and
// cancellation alike.
package convert

import "besa/besa"

// Options says what to convert and how.
type Options struct {
	Input  string
	Output string
	Force  bool // replace an existing output

	Method      besa.Options
	Calibration Calibration
	Threads     int    // 0: all
	Version     string // of the tool, for the file's metadata

	OnEvent func(Event) // progress; called from one goroutine
}

// Event is one piece of progress.
type Event struct {
	Stage  Stage
	Block  int // finished blocks
	Blocks int
	// Done is the finished fraction of the stage, in (0, 1].
	Done float64
	// Message is a line for the user, or empty.
	Message string
}

// Stage names what is being done.
type Stage string

// The stages.
const (
	StageTokenize Stage = "tokenize"
	StagePrune    Stage = "prune"
	StageWrite    Stage = "write"
)

// Report is what a conversion did. Sizes are bytes.
type Report struct {
	Input         string        `json:"input"`
	Output        string        `json:"output"`
	Architecture  string        `json:"architecture"`
	Method        string        `json:"method"`
	Grid          string        `json:"grid,omitempty"`
	Target        float64       `json:"sparsity_target"`
	Sparsity      float64       `json:"sparsity"`        // pruned share of the block weights
	BitsPerWeight float64       `json:"bits_per_weight"` // of the block weights, everything stored for them included
	InputBytes    int64         `json:"input_bytes"`
	FileBytes     int64         `json:"file_bytes"`
	Samples       int           `json:"calibration_windows"`
	Tokens        int           `json:"calibration_window_tokens"`
	CalibTokens   int           `json:"calibration_text_tokens"`
	Seed          uint64        `json:"seed"`
	Threads       int           `json:"threads"`
	Kernel        string        `json:"kernel"`
	Seconds       float64       `json:"seconds"`
	PruneSeconds  float64       `json:"prune_seconds"`
	GFLOPS        float64       `json:"gflops"` // 10·P·T floating-point operations over the time in blocks
	PeakRSS       int64         `json:"peak_rss_bytes"`
	Blocks        []BlockReport `json:"blocks"`
}

// BlockReport is one block's part of a Report.
type BlockReport struct {
	Block         int                `json:"block"`
	Error         float64            `json:"reconstruction_error"` // ‖pruned − dense‖/‖dense‖ on the calibration windows
	FirstLoss     float64            `json:"first_loss,omitempty"` // mean reconstruction loss of the first quarter of the steps
	LastLoss      float64            `json:"last_loss,omitempty"`  // and of the last quarter
	Sparsity      float64            `json:"sparsity"`
	Layers        map[string]float64 `json:"layer_sparsity"` // by linear layer
	BitsPerWeight float64            `json:"bits_per_weight"`
	Seconds       float64            `json:"seconds"`
}
